//! The cache against a source that knows where every block is.
//!
//! The cache never looks into a block, so blocks here are numbers.
#![cfg(not(loom))]

use hakmem_region_id::word::{BIN_LIMIT, bin_offset};
use hakmem_region_id::{CLASSES, ClassIndex, MAX_CACHED, MAX_FINE, MAX_TINY};
use hakmem_sys::barrier;
use hakmem_thread_cache::{Source, ThreadCache, capacity, first_capacity};
use proptest::prelude::*;
use std::collections::HashSet;

/// The most bytes of blocks that a depot keeps.
const DEPOT_MOST: usize = 1 << 20;

/// Hands out numbers and takes them back.
struct Numbers {
    made: usize,
    /// What was handed out and has not come back.
    out: HashSet<usize>,
    /// What a refill gives at most.
    limit: Option<usize>,
    /// How many came back of each class and were not handed out again: what there is without
    /// new memory.
    free: [usize; CLASSES],
    refills: Vec<usize>,
    flushed: Vec<Vec<usize>>,
}

impl Default for Numbers {
    fn default() -> Self {
        Self {
            made: 0,
            out: HashSet::new(),
            limit: None,
            free: [0; CLASSES],
            refills: Vec::new(),
            flushed: Vec::new(),
        }
    }
}

impl Source for Numbers {
    const LENDS: bool = true;

    fn refill(&mut self, class: ClassIndex, out: &mut [*mut u8]) -> usize {
        let count = out.len().min(self.limit.unwrap_or(usize::MAX));
        for place in &mut out[..count] {
            self.made += 1;
            let block = self.made << 8 | class.number();
            self.out.insert(block);
            *place = std::ptr::without_provenance_mut(block);
        }
        let free = &mut self.free[class.number()];
        *free = free.saturating_sub(count);
        self.refills.push(out.len());
        count
    }

    fn refill_free(&mut self, class: ClassIndex, out: &mut [*mut u8]) -> usize {
        match out.len().min(self.free[class.number()]) {
            0 => 0,
            count => self.refill(class, &mut out[..count]),
        }
    }

    fn flush(&mut self, class: ClassIndex, blocks: &[*mut u8]) {
        for block in blocks {
            assert_eq!(
                block.addr() & 0xff,
                class.number(),
                "a block of another class"
            );
            assert!(
                self.out.remove(&block.addr()),
                "{block:p} has come back twice"
            );
        }
        self.free[class.number()] += blocks.len();
        self.flushed.push(blocks.iter().map(|b| b.addr()).collect());
    }
}

/// The same source for a program that knows no block's class but from its own requests.
struct Unlending<'a>(&'a mut Numbers);

impl Source for Unlending<'_> {
    fn refill(&mut self, class: ClassIndex, out: &mut [*mut u8]) -> usize {
        self.0.refill(class, out)
    }

    fn refill_free(&mut self, _: ClassIndex, _: &mut [*mut u8]) -> usize {
        panic!("there is nobody to lend to");
    }

    fn flush(&mut self, class: ClassIndex, blocks: &[*mut u8]) {
        self.0.flush(class, blocks);
    }
}

struct Cache {
    cache: *mut ThreadCache,
    memory: Vec<u64>,
}

impl Cache {
    fn new(bytes: usize) -> Self {
        let cache = Box::into_raw(Box::new(ThreadCache::CLOSED));
        let mut memory = vec![0_u64; bytes / 8];
        let range = memory.as_mut_ptr_range();
        // SAFETY: the memory lives as long as the cache.
        unsafe { (*cache).set_memory(range.start.cast(), range.end.cast()) };
        Self { cache, memory }
    }

    fn alloc(&self, class: ClassIndex, source: &mut Numbers) -> Option<usize> {
        self.alloc_aligned(class, 8, source)
    }

    fn alloc_aligned(
        &self,
        class: ClassIndex,
        align: usize,
        source: &mut Numbers,
    ) -> Option<usize> {
        // SAFETY: this is the cache's only thread, and a bin that gives null is
        // empty.
        let block = unsafe {
            let block = ThreadCache::pop_class(self.cache, class);
            if block.is_null() {
                ThreadCache::refill(self.cache, class, align, source)
            } else {
                block
            }
        };
        (!block.is_null()).then(|| block.addr())
    }

    fn free(&self, class: ClassIndex, block: usize, source: &mut Numbers) {
        let block = std::ptr::without_provenance_mut(block);
        // SAFETY: this is the cache's only thread; callers free what they hold.
        unsafe {
            if !ThreadCache::push(self.cache, bin_offset(class), block) {
                ThreadCache::make_room_and_push(self.cache, class, block, source);
            }
        }
    }

