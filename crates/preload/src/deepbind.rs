//! `dlopen` and `dlmopen` without `RTLD_DEEPBIND`.
//!
//! A library opened with that flag looks symbols up among its own dependencies
//! before the program's, and so finds libc's `free` instead of this library's:
//! what it frees was allocated here, what it allocates is freed here. PHP opens
//! all of its modules so. The flag asks for something that cannot be had
//! together with another `malloc` than libc's, so it is taken out.
//!
//! The loader looks at who calls `dlopen` to find the search path that applies,
//! so the call is passed on by a jump: the return address stays the caller's.

use core::arch::naked_asm;
use core::ffi::{c_char, c_int, c_long, c_void};

use hakmem_sys::report;

use crate::chain::Next;

static DLOPEN: Next = Next::new(c"dlopen");
static DLMOPEN: Next = Next::new(c"dlmopen");

fn find(next: &Next, name: &str) -> *mut c_void {
    match next.find() {
        Some(next) => next,
        None => report::fatal(format_args!(
            "{name}: the C library has none; this program cannot load libraries at run time"
        )),
    }
}

/// The loader's own `dlopen`.
extern "C" fn next_dlopen() -> *mut c_void {
    find(&DLOPEN, "dlopen")
}

/// The loader's own `dlmopen`.
extern "C" fn next_dlmopen() -> *mut c_void {
    find(&DLMOPEN, "dlmopen")
}

/// The body of a function that takes the flag out of its arguments, by instructions for each processor,
/// and passes the call on.
macro_rules! pass_on {
    ($next:ident, x86_64: $($x86_64:literal),+; aarch64: $($aarch64:literal),+) => {
        #[cfg(target_arch = "x86_64")]
        naked_asm!(
            $($x86_64,)+
            "push rdi",
            "push rsi",
            "push rdx",
            "call {next}",
            "pop rdx",
            "pop rsi",
            "pop rdi",
            "jmp rax",
            keep = const !libc::RTLD_DEEPBIND,
            next = sym $next,
        );
        #[cfg(target_arch = "aarch64")]
        naked_asm!(
            $($aarch64,)+
            "stp x0, x1, [sp, #-32]!",
            "stp x2, x30, [sp, #16]",
            "bl {next}",
            "mov x16, x0",
            "ldp x2, x30, [sp, #16]",
            "ldp x0, x1, [sp], #32",
            "br x16",
            keep = const !libc::RTLD_DEEPBIND,
            next = sym $next,
        );
    };
}

/// Opens a library as the loader does, but never with `RTLD_DEEPBIND`.
#[unsafe(no_mangle)]
#[unsafe(naked)]
pub unsafe extern "C" fn dlopen(_path: *const c_char, _flags: c_int) -> *mut c_void {
    pass_on!(
        next_dlopen,
        x86_64: "and esi, {keep}";
        aarch64: "and w1, w1, #{keep}"
    );
}

/// Opens a library in a namespace as the loader does, but in the program's own (`LM_ID_BASE`, 0) never with
/// `RTLD_DEEPBIND`. In another the library has a C library of its own, and that one's `malloc`.
#[unsafe(no_mangle)]
#[unsafe(naked)]
pub unsafe extern "C" fn dlmopen(
    _namespace: c_long,
    _path: *const c_char,
    _flags: c_int,
) -> *mut c_void {
    pass_on!(
        next_dlmopen,
        x86_64: "test rdi, rdi", "jne 2f", "and edx, {keep}", "2:";
        aarch64: "cbnz x0, 2f", "and w2, w2, #{keep}", "2:"
    );
}
