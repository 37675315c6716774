//! Whole free pages of runs in use go back to the system.

mod support {
    pub mod arena;
    pub mod class;
    pub mod form;
    pub mod pool;
}

use hakmem_mid_pool::run_form::RunForm;
use hakmem_sys::vm::page_size;
use hakmem_test_support::{check, fill};
use support::arena::arena;
use support::class::class;
use support::form::run_blocks;
use support::pool::mid_pool;

#[test]
fn whole_free_pages_of_a_run_in_use_go_back_and_its_blocks_stay_as_they_are() {
    let arena = arena();
    let pool = mid_pool();
    let class = class(8192);
    let mut blocks = vec![std::ptr::null_mut(); run_blocks(class)];
    assert_eq!(pool.refill(arena, class, 0, &mut blocks), blocks.len());
    for &block in &blocks {
        // SAFETY: the block is ours.
        unsafe { fill(block, 8192) };
    }
    let (kept, freed) = blocks.split_at(1);
    // SAFETY: the blocks are ours.
    unsafe { pool.flush(arena, class, freed) };
    assert_eq!(
        pool.purge_holes(arena, true, usize::MAX),
        freed.len() * 8192
    );
    assert_eq!(
        pool.purge_holes(arena, true, usize::MAX),
        0,
        "not given twice"
    );
    // SAFETY: the block is still ours, and filled above.
    unsafe { check(kept[0], 8192) };
    for &block in freed {
        // SAFETY: the block is free, and nobody else uses the pool.
        let first = unsafe { block.cast::<u64>().read() };
        assert_eq!(first, 0, "its page is with the system");
    }
    let mut again = vec![std::ptr::null_mut(); freed.len()];
    assert_eq!(pool.refill(arena, class, 0, &mut again), freed.len());
    assert_eq!(again, freed);
    // As after a second burst like the first.
    // SAFETY: the blocks are ours.
    unsafe {
        for &block in &again {
            fill(block, 8192);
        }
        pool.flush(arena, class, &again);
    }
    assert_eq!(
        pool.purge_holes(arena, true, usize::MAX),
        freed.len() * 8192
    );
}

#[test]
fn what_is_freed_after_a_purge_goes_back_at_the_next() {
    let (arena, pool) = (arena(), mid_pool());
    let class = class(8192);
    let mut blocks = vec![std::ptr::null_mut(); run_blocks(class)];
    assert_eq!(pool.refill(arena, class, 0, &mut blocks), blocks.len());
    for block in &blocks[1..] {
        // SAFETY: the block is ours.
        unsafe { pool.flush(arena, class, &[*block]) };
        let given = pool.purge_holes(arena, true, usize::MAX);
        assert!(given >= 8192, "{given} bytes");
    }
}

#[test]
fn what_blocks_leave_over_of_their_run_goes_back_with_the_free_ones_next_to_it() {
    let (arena, pool) = (arena(), mid_pool());
    let (size, page) = (16512, page_size());
    let class = class(size);
    let form = RunForm::usual(class);
    // Where the first block starts differs from run to run.
    for _ in 0..8 {
        let mut blocks = vec![std::ptr::null_mut(); run_blocks(class)];
        assert_eq!(pool.refill(arena, class, 0, &mut blocks), blocks.len());
        let kept = blocks.remove(1);
        // SAFETY: the blocks are ours.
        unsafe { pool.flush(arena, class, &blocks) };
        let (from, to) = (kept.addr() / page * page, kept.addr() + size);
        let kept_bytes = to.next_multiple_of(page) - from;
        assert_eq!(
            pool.purge_holes(arena, true, usize::MAX),
            form.bytes() - kept_bytes
        );
        // The next run is a new one.
        let mut rest = vec![std::ptr::null_mut(); blocks.len()];
        assert_eq!(pool.refill(arena, class, 0, &mut rest), rest.len());
    }
}