    /// Frees `count` blocks into an empty bin, and returns them in that order.
    fn fill(&self, class: ClassIndex, count: usize, source: &mut Numbers) -> Vec<usize> {
        let blocks: Vec<usize> = (0..count)
            .map(|_| self.alloc(class, source).unwrap())
            .collect();
        self.drain(source);
        source.flushed.clear();
        source.out.extend(&blocks);
        for &block in &blocks {
            self.free(class, block, source);
        }
        blocks
    }

    /// Allocates `count` blocks, one after the other, and frees all of them.
    fn burst(&self, class: ClassIndex, count: usize, source: &mut Numbers) {
        let blocks: Vec<usize> = (0..count)
            .map(|_| self.alloc(class, source).unwrap())
            .collect();
        for block in blocks {
            self.free(class, block, source);
        }
    }

    fn held(&self, class: ClassIndex) -> usize {
        // SAFETY: the cache is valid.
        unsafe { ThreadCache::held(self.cache, class) }
    }

    fn drain(&self, source: &mut Numbers) {
        // SAFETY: this is the cache's only thread.
        unsafe { ThreadCache::drain(self.cache, source) }
    }

    /// Loses what the magazines of a drained cache held.
    fn clear(&self) {
        // SAFETY: this is the cache's only thread, which has drained it.
        let lost = unsafe { ThreadCache::clear_magazines(self.cache) };
        let length = lost.end.addr() - lost.start.addr();
        // SAFETY: the memory is the cache's, and means nothing.
        unsafe { lost.start.write_bytes(0xa5, length) };
    }

    fn reap(&self, source: &mut Numbers) -> usize {
        barrier::prepare();
        // SAFETY: the cache is set up; the source has no locks.
        unsafe { ThreadCache::reap(self.cache, true, source) }
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        self.memory.clear();
        // SAFETY: made by `Box::into_raw`, and used no more.
        drop(unsafe { Box::from_raw(self.cache) });
    }
}

fn class(size: usize) -> ClassIndex {
    ClassIndex::for_size(size).expect("a cached size")
}

#[derive(Clone, Debug)]
enum Step {
    Alloc {
        size: usize,
        count: usize,
    },
    Free {
        size: usize,
        count: usize,
        oldest: bool,
    },
    Limit(Option<usize>),
    Drain,
    Clear,
    Reap,
}

/// Of these 2048, 2304 and 2560 lend to each other.
const SIZES: [usize; 7] = [16, 256, 1024, 2048, 2304, 2560, 32768];

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..SIZES.len(), 1..200_usize).prop_map(|(size, count)| Step::Alloc { size, count }),
        6 => (0..SIZES.len(), 1..300_usize, any::<bool>())
            .prop_map(|(size, count, oldest)| Step::Free { size, count, oldest }),
        1 => prop::option::of(0..5_usize).prop_map(Step::Limit),
        1 => Just(Step::Drain),
        1 => Just(Step::Clear),
        1 => Just(Step::Reap),
    ];
    prop::collection::vec(step, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 150,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn every_block_is_with_the_source_the_cache_or_the_program(
        steps in steps(),
        memory in prop_oneof![Just(0_usize), 300..4000_usize, Just(48 << 10)],
    ) {
        let cache = Cache::new(memory);
        let mut source = Numbers::default();
        let mut mine: Vec<Vec<usize>> = vec![Vec::new(); SIZES.len()];
        for step in &steps {
            match *step {
                Step::Alloc { size, count } => {
                    for _ in 0..count {
                        let held = cache.held(class(SIZES[size]));
                        let Some(block) = cache.alloc(class(SIZES[size]), &mut source) else {
                            prop_assert_eq!(source.limit, Some(0), "refused though there is memory");
                            prop_assert_eq!(held, 0, "refused though the cache has blocks");
                            continue;
                        };
                        prop_assert!(source.out.contains(&block));
                        let asked = class(SIZES[size]).number();
                        let got = block & 0xff;
                        prop_assert!((asked..=asked + 3).contains(&got), "{} for {}", got, asked);
                        let found = SIZES.iter().position(|&size| class(size).number() == got);
                        let found = found.expect("a class that the source was asked for");
                        prop_assert!(!mine[found].contains(&block), "handed out twice");
                        mine[found].push(block);
                    }
                }
                Step::Free { size, count, oldest } => {
                    for _ in 0..count.min(mine[size].len()) {
                        let block = if oldest {
                            mine[size].remove(0)
                        } else {
                            mine[size].pop().unwrap()
                        };
                        cache.free(class(SIZES[size]), block, &mut source);
                    }
                }
                Step::Limit(limit) => source.limit = limit,
                Step::Reap => {
                    cache.reap(&mut source);
                    for size in SIZES {
                        prop_assert!(cache.held(class(size)) <= 1);
                    }
                }
                Step::Drain | Step::Clear => {
                    cache.drain(&mut source);
                    if let Step::Clear = step {
                        cache.clear();
                    }
                    for size in SIZES {
                        prop_assert_eq!(cache.held(class(size)), 0);
                    }
                }
            }
            let in_cache: usize = SIZES.iter().map(|&size| cache.held(class(size))).sum();
            let in_use: usize = mine.iter().map(Vec::len).sum();
            prop_assert_eq!(in_cache + in_use, source.out.len());
            for size in SIZES {
                let most = capacity(class(size)) * size + DEPOT_MOST;
                prop_assert!(cache.held(class(size)) * size <= most);
            }
        }
        cache.drain(&mut source);
        let mut left: Vec<usize> = source.out.iter().copied().collect();
        let mut expected: Vec<usize> = mine.concat();
        left.sort_unstable();
        expected.sort_unstable();
        prop_assert_eq!(left, expected, "after a drain only the program has blocks");
    }
}

