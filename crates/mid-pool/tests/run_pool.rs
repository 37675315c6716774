//! Runs above the classes of blocks: which freed ones are retained, and for which requests.

mod support {
    pub mod arena;
    pub mod run;
    pub mod runs;
}

use hakmem_mid_pool::{MAX_RETAINED_REGIONS, MAX_RUN_REGIONS, RunPool, SHARDS};
use hakmem_page_arena::{Arena, LARGE_STEP, Shape, large_regions};
use hakmem_region_id::{Kind, REGION_BYTES, RegionIndex};
use hakmem_test_support::{check, fill};
use proptest::prelude::*;
use support::arena::arena;
use support::run::allocate_run;
use support::runs::run_pool;

/// The size of a block whose run has so many steps, and no region more.
const fn steps(count: usize) -> usize {
    count * LARGE_STEP - 5000
}

fn retained(pool: &RunPool, arena: &Arena) -> usize {
    let map = arena.map();
    let kept: usize = (0..map.len())
        .map(|index| RegionIndex(index as u32))
        // SAFETY: the regions are in the map, and retained runs have a length.
        .filter(|&region| unsafe { map.get(region) }.kind() == Some(Kind::Retained))
        // SAFETY: as above.
        .map(|region| unsafe { arena.run_len(region) } * REGION_BYTES)
        .sum();
    assert_eq!(kept, pool.retained_bytes());
    kept
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 40,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn retained_runs_stay_within_the_budget_and_are_at_most_a_quarter_too_long(
        steps in prop::collection::vec(
            (any::<bool>(), 1..MAX_RETAINED_REGIONS, 0..SHARDS, any::<usize>()), 1..200
        )
    ) {
        let arena = arena();
        let pool = run_pool();
        let mut live: Vec<(RegionIndex, usize)> = Vec::new();
        for (allocate, regions, shard, pick) in steps {
            if allocate || live.is_empty() {
                let run = allocate_run(&pool, arena, regions * REGION_BYTES, shard).expect("memory");
                // SAFETY: the run was handed out.
                let length = unsafe { arena.run_len(run.first) };
                prop_assert_eq!(run.regions, length);
                let needed = large_regions(regions * REGION_BYTES, 1);
                prop_assert!(length >= needed && length <= needed + needed / 4 + 1,
                    "{} regions for a request of {}", length, needed);
                for &(other, count) in &live {
                    prop_assert!(run.first.index() + length <= other.index()
                        || other.index() + count <= run.first.index());
                }
                let start: *mut u8 =
                    std::ptr::with_exposed_provenance_mut(arena.map().address_of(run.first));
                if run.soiled == 0 {
                    // SAFETY: the run is ours.
                    let ends = unsafe {
                        (start.read(), start.add(length * REGION_BYTES - 8).cast::<u64>().read())
                    };
                    prop_assert_eq!(ends, (0, 0));
                }
                // SAFETY: the run is ours, with so many regions.
                unsafe { fill(start, length * REGION_BYTES) };
                // SAFETY: the region is in the map.
                prop_assert_eq!(unsafe { arena.map().get(run.first) }.kind(), Some(Kind::LargeStart));
                live.push((run.first, length));
            } else {
                let (first, length) = live.swap_remove(pick % live.len());
                let start: *mut u8 =
                    std::ptr::with_exposed_provenance_mut(arena.map().address_of(first));
                // SAFETY: the run is ours, with so many regions, and filled.
                unsafe {
                    check(start, length * REGION_BYTES);
                    pool.free(arena, first, length, shard);
                }
            }
            prop_assert!(retained(&pool, arena) <= 8 << 20);
        }
        for (first, length) in live {
            // SAFETY: the run is ours, with so many regions.
            unsafe { pool.free(arena, first, length, 0) };
        }
        pool.trim(arena);
        prop_assert_eq!(pool.retained_bytes(), 0);
        prop_assert_eq!(arena.stats().used_bytes, 0);
    }
}

