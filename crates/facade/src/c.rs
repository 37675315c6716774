//! Entry points with the meaning C gives them, for a `malloc` on top.
//!
//! All return null where there is no memory, none sets `errno` or unwinds. What
//! is to happen with pointers that are not hakmem's is the caller's choice: see
//! [`Foreign`].

use crate::{free, malloc, realloc};
use core::ptr;

pub use crate::malloc::Slow;
pub use crate::upkeep::trim;

/// What to do with a pointer that is not this allocator's.
///
/// A type parameter, so that the fast paths stay what they are.
pub trait Foreign {
    /// Whether `free` may be called by the C library while it holds locks of its
    /// own, so that it must not create a thread. True for a `malloc` that the C
    /// library itself uses.
    const SERVES_LIBC: bool = true;

    /// Frees it, or ends the program.
    ///
    /// # Safety
    ///
    /// The pointer came to `free`, and is not null.
    unsafe fn free(ptr: *mut u8);

    /// Changes its size, or ends the program.
    ///
    /// # Safety
    ///
    /// The pointer came to `realloc`, and is not null.
    unsafe fn realloc(ptr: *mut u8, size: usize) -> *mut u8;

    /// Tells its usable size, or ends the program.
    ///
    /// # Safety
    ///
    /// The pointer came to `usable_size`, and is not null.
    unsafe fn usable_size(ptr: *mut u8) -> usize;
}

/// `size` bytes, aligned to 16 (to 8 if `size` is at most 8). Size 0 gives a
/// block of its own.
#[inline(always)]
pub fn malloc(size: usize) -> *mut u8 {
    malloc::malloc::<malloc::Plain>(size)
}

/// As [`malloc`], but where no block is at hand it goes on to `S`, which is
/// expected to call [`malloc_slow`] and to deal with a null.
#[inline(always)]
pub fn malloc_or<S: Slow>(size: usize) -> *mut u8 {
    malloc::malloc::<S>(size)
}

/// The slow path of [`malloc`]: right whether or not a block is at hand.
pub fn malloc_slow(size: usize) -> *mut u8 {
    malloc::Plain::malloc(size)
}

/// Frees a block; null is ignored.
///
/// # Safety
///
/// `ptr` is null, a live block, or what `F` can deal with.
#[inline(always)]
pub unsafe fn free<F: Foreign>(ptr: *mut u8) {
    // SAFETY: passed on.
    unsafe { free::free::<F>(ptr) }
}

/// `count * size` zeroed bytes; null if the product overflows.
#[inline]
pub fn calloc(count: usize, size: usize) -> *mut u8 {
    let Some(bytes) = count.checked_mul(size) else {
        return ptr::null_mut();
    };
    // SAFETY: the alignment is a power of two.
    unsafe { malloc::zeroed(bytes, malloc::malloc_align(bytes)) }
}

/// Makes a block hold `size` bytes (0 is taken as 1), moving it if need be; null
/// if there is no memory, with the block unchanged. A null `ptr` is `malloc`.
///
/// # Safety
///
/// `ptr` is null, a live block, or what `F` can deal with.
#[inline]
pub unsafe fn realloc<F: Foreign>(ptr: *mut u8, size: usize) -> *mut u8 {
    // SAFETY: passed on.
    unsafe {
        if ptr.is_null() {
            malloc::malloc::<malloc::Plain>(size)
        } else {
            let size = size.max(1);
            realloc::realloc::<F>(ptr, size, malloc::malloc_align(size))
        }
    }
}

/// `size` bytes at a multiple of `align`.
///
/// # Safety
///
/// `align` is a power of two.
#[inline]
pub unsafe fn memalign(align: usize, size: usize) -> *mut u8 {
    // SAFETY: passed on.
    unsafe { malloc::aligned(size, align.max(malloc::malloc_align(size))) }
}

/// How many bytes may be used at `ptr`; 0 for null.
///
/// # Safety
///
/// `ptr` is null, a live block, or what `F` can deal with.
#[inline]
pub unsafe fn usable_size<F: Foreign>(ptr: *mut u8) -> usize {
    if ptr.is_null() {
        0
    } else {
        // SAFETY: passed on.
        unsafe { realloc::usable_size::<F>(ptr) }
    }
}

/// Whether `ptr` points into memory that this allocator hands out: into a live block, or a freed one of up
/// to 128 KiB, of which it does not know here that it is free.
pub fn owns(ptr: *const u8) -> bool {
    realloc::owns(ptr)
}