#[test]
fn a_closed_cache_never_yields_a_block_and_never_takes_one() {
    let cache = Box::into_raw(Box::new(ThreadCache::CLOSED));
    let block: *mut u8 = std::ptr::without_provenance_mut(8);
    for offset in (0..BIN_LIMIT).step_by(16) {
        // SAFETY: these are the offsets of the bins.
        unsafe {
            let pop = || match ClassIndex::new((offset as usize / 16).wrapping_sub(1)) {
                Some(class) => ThreadCache::pop_class(cache, class),
                None => ThreadCache::pop(cache, offset),
            };
            assert!(pop().is_null());
            assert!(!ThreadCache::push(cache, offset, block));
            assert!(pop().is_null());
        }
    }
    for class in ClassIndex::all() {
        // SAFETY: the cache is valid.
        assert_eq!(unsafe { ThreadCache::held(cache, class) }, 0);
    }
    // SAFETY: made above.
    drop(unsafe { Box::from_raw(cache) });
}

#[test]
fn the_bin_of_no_class_stays_closed_in_a_cache_that_works() {
    let cache = Cache::new(64 << 10);
    let mut source = Numbers::default();
    for class in ClassIndex::all() {
        cache.alloc(class, &mut source);
    }
    // SAFETY: offset 0 is a bin's.
    unsafe {
        assert!(ThreadCache::pop(cache.cache, 0).is_null());
        assert!(!ThreadCache::push(
            cache.cache,
            0,
            std::ptr::without_provenance_mut(8)
        ));
    }
}

#[test]
fn blocks_come_in_the_order_in_which_the_source_gave_them() {
    let cache = Cache::new(64 << 10);
    let mut source = Numbers::default();
    let batches = [first_capacity, capacity].map(|slots| slots(class(64)) / 2);
    let blocks: Vec<usize> = (0..batches[0] + batches[1])
        .map(|_| cache.alloc(class(64), &mut source).unwrap())
        .collect();
    assert_eq!(source.refills, batches);
    assert!(blocks.is_sorted());
}

#[test]
fn the_first_blocks_that_a_thread_frees_of_a_class_it_has_not_allocated_go_home() {
    let cache = Cache::new(64 << 10);
    let mut source = Numbers::default();
    let theirs: Vec<usize> = (1..=9).map(|number| number << 8).collect();
    source.out.extend(&theirs);
    for &block in &theirs {
        cache.free(class(8), block, &mut source);
    }
    let home: Vec<Vec<usize>> = theirs[..8].iter().map(|&block| vec![block]).collect();
    assert_eq!(source.flushed, home);
    // It only frees, so that each on its own would cost too much.
    assert_eq!(cache.alloc(class(8), &mut source), Some(theirs[8]));
    let mine = cache.alloc(class(64), &mut source).unwrap();
    cache.free(class(64), mine, &mut source);
    assert_eq!(cache.alloc(class(64), &mut source), Some(mine));
}

