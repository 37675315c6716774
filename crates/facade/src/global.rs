//! The allocator as a Rust program's global allocator.

use crate::c::Foreign;
use crate::{free, malloc, realloc};
use core::alloc::{GlobalAlloc, Layout};
use hakmem_sys::report;

/// The allocator. All values of the type are the same allocator.
///
/// ```
/// #[global_allocator]
/// static ALLOCATOR: hakmem_alloc::Hakmem = hakmem_alloc::Hakmem::new();
///
/// let squares: Vec<u64> = (0..1000).map(|n| n * n).collect();
/// assert_eq!(squares[999], 998_001);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Hakmem(());

impl Hakmem {
    /// The allocator.
    pub const fn new() -> Self {
        Self(())
    }

    /// How many bytes may be used at `ptr`: at least what was asked for.
    ///
    /// # Safety
    ///
    /// `ptr` is a live block of this allocator.
    pub unsafe fn usable_size(&self, ptr: *const u8) -> usize {
        // SAFETY: passed on.
        unsafe { realloc::usable_size::<NotOurs>(ptr.cast_mut()) }
    }
}

/// In a Rust program every pointer that comes to `dealloc` must be ours.
struct NotOurs;

#[cold]
fn not_ours(function: &str, ptr: *mut u8) -> ! {
    report::fatal(format_args!(
        "{function}({ptr:p}): not allocated by this allocator"
    ))
}

impl Foreign for NotOurs {
    // The C library has its own allocator here.
    const SERVES_LIBC: bool = false;

    unsafe fn free(ptr: *mut u8) {
        not_ours("dealloc", ptr)
    }

    unsafe fn realloc(ptr: *mut u8, _size: usize) -> *mut u8 {
        not_ours("realloc", ptr)
    }

    unsafe fn usable_size(ptr: *mut u8) -> usize {
        not_ours("usable_size", ptr)
    }
}

/// The whole of `dealloc`. Programs free at thousands of places, most of them never
/// reached twice: inlined there it makes them larger, and gains nothing (decision 18).
///
/// # Safety
///
/// `ptr` is a live block of this allocator that is not used any more.
#[inline(never)]
unsafe fn dealloc(ptr: *mut u8) {
    // SAFETY: passed on.
    unsafe { free::free::<NotOurs>(ptr) }
}

// SAFETY: blocks are at least as large and as aligned as the layout asks, do not
// overlap, stay valid until freed, and no method unwinds.
unsafe impl GlobalAlloc for Hakmem {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: a layout's alignment is a power of two.
        unsafe { malloc::layout(layout.size(), layout.align()) }
    }

    #[inline]
    unsafe fn dealloc(&self, ptr: *mut u8, _layout: Layout) {
        // SAFETY: passed on.
        unsafe { dealloc(ptr) }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: a layout's alignment is a power of two.
        unsafe { malloc::zeroed(layout.size(), layout.align()) }
    }

    #[inline]
    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: passed on.
        unsafe { realloc::realloc::<NotOurs>(ptr, new_size, layout.align()) }
    }
}
