//! C++ `operator new` and `operator delete` in every form.
//!
//! A program may replace some of these operators and not others; C++ then says
//! which of the rest must reach its replacement: arrays through the single
//! form, sized and `nothrow` deletes through the plain one, and so on
//! (\[new.delete\]). So only four operators stand for themselves here, plain and
//! aligned new, plain and aligned delete. The others jump to the one they are
//! defined by, through an entry of the global offset table that the loader
//! fills with the program's choice (`replaceable.list` tells the linker). A
//! `nothrow` new takes memory only where that choice is this library, and is
//! the C++ runtime's affair otherwise.
//!
//! A `new` that finds no memory hands its arguments to the C++ runtime's own
//! operator of that form, which calls the program's `new_handler`, tries again
//! and throws `std::bad_alloc`. The jump to it leaves nothing on the stack:
//!
//! **Invariant: no frame of this library is on the stack when an exception is
//! thrown.** It is compiled with `panic = "abort"`, through which nothing may
//! unwind. Where a Rust function here ends in [`runtime_new`] and its like, the
//! optimiser makes that call a jump; `tests/operators.rs` checks that it did.

use core::arch::naked_asm;
use core::ffi::{CStr, c_void};
use core::ptr::null_mut;

use hakmem_alloc::c;
use hakmem_sys::report;

use crate::chain::{Chain, Next, OperatorDelete};
use crate::replaceable::defined_by;

/// Where `operator new` goes on when no block is at hand: jumped to, as the
/// C++ runtime's own operator is from there.
struct NewSlow;

impl c::Slow for NewSlow {
    #[cold]
    #[inline(never)]
    fn malloc(size: usize) -> *mut u8 {
        let block = c::malloc_slow(size);
        if block.is_null() {
            // SAFETY: these are the operator's own arguments.
            return unsafe { runtime_new(size) }.cast();
        }
        block
    }
}

/// `operator new(size)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _Znwm(size: usize) -> *mut c_void {
    c::malloc_or::<NewSlow>(size).cast()
}

/// `operator new(size, align)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _ZnwmSt11align_val_t(size: usize, alignment: usize) -> *mut c_void {
    // SAFETY: passed on as received.
    let block = unsafe { aligned(size, alignment) };
    if block.is_null() {
        // SAFETY: these are this operator's own arguments, but for a size that
        // no object has: some runtimes round it up to the alignment, past zero.
        return unsafe { runtime_new_aligned(size.min(LARGEST), alignment) };
    }
    block
}

/// `operator new(size, nothrow)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _ZnwmRKSt9nothrow_t(size: usize, nothrow: *const c_void) -> *mut c_void {
    if operator_new_is_ours() {
        let block = c::malloc(size);
        if !block.is_null() {
            return block.cast();
        }
    }
    // SAFETY: these are this operator's own arguments.
    unsafe { runtime_new_nothrow(size, nothrow) }
}

/// `operator new[](size, nothrow)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _ZnamRKSt9nothrow_t(size: usize, nothrow: *const c_void) -> *mut c_void {
    if operator_new_is_ours() && operator_new_array_is_ours() {
        let block = c::malloc(size);
        if !block.is_null() {
            return block.cast();
        }
    }
    // SAFETY: these are this operator's own arguments.
    unsafe { runtime_new_array_nothrow(size, nothrow) }
}

/// `operator new(size, align, nothrow)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _ZnwmSt11align_val_tRKSt9nothrow_t(
    size: usize,
    alignment: usize,
    nothrow: *const c_void,
) -> *mut c_void {
    if operator_new_aligned_is_ours() {
        // SAFETY: passed on as received.
        let block = unsafe { aligned(size, alignment) };
        if !block.is_null() {
            return block;
        }
    }
    // SAFETY: these are this operator's own arguments, but for a size as above.
    unsafe { runtime_new_aligned_nothrow(size.min(LARGEST), alignment, nothrow) }
}

/// `operator new[](size, align, nothrow)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _ZnamSt11align_val_tRKSt9nothrow_t(
    size: usize,
    alignment: usize,
    nothrow: *const c_void,
) -> *mut c_void {
    if operator_new_aligned_is_ours() && operator_new_array_aligned_is_ours() {
        // SAFETY: passed on as received.
        let block = unsafe { aligned(size, alignment) };
        if !block.is_null() {
            return block;
        }
    }
    // SAFETY: these are this operator's own arguments, but for a size as above.
    unsafe { runtime_new_array_aligned_nothrow(size.min(LARGEST), alignment, nothrow) }
}

/// The size of the largest object, in bytes.
const LARGEST: usize = isize::MAX as usize;

/// A block, or null when there is none or the alignment is not a power of two.
#[inline(always)]
unsafe fn aligned(size: usize, alignment: usize) -> *mut c_void {
    if !alignment.is_power_of_two() {
        return null_mut();
    }
    // SAFETY: the alignment is a power of two.
    unsafe { c::memalign(alignment, size) }.cast()
}