#[test]
fn a_retained_run_is_used_again_by_any_shard() {
    let arena = arena();
    let pool = run_pool();
    let bytes = 256 << 10;
    let run = allocate_run(&pool, arena, bytes, 1).unwrap();
    // SAFETY: the run is ours.
    unsafe { pool.free(arena, run.first, run.regions, 1) };
    assert_eq!(pool.retained_bytes(), run.regions * REGION_BYTES);
    let again = allocate_run(&pool, arena, bytes, 6).unwrap();
    assert_eq!(again.first, run.first);
    assert_eq!(again.soiled, again.regions);
    assert_eq!(pool.retained_bytes(), 0);
}

#[test]
fn more_is_retained_of_short_runs_that_are_asked_for_again_and_again() {
    let arena = arena();
    let pool = run_pool();
    let come_and_go = |count: usize, bytes: usize| {
        let runs: Vec<_> = (0..count)
            .map(|_| allocate_run(&pool, arena, bytes, 0).unwrap())
            .collect();
        for run in runs {
            // SAFETY: the run is ours.
            unsafe { pool.free(arena, run.first, run.regions, 0) };
        }
        pool.retained_bytes()
    };
    // These stay in use: 8 MiB, of which an eighth is one.
    let kept: Vec<_> = (0..8)
        .map(|_| allocate_run(&pool, arena, steps(16), 0).unwrap())
        .collect();
    let budget = 1 << 20;
    // Those that are asked for once, or are long, are no reason.
    for _ in 0..200 {
        assert_eq!(come_and_go(6, steps(8)), budget);
    }
    assert_eq!(come_and_go(40, steps(2)), budget);
    pool.trim(arena);
    let most = (0..200).map(|_| come_and_go(40, steps(2))).max();
    // An eighth of 8 + 5 MiB, and a step.
    assert!(most > Some(2 << 20) && most <= Some(3 << 20), "{most:?}");
    // It does not stay for ever: this is done once a second, and whenever the arena asks.
    for _ in 0..8 {
        pool.trim(arena);
    }
    assert_eq!(come_and_go(40, steps(2)), budget);
    for run in kept {
        // SAFETY: the run is ours.
        unsafe { pool.free(arena, run.first, run.regions, 0) };
    }
    pool.trim(arena);
    assert_eq!(arena.stats().used_bytes, 0);
}

#[test]
fn an_aligned_request_gets_a_run_of_its_own() {
    let arena = arena();
    let pool = run_pool();
    let runs = [(); 3].map(|()| allocate_run(&pool, arena, steps(1), 0).unwrap());
    for run in runs {
        // SAFETY: the run is ours.
        unsafe { pool.free(arena, run.first, run.regions, 0) };
    }
    let retained = pool.retained_bytes();
    let aligned = |align| Shape {
        align,
        ..Shape::large(steps(1), 1)
    };
    for align in [64, 256] {
        let run = pool.allocate(arena, steps(1), aligned(align), 0).unwrap();
        let address = arena.map().address_of(run.first);
        assert!(address.is_multiple_of(align * REGION_BYTES));
    }
    assert_eq!(pool.retained_bytes(), retained);
    assert_eq!(
        pool.allocate(arena, steps(1), aligned(3), 0),
        None,
        "no power of two"
    );
}

#[test]
fn a_retained_run_too_long_for_a_request_is_left_where_it_is() {
    let arena = arena();
    let pool = run_pool();
    let run = allocate_run(&pool, arena, steps(5), 0).unwrap();
    // SAFETY: the run is ours.
    unsafe { pool.free(arena, run.first, run.regions, 0) };
    let short = allocate_run(&pool, arena, steps(3), 0).unwrap();
    assert_ne!(short.first, run.first);
    let fits = allocate_run(&pool, arena, steps(4), 0).unwrap();
    assert_eq!(fits.first, run.first, "320 KiB for 256 is a quarter more");
}

