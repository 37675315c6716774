//! Runs that come as huge pages, as long as those that come back were used.

mod support {
    pub mod run;
    pub mod runs;
}

use hakmem_mid_pool::{MAX_RETAINED_REGIONS, MAX_RUN_REGIONS, PooledRun, RunPool};
use hakmem_page_arena::{Arena, HugePages, LARGE_STEP, Label, large_regions};
use hakmem_region_id::REGION_BYTES;
use hakmem_test_support::can_make_huge;
use support::run::allocate_run;
use support::runs::run_pool;

/// A block whose run is six times 64 KiB and that leaves some of the last.
const SIZE: usize = 380_000;
/// Regions of its run.
const REGIONS: usize = large_regions(SIZE, 1);
/// What makes an arena large, in regions (16 MiB).
const LARGE: usize = (16 << 20) / REGION_BYTES;

fn small_arena(wanted: HugePages) -> &'static Arena {
    let arena: &'static Arena = Box::leak(Box::new(Arena::new()));
    arena.set_huge_pages(wanted);
    arena
}

fn large_arena(wanted: HugePages) -> &'static Arena {
    let arena = small_arena(wanted);
    arena.allocate(LARGE, 1, Label::LARGE).expect("memory");
    arena
}

/// So many runs, each with a byte written in so many of its pages, from the start on.
fn runs(arena: &Arena, pool: &RunPool, count: usize, size: usize, pages: usize) -> Vec<PooledRun> {
    (0..count)
        .map(|_| {
            let run = allocate_run(pool, arena, size, 0).expect("memory");
            for page in 0..pages {
                let address = arena.map().address_of(run.first) + page * 4096;
                // SAFETY: the run is ours.
                unsafe { std::ptr::with_exposed_provenance_mut::<u8>(address).write_volatile(1) };
            }
            run
        })
        .collect()
}

fn free(arena: &Arena, pool: &RunPool, runs: Vec<PooledRun>) {
    for run in runs {
        // SAFETY: the run is ours.
        unsafe {
            let block = std::ptr::with_exposed_provenance(arena.map().address_of(run.first));
            pool.note_use(block, run.regions * REGION_BYTES);
            pool.free(arena, run.first, run.regions, 0);
        }
    }
}

/// Bytes of huge pages taken for so many more runs than are free already, and not touched. They
/// stay, so they are no evidence.
fn beyond_what_is_free(arena: &Arena, pool: &RunPool, count: usize, size: usize) -> u64 {
    let before = arena.stats();
    let free = (before.dirty_bytes + before.clean_bytes) as usize;
    let there = free / (large_regions(size, 1) * REGION_BYTES);
    runs(arena, pool, there + count, size, 0);
    arena.stats().huge_bytes - before.huge_bytes
}

/// The same for runs of [`SIZE`].
fn come_for_more(arena: &Arena, pool: &RunPool) -> u64 {
    beyond_what_is_free(arena, pool, 100, SIZE)
}

/// All pages of a run.
const ALL: usize = REGIONS * REGION_BYTES / 4096;

#[test]
fn runs_that_are_not_used_end_it_and_runs_that_are_begin_it_again() {
    let (arena, pool) = (large_arena(HugePages::Likely), run_pool());
    if !can_make_huge() {
        return;
    }
    let sparse = runs(arena, &pool, 200, SIZE, 2);
    let taken = arena.stats().huge_bytes;
    assert!(taken > 0, "the first ones are taken on trust");
    free(arena, &pool, sparse);
    assert_eq!(
        come_for_more(arena, &pool),
        0,
        "no more: two pages of 93 used"
    );
    // What comes page by page now is used.
    let full = runs(arena, &pool, 400, SIZE, ALL);
    free(arena, &pool, full);
    if can_make_huge() {
        assert!(come_for_more(arena, &pool) > 0, "used again");
    }
}

#[test]
fn runs_that_are_used_keep_it_up() {
    let (arena, pool) = (large_arena(HugePages::Likely), run_pool());
    for _ in 0..3 {
        let full = runs(arena, &pool, 200, SIZE, ALL);
        free(arena, &pool, full);
    }
    if can_make_huge() {
        assert!(come_for_more(arena, &pool) > 0);
    }
}

#[test]
fn none_for_blocks_that_fill_their_run_nor_where_only_proven_memory_is_to_be_huge() {
    let (arena, pool) = (large_arena(HugePages::Likely), run_pool());
    runs(arena, &pool, 50, REGIONS * REGION_BYTES, 1);
    assert_eq!(arena.stats().huge_bytes, 0);
    let (arena, pool) = (large_arena(HugePages::Proven), run_pool());
    runs(arena, &pool, 50, SIZE, 1);
    assert_eq!(arena.stats().huge_bytes, 0);
}

