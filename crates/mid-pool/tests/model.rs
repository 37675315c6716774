//! The mid pool against a map of the live blocks.

mod support {
    pub mod arena;
    pub mod form;
    pub mod pool;
    pub mod runs;
}

use hakmem_mid_pool::run_form::RunForm;
use hakmem_mid_pool::{MAX_RETAINED_REGIONS, MAX_RUN_REGIONS, MidPool, RunPool, SHARDS};
use hakmem_page_arena::{Arena, Label, large_regions};
use hakmem_region_id::{ClassIndex, Kind, MAX_CACHED, REGION_BYTES, RegionIndex, RegionWord};
use hakmem_test_support::{Numbers, check, fill};
use proptest::prelude::*;
use std::collections::BTreeMap;
use support::arena::{arena, class};
use support::form::run_blocks;
use support::pool::mid_pool;
use support::runs::run_pool;

const SIZES: [usize; 5] = [1152, 2048, 5120, 14336, 32768];

#[derive(Clone, Debug)]
enum Step {
    Refill {
        size: usize,
        shard: usize,
        count: usize,
    },
    Flush {
        size: usize,
        from: usize,
        count: usize,
        shuffled: bool,
    },
    Trim,
    Reclaim,
    PurgeHoles {
        now: bool,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..SIZES.len(), 0..SHARDS, 1..33_usize)
            .prop_map(|(size, shard, count)| Step::Refill { size, shard, count }),
        5 => (0..SIZES.len(), any::<usize>(), 1..90_usize, any::<bool>())
            .prop_map(|(size, from, count, shuffled)| Step::Flush { size, from, count, shuffled }),
        1 => Just(Step::Trim),
        2 => Just(Step::Reclaim),
        1 => any::<bool>().prop_map(|now| Step::PurgeHoles { now }),
    ];
    prop::collection::vec(step, 1..100)
}

struct Model {
    arena: &'static Arena,
    pool: MidPool,
    /// Size by address.
    live: BTreeMap<usize, usize>,
}

/// The first region of the run around a region of the map that is part of one, and how many of
/// its blocks are in use.
fn inspect(arena: &Arena, region: RegionIndex) -> (RegionIndex, usize) {
    assert!(region.index() < arena.map().len());
    // SAFETY: it is in the map.
    unsafe { MidPool::inspect(arena, region) }
}

impl Model {
    fn refill(&mut self, size: usize, shard: usize, count: usize) {
        let class = class(size);
        let mut out = vec![std::ptr::null_mut(); count];
        let got = self.pool.refill(self.arena, class, shard, &mut out);
        assert!((1..=count).contains(&got));
        for &block in &out[..got] {
            let address = block.expose_provenance();
            let map = self.arena.map();
            let region = map.region_of(address).expect("of the arena");
            let (first, _) = inspect(self.arena, region);
            let offset = address - map.address_of(first);
            assert_eq!(offset % size, 0, "not where a block starts");
            // SAFETY: the run is in use.
            let regions = unsafe { self.arena.run_len(first) };
            assert!(offset + size <= regions * REGION_BYTES);
            // SAFETY: the region is in the map.
            assert_eq!(unsafe { map.get(region) }, RegionWord::shared(class));
            if let Some((&other, &length)) = self.live.range(..address + size).next_back() {
                assert!(
                    other + length <= address,
                    "{address:#x} overlaps {other:#x}"
                );
            }
            self.live.insert(address, size);
            // SAFETY: handed out just now, and apart from all that is live.
            unsafe { fill(block, size) };
        }
    }