/// `operator delete(ptr)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _ZdlPv(ptr: *mut c_void) {
    // SAFETY: the caller's contract is `free`'s.
    unsafe { c::free::<Chain<OperatorDelete>>(ptr.cast()) }
}

/// `operator delete(ptr, align)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _ZdlPvSt11align_val_t(ptr: *mut c_void, _alignment: usize) {
    // SAFETY: the caller's contract is `free`'s and more.
    unsafe { c::free::<Chain<OperatorDelete>>(ptr.cast()) }
}

defined_by! {
    /// `operator new[](size)`.
    _Znam(_size) -> *mut c_void => _Znwm;
    /// `operator new[](size, align)`.
    _ZnamSt11align_val_t(_size, _alignment) -> *mut c_void => _ZnwmSt11align_val_t;

    /// `operator delete(ptr, size)`.
    _ZdlPvm(_ptr, _size) => _ZdlPv;
    /// `operator delete(ptr, nothrow)`.
    _ZdlPvRKSt9nothrow_t(_ptr, _nothrow) => _ZdlPv;
    /// `operator delete[](ptr)`.
    _ZdaPv(_ptr) => _ZdlPv;
    /// `operator delete[](ptr, size)`.
    _ZdaPvm(_ptr, _size) => _ZdaPv;
    /// `operator delete[](ptr, nothrow)`.
    _ZdaPvRKSt9nothrow_t(_ptr, _nothrow) => _ZdaPv;

    /// `operator delete[](ptr, align)`.
    _ZdaPvSt11align_val_t(_ptr, _alignment) => _ZdlPvSt11align_val_t;
    /// `operator delete(ptr, align, nothrow)`.
    _ZdlPvSt11align_val_tRKSt9nothrow_t(_ptr, _alignment, _nothrow) => _ZdlPvSt11align_val_t;
    /// `operator delete[](ptr, align, nothrow)`.
    _ZdaPvSt11align_val_tRKSt9nothrow_t(_ptr, _alignment, _nothrow) => _ZdaPvSt11align_val_t;
}

/// `operator delete(ptr, size, align)`: the alignment moves to where the form
/// without a size takes it.
#[unsafe(no_mangle)]
#[unsafe(naked)]
pub unsafe extern "C" fn _ZdlPvmSt11align_val_t(_ptr: usize, _size: usize, _alignment: usize) {
    #[cfg(target_arch = "x86_64")]
    naked_asm!(
        "mov rsi, rdx",
        "jmp qword ptr [rip + _ZdlPvSt11align_val_t@GOTPCREL]"
    );
    #[cfg(target_arch = "aarch64")]
    naked_asm!(
        "mov x1, x2",
        "adrp x16, :got:_ZdlPvSt11align_val_t",
        "ldr x16, [x16, :got_lo12:_ZdlPvSt11align_val_t]",
        "br x16",
    );
}

/// `operator delete[](ptr, size, align)`: as for the single form.
#[unsafe(no_mangle)]
#[unsafe(naked)]
pub unsafe extern "C" fn _ZdaPvmSt11align_val_t(_ptr: usize, _size: usize, _alignment: usize) {
    #[cfg(target_arch = "x86_64")]
    naked_asm!(
        "mov rsi, rdx",
        "jmp qword ptr [rip + _ZdaPvSt11align_val_t@GOTPCREL]"
    );
    #[cfg(target_arch = "aarch64")]
    naked_asm!(
        "mov x1, x2",
        "adrp x16, :got:_ZdaPvSt11align_val_t",
        "ldr x16, [x16, :got_lo12:_ZdaPvSt11align_val_t]",
        "br x16",
    );
}

/// Defines a function that says whether the program left an operator to us:
/// whether the address the loader chose for it lies in this library.
macro_rules! is_ours {
    ($($name:ident: $operator:literal;)*) => {$(
        #[inline(always)]
        fn $name() -> bool {
            let (chosen, start, end): (usize, usize, usize);
            #[cfg(target_arch = "x86_64")]
            // SAFETY: reads the library's own global offset table and computes
            // the addresses of two symbols that the linker defines.
            unsafe {
                core::arch::asm!(
                    concat!("mov {chosen}, qword ptr [rip + ", $operator, "@GOTPCREL]"),
                    "lea {start}, [rip + __ehdr_start]",
                    "lea {end}, [rip + _etext]",
                    chosen = out(reg) chosen,
                    start = out(reg) start,
                    end = out(reg) end,
                    options(pure, readonly, nostack, preserves_flags)
                );
            }
            #[cfg(target_arch = "aarch64")]
            // SAFETY: as for x86-64.
            unsafe {
                core::arch::asm!(
                    concat!("adrp {chosen}, :got:", $operator),
                    concat!("ldr {chosen}, [{chosen}, :got_lo12:", $operator, "]"),
                    "adrp {start}, __ehdr_start",
                    "add {start}, {start}, :lo12:__ehdr_start",
                    "adrp {end}, _etext",
                    "add {end}, {end}, :lo12:_etext",
                    chosen = out(reg) chosen,
                    start = out(reg) start,
                    end = out(reg) end,
                    options(pure, readonly, nostack, preserves_flags)
                );
            }
            chosen.wrapping_sub(start) < end - start
        }
    )*};
}

