//! `malloc` and its relatives.
//!
//! What `hakmem_alloc::c` answers with a null is given its `errno` here, and
//! what C adds to its contract is done here: `realloc` to size 0, the checks of
//! alignments, products that overflow. A call that succeeds, and every `free`,
//! leaves `errno` as it was.
//!
//! A program may put functions of its own in front of `malloc`, `calloc`, `realloc` and `free`,
//! and need not of the others (the glibc manual, "Replacing `malloc`"). So what is said in terms
//! of `free` or `realloc` jumps to the program's; and where the program's call glibc's by its other
//! names, `__libc_malloc` and its like, these are here, too.

use core::ffi::{c_int, c_void};
use core::ptr::null_mut;

use hakmem_alloc::c;
use hakmem_sys::{errno, vm};
use libc::{EINVAL, ENOMEM};

use crate::chain::{Chain, Free, Realloc, UsableSize};
use crate::replaceable::{defined_by, jump_to};

/// Sets `errno` to `ENOMEM` and returns null.
#[cold]
#[inline(never)]
fn out_of_memory() -> *mut c_void {
    errno::set(ENOMEM);
    null_mut()
}

/// Sets `errno` to `EINVAL` and returns null.
#[cold]
#[inline(never)]
fn invalid_argument() -> *mut c_void {
    errno::set(EINVAL);
    null_mut()
}

/// The block, or null with `errno` set to `ENOMEM`.
#[inline(always)]
fn or_out_of_memory(block: *mut u8) -> *mut c_void {
    if block.is_null() {
        return out_of_memory();
    }
    block.cast()
}

/// Where `malloc` goes on when no block is at hand: jumped to, so that `malloc`
/// keeps no frame.
struct MallocSlow;

impl c::Slow for MallocSlow {
    #[cold]
    #[inline(never)]
    fn malloc(size: usize) -> *mut u8 {
        or_out_of_memory(c::malloc_slow(size)).cast()
    }
}

/// Defines functions under two names, of which the second is the one that glibc's own functions
/// keep when a program replaces the first.
macro_rules! with_second_name {
    ($($(#[doc = $doc:literal])* $name:ident $second:ident
        ($($argument:ident: $type:ty),*) $(-> $result:ty)? $body:block)*) => {$(
        $(#[doc = $doc])*
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name($($argument: $type),*) $(-> $result)? $body

        #[doc = concat!("[`", stringify!($name), "`], though the program has one of its own.")]
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $second($($argument: $type),*) $(-> $result)? $body
    )*};
}

with_second_name! {
    /// A block of at least `size` bytes; of size 0, a unique one.
    malloc __libc_malloc(size: usize) -> *mut c_void {
        c::malloc_or::<MallocSlow>(size).cast()
    }

    /// Frees a block. Null is fine.
    free __libc_free(ptr: *mut c_void) {
        // SAFETY: the caller's contract is `free`'s.
        unsafe { c::free::<Chain<Free>>(ptr.cast()) }
    }

    /// A zeroed block for `count` elements of `size` bytes.
    calloc __libc_calloc(count: usize, size: usize) -> *mut c_void {
        or_out_of_memory(c::calloc(count, size))
    }

    /// Moves a block to one of `size` bytes and keeps its contents. Size 0 frees it
    /// and returns null, as in glibc; a null `ptr` makes it `malloc`.
    realloc __libc_realloc(ptr: *mut c_void, size: usize) -> *mut c_void {
        if size == 0 && !ptr.is_null() {
            // SAFETY: the caller gives the block up.
            unsafe { c::free::<Chain<Realloc>>(ptr.cast()) };
            return null_mut();
        }
        // SAFETY: the caller's contract is `realloc`'s.
        or_out_of_memory(unsafe { c::realloc::<Chain<Realloc>>(ptr.cast(), size) })
    }

    /// A block aligned to `alignment`, rounded up to a power of two as in glibc.
    memalign __libc_memalign(alignment: usize, size: usize) -> *mut c_void {
        let Some(alignment) = alignment.checked_next_power_of_two() else {
            return invalid_argument();
        };
        // SAFETY: the alignment is a power of two.
        or_out_of_memory(unsafe { c::memalign(alignment, size) })
    }

    /// A block aligned to a page.
    valloc __libc_valloc(size: usize) -> *mut c_void {
        // SAFETY: a page is a power of two.
        or_out_of_memory(unsafe { c::memalign(vm::page_size(), size) })
    }

    /// A block of whole pages, aligned to a page.
    pvalloc __libc_pvalloc(size: usize) -> *mut c_void {
        let Some(size) = size.checked_next_multiple_of(vm::page_size()) else {
            return out_of_memory();
        };
        // SAFETY: a page is a power of two.
        or_out_of_memory(unsafe { c::memalign(vm::page_size(), size) })
    }
}

/// [`realloc`] to `count` elements of `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn reallocarray(ptr: *mut c_void, count: usize, size: usize) -> *mut c_void {
    match count.checked_mul(size) {
        // SAFETY: the caller's contract is `realloc`'s.
        Some(bytes) => unsafe { realloc_of_program(ptr.expose_provenance(), bytes) },
        None => out_of_memory(),
    }
}

/// The bytes of a block that may be used, at least what was asked for; 0 for null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn malloc_usable_size(ptr: *mut c_void) -> usize {
    // SAFETY: the caller's contract is `malloc_usable_size`'s.
    unsafe { c::usable_size::<Chain<UsableSize>>(ptr.cast()) }
}

/// Stores a block aligned to `alignment` in `*out` and returns 0, or returns an
/// error and leaves `*out`, and `errno`, as they were.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn posix_memalign(
    out: *mut *mut c_void,
    alignment: usize,
    size: usize,
) -> c_int {
    if !alignment.is_power_of_two() || !alignment.is_multiple_of(size_of::<*mut c_void>()) {
        return EINVAL;
    }
    // SAFETY: the alignment is a power of two.
    let block = unsafe { c::memalign(alignment, size) };
    if block.is_null() {
        return ENOMEM;
    }
    // SAFETY: the caller says `out` is writable.
    unsafe { out.write(block.cast()) };
    0
}

/// A block aligned to `alignment`, a power of two. The size need not be a
/// multiple of it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aligned_alloc(alignment: usize, size: usize) -> *mut c_void {
    if !alignment.is_power_of_two() {
        return invalid_argument();
    }
    // SAFETY: the alignment is a power of two.
    or_out_of_memory(unsafe { c::memalign(alignment, size) })
}

jump_to! {
    /// [`realloc`], or the program's own.
    realloc_of_program(_ptr, _size) -> *mut c_void => realloc;
}

defined_by! {
    /// [`free`] under the name that programs from before 1989 know.
    cfree(_ptr) => free;
    /// [`free`] of a block whose size the caller knows (C23).
    free_sized(_ptr, _size) => free;
    /// [`free`] of a block whose alignment and size the caller knows (C23).
    free_aligned_sized(_ptr, _alignment, _size) => free;
}
