//! Frees that end the program, each with a message that says what it was.
//!
//! Each test runs itself again in a process that is to be aborted.

mod support {
    pub mod arena;
    pub mod class;
    pub mod form;
    pub mod pool;
}

use hakmem_region_id::REGION_BYTES;
use hakmem_test_support::{assert_aborts, is_child};
use support::arena::arena;
use support::class::class;
use support::form::run_blocks;
use support::pool::mid_pool;

/// Flushes what `choose` picks from a fresh run of blocks of 8 KiB.
fn flush(choose: impl Fn(&[*mut u8]) -> Vec<*mut u8>) {
    let (arena, pool, class) = (arena(), mid_pool(), class(8192));
    let mut out = vec![std::ptr::null_mut(); run_blocks(class)];
    pool.refill(arena, class, 0, &mut out);
    // SAFETY: not sound, on purpose.
    unsafe { pool.flush(arena, class, &choose(&out)) };
}

#[test]
fn a_double_free_is_named() {
    if !is_child() {
        return assert_aborts(
            "a_double_free_is_named",
            "double free of a block of 8192 bytes",
        );
    }
    flush(|blocks| vec![blocks[2], blocks[3], blocks[2]]);
}

#[test]
fn a_block_freed_twice_in_a_row_is_named() {
    if !is_child() {
        return assert_aborts(
            "a_block_freed_twice_in_a_row_is_named",
            "double free of a block of 8192 bytes",
        );
    }
    flush(|blocks| vec![blocks[3], blocks[3]]);
}

#[test]
fn an_interior_pointer_is_named() {
    if !is_child() {
        return assert_aborts(
            "an_interior_pointer_is_named",
            "not the start of a block, but 100 bytes into one of 8192 bytes",
        );
    }
    flush(|blocks| vec![blocks[2].wrapping_add(100)]);
}

#[test]
fn a_block_of_a_run_that_has_ended_is_named() {
    if !is_child() {
        return assert_aborts(
            "a_block_of_a_run_that_has_ended_is_named",
            "the memory around it has been freed already (double free)",
        );
    }
    let (arena, pool, class) = (arena(), mid_pool(), class(8192));
    let mut out = vec![std::ptr::null_mut(); run_blocks(class)];
    let count = pool.refill(arena, class, 0, &mut out);
    // SAFETY: the blocks are not used any more.
    unsafe { pool.flush(arena, class, &out[..count]) };
    pool.trim(arena);
    // SAFETY: not sound, on purpose.
    unsafe { pool.flush(arena, class, &out[..1]) };
}

#[test]
fn a_block_of_another_class_is_named() {
    if !is_child() {
        return assert_aborts(
            "a_block_of_another_class_is_named",
            "the memory around it has been freed already (double free)",
        );
    }
    let (arena, pool) = (arena(), mid_pool());
    let mut out = [std::ptr::null_mut()];
    pool.refill(arena, class(8192), 0, &mut out);
    // SAFETY: not sound, on purpose.
    unsafe { pool.flush(arena, class(4096), &out) };
}

#[test]
fn a_pointer_before_the_first_block_is_named() {
    if !is_child() {
        return assert_aborts(
            "a_pointer_before_the_first_block_is_named",
            "never allocated (beside blocks of 16512 bytes)",
        );
    }
    let (arena, pool, class) = (arena(), mid_pool(), class(16_512));
    // Not all runs begin with a block.
    for _ in 0..64 {
        let mut out = vec![std::ptr::null_mut(); run_blocks(class)];
        pool.refill(arena, class, 0, &mut out);
        if out[0].addr() % REGION_BYTES != 0 {
            // SAFETY: not sound, on purpose.
            unsafe { pool.flush(arena, class, &[out[0].wrapping_sub(128)]) };
        }
    }
}

#[test]
fn a_pointer_outside_the_arena_is_named() {
    if !is_child() {
        return assert_aborts(
            "a_pointer_outside_the_arena_is_named",
            "not memory of this allocator",
        );
    }
    let mut local = 0_u64;
    let address = &raw mut local;
    flush(|_| vec![address.cast()]);
}