#[test]
fn a_cache_that_has_lost_its_magazines_is_as_one_that_never_had_any() {
    let cache = Cache::new(64 << 10);
    let mut source = Numbers::default();
    // More flushes in a row than are counted.
    cache.fill(class(64), 200 * capacity(class(64)), &mut source);
    assert!(source.flushed.len() > 128);
    cache.drain(&mut source);
    cache.clear();
    source.flushed.clear();
    let theirs: Vec<usize> = (1..=9)
        .map(|number| number << 40 | class(64).number())
        .collect();
    source.out.extend(&theirs);
    for &block in &theirs {
        cache.free(class(64), block, &mut source);
    }
    assert_eq!(source.flushed.len(), 8);
    assert_eq!(cache.held(class(64)), 1);
}

#[test]
fn a_class_grows_when_its_first_magazine_is_full_and_keeps_what_is_in_it() {
    let first = first_capacity(class(64));
    let cache = Cache::new(64 << 10);
    let mut source = Numbers::default();
    let blocks: Vec<usize> = (0..=first)
        .map(|_| cache.alloc(class(64), &mut source).unwrap())
        .collect();
    let rest = cache.held(class(64));
    for &block in &blocks {
        cache.free(class(64), block, &mut source);
    }
    assert!(source.flushed.is_empty());
    assert_eq!(cache.held(class(64)), rest + first + 1);
    source.refills.clear();
    for &block in blocks.iter().rev() {
        assert_eq!(cache.alloc(class(64), &mut source), Some(block));
    }
    assert!(source.refills.is_empty());
}

#[test]
fn a_class_without_memory_to_grow_stays_with_its_first_magazine() {
    let first = first_capacity(class(64));
    let cache = Cache::new((first + 2) * 8);
    let mut source = Numbers::default();
    let blocks = cache.fill(class(64), first + 1, &mut source);
    assert_eq!(source.flushed, [blocks[..first / 2].to_vec()]);
    assert_eq!(cache.held(class(64)), first + 1 - first / 2);
}

#[test]
fn the_block_freed_last_is_allocated_first() {
    let cache = Cache::new(64 << 10);
    let mut source = Numbers::default();
    let a = cache.alloc(class(64), &mut source).unwrap();
    let b = cache.alloc(class(64), &mut source).unwrap();
    cache.free(class(64), a, &mut source);
    cache.free(class(64), b, &mut source);
    assert_eq!(cache.alloc(class(64), &mut source), Some(b));
    assert_eq!(cache.alloc(class(64), &mut source), Some(a));
}

#[test]
fn a_full_bin_flushes_what_was_freed_first() {
    // Memory for the two magazines only: there is no depot.
    let capacity = capacity(class(64));
    let cache = Cache::new((first_capacity(class(64)) + 2 + capacity + 2) * 8);
    let mut source = Numbers::default();
    let blocks = cache.fill(class(64), capacity + 1, &mut source);
    assert_eq!(source.flushed, [blocks[..capacity / 2].to_vec()]);
    assert_eq!(cache.held(class(64)), capacity + 1 - capacity / 2);
}

#[test]
fn who_only_allocates_or_only_frees_moves_more_at_a_time() {
    // Memory for the two magazines only: there is no depot.
    let capacity = capacity(class(64));
    let (half, most) = (capacity / 2, capacity - capacity / 8);
    let cache = Cache::new((first_capacity(class(64)) + 2 + capacity + 2) * 8);
    let mut source = Numbers::default();
    let phase = |source: &mut Numbers| {
        source.refills.clear();
        source.flushed.clear();
        cache.burst(class(64), 10 * capacity, source);
        let flushed: Vec<usize> = source.flushed.iter().map(Vec::len).collect();
        (source.refills.clone(), flushed)
    };
    phase(&mut source);
    // In the second one the magazine has its size from the beginning.
    let (refills, flushes) = phase(&mut source);
    for batches in [refills, flushes] {
        let (first, later) = batches.split_at(4);
        assert_eq!(first, [half; 4]);
        assert!(
            later.len() > 4 && later.iter().all(|&batch| batch == most),
            "{batches:?}"
        );
    }
    // One after the other: half again.
    source.refills.clear();
    source.flushed.clear();
    for _ in 0..10 {
        cache.burst(class(64), capacity + 1, &mut source);
    }
    assert!(source.flushed.len() >= 10 && source.refills.len() >= 10);
    assert!(
        source.flushed.iter().all(|blocks| blocks.len() == half),
        "{:?}",
        source.flushed
    );
}

