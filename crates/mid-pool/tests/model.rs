//! The runs of blocks against a map of the live blocks.

mod support {
    pub mod arena;
    pub mod class;
    pub mod pool;
}

use hakmem_mid_pool::run_form::RunForm;
use hakmem_mid_pool::{MidPool, SHARDS};
use hakmem_page_arena::Arena;
use hakmem_region_id::{REGION_BYTES, RegionIndex};
use hakmem_test_support::{check, fill};
use proptest::prelude::*;
use std::collections::BTreeMap;
use support::arena::arena;
use support::class::class;
use support::pool::mid_pool;

const SIZES: [usize; 5] = [1152, 2048, 5248, 14464, 32896];

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

/// The first region of the run that a region of the map is part of, if it is, and how many of
/// its blocks are in use.
fn inspect(arena: &Arena, region: RegionIndex) -> Option<(RegionIndex, usize)> {
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
            let (first, _) = inspect(self.arena, region).expect("part of a run");
            // SAFETY: the run is in use.
            let regions = unsafe { self.arena.run_len(first) };
            let form = RunForm::all(class).find(|form| form.regions() == regions);
            let lead = form.expect("a form of the class").lead(first);
            let offset = address - map.address_of(first);
            assert!(offset >= lead && offset + size <= regions * REGION_BYTES);
            assert_eq!((offset - lead) % size, 0, "not where a block starts");
            // SAFETY: the region is in the map.
            let word = unsafe { map.get(region) };
            let part = word.part_of(class).expect("part of a run of the class");
            assert_eq!(region.back(part.place), first);
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
            let class = unsafe { map.get(region) }.class();
            let inspected = inspect(self.arena, region);
            assert_eq!(class.is_some(), inspected.is_some());
            if let (Some(class), Some((first, blocks))) = (class, inspected)
                && first == region
            {
                used += blocks * class.size();
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
