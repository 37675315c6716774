//! Which blocks a refill hands out, and how runs are cut into them.

mod support {
    pub mod arena;
    pub mod class;
    pub mod form;
    pub mod pool;
}

use hakmem_mid_pool::run_form::RunForm;
use hakmem_page_arena::Label;
use hakmem_region_id::{ClassIndex, MAX_CACHED, REGION_BYTES, RegionIndex};
use hakmem_test_support::{check, fill};
use support::arena::arena;
use support::class::class;
use support::form::run_blocks;
use support::pool::mid_pool;

const PAGE: usize = 4096;

#[test]
fn runs_hold_at_least_four_blocks_and_waste_at_most_an_eighth_and_short_ones_two_and_a_fifth() {
    for class in ClassIndex::all().filter(|class| !class.is_tiny()) {
        let usual = RunForm::usual(class);
        for form in RunForm::all(class) {
            let bytes = form.regions() * REGION_BYTES;
            let waste = bytes - form.blocks() * class.size();
            if form == usual {
                assert!(form.blocks() >= 4 && waste * 8 <= bytes, "{class:?}");
            } else {
                assert!(form.regions() < usual.regions(), "{class:?}");
                assert!(form.blocks() >= 2 && waste * 5 <= bytes, "{class:?}");
            }
            assert!(form.is_of(class));
        }
    }
}

#[test]
fn blocks_are_aligned_as_their_class_says() {
    let arena = arena();
    for class in ClassIndex::all().filter(|class| !class.is_tiny()) {
        let pool = mid_pool();
        let align = class.align();
        for _ in 0..8 {
            // Without an alignment of its own, the next run would start right behind.
            arena.allocate(1, 1, Label::LARGE).expect("memory");
            let mut out = vec![std::ptr::null_mut(); run_blocks(class)];
            assert_eq!(pool.refill(arena, class, 0, &mut out), out.len());
            for block in out {
                assert_eq!(block.addr() % align, 0, "{block:p} of {class:?}");
            }
        }
        assert_eq!(pool.counts().runs_made, 8, "one for each refill");
    }
}

#[test]
fn what_is_before_a_runs_first_block_is_left_over_and_costs_no_page() {
    for class in ClassIndex::all().filter(|class| !class.is_tiny()) {
        let align = class.align();
        for form in RunForm::all(class) {
            let bytes = form.bytes();
            let used = form.blocks() * class.size();
            for first in (0..5000).step_by(form.regions()) {
                let lead = form.lead(RegionIndex(first));
                assert!(lead.is_multiple_of(align) && lead + used <= bytes);
                let pages = (lead + used).div_ceil(PAGE) - lead / PAGE;
                assert_eq!(pages, used.div_ceil(PAGE), "{lead} before {class:?}");
            }
        }
    }
}

/// A processor's cache has a few ways for lines that agree in these bits of their addresses.
#[test]
fn many_blocks_of_a_class_start_on_lines_of_many_places() {
    const LINE: usize = 64;
    const WAY: usize = 128 << 10;
    let arena = arena();
    for size in [8320, 16_512, 20_608] {
        let (pool, class) = (mid_pool(), class(size));
        let mut out = vec![std::ptr::null_mut(); run_blocks(class)];
        let mut lines = vec![0; WAY / LINE];
        for _ in 0..512 / out.len() {
            assert_eq!(pool.refill(arena, class, 0, &mut out), out.len());
            for block in &out {
                lines[block.addr() % WAY / LINE] += 1;
            }
        }
        // Half of the lines are odd ones.
        let odd: usize = lines.iter().skip(1).step_by(2).sum();
        assert!(
            (128..384).contains(&odd),
            "{odd} of 512 blocks of {size} bytes"
        );
        let most = lines.into_iter().max();
        assert!(most <= Some(6), "{most:?} of 512 blocks of {size} bytes");
    }
}

/// A processor looks for a page's place among those that agree in these bits of their addresses.
#[test]
fn many_blocks_of_a_class_start_on_pages_of_many_places() {
    const PAGES: usize = 64;
    let arena = arena();
    for size in [16_512, 20_608, 32_896] {
        let (pool, class) = (mid_pool(), class(size));
        let mut out = vec![std::ptr::null_mut(); run_blocks(class)];
        let mut pages = [0; PAGES];
        let runs = 512 / out.len();
        for _ in 0..runs {
            assert_eq!(pool.refill(arena, class, 0, &mut out), out.len());
            for block in &out {
                pages[block.addr() / PAGE % PAGES] += 1;
            }
        }
        let (blocks, most) = (runs * out.len(), pages.into_iter().max());
        assert!(
            most <= Some(3 * blocks / PAGES),
            "{most:?} of {blocks} blocks of {size} bytes: {pages:?}"
        );
    }
}

#[test]
fn all_mid_classes_are_served() {
    let arena = arena();
    let pool = mid_pool();
    for class in ClassIndex::all().filter(|class| !class.is_tiny()) {
        let mut out = [std::ptr::null_mut(); 56];
        let got = pool.refill(arena, class, 0, &mut out);
        assert_eq!(got, run_blocks(class), "{class:?}");
        for &block in &out[..got] {
            // SAFETY: the block is ours, and of the class.
            unsafe { fill(block, class.size()) };
        }
        for &block in &out[..got] {
            // SAFETY: as above, and filled.
            unsafe { check(block, class.size()) };
        }
        assert!(class.size() <= MAX_CACHED);
    }
}

