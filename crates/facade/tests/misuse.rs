//! Misuse that ends the program, each with a message that says what it was.
//!
//! Each test runs itself again in a process that is to be aborted.

mod support {
    pub mod block;
    pub mod direct;
    pub mod runs;
}

use hakmem_region_id::REGION_BYTES;
use hakmem_test_support::{assert_aborts, is_child};
use std::alloc::GlobalAlloc;
use support::direct::{HAKMEM, layout};
use support::runs::{KEPT, keep_runs};

/// Allocates `size` bytes and frees what `choose` makes of the pointer, twice if
/// it is to be.
fn free(size: usize, times: usize, mut choose: impl FnMut(*mut u8) -> *mut u8) {
    // The thread's heap takes its place before the block does, not after.
    hakmem_alloc::init();
    // SAFETY: not sound, on purpose.
    unsafe {
        let block = HAKMEM.alloc(layout(size, 8));
        for _ in 0..times {
            HAKMEM.dealloc(choose(block), layout(size, 8));
        }
    }
}

#[test]
fn a_double_free_of_a_large_block_is_named() {
    if !is_child() {
        return assert_aborts(
            "a_double_free_of_a_large_block_is_named",
            "double free: the memory there is free already",
        );
    }
    free(5 << 20, 2, |block| block);
}

#[test]
fn a_double_free_of_a_retained_run_is_named() {
    if !is_child() {
        return assert_aborts(
            "a_double_free_of_a_retained_run_is_named",
            "double free: the memory there is free already",
        );
    }
    free(200_000, 2, |block| block);
}

#[test]
fn a_double_free_of_a_run_that_the_thread_keeps_is_named() {
    if !is_child() {
        return assert_aborts(
            "a_double_free_of_a_run_that_the_thread_keeps_is_named",
            "double free: the memory there is free already",
        );
    }
    keep_runs();
    free(KEPT, 2, |block| block);
}

#[test]
fn a_pointer_into_a_run_that_the_thread_keeps_is_named() {
    if !is_child() {
        return assert_aborts(
            "a_pointer_into_a_run_that_the_thread_keeps_is_named",
            "double free: the memory there is free already",
        );
    }
    keep_runs();
    let mut first = true;
    free(KEPT, 2, |block| {
        let inside = if first { 0 } else { 70_000 };
        first = false;
        block.wrapping_add(inside)
    });
}

#[test]
fn a_run_that_the_thread_keeps_cannot_be_resized() {
    if !is_child() {
        return assert_aborts(
            "a_run_that_the_thread_keeps_cannot_be_resized",
            "realloc(0x",
        );
    }
    keep_runs();
    // SAFETY: not sound, on purpose.
    unsafe {
        let block = HAKMEM.alloc(layout(KEPT, 8));
        HAKMEM.dealloc(block, layout(KEPT, 8));
        HAKMEM.realloc(block, layout(KEPT, 8), 2 * KEPT);
    }
}

#[test]
fn who_asks_for_the_size_of_a_freed_block_is_not_said_to_free_it() {
    if !is_child() {
        return assert_aborts(
            "who_asks_for_the_size_of_a_freed_block_is_not_said_to_free_it",
            "): the memory there is free already",
        );
    }
    hakmem_alloc::init();
    // SAFETY: not sound, on purpose.
    unsafe {
        let block = HAKMEM.alloc(layout(5 << 20, 8));
        HAKMEM.dealloc(block, layout(5 << 20, 8));
        HAKMEM.usable_size(block);
    }
}

#[test]
fn an_interior_pointer_of_a_large_block_is_named() {
    if !is_child() {
        return assert_aborts(
            "an_interior_pointer_of_a_large_block_is_named",
            "not the start of a block, but 70000 bytes into one of 1048576 bytes",
        );
    }
    free((1 << 20) - 5000, 1, |block| block.wrapping_add(70_000));
}

#[test]
fn a_pointer_a_little_into_a_large_block_is_named() {
    if !is_child() {
        return assert_aborts(
            "a_pointer_a_little_into_a_large_block_is_named",
            "not the start of a block, but 16 bytes into one of 262144 bytes",
        );
    }
    free((256 << 10) - 5000, 1, |block| block.wrapping_add(16));
}

#[test]
fn a_pointer_a_little_before_a_large_block_is_named() {
    if !is_child() {
        return assert_aborts(
            "a_pointer_a_little_before_a_large_block_is_named",
            "bytes before one of ",
        );
    }
    // Blocks start at different places in their runs, some at the start itself.
    let layout = layout(1_000_000, 8);
    for _ in 0..64 {
        // SAFETY: the size is not zero.
        let block = unsafe { HAKMEM.alloc(layout) };
        let run = block.map_addr(|address| address & !0xffff);
        if run != block {
            // SAFETY: not safe, which is what is tested.
            unsafe { HAKMEM.dealloc(run, layout) };
        }
    }
}

#[test]
fn a_pointer_of_somebody_else_is_named() {
    if !is_child() {
        return assert_aborts(
            "a_pointer_of_somebody_else_is_named",
            "not allocated by this allocator",
        );
    }
    let mut local = 0_u64;
    let address = (&raw mut local).cast();
    free(100, 1, |_| address);
}

#[test]
fn a_pointer_into_the_allocators_own_memory_is_named() {
    if !is_child() {
        return assert_aborts(
            "a_pointer_into_the_allocators_own_memory_is_named",
            "never allocated: the allocator uses that memory itself",
        );
    }
    // The first regions of the arena are the first heap; the first superslab, of 32 regions,
    // follows at the next multiple of its size.
    free(100, 1, |block| {
        let size = 32 * REGION_BYTES;
        std::ptr::with_exposed_provenance_mut((block.addr() & !(size - 1)) - size)
    });
}

#[test]
fn a_double_free_of_a_small_block_is_named_when_its_bin_is_flushed() {
    if !is_child() {
        return assert_aborts(
            "a_double_free_of_a_small_block_is_named_when_its_bin_is_flushed",
            "double free of a block of 64 bytes",
        );
    }
    free(64, 2, |block| block);
    hakmem_alloc::trim();
}

#[test]
fn a_double_free_of_a_coarse_block_is_named_when_its_bin_is_flushed() {
    if !is_child() {
        return assert_aborts(
            "a_double_free_of_a_coarse_block_is_named_when_its_bin_is_flushed",
            "double free of a block of 114816 bytes",
        );
    }
    free(100_000, 2, |block| block);
    hakmem_alloc::trim();
}

#[test]
fn a_pointer_into_a_coarse_block_is_named_when_its_bin_is_flushed() {
    if !is_child() {
        return assert_aborts(
            "a_pointer_into_a_coarse_block_is_named_when_its_bin_is_flushed",
            "but 16 bytes into one of 114816 bytes",
        );
    }
    free(100_000, 1, |block| block.wrapping_add(16));
    hakmem_alloc::trim();
}

#[test]
fn a_resize_of_a_freed_block_is_named() {
    if !is_child() {
        return assert_aborts("a_resize_of_a_freed_block_is_named", "realloc(");
    }
    // SAFETY: not sound, on purpose.
    unsafe {
        let block = HAKMEM.alloc(layout(5 << 20, 8));
        HAKMEM.dealloc(block, layout(5 << 20, 8));
        HAKMEM.realloc(block, layout(5 << 20, 8), 6 << 20);
    }
}
