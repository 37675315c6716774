//! Calls the allocator's methods a given number of times, each size from a function of its
//! own, so that a profiler's call graph has one line per size: what `cargo xtask asm` counts
//! for Rust programs. Blocks go back at once: after the first call of each size every call
//! takes the hit path.

use hakmem_alloc::Hakmem;
use std::alloc::{GlobalAlloc, Layout};
use std::hint::black_box;

static ALLOCATOR: Hakmem = Hakmem::new();

/// As the compiler makes them for a global allocator: where a program is not optimized as a
/// whole, its libraries call these.
mod global {
    use super::{ALLOCATOR, GlobalAlloc, Layout};

    #[inline(never)]
    pub unsafe fn alloc(size: usize, align: usize) -> *mut u8 {
        // SAFETY: passed on.
        unsafe { ALLOCATOR.alloc(Layout::from_size_align_unchecked(size, align)) }
    }

    #[inline(never)]
    pub unsafe fn dealloc(block: *mut u8, size: usize, align: usize) {
        // SAFETY: passed on.
        unsafe { ALLOCATOR.dealloc(block, Layout::from_size_align_unchecked(size, align)) }
    }

    #[inline(never)]
    pub unsafe fn realloc(block: *mut u8, size: usize, align: usize, new: usize) -> *mut u8 {
        // SAFETY: passed on.
        unsafe { ALLOCATOR.realloc(block, Layout::from_size_align_unchecked(size, align), new) }
    }
}

macro_rules! sizes {
    ($($alloc:ident $realloc:ident $dealloc:ident: $size:literal bytes at $align:literal;)*) => {
        $(
            // SAFETY: no other symbol of the program has the name.
            #[unsafe(no_mangle)]
            #[inline(never)]
            fn $alloc() -> *mut u8 {
                // SAFETY: the layout is valid, and its size not zero.
                black_box(unsafe { global::alloc(black_box($size), black_box($align)) })
            }

            /// To one byte less: the block stays where it is.
            // SAFETY: no other symbol of the program has the name.
            #[unsafe(no_mangle)]
            #[inline(never)]
            fn $realloc(block: *mut u8) -> *mut u8 {
                // SAFETY: the block is live and has the layout.
                black_box(unsafe {
                    global::realloc(block, black_box($size), black_box($align), $size - 1)
                })
            }

            // SAFETY: no other symbol of the program has the name.
            #[unsafe(no_mangle)]
            #[inline(never)]
            fn $dealloc(block: *mut u8) {
                // SAFETY: the block is live, and the class of both its sizes the same.
                unsafe { global::dealloc(block, black_box($size), black_box($align)) };
                black_box(());
            }
        )*

        fn round() {
            $( $dealloc($realloc($alloc())); )*
        }
    };
}

// Small sizes up to alignment 8, up to 16, and mid ones take ways of their own.
sizes! {
    alloc_64 realloc_64 dealloc_64: 64 bytes at 8;
    alloc_1024 realloc_1024 dealloc_1024: 1024 bytes at 16;
    alloc_1025 realloc_1025 dealloc_1025: 1025 bytes at 8;
    alloc_16384 realloc_16384 dealloc_16384: 16384 bytes at 16;
    alloc_32768 realloc_32768 dealloc_32768: 32768 bytes at 8;
    alloc_131072 realloc_131072 dealloc_131072: 131_072 bytes at 16;
}

fn main() {
    let rounds = std::env::args().nth(1);
    let rounds = rounds.map_or(1, |rounds| rounds.parse().expect("a number of rounds"));
    for _ in 0..rounds {
        round();
    }
}
