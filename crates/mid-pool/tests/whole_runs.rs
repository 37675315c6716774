//! Which runs are given back whose blocks are all free, and when they are looked for.

mod support {
    pub mod arena;
    pub mod class;
    pub mod form;
    pub mod pool;
}

use hakmem_mid_pool::MidPool;
use hakmem_mid_pool::run_form::RunForm;
use hakmem_page_arena::{Arena, Label};
use hakmem_test_support::Numbers;
use support::arena::arena;
use support::class::class;
use support::form::run_blocks;
use support::pool::mid_pool;

#[test]
fn runs_that_are_wholly_free_stay_until_the_arena_has_no_other_dirty_memory() {
    static ARENA: Arena = Arena::new().with_reclaim(|| POOL.reclaim(&ARENA));
    // SAFETY: used with this arena only.
    static POOL: MidPool = unsafe { MidPool::new() };
    const RUNS: u64 = 20;
    let class = class(8192);
    let burst = || {
        let mut blocks = vec![std::ptr::null_mut(); RUNS as usize * run_blocks(class)];
        for part in blocks.chunks_mut(4) {
            assert_eq!(POOL.refill(&ARENA, class, 0, part), part.len());
        }
        // SAFETY: the blocks are ours.
        unsafe { POOL.flush(&ARENA, class, &blocks) };
    };
    let there = || POOL.counts().runs_made - POOL.counts().runs_ended;
    for _ in 0..3 {
        burst();
        assert_eq!(POOL.counts().runs_made, RUNS);
        assert_eq!(there(), RUNS);
    }
    let allocate = |regions| ARENA.allocate(regions, 1, Label::TAKEN).expect("memory");
    let regions = RunForm::usual(class).regions();
    let other = allocate(regions);
    assert!(!other.zeroed(), "the memory of runs");
    assert_eq!(there(), 1);
    burst();
    // SAFETY: the run is ours.
    unsafe { ARENA.free(other.first, regions) };
    assert!(!allocate(regions).zeroed());
    assert_eq!(there(), RUNS, "nobody was asked");
    let joined = (RUNS as usize - 1) * regions / 2;
    assert!(!allocate(joined).zeroed());
    assert_eq!(there(), 1);
}

#[test]
fn a_sweep_finds_what_is_whole_after_a_long_list_was_looked_through() {
    let arena = arena();
    let pool = mid_pool();
    let class = class(2048);
    let each = run_blocks(class);
    let mut blocks = vec![std::ptr::null_mut(); 1000 * each];
    for run in blocks.chunks_mut(each) {
        assert_eq!(pool.refill(arena, class, 0, run), each);
    }
    let runs: Vec<&[*mut u8]> = blocks.chunks(each).collect();
    // SAFETY: the blocks are ours.
    let give = |blocks: &[*mut u8]| unsafe { pool.flush(arena, class, blocks) };
    let there = || pool.counts().runs_made - pool.counts().runs_ended;
    // One block of each run, so that all are listed; then two whole ones, so that all are met.
    for run in &runs[2..] {
        give(&run[..1]);
    }
    give(runs[0]);
    give(runs[1]);
    pool.reclaim(arena);
    assert!(pool.counts().runs_met > 900);
    // Forty more are not worth a look there, nor are they when the list is short.
    let before = there();
    for run in &runs[2..42] {
        give(&run[1..]);
        pool.reclaim(arena);
    }
    assert_eq!(there(), before);
    pool.sweep(arena);
    assert!(there() <= before - 39, "{} runs of {before}", there());
    for run in &runs[42..] {
        give(&run[1..]);
    }
    pool.trim(arena);
    assert_eq!(there(), 0);
}

#[test]
fn runs_that_become_whole_in_random_order_are_found_by_few_looks() {
    let arena = arena();
    let pool = mid_pool();
    let class = class(2048);
    let mut blocks = vec![std::ptr::null_mut(); 8000];
    for part in blocks.chunks_mut(8) {
        assert_eq!(pool.refill(arena, class, 0, part), part.len());
    }
    Numbers(1).shuffle(&mut blocks);
    for block in &blocks {
        // SAFETY: the block is ours.
        unsafe { pool.flush(arena, class, std::slice::from_ref(block)) };
        // As an arena would that has no other memory.
        pool.reclaim(arena);
    }
    let counts = pool.counts();
    assert!(counts.runs_met <= 12 * counts.runs_made, "{counts:?}");
    assert!(counts.runs_made - counts.runs_ended <= 2, "{counts:?}");
}