#[test]
fn a_run_with_a_region_more_serves_those_without_and_not_the_other_way_round() {
    let arena = arena();
    let pool = run_pool();
    // Beyond a megabyte, where wide regions have one more, too.
    for count in [1, 4, 16] {
        let (exact, less) = (count * LARGE_STEP, steps(count));
        let [more, run] = [exact, less].map(|size| large_regions(size, 1));
        if more == run {
            continue;
        }
        assert_eq!(more, run + 1);
        let longer = allocate_run(&pool, arena, exact, 0).unwrap();
        let shorter = allocate_run(&pool, arena, less, 0).unwrap();
        assert_eq!([longer.regions, shorter.regions], [more, run]);
        // SAFETY: the run is ours.
        unsafe { pool.free(arena, shorter.first, run, 0) };
        let other = allocate_run(&pool, arena, exact, 0).unwrap();
        assert_ne!(other.first, shorter.first);
        assert_eq!(
            pool.retained_bytes(),
            run * REGION_BYTES,
            "it is still there"
        );
        assert_eq!(
            allocate_run(&pool, arena, less, 0).map(|run| run.first),
            Some(shorter.first)
        );
        // SAFETY: the run is ours.
        unsafe { pool.free(arena, longer.first, more, 0) };
        let again = allocate_run(&pool, arena, less, 0).unwrap();
        assert_eq!((again.first, again.regions), (longer.first, more));
        assert_eq!(pool.retained_bytes(), 0);
    }
}

#[test]
fn retained_runs_serve_other_lengths_before_new_memory() {
    static ARENA: Arena = Arena::new().with_reclaim(|| POOL.trim(&ARENA));
    // SAFETY: used with this arena only.
    static POOL: RunPool = unsafe { RunPool::new() };
    let runs: Vec<_> = (0..4)
        .map(|_| allocate_run(&POOL, &ARENA, steps(4), 0).unwrap())
        .collect();
    for run in &runs {
        // SAFETY: the run is ours.
        unsafe { POOL.free(&ARENA, run.first, run.regions, 0) };
    }
    assert_eq!(retained(&POOL, &ARENA), 1 << 20);
    let long = allocate_run(&POOL, &ARENA, steps(16), 0).unwrap();
    assert_eq!(long.soiled, long.regions);
    assert_eq!(long.first, runs[0].first, "all four, joined");
    assert_eq!(POOL.retained_bytes(), 0);
}

#[test]
fn what_exceeds_the_budget_goes_to_the_arena() {
    let arena = arena();
    let pool = run_pool();
    let runs: Vec<_> = (0..12)
        .map(|_| allocate_run(&pool, arena, steps(2), 0).unwrap().first)
        .collect();
    for &run in &runs {
        // SAFETY: the run is ours.
        unsafe { pool.free(arena, run, large_regions(steps(2), 1), 0) };
    }
    assert_eq!(retained(&pool, arena), 1 << 20);
    assert_eq!(arena.stats().used_bytes, 1 << 20);
    assert_eq!(arena.stats().dirty_bytes, 1 << 19);
}

#[test]
fn a_run_that_is_too_long_is_refused_and_a_shard_is_any_number() {
    let (arena, pool) = (arena(), run_pool());
    let longest = 8 << 20;
    let run = allocate_run(&pool, arena, longest, usize::MAX).expect("memory");
    assert_eq!(run.regions, MAX_RUN_REGIONS);
    // SAFETY: the run is ours.
    unsafe { pool.free(arena, run.first, run.regions, usize::MAX) };
    assert_eq!(
        allocate_run(&pool, arena, longest, usize::MAX).map(|run| run.regions),
        Some(MAX_RUN_REGIONS)
    );
    for size in [
        MAX_RUN_REGIONS * REGION_BYTES + 1,
        isize::MAX as usize,
        usize::MAX,
    ] {
        assert_eq!(allocate_run(&pool, arena, size, 0), None, "{size}");
    }
}