#[test]
fn a_reaped_bin_keeps_the_block_freed_last_and_goes_on() {
    let cache = Cache::new(64 << 10);
    let mut source = Numbers::default();
    let blocks = cache.fill(class(64), 10, &mut source);
    assert_eq!(cache.reap(&mut source), 9 * 64);
    assert_eq!(source.flushed, [blocks[..9].to_vec()]);
    assert_eq!(cache.held(class(64)), 1);
    assert_eq!(cache.reap(&mut source), 0);
    assert_eq!(cache.alloc(class(64), &mut source), Some(blocks[9]));
    source.refills.clear();
    let fresh = cache.alloc(class(64), &mut source).unwrap();
    assert_eq!(source.refills.len(), 1);
    cache.free(class(64), fresh, &mut source);
    assert_eq!(cache.alloc(class(64), &mut source), Some(fresh));
    // SAFETY: the cache is valid.
    let counts = unsafe { ThreadCache::counts_of(cache.cache) };
    assert_eq!(counts.reaps.get(), 1);
}

#[test]
fn a_reaped_bin_of_a_coarse_class_keeps_nothing_and_goes_on() {
    let cache = Cache::new(64 << 10);
    let mut source = Numbers::default();
    for size in [40_000, 65_536, 131_072] {
        let class = class(size);
        let blocks = cache.fill(class, 3, &mut source);
        barrier::prepare();
        // SAFETY: the cache is set up; the source has no locks.
        let below = unsafe { ThreadCache::reap(cache.cache, false, &mut source) };
        assert_eq!(below, 2 * class.size());
        assert_eq!(cache.reap(&mut source), class.size());
        assert_eq!(source.flushed.concat(), blocks);
        source.flushed.clear();
        assert_eq!(cache.held(class), 0);
        let again = cache.alloc(class, &mut source).unwrap();
        cache.free(class, again, &mut source);
        assert_eq!(cache.alloc(class, &mut source), Some(again));
    }
}

#[test]
fn a_coarse_class_is_left_alone_as_long_as_its_thread_takes_blocks() {
    let cache = Cache::new(64 << 10);
    let mut source = Numbers::default();
    let class = class(65_536);
    cache.fill(class, 3, &mut source);
    barrier::prepare();
    // SAFETY: the cache is set up; the source has no locks.
    let reap = |source: &mut Numbers| unsafe { ThreadCache::reap_unused(cache.cache, source) };
    for _ in 0..5 {
        assert_eq!(reap(&mut source), 0);
        let block = cache.alloc(class, &mut source).unwrap();
        cache.free(class, block, &mut source);
    }
    assert_eq!(cache.held(class), 3);
    assert_eq!(reap(&mut source), 0);
    assert_eq!(reap(&mut source), 3 * class.size());
    assert_eq!(cache.held(class), 0);
    assert_eq!(reap(&mut source), 0);
}

#[test]
fn magazines_that_one_class_has_emptied_serve_others_of_their_capacity() {
    // Enough for a few magazines beside those of the bins.
    let cache = Cache::new(31 << 10);
    let mut source = Numbers::default();
    assert_eq!(capacity(class(64)), capacity(class(80)));
    let count = capacity(class(64)) * 8;
    let take = |size, source: &mut Numbers| -> Vec<usize> {
        let block = |_| cache.alloc(class(size), source).unwrap();
        (0..count).map(block).collect()
    };
    let give = |size, blocks: Vec<usize>, source: &mut Numbers| {
        for block in blocks {
            cache.free(class(size), block, source);
        }
    };
    let stores = || {
        // SAFETY: the cache is valid.
        unsafe { ThreadCache::counts_of(cache.cache) }
            .depot_stores
            .get()
    };
    for _ in 0..20 {
        let blocks = take(64, &mut source);
        give(64, blocks, &mut source);
    }
    assert!(stores() > 0);
    // Now none of them is in the depot.
    let kept = take(64, &mut source);
    let before = stores();
    for _ in 0..20 {
        let blocks = take(80, &mut source);
        give(80, blocks, &mut source);
    }
    assert!(stores() > before);
    give(64, kept, &mut source);
}

#[test]
fn a_burst_moves_whole_magazines_once_the_depot_has_learned_of_it() {
    for (size, count) in [(64, 384), (8192, 100), (65536, 20), (131_072, 12)] {
        let cache = Cache::new(64 << 10);
        let mut source = Numbers::default();
        for _ in 0..20 {
            cache.burst(class(size), count, &mut source);
        }
        source.refills.clear();
        source.flushed.clear();
        cache.burst(class(size), count, &mut source);
        assert!(source.refills.is_empty(), "{size}: {:?}", source.refills);
        assert!(source.flushed.is_empty());
        // SAFETY: the cache is valid.
        let counts = unsafe { ThreadCache::counts_of(cache.cache) };
        assert!(counts.depot_hits.get() > 0 && counts.depot_stores.get() > 0);
    }
}