    fn flush(&mut self, size: usize, from: usize, count: usize, shuffled: bool) {
        let mut picked: Vec<usize> = self
            .live
            .iter()
            .filter(|(_, live)| **live == size)
            .map(|(&address, _)| address)
            .collect();
        let Some(skip) = from.checked_rem(picked.len()) else {
            return;
        };
        picked.drain(..skip);
        picked.truncate(count);
        if shuffled {
            picked.sort_by_key(|address| address.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        }
        let blocks: Vec<*mut u8> = picked
            .iter()
            .map(|&address| std::ptr::with_exposed_provenance_mut(address))
            .collect();
        for &block in &blocks {
            self.live.remove(&block.addr());
            // SAFETY: the block was live, and filled when it was handed out.
            unsafe { check(block, size) };
        }
        // SAFETY: the blocks are live, and forgotten above.
        unsafe { self.pool.flush(self.arena, class(size), &blocks) };
    }

    fn assert_counted(&self) {
        let map = self.arena.map();
        let mut used = 0;
        for index in 0..map.len() {
            let region = RegionIndex(index as u32);
            // SAFETY: the region is in the map.
            if let Some(class) = unsafe { map.get(region) }.class() {
                let (first, blocks) = inspect(self.arena, region);
                if first == region {
                    used += blocks * class.size();
                }
            }
        }
        assert_eq!(used, self.live.values().sum::<usize>());
    }
}

#[test]
fn blocks_do_not_overlap_and_everything_freed_comes_back() {
    let arena = arena();
    let config = ProptestConfig {
        cases: 120,
        max_shrink_iters: 400,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    proptest!(config, |(steps in steps())| {
        let used_before = arena.stats().used_bytes;
        let mut model = Model {
            arena,
            pool: mid_pool(),
            live: BTreeMap::new(),
        };
        for step in &steps {
            match *step {
                Step::Refill { size, shard, count } => model.refill(SIZES[size], shard, count),
                Step::Flush { size, from, count, shuffled } => {
                    model.flush(SIZES[size], from, count, shuffled);
                }
                Step::Trim => model.pool.trim(arena),
                Step::Reclaim => model.pool.reclaim(arena),
                Step::PurgeHoles { now } => {
                    model.pool.purge_holes(arena, now, usize::MAX);
                }
            }
            // What a failed case has left behind is in the map too.
            if used_before == 0 {
                model.assert_counted();
            }
        }
        for size in SIZES {
            model.flush(size, 0, usize::MAX, true);
        }
        prop_assert!(model.live.is_empty());
        model.pool.trim(arena);
        let counts = model.pool.counts();
        prop_assert_eq!(counts.runs_made, counts.runs_ended);
        prop_assert_eq!(arena.stats().used_bytes, used_before);
    });
}

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
fn blocks_are_at_multiples_of_the_largest_power_of_two_in_their_size() {
    let arena = arena();
    for class in ClassIndex::all().filter(|class| !class.is_tiny()) {
        let pool = mid_pool();
        let align = 1 << class.size().trailing_zeros();
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
fn what_another_class_left_in_pieces_serves_as_short_runs() {
    const RUNS: usize = 40;
    let (arena, pool) = (arena(), mid_pool());
    let old = class(4608);
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
    let class = class(5120);
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
            (any::<bool>(), 1..=MAX_RETAINED_REGIONS, 0..SHARDS, any::<usize>()), 1..200
        )
    ) {
        let arena = arena();
        let pool = run_pool();
        let mut live: Vec<(RegionIndex, usize)> = Vec::new();
        for (allocate, regions, shard, pick) in steps {
            if allocate || live.is_empty() {
                let run = pool.allocate(arena, regions * REGION_BYTES, 1, shard).expect("memory");
                // SAFETY: the run was handed out.
                let length = unsafe { arena.run_len(run.first) };
                prop_assert_eq!(run.regions, length);
                let needed = large_regions(regions * REGION_BYTES);
                prop_assert!(length >= needed && length <= needed + needed / 4,
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
    let run = pool.allocate(arena, bytes, 1, 1).unwrap();
    // SAFETY: the run is ours.
    unsafe { pool.free(arena, run.first, large_regions(bytes), 1) };
    assert_eq!(pool.retained_bytes(), bytes);
    let again = pool.allocate(arena, bytes, 1, 6).unwrap();
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
            .map(|_| pool.allocate(arena, bytes, 1, 0).unwrap())
            .collect();
        for run in runs {
            // SAFETY: the run is ours.
            unsafe { pool.free(arena, run.first, run.regions, 0) };
        }
        pool.retained_bytes()
    };
    // These stay in use: 8 MiB, of which an eighth is one.
    let kept: Vec<_> = (0..8)
        .map(|_| pool.allocate(arena, 1 << 20, 1, 0).unwrap())
        .collect();
    let budget = 1 << 20;
    // Those that are asked for once, or are long, are no reason.
    for _ in 0..200 {
        assert_eq!(come_and_go(6, 512 << 10), budget);
    }
    assert_eq!(come_and_go(40, 128 << 10), budget);
    pool.trim(arena);
    let most = (0..200).map(|_| come_and_go(40, 128 << 10)).max();
    // An eighth of 8 + 5 MiB, and a step.
    assert!(most > Some(2 << 20) && most <= Some(3 << 20), "{most:?}");
    // It does not stay for ever: this is done once a second, and whenever the arena asks.
    for _ in 0..8 {
        pool.trim(arena);
    }
    assert_eq!(come_and_go(40, 128 << 10), budget);
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
    let runs = [(); 3].map(|()| pool.allocate(arena, 64 << 10, 1, 0).unwrap());
    for run in runs {
        // SAFETY: the run is ours.
        unsafe { pool.free(arena, run.first, run.regions, 0) };
    }
    let retained = pool.retained_bytes();
    for align in [64, 256] {
        let run = pool.allocate(arena, 64 << 10, align, 0).unwrap();
        let address = arena.map().address_of(run.first);
        assert!(address.is_multiple_of(align * REGION_BYTES));
    }
    assert_eq!(pool.retained_bytes(), retained);
    assert_eq!(
        pool.allocate(arena, 64 << 10, 3, 0),
        None,
        "no power of two"
    );
}

#[test]
fn a_retained_run_too_long_for_a_request_is_left_where_it_is() {
    let arena = arena();
    let pool = run_pool();
    let run = pool.allocate(arena, 320 << 10, 1, 0).unwrap();
    // SAFETY: the run is ours.
    unsafe { pool.free(arena, run.first, large_regions(320 << 10), 0) };
    let short = pool.allocate(arena, 192 << 10, 1, 0).unwrap();
    assert_ne!(short.first, run.first);
    let fits = pool.allocate(arena, 256 << 10, 1, 0).unwrap();
    assert_eq!(fits.first, run.first, "320 KiB for 256 is a quarter more");
}

#[test]
fn retained_runs_serve_other_lengths_before_new_memory() {
    static ARENA: Arena = Arena::new().with_reclaim(|| POOL.trim(&ARENA));
    // SAFETY: used with this arena only.
    static POOL: RunPool = unsafe { RunPool::new() };
    let runs: Vec<_> = (0..4)
        .map(|_| POOL.allocate(&ARENA, 256 << 10, 1, 0).unwrap())
        .collect();
    for run in &runs {
        // SAFETY: the run is ours.
        unsafe { POOL.free(&ARENA, run.first, run.regions, 0) };
    }
    assert_eq!(retained(&POOL, &ARENA), 1 << 20);
    let long = POOL.allocate(&ARENA, 1 << 20, 1, 0).unwrap();
    assert_eq!(long.soiled, long.regions);
    assert_eq!(long.first, runs[0].first, "all four, joined");
    assert_eq!(POOL.retained_bytes(), 0);
}

#[test]
fn what_exceeds_the_budget_goes_to_the_arena() {
    let arena = arena();
    let pool = run_pool();
    let runs: Vec<_> = (0..12)
        .map(|_| pool.allocate(arena, 128 << 10, 1, 0).unwrap().first)
        .collect();
    for &run in &runs {
        // SAFETY: the run is ours.
        unsafe { pool.free(arena, run, large_regions(128 << 10), 0) };
    }
    assert_eq!(retained(&pool, arena), 1 << 20);
    assert_eq!(arena.stats().used_bytes, 1 << 20);
    assert_eq!(arena.stats().dirty_bytes, 1 << 19);
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

#[test]
fn a_run_that_is_too_long_is_refused_and_a_shard_is_any_number() {
    let (arena, pool) = (arena(), run_pool());
    let longest = MAX_RUN_REGIONS * REGION_BYTES;
    let run = pool
        .allocate(arena, longest, 1, usize::MAX)
        .expect("memory");
    assert_eq!(run.regions, MAX_RUN_REGIONS);
    // SAFETY: the run is ours.
    unsafe { pool.free(arena, run.first, run.regions, usize::MAX) };
    assert_eq!(
        pool.allocate(arena, longest, 1, usize::MAX)
            .map(|run| run.regions),
        Some(MAX_RUN_REGIONS)
    );
    for size in [longest + 1, isize::MAX as usize, usize::MAX] {
        assert_eq!(pool.allocate(arena, size, 1, 0), None, "{size}");
    }
}