#[test]
fn what_another_class_left_in_pieces_serves_as_short_runs() {
    const RUNS: usize = 40;
    let (arena, pool) = (arena(), mid_pool());
    let old = class(4736);
    let short = RunForm::all(old).last().expect("a form");
    // Pieces of dirty memory between regions in use, each too short for a run of the usual form.
    let pieces: Vec<RegionIndex> = (0..RUNS)
        .map(|_| {
            [short.regions(), 1].map(|count| {
                let run = arena.allocate(count, 1, Label::LARGE).expect("memory");
                run.first
            })[0]
        })
        .collect();
    for first in pieces {
        // SAFETY: the run is ours, and not used.
        unsafe { arena.free(first, short.regions()) };
    }
    let used = arena.stats().used_bytes;
    let mut blocks = Vec::new();
    while arena.stats().dirty_bytes > 0 {
        let mut out = vec![std::ptr::null_mut(); run_blocks(old)];
        let got = pool.refill(arena, old, 0, &mut out);
        assert_eq!(got, short.blocks(), "a short run");
        blocks.extend_from_slice(&out[..got]);
    }
    assert_eq!(pool.counts().runs_made, RUNS as u64);
    assert_eq!(pool.used_bytes(), RUNS * short.regions() * REGION_BYTES);
    let mut out = vec![std::ptr::null_mut(); run_blocks(old)];
    assert_eq!(pool.refill(arena, old, 0, &mut out), run_blocks(old));
    blocks.extend_from_slice(&out);
    for &block in &blocks {
        // SAFETY: the block is ours, and of the class.
        unsafe { fill(block, old.size()) };
    }
    for &block in &blocks {
        // SAFETY: as above, and filled.
        unsafe { check(block, old.size()) };
    }
    // SAFETY: the blocks are ours.
    unsafe { pool.flush(arena, old, &blocks) };
    pool.trim(arena);
    assert_eq!((arena.stats().used_bytes, pool.used_bytes()), (used, 0));
}

#[test]
fn a_freed_block_is_used_again_before_a_new_run_is_made() {
    let arena = arena();
    let pool = mid_pool();
    let mut out = [std::ptr::null_mut(); 8];
    let class = class(2048);
    assert_eq!(pool.refill(arena, class, 0, &mut out), 8);
    // SAFETY: the blocks are ours.
    unsafe { pool.flush(arena, class, &out[3..6]) };
    let mut again = [std::ptr::null_mut(); 3];
    // Another shard: it finds the run all the same.
    assert_eq!(pool.refill(arena, class, 5, &mut again), 3);
    assert_eq!(again[..], out[3..6]);
    assert_eq!(pool.counts().runs_made, 1);
}

#[test]
fn a_refill_of_free_blocks_makes_no_run() {
    let arena = arena();
    let pool = mid_pool();
    let mut out = [std::ptr::null_mut(); 4];
    assert_eq!(pool.refill_free(arena, class(4096), 0, &mut out), 0);
    assert_eq!(pool.counts().runs_made, 0);
    let mut all = vec![std::ptr::null_mut(); run_blocks(class(4096))];
    assert_eq!(pool.refill(arena, class(4096), 0, &mut all), all.len());
    assert_eq!(pool.refill_free(arena, class(4096), 0, &mut out), 0);
    // SAFETY: the blocks are ours.
    unsafe { pool.flush(arena, class(4096), &all[..2]) };
    assert_eq!(pool.refill_free(arena, class(4096), 3, &mut out), 2);
    assert_eq!(out[..2], all[..2]);
    assert_eq!(pool.counts().runs_made, 1);
}

#[test]
fn a_refill_that_asks_for_nothing_changes_nothing() {
    let (arena, pool) = (arena(), mid_pool());
    let class = class(5248);
    assert_eq!(pool.refill(arena, class, 0, &mut []), 0);
    assert_eq!(pool.counts().runs_made, 0);
    // Two runs that are wholly free, one more than are kept.
    let mut blocks = vec![std::ptr::null_mut(); 2 * run_blocks(class)];
    let half = blocks.len() / 2;
    for part in blocks.chunks_mut(half) {
        assert_eq!(pool.refill(arena, class, 0, part), half);
    }
    // SAFETY: the blocks are this test's, and not used.
    unsafe { pool.flush(arena, class, &blocks) };
    for _ in 0..3 {
        assert_eq!(pool.refill(arena, class, 0, &mut []), 0);
        assert_eq!(pool.refill_free(arena, class, 0, &mut []), 0);
    }
    // They still count as such.
    pool.sweep(arena);
    assert_eq!(pool.counts().runs_ended, 1);
}

#[test]
fn a_class_that_is_not_mid_is_refused_and_a_shard_is_any_number() {
    let (arena, pool) = (arena(), mid_pool());
    let tiny = ClassIndex::for_size(64).expect("a tiny size");
    let mut out = [std::ptr::null_mut(); 4];
    assert_eq!(pool.refill(arena, tiny, 0, &mut out), 0);
    let class = class(2048);
    assert_eq!(pool.refill(arena, class, usize::MAX, &mut out), 4);
    // SAFETY: the blocks are this test's, and not used.
    unsafe { pool.flush(arena, class, &out) };
    assert_eq!(pool.refill_free(arena, class, usize::MAX, &mut out), 4);
}