/// How many slow paths a thread takes that makes so many steps, each an alloc or a free with the same probability.
fn slow_paths_of_a_walk(class: ClassIndex, steps: usize) -> u64 {
    let (cache, mut source) = (Cache::new(128 << 10), Numbers::default());
    // Enough for the depot to have learned what to keep, and for no walk to come to the end of them.
    let mut mine = Vec::new();
    for _ in 0..20 {
        cache.burst(class, 8 * capacity(class), &mut source);
    }
    mine.extend((0..4000).map(|_| cache.alloc(class, &mut source).unwrap()));
    // SAFETY: the cache is valid.
    let counts = unsafe { ThreadCache::counts_of(cache.cache) };
    let slow = || counts.empty.get() + counts.full.get();
    let before = slow();
    let mut random = hakmem_test_support::Numbers(1);
    for _ in 0..steps {
        if random.below(2) == 0 {
            mine.push(cache.alloc(class, &mut source).unwrap());
        } else {
            cache.free(class, mine.pop().unwrap(), &mut source);
        }
    }
    slow() - before
}

#[test]
fn a_bin_that_is_at_the_edge_of_its_magazine_does_not_stay_there() {
    const STEPS: usize = 1 << 17;
    for size in [64, 512, 1024] {
        // A walk that starts in the middle leaves a magazine after the square of half its slots. One that starts a
        // step from an end, as with whole magazines, does after twice its slots.
        let half = capacity(class(size)) / 2;
        let slow = slow_paths_of_a_walk(class(size), STEPS) as usize;
        let expected = STEPS / (half * half);
        assert!(
            slow < expected * 3 / 2 && slow < STEPS / (4 * half),
            "{size}: {slow} slow paths, {expected} expected"
        );
    }
}

#[test]
fn what_is_in_halves_comes_back_once() {
    // Of an even number of slots, and of odd ones.
    assert_eq!(
        [64, 640, 768].map(|size| capacity(class(size)) % 2),
        [0, 1, 1]
    );
    for class in [64, 640, 768].map(class) {
        let capacity = capacity(class);
        let (cache, mut source) = (Cache::new(64 << 10), Numbers::default());
        let mut blocks = cache.fill(class, capacity + capacity / 2 + 1, &mut source);
        // The older half of the bin is in the depot, then the other one has joined it.
        assert_eq!(source.flushed, [] as [Vec<usize>; 0]);
        assert_eq!(cache.held(class), blocks.len());
        let take = |source: &mut Numbers| cache.alloc(class, source).unwrap();
        let mut back: Vec<usize> = (0..blocks.len()).map(|_| take(&mut source)).collect();
        assert_eq!(back[0], blocks[blocks.len() - 1], "the one freed last");
        back.sort_unstable();
        blocks.sort_unstable();
        assert_eq!(back, blocks);
        assert_eq!(cache.held(class), 0);
        for block in back {
            cache.free(class, block, &mut source);
        }
        // What is left is known to be nothing, else this would not do.
        cache.drain(&mut source);
        cache.clear();
    }
}

#[test]
fn half_a_magazine_in_the_depot_is_reaped() {
    let capacity = capacity(class(64));
    let (cache, mut source) = (Cache::new(64 << 10), Numbers::default());
    let blocks = cache.fill(class(64), capacity + 1, &mut source);
    assert_eq!(cache.held(class(64)), blocks.len());
    if !barrier::is_prepared() {
        barrier::prepare();
    }
    let reaped = cache.reap(&mut source);
    let in_depot = (capacity / 2) * class(64).size();
    assert!(
        reaped >= in_depot,
        "{reaped} bytes, {in_depot} in the depot"
    );
    assert_eq!(
        reaped,
        (blocks.len() - cache.held(class(64))) * class(64).size()
    );
}

/// How many bytes of blocks of a class a cache holds after so many bursts of `bytes`.
fn held_after_bursts(size: usize, bytes: usize, turns: usize) -> usize {
    let (cache, mut source) = (Cache::new(128 << 10), Numbers::default());
    let class = class(size);
    for _ in 0..turns {
        cache.burst(class, bytes / class.size(), &mut source);
    }
    cache.held(class) * class.size()
}