#[test]
fn none_for_blocks_that_leave_more_than_an_eighth_of_their_run() {
    let (arena, pool) = (large_arena(HugePages::Likely), run_pool());
    let run = 4 * LARGE_STEP;
    runs(arena, &pool, 50, 33_000, 1);
    runs(arena, &pool, 50, LARGE_STEP + 1, 1);
    runs(arena, &pool, 50, run - run / 8 - 1, 1);
    assert_eq!(arena.stats().huge_bytes, 0);
    runs(arena, &pool, 50, run - run / 8, 1);
    if can_make_huge() {
        assert!(arena.stats().huge_bytes > 0);
    }
}

/// So many runs have less than 4 MiB.
const FEW: usize = 10;

#[test]
fn in_a_small_heap_there_are_4_mib_of_such_runs_first() {
    let (arena, pool) = (small_arena(HugePages::Likely), run_pool());
    // Another kind of memory counts for nothing.
    let other = (5 << 20) / REGION_BYTES;
    arena.allocate(other, 1, Label::LARGE).expect("memory");
    runs(arena, &pool, FEW, SIZE, 1);
    assert_eq!(arena.stats().huge_bytes, 0);
    runs(arena, &pool, 20, SIZE, 1);
    if can_make_huge() {
        assert!(arena.stats().huge_bytes > 0);
    }
}

#[test]
fn what_goes_back_to_the_arena_does_not_count_any_more() {
    let (arena, pool) = (small_arena(HugePages::Likely), run_pool());
    for _ in 0..3 {
        let few = runs(arena, &pool, FEW, SIZE, 1);
        free(arena, &pool, few);
        pool.trim(arena);
        // Others take it, so that the next ones are new memory again.
        let regions = FEW * REGIONS;
        arena.allocate(regions, 1, Label::LARGE).expect("memory");
    }
    assert_eq!(arena.stats().huge_bytes, 0);
}

/// A block of more than a huge page.
const LONG: usize = 3_000_000;

#[test]
fn long_runs_come_as_huge_pages_where_there_is_as_much_of_their_like() {
    let (arena, pool) = (small_arena(HugePages::Likely), run_pool());
    let mut live = runs(arena, &pool, 1, LONG, 1);
    assert_eq!(arena.stats().huge_bytes, 0);
    live.extend(runs(arena, &pool, 4, LONG, 1));
    if can_make_huge() {
        assert!(arena.stats().huge_bytes > 0);
    }
    // They do not wait for others.
    free(arena, &pool, live);
    assert_eq!(pool.retained_bytes(), 0);
    assert_eq!(arena.stats().used_bytes, 0);
}

#[test]
fn long_runs_are_trusted_for_24_mib_until_those_that_are_freed_were_used() {
    let (arena, pool) = (large_arena(HugePages::Likely), run_pool());
    let sparse = runs(arena, &pool, 120, LONG, 1);
    let taken = arena.stats().huge_bytes;
    assert!(taken <= 24 << 20, "{taken} bytes without evidence");
    let full = runs(arena, &pool, 8, LONG, LONG / 4096);
    free(arena, &pool, full);
    // Some may be let pass, if huge pages come slowly just now.
    let came = (0..8).any(|_| beyond_what_is_free(arena, &pool, 20, LONG) > 0);
    assert!(came || !can_make_huge(), "none where all of it was used");
    free(arena, &pool, sparse);
    assert_eq!(
        beyond_what_is_free(arena, &pool, 20, LONG),
        0,
        "no more: one page of 732 used"
    );
}

#[test]
fn a_run_counts_as_long_as_it_is() {
    let (arena, pool) = (small_arena(HugePages::Likely), run_pool());
    // One has grown where it was, and another beyond what comes from here.
    pool.note_resized(0, MAX_RETAINED_REGIONS);
    pool.note_resized(MAX_RETAINED_REGIONS, MAX_RUN_REGIONS + 1);
    runs(arena, &pool, 1, SIZE, 1);
    assert_eq!(arena.stats().huge_bytes, 0);
    pool.note_resized(MAX_RETAINED_REGIONS, MAX_RUN_REGIONS);
    runs(arena, &pool, 8, SIZE, 1);
    if can_make_huge() {
        assert!(arena.stats().huge_bytes > 0);
    }
}

#[test]
fn with_all_it_does_not_matter() {
    let (arena, pool) = (large_arena(HugePages::All), run_pool());
    let sparse = runs(arena, &pool, 200, SIZE, 0);
    free(arena, &pool, sparse);
    if can_make_huge() {
        assert!(come_for_more(arena, &pool) > 0);
    }
}