is_ours! {
    operator_new_is_ours: "_Znwm";
    operator_new_array_is_ours: "_Znam";
    operator_new_aligned_is_ours: "_ZnwmSt11align_val_t";
    operator_new_array_aligned_is_ours: "_ZnamSt11align_val_t";
}

/// The C++ runtime's form of an operator, for when there is no memory.
struct RuntimeOperator {
    function: Next,
    /// As messages call it.
    text: &'static str,
    /// Answers a failure with null instead of an exception.
    nothrow: bool,
}

const fn throwing(mangled: &'static CStr, text: &'static str) -> RuntimeOperator {
    RuntimeOperator {
        function: Next::new(mangled),
        text,
        nothrow: false,
    }
}

const fn nothrow(mangled: &'static CStr, text: &'static str) -> RuntimeOperator {
    RuntimeOperator {
        function: Next::new(mangled),
        text,
        nothrow: true,
    }
}

static RUNTIME: [RuntimeOperator; 6] = [
    throwing(c"_Znwm", "operator new"),
    throwing(c"_ZnwmSt11align_val_t", "operator new"),
    nothrow(c"_ZnwmRKSt9nothrow_t", "operator new"),
    nothrow(c"_ZnamRKSt9nothrow_t", "operator new[]"),
    nothrow(c"_ZnwmSt11align_val_tRKSt9nothrow_t", "operator new"),
    nothrow(c"_ZnamSt11align_val_tRKSt9nothrow_t", "operator new[]"),
];

/// Where the C++ runtime is when it came with a library that `dlopen` kept for
/// itself.
const RUNTIME_LIBRARIES: [&CStr; 3] = [c"libstdc++.so.6", c"libc++.so.1", c"libc++abi.so.1"];

/// The address of the runtime's operator number `which`, for a request of
/// `size` bytes.
unsafe extern "C" fn runtime_operator(which: usize, size: usize) -> *mut c_void {
    extern "C" fn null() -> *mut c_void {
        null_mut()
    }

    let operator = &RUNTIME[which];
    match operator.function.find_also_in(&RUNTIME_LIBRARIES) {
        Some(function) => function,
        None if operator.nothrow => null as *mut c_void,
        None => report::fatal(format_args!(
            "{}: no memory for {size} bytes, and no C++ runtime is loaded that could throw \
             std::bad_alloc",
            operator.text
        )),
    }
}

/// Defines a function that jumps to the runtime's operator of a number, with
/// its arguments and its caller's frame untouched.
macro_rules! runtime {
    ($($name:ident($($argument:ident: $type:ty),*) = $which:literal;)*) => {$(
        #[doc = concat!("Jumps to operator ", stringify!($which), " of [`RUNTIME`].")]
        #[cold]
        #[unsafe(naked)]
        unsafe extern "C" fn $name($($argument: $type),*) -> *mut c_void {
            #[cfg(target_arch = "x86_64")]
            naked_asm!(
                "push rdi",
                "push rsi",
                "push rdx",
                "mov rsi, rdi",
                concat!("mov edi, ", stringify!($which)),
                "call {runtime_operator}",
                "pop rdx",
                "pop rsi",
                "pop rdi",
                "jmp rax",
                runtime_operator = sym runtime_operator,
            );
            #[cfg(target_arch = "aarch64")]
            naked_asm!(
                "stp x0, x1, [sp, #-32]!",
                "stp x2, x30, [sp, #16]",
                "mov x1, x0",
                concat!("mov w0, #", stringify!($which)),
                "bl {runtime_operator}",
                "mov x16, x0",
                "ldp x2, x30, [sp, #16]",
                "ldp x0, x1, [sp], #32",
                "br x16",
                runtime_operator = sym runtime_operator,
            );
        }
    )*};
}

runtime! {
    runtime_new(_size: usize) = 0;
    runtime_new_aligned(_size: usize, _alignment: usize) = 1;
    runtime_new_nothrow(_size: usize, _nothrow: *const c_void) = 2;
    runtime_new_array_nothrow(_size: usize, _nothrow: *const c_void) = 3;
    runtime_new_aligned_nothrow(_size: usize, _alignment: usize, _nothrow: *const c_void) = 4;
    runtime_new_array_aligned_nothrow(_size: usize, _alignment: usize, _nothrow: *const c_void) = 5;
}