#[test]
fn a_class_that_comes_and_goes_in_bursts_is_kept_up_to_a_mebibyte() {
    for size in [128, 1024, 8192] {
        let held = held_after_bursts(size, 700 << 10, 50);
        assert!(held > 600 << 10, "{held} bytes of {size}");
        // Of larger ones no more,
        let held = held_after_bursts(size, 1500 << 10, 200);
        assert!(
            (900 << 10..=1100 << 10).contains(&held),
            "{held} bytes of {size}"
        );
        // and of those that it would keep too little of, as much as of any class.
        let held = held_after_bursts(size, 4 << 20, 200);
        assert!(
            (100 << 10..=200 << 10).contains(&held),
            "{held} bytes of {size}"
        );
    }
}

#[test]
fn bursts_of_coarse_classes_are_kept_up_to_two_mebibytes_and_leave_the_others_theirs() {
    let (cache, mut source) = (Cache::new(128 << 10), Numbers::default());
    let coarse = [40_000, 65_536, 100_000].map(class);
    for _ in 0..50 {
        for class in coarse.into_iter().chain([class(1024)]) {
            cache.burst(class, (900 << 10) / class.size(), &mut source);
        }
    }
    let held = |class: ClassIndex| cache.held(class) * class.size();
    let of_coarse: usize = coarse.map(held).iter().sum();
    // With the bins, of four blocks each.
    assert!(
        (1800 << 10..=2900 << 10).contains(&of_coarse),
        "{of_coarse} bytes"
    );
    assert!(held(class(1024)) >= 800 << 10);
}

#[test]
fn one_burst_that_is_over_is_not_kept() {
    for size in [128, 1024, 8192] {
        let held = held_after_bursts(size, 700 << 10, 1);
        // The bin, and a magazine.
        let most = 2 * capacity(class(size)) * class(size).size();
        assert!(held <= most && most <= 136 << 10, "{held} bytes of {size}");
    }
}

#[test]
fn bursts_of_many_classes_are_kept_up_to_a_mebibyte_together() {
    let (cache, mut source) = (Cache::new(128 << 10), Numbers::default());
    let classes = [512, 1024, 2048, 4096, 8192, 16384].map(class);
    for _ in 0..50 {
        for class in classes {
            cache.burst(class, (700 << 10) / class.size(), &mut source);
        }
    }
    let held: usize = classes
        .iter()
        .map(|&class| cache.held(class) * class.size())
        .sum();
    // With the bins.
    assert!((900 << 10..=1300 << 10).contains(&held), "{held} bytes");
}

/// A cache whose class of 2048 bytes has flushed, and has what it flushed in use again, and the
/// blocks of 2304 bytes that are free at its source.
fn after_a_flush(free: usize, source: &mut Numbers) -> Cache {
    let cache = Cache::new(48 << 10);
    // The bin, a magazine in the depot, and one more.
    let count = capacity(class(2048)) * 2 + 1;
    cache.fill(class(2048), count, source);
    assert_eq!(source.flushed.len(), 1);
    for _ in 0..count {
        let block = cache.alloc(class(2048), source).unwrap();
        assert_eq!(block & 0xff, class(2048).number());
    }
    assert_eq!(cache.held(class(2048)), 0);
    source.free[class(2048).number()] = 0;
    source.free[class(2304).number()] = free;
    source.refills.clear();
    cache
}

#[test]
fn a_class_that_has_flushed_takes_free_blocks_of_a_larger_one_before_new_memory() {
    let mut source = Numbers::default();
    let cache = after_a_flush(100, &mut source);
    let mut lent = Vec::new();
    while let Some(block) = cache.alloc(class(2048), &mut source)
        && block & 0xff == class(2304).number()
    {
        lent.push(block);
    }
    // Not for ever: a program that needs more of the class gets its own blocks then.
    assert_eq!(lent.len(), 32);
    assert_eq!(source.refills.len(), 33);
    // SAFETY: the cache is valid.
    let counts = unsafe { ThreadCache::counts_of(cache.cache) };
    assert_eq!(counts.loans.get(), 32);
    // They go back to their own class, the first of them to its source.
    source.flushed.clear();
    cache.free(class(2304), lent[0], &mut source);
    assert_eq!(source.flushed, [[lent[0]]]);
    for &block in &lent[1..] {
        cache.free(class(2304), block, &mut source);
    }
    assert!(cache.held(class(2304)) > 1);
    cache.drain(&mut source);
}

#[test]
fn large_depots_of_a_few_classes_leave_magazines_for_all_others() {
    let mut source = Numbers::default();
    let cache = Cache::new(100 << 10);
    // Bursts, after each of which the depot may keep more.
    for size in [8, 16, 32].repeat(200) {
        cache.burst(class(size), 10_000, &mut source);
    }
    for class in ClassIndex::all() {
        cache.burst(class, capacity(class), &mut source);
        assert!(cache.held(class) * 2 >= capacity(class), "{class:?}");
    }
    cache.drain(&mut source);
}

#[test]
fn a_class_that_nobody_lends_to_does_not_ask_again() {
    let mut source = Numbers::default();
    let cache = after_a_flush(0, &mut source);
    let mut own = || {
        let block = cache.alloc(class(2048), &mut source).unwrap();
        // From the second refill on, there would be some to lend.
        source.free[class(2304).number()] = 100;
        block & 0xff == class(2048).number()
    };
    assert!((0..200).all(|_| own()));
    cache.drain(&mut source);
}

#[test]
fn what_is_in_the_bin_of_a_larger_class_is_lent_first() {
    let mut source = Numbers::default();
    let cache = after_a_flush(0, &mut source);
    let block = cache.alloc(class(2560), &mut source).unwrap();
    cache.free(class(2560), block, &mut source);
    source.free[class(2304).number()] = 10;
    assert_eq!(cache.alloc(class(2048), &mut source), Some(block));
}

#[test]
fn a_lent_block_is_aligned_as_its_own_would_be() {
    let mut source = Numbers::default();
    let cache = after_a_flush(100, &mut source);
    for (align, expected) in [(128, 2048), (64, 2304), (256, 2048)] {
        let block = cache.alloc_aligned(class(2048), align, &mut source);
        assert_eq!(
            block.unwrap() & 0xff,
            class(expected).number(),
            "aligned to {align}"
        );
        cache.drain(&mut source);
        source.free[class(2048).number()] = 0;
    }
}

#[test]
fn a_larger_class_lends_always_where_there_is_no_memory() {
    let mut source = Numbers::default();
    let cache = Cache::new(48 << 10);
    let block = cache.alloc(class(2560), &mut source).unwrap();
    cache.free(class(2560), block, &mut source);
    source.limit = Some(0);
    while cache.held(class(2560)) > 0 {
        let lent = cache.alloc(class(2048), &mut source).unwrap();
        assert_eq!(lent & 0xff, class(2560).number());
    }
    assert_eq!(cache.alloc(class(2048), &mut source), None);
}

#[test]
fn a_source_that_does_not_lend_gives_blocks_of_the_class_that_is_asked_for() {
    let mut source = Numbers::default();
    let cache = after_a_flush(100, &mut source);
    let larger = cache.alloc(class(2304), &mut source).unwrap();
    cache.free(class(2304), larger, &mut source);
    let refill = |source: &mut Numbers| {
        let mut source = Unlending(source);
        // SAFETY: this is the cache's only thread; the bin is empty.
        let block = unsafe { ThreadCache::refill(cache.cache, class(2048), 8, &mut source) };
        (!block.is_null()).then(|| block.addr() & 0xff)
    };
    assert_eq!(refill(&mut source), Some(class(2048).number()));
    cache.drain(&mut source);
    let larger = cache.alloc(class(2304), &mut source).unwrap();
    cache.free(class(2304), larger, &mut source);
    source.limit = Some(0);
    assert_eq!(refill(&mut source), None);
}

#[test]
fn without_memory_for_magazines_blocks_pass_through_one_by_one() {
    let cache = Cache::new(0);
    let mut source = Numbers::default();
    let block = cache.alloc(class(64), &mut source).unwrap();
    assert_eq!(source.refills, [1]);
    cache.free(class(64), block, &mut source);
    assert_eq!(source.flushed, [[block]]);
    assert!(source.out.is_empty());
}

#[test]
fn the_tables_lead_to_the_bin_of_the_class_of_every_size() {
    let cache = ThreadCache::CLOSED;
    for size in 0..=MAX_CACHED {
        let expected = class(size);
        // SAFETY: the sizes are in the tables' ranges.
        unsafe {
            if size <= MAX_TINY {
                assert_eq!(
                    ThreadCache::tiny_bin(&cache, size),
                    bin_offset(expected),
                    "{size}"
                );
                let aligned = ThreadCache::tiny_bin_16(&cache, size);
                let class = ClassIndex::new(aligned as usize / 16 - 1).expect("a class");
                assert!(class.size() >= size && class < ClassIndex::new(CLASSES - 1).unwrap());
                assert!(size <= 8 || class.size().is_multiple_of(16), "{size}");
            } else if size <= MAX_FINE {
                assert_eq!(
                    ThreadCache::mid_bin(&cache, size),
                    bin_offset(expected),
                    "{size}"
                );
            } else {
                assert_eq!(
                    ThreadCache::coarse_bin(&cache, size),
                    bin_offset(expected),
                    "{size}"
                );
            }
        }
    }
}
