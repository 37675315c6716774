//! Several heaps on one thread against a map of the live blocks.

mod support {
    pub mod balance;
    pub mod busy;
    pub mod heaps;
}

use hakmem_page_arena::{Arena, Label};
use hakmem_region_id::{ClassIndex, REGION_BYTES, RegionWord};
use hakmem_superslab::{OwnedSlabs, Shared, SlabPool};
use hakmem_test_support::{Numbers, check, fill, resident_pages};
use proptest::prelude::*;
use std::collections::BTreeMap;
use support::balance::{trim_all, used_bytes};
use support::busy::flush_to_busy;
use support::heaps::{class, heap, heaps, owned};

const HEAPS: usize = 3;
const SIZES: [usize; 6] = [8, 24, 64, 112, 320, 1024];
/// A slab has 64 blocks of this size,
const OF_64: usize = REGION_BYTES / 64;
/// 128 of this,
const OF_128: usize = REGION_BYTES / 128;
/// and 1024 of this.
const OF_1024: usize = REGION_BYTES / 1024;

/// How the blocks of a flush come.
#[derive(Clone, Copy, Debug)]
enum Order {
    /// As they lie in memory,
    Ascending,
    /// the other way round,
    Descending,
    /// or so many places on each time, which leaves pieces of either.
    By(usize),
}

impl Order {
    fn arrange(self, addresses: &mut [usize]) {
        match self {
            Self::Ascending => {}
            Self::Descending => addresses.reverse(),
            Self::By(step) => {
                let sorted = addresses.to_vec();
                let places = (0..step).flat_map(|first| (first..sorted.len()).step_by(step));
                for (address, place) in addresses.iter_mut().zip(places) {
                    *address = sorted[place];
                }
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Refill {
        heap: usize,
        size: usize,
        count: usize,
    },
    RefillOnce {
        heap: usize,
        size: usize,
        count: usize,
    },
    Flush {
        heap: usize,
        from: usize,
        count: usize,
        order: Order,
    },
    FreeOne {
        heap: usize,
        block: usize,
    },
    FreeSize {
        heap: usize,
        size: usize,
    },
    Tend(usize),
    Trim(usize),
    Abandon(usize),
    PurgeHoles {
        heap: usize,
        now: bool,
    },
    PurgePool {
        heap: usize,
        all: bool,
    },
}

fn order() -> impl Strategy<Value = Order> {
    prop_oneof![
        Just(Order::Ascending),
        Just(Order::Descending),
        (2..9_usize).prop_map(Order::By),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let heap = 0..HEAPS;
    let step = prop_oneof![
        8 => (heap.clone(), 0..SIZES.len(), 1..65_usize)
            .prop_map(|(heap, size, count)| Step::Refill { heap, size, count }),
        4 => (heap.clone(), 0..SIZES.len(), 1..9_usize)
            .prop_map(|(heap, size, count)| Step::RefillOnce { heap, size, count }),
        6 => (heap.clone(), any::<usize>(), 1..100_usize, order())
            .prop_map(|(heap, from, count, order)| Step::Flush { heap, from, count, order }),
        4 => (heap.clone(), any::<usize>()).prop_map(|(heap, block)| Step::FreeOne { heap, block }),
        1 => (heap.clone(), 0..SIZES.len()).prop_map(|(heap, size)| Step::FreeSize { heap, size }),
        1 => heap.clone().prop_map(Step::Tend),
        1 => heap.clone().prop_map(Step::Trim),
        1 => heap.clone().prop_map(Step::Abandon),
        1 => (heap.clone(), any::<bool>())
            .prop_map(|(heap, now)| Step::PurgeHoles { heap, now }),
        1 => (heap, any::<bool>()).prop_map(|(heap, all)| Step::PurgePool { heap, all }),
    ];
    prop::collection::vec(step, 1..120)
}

struct Model<'a> {
    shared: Shared<'static>,
    heaps: &'a [&'static OwnedSlabs],
    /// Size by address.
    live: BTreeMap<usize, usize>,
}

fn pointer(address: usize) -> *mut u8 {
    std::ptr::with_exposed_provenance_mut(address)
}

impl Model<'_> {
    fn refill(&mut self, heap: usize, size: usize, count: usize) {
        let mut out = vec![std::ptr::null_mut(); count];
        let got = self.heaps[heap].refill(self.shared, class(size), &mut out);
        self.hand_out(size, &out, got);
        for &block in &out[..got] {
            let word = self.word_of(block);
            assert!(word.is_owned_by(self.heaps[heap].owner()), "{word:?}");
        }
    }

    fn refill_once(&mut self, heap: usize, size: usize, count: usize) {
        let mut out = vec![std::ptr::null_mut(); count];
        let got = self.heaps[heap].refill_once(self.shared, class(size), &mut out);
        self.hand_out(size, &out, got);
    }

    fn word_of(&self, block: *mut u8) -> RegionWord {
        let map = self.shared.arena().map();
        let region = map.region_of(block.addr()).expect("of the arena");
        // SAFETY: the region is in the map.
        unsafe { map.get(region) }
    }

    /// Enters the first `got` of these blocks among the live ones.
    fn hand_out(&mut self, size: usize, out: &[*mut u8], got: usize) {
        assert!((1..=out.len()).contains(&got), "{got} of {}", out.len());
        let overlapping: Vec<usize> = out[..got]
            .iter()
            .map(|block| block.expose_provenance())
            .filter(|&address| {
                let before = self.live.range(..address + size).next_back();
                let overlaps = before.is_some_and(|(&other, &length)| other + length > address);
                self.live.insert(address, size);
                // SAFETY: handed out just now; where it overlaps, the test fails below.
                unsafe { fill(pointer(address), size) };
                overlaps
            })
            .collect();
        assert!(
            overlapping.is_empty(),
            "{overlapping:x?} overlap live blocks"
        );
        for &block in &out[..got] {
            assert_eq!(
                block.addr() % REGION_BYTES % size,
                0,
                "not where a block starts"
            );
            assert_eq!(
                self.word_of(block).class().map(ClassIndex::size),
                Some(size)
            );
        }
    }

    fn flush(&mut self, heap: usize, addresses: &[usize]) {
        let blocks: Vec<*mut u8> = addresses.iter().map(|&address| pointer(address)).collect();
        for block in &blocks {
            let size = self.live.remove(&block.addr()).expect("live");
            // SAFETY: the block was live, and filled when it was handed out.
            unsafe { check(*block, size) };
        }
        // Of several classes: those that are not of the first one's take the slow way.
        let Some(class) = blocks
            .first()
            .and_then(|&block| self.word_of(block).class())
        else {
            return;
        };
        // SAFETY: the blocks are live, and forgotten above.
        unsafe { self.heaps[heap].flush(self.shared, class, &blocks) };
    }

    fn step(&mut self, step: &Step) {
        let shared = self.shared;
        match *step {
            Step::Refill { heap, size, count } => self.refill(heap, SIZES[size], count),
            Step::RefillOnce { heap, size, count } => self.refill_once(heap, SIZES[size], count),
            Step::Flush {
                heap,
                from,
                count,
                order,
            } => {
                let Some(skip) = from.checked_rem(self.live.len()) else {
                    return;
                };
                let mut picked: Vec<usize> =
                    self.live.keys().copied().skip(skip).take(count).collect();
                order.arrange(&mut picked);
                self.flush(heap, &picked);
            }
            Step::FreeOne { heap, block } => {
                let Some(skip) = block.checked_rem(self.live.len()) else {
                    return;
                };
                let address = *self.live.keys().nth(skip).expect("below the length");
                let size = self.live.remove(&address).expect("live");
                // SAFETY: the block is live and filled, and forgotten above.
                unsafe {
                    check(pointer(address), size);
                    self.heaps[heap].flush(shared, class(size), &[pointer(address)]);
                }
            }
            Step::FreeSize { heap, size } => {
                let picked: Vec<usize> = self
                    .live
                    .iter()
                    .filter(|(_, live)| **live == SIZES[size])
                    .map(|(&address, _)| address)
                    .collect();
                self.flush(heap, &picked);
            }
            Step::Tend(heap) => {
                self.heaps[heap].tend(shared);
            }
            Step::Trim(heap) => self.heaps[heap].trim(shared),
            Step::Abandon(heap) => self.heaps[heap].abandon(shared),
            Step::PurgeHoles { heap, now } => {
                self.heaps[heap].purge_holes(shared, now, usize::MAX);
            }
            Step::PurgePool { heap, all } => {
                self.heaps[heap].purge_pool(shared, all);
            }
        }
    }

    /// What the slabs call in use is live.
    fn assert_counted(&self) {
        let live: usize = self.live.values().sum();
        assert_eq!(used_bytes(self.shared), live);
    }
}

#[test]
fn blocks_do_not_overlap_and_everything_freed_comes_back() {
    let (shared, owners) = heaps(HEAPS as u32);
    let config = ProptestConfig {
        cases: 200,
        max_shrink_iters: 400,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    proptest!(config, |(steps in steps())| {
        let mut model = Model {
            shared,
            heaps: &owners,
            live: BTreeMap::new(),
        };
        let mut failed = None;
        for step in &steps {
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                model.step(step);
                model.assert_counted();
            }));
            if let Err(panic) = outcome {
                failed = Some(panic);
                break;
            }
        }
        // Whatever has happened: a case leaves nothing to the next.
        for (turn, (&address, &size)) in model.live.iter().enumerate() {
            // SAFETY: the block is live, and not used any more.
            unsafe { owners[turn % HEAPS].flush(shared, class(size), &[pointer(address)]) };
        }
        trim_all(shared, &owners);
        if let Some(panic) = failed {
            std::panic::resume_unwind(panic);
        }
        prop_assert_eq!(used_bytes(shared), 0);
        prop_assert_eq!(
            shared.arena().stats().used_bytes, 0,
            "slabs without live blocks are kept: {:?}", shared.pool().counts()
        );
    });
}

#[test]
fn a_freed_block_is_reused_before_a_new_slab_is_taken() {
    let (shared, owners) = heaps(1);
    let mut all = Vec::new();
    // Two slabs of 64 blocks.
    while all.len() < 128 {
        let mut out = [std::ptr::null_mut(); 32];
        let got = owners[0].refill(shared, class(OF_64), &mut out);
        all.extend_from_slice(&out[..got]);
    }
    let slabs = |blocks: &[*mut u8]| {
        let mut regions: Vec<usize> = blocks.iter().map(|b| b.addr() / REGION_BYTES).collect();
        regions.sort_unstable();
        regions.dedup();
        regions
    };
    let before = slabs(&all);
    // SAFETY: the blocks are ours.
    unsafe { owners[0].flush(shared, class(OF_64), &all[10..40]) };
    let mut out = [std::ptr::null_mut(); 30];
    assert_eq!(owners[0].refill(shared, class(OF_64), &mut out), 30);
    assert_eq!(out[..], all[10..40]);
    assert_eq!(slabs(&all), before);
}

#[test]
fn fresh_blocks_come_in_ascending_order() {
    let (shared, owners) = heaps(1);
    let mut last = 0;
    for _ in 0..20 {
        let mut out = [std::ptr::null_mut(); 40];
        assert_eq!(owners[0].refill(shared, class(OF_1024), &mut out), 40);
        for block in out {
            assert!(block.addr() > last);
            last = block.addr();
        }
    }
}

#[test]
fn untouched_memory_comes_ahead_by_an_eighth_of_what_the_class_has_full() {
    const BATCH: usize = 4;
    // An eighth of fewer slabs is less than 16 KiB: too little to be worth it.
    const FROM: usize = 8 * (16 << 10) / REGION_BYTES;
    let (shared, owners) = heaps(1);
    let page = hakmem_sys::vm::page_size();
    let pages = REGION_BYTES / page;
    for full in 0..12 {
        // A slab of blocks of 1 KiB, none of which is touched.
        for batch in 0..REGION_BYTES / 1024 / BATCH {
            let mut out = [std::ptr::null_mut(); BATCH];
            let got = owners[0].refill(shared, class(1024), &mut out);
            assert_eq!(got, BATCH);
            let slab = out[0].addr() / REGION_BYTES * REGION_BYTES;
            if full == 0 && batch == 0 {
                forbid_huge(slab);
            }
            let needed = (BATCH * 1024 * (batch + 1)).div_ceil(page);
            let ahead = (full * pages / 8).clamp(1, pages);
            let expected = if full < FROM || !knows_populate() {
                0
            } else {
                needed.next_multiple_of(ahead).min(pages)
            };
            assert_eq!(resident_pages(slab, pages), expected, "{full} {batch}");
        }
    }
}

/// Keeps the system from putting a huge page behind this slab by itself.
fn forbid_huge(slab: usize) {
    let huge = hakmem_sys::vm::HUGE_PAGE_BYTES;
    // SAFETY: the arena is the test's, and starts where a huge page could.
    unsafe { hakmem_sys::vm::let_be_huge(slab / huge * huge, huge, false) };
}

fn knows_populate() -> bool {
    let page = hakmem_sys::vm::page_size();
    let start = hakmem_sys::vm::map(page).expect("memory");
    // SAFETY: mapped just now, for this test.
    unsafe {
        let known = hakmem_sys::vm::populate(start, page);
        hakmem_sys::vm::unmap(start, page);
        known
    }
}

#[test]
fn an_empty_slab_serves_another_class() {
    let (shared, owners) = heaps(1);
    let mut first = [std::ptr::null_mut(); 64];
    assert_eq!(owners[0].refill(shared, class(OF_64), &mut first), 64);
    // SAFETY: the blocks are ours.
    unsafe { owners[0].flush(shared, class(OF_64), &first) };
    owners[0].trim(shared);
    let mut second = [std::ptr::null_mut(); 4];
    assert_eq!(owners[0].refill(shared, class(48), &mut second), 4);
    assert_eq!(
        second[0].addr() / REGION_BYTES,
        first[0].addr() / REGION_BYTES
    );
    assert_eq!(shared.pool().counts().superslabs_made, 1);
}

#[test]
fn what_an_abandoned_heap_leaves_serves_the_next_one() {
    let (shared, owners) = heaps(2);
    let mut blocks = [std::ptr::null_mut(); 32];
    assert_eq!(owners[0].refill(shared, class(OF_128), &mut blocks), 32);
    // SAFETY: the blocks are ours.
    unsafe { owners[0].flush(shared, class(OF_128), &blocks[..16]) };
    owners[0].abandon(shared);
    let mut again = [std::ptr::null_mut(); 16];
    assert_eq!(owners[1].refill(shared, class(OF_128), &mut again), 16);
    assert_eq!(again[..], blocks[..16]);
    assert_eq!(owners[1].counts().refills_pool.get(), 1);
    assert_eq!(owners[1].counts().refills_arena.get(), 0);
}

#[test]
fn heaps_that_refill_once_share_a_slab() {
    let (shared, owners) = heaps(3);
    let once = |heap: usize| {
        let mut out = [std::ptr::null_mut(); 4];
        assert_eq!(owners[heap].refill_once(shared, class(64), &mut out), 4);
        out
    };
    let (first, second) = (once(0), once(1));
    assert_eq!(second[0].addr(), first[3].addr() + 64);
    // The next that needs more gets the slab, and keeps it.
    let mut out = [std::ptr::null_mut(); 8];
    assert_eq!(owners[2].refill(shared, class(64), &mut out), 8);
    assert_eq!(out[0].addr(), second[3].addr() + 64);
    let third = once(2);
    assert_eq!(third[0].addr(), out[7].addr() + 64);
    assert_ne!(
        once(0)[0].addr() / REGION_BYTES,
        out[0].addr() / REGION_BYTES
    );
    assert_eq!(owners[0].counts().slabs_started(), 2);
    assert_eq!(owners[1].counts().slabs_started(), 0);
}

#[test]
fn a_free_into_a_slab_that_nobody_owns_claims_it() {
    let (shared, owners) = heaps(2);
    let mut blocks = [std::ptr::null_mut(); 128];
    assert_eq!(owners[0].refill(shared, class(OF_128), &mut blocks), 128);
    owners[0].abandon(shared);
    // SAFETY: the blocks are ours.
    unsafe { owners[1].flush(shared, class(OF_128), &blocks) };
    assert!(owners[1].counts().claims.get() > 0);
    assert_eq!(owners[1].counts().remote_pushes.get(), 0);
    trim_all(shared, &owners);
    assert_eq!(shared.arena().stats().used_bytes, 0);
}

#[test]
fn blocks_freed_for_a_heap_that_sleeps_are_free_at_once() {
    let (shared, owners) = heaps(2);
    let mut blocks = [std::ptr::null_mut(); 640];
    let mut got = 0;
    while got < 640 {
        got += owners[0].refill(shared, class(OF_64), &mut blocks[got..]);
    }
    // The first heap does nothing from here on.
    // SAFETY: the blocks are ours.
    unsafe { owners[1].flush(shared, class(OF_64), &blocks) };
    assert_eq!(used_bytes(shared), 0);
    assert_eq!(owners[1].counts().remote_frees.get(), 640);
    assert_eq!(owners[1].counts().remote_pushes.get(), 0);
    let superslab = 32 * REGION_BYTES as u64;
    assert!(owners[0].counts().emptied.get() + owners[0].counts().disowns.get() > 0);
    owners[1].trim(shared);
    assert!(shared.arena().stats().used_bytes <= superslab);
}

#[test]
fn blocks_of_many_heaps_go_home_in_one_flush_and_only_a_busy_heaps_are_sent() {
    const EACH: usize = 32;
    let (shared, owners) = heaps(5);
    let [own, one, busy, other, gone] = owners[..] else {
        unreachable!("five heaps were made");
    };
    let mut of_heap = Vec::new();
    for heap in &owners {
        let mut blocks = [std::ptr::null_mut(); EACH];
        assert_eq!(heap.refill(shared, class(64), &mut blocks), EACH);
        of_heap.push(blocks);
    }
    gone.abandon(shared);
    // In turn, and by twos, so that some lie side by side in their slabs; more than 64 in all.
    let mixed: Vec<_> = (0..EACH / 2)
        .flat_map(|pair| {
            of_heap
                .iter()
                .flat_map(move |of| [of[2 * pair], of[2 * pair + 1]])
        })
        .collect();
    // SAFETY: the blocks are ours.
    unsafe { flush_to_busy(shared, busy, own, class(64), &mixed) };
    // 64 blocks at a time: each send one chain to the busy heap's slab, and the first ones claim
    // the slab that nobody owns, so that the rest of its blocks are the heap's own.
    let chains = mixed.len().div_ceil(64) as u64;
    assert_eq!(own.counts().remote_pushes.get(), chains);
    let first = mixed[..64].iter();
    let claiming = first.filter(|block| of_heap[4].contains(block)).count();
    let remote = 3 * EACH + claiming;
    assert_eq!(own.counts().remote_frees.get(), remote as u64);
    assert_eq!(own.counts().local_frees.get(), (5 * EACH - remote) as u64);
    assert_eq!(own.counts().claims.get(), 1);
    assert_eq!(busy.counts().remote_drains.get(), 0);
    // What waits is not in use; and each of the others has all of its blocks again.
    assert_eq!(used_bytes(shared), 0);
    for (heap, blocks) in [(own, of_heap[0]), (one, of_heap[1]), (other, of_heap[3])] {
        let mut again = [std::ptr::null_mut(); EACH];
        assert_eq!(heap.refill(shared, class(64), &mut again), EACH);
        assert_eq!(again, blocks);
        // SAFETY: the blocks are ours.
        unsafe { heap.flush(shared, class(64), &again) };
    }
    trim_all(shared, &owners);
    assert_eq!(shared.arena().stats().used_bytes, 0);
}

#[test]
fn what_waits_for_a_heap_is_taken_in_by_the_next_that_frees_there() {
    let (shared, owners) = heaps(2);
    let mut blocks = [std::ptr::null_mut(); 64];
    assert_eq!(owners[0].refill(shared, class(OF_64), &mut blocks), 64);
    let untouched = |block: *mut u8| {
        // SAFETY: the block is ours and has a word; two bytes of it may be a link.
        unsafe { block.cast::<u64>().write(u64::MAX) };
    };
    blocks.iter().copied().for_each(untouched);
    // SAFETY: the blocks are ours.
    unsafe { flush_to_busy(shared, owners[0], owners[1], class(OF_64), &blocks[..8]) };
    assert_eq!(owners[1].counts().remote_pushes.get(), 1);
    assert_eq!(owners[0].counts().remote_drains.get(), 0);
    // SAFETY: as above.
    unsafe { owners[1].flush(shared, class(OF_64), &blocks[8..16]) };
    assert_eq!(owners[1].counts().helps.get(), 1);
    assert_eq!(owners[0].counts().remote_drains.get(), 1);
    // What went to the bits has not been written to.
    // SAFETY: nobody has been given the block since.
    assert_eq!(unsafe { blocks[8].cast::<u64>().read() }, u64::MAX);
    let mut again = [std::ptr::null_mut(); 16];
    assert_eq!(owners[0].refill(shared, class(OF_64), &mut again), 16);
    assert_eq!(again[..], blocks[..16]);
}

#[test]
fn what_a_sleeper_holds_is_used_before_a_second_new_superslab_is_made() {
    const SLABS: usize = 96;
    let (shared, owners) = heaps(2);
    let mut blocks = Vec::new();
    while blocks.len() < SLABS * 64 {
        let mut out = [std::ptr::null_mut(); 64];
        let got = owners[0].refill(shared, class(OF_64), &mut out);
        blocks.extend_from_slice(&out[..got]);
    }
    // Half of each slab: too little to be surplus, so all stay the first heap's.
    let freed: Vec<*mut u8> = blocks.iter().copied().step_by(2).collect();
    // SAFETY: the blocks are ours.
    unsafe { owners[0].flush(shared, class(OF_64), &freed) };
    assert_eq!(owners[0].counts().disowns.get(), 0);
    let made = shared.pool().counts().superslabs_made;
    // The first heap sleeps from here on. The second needs as much as was freed.
    let mut taken = 0;
    while taken < freed.len() {
        let mut out = [std::ptr::null_mut(); 32];
        let got = owners[1].refill(shared, class(OF_64), &mut out);
        assert!(got > 0);
        taken += got;
    }
    assert_eq!(shared.pool().counts().superslabs_made, made + 1);
    assert!(owners[0].counts().disowns.get() > 0);
}

#[test]
fn a_heap_that_works_is_left_what_it_holds() {
    let (shared, owners) = heaps(2);
    let mut blocks = Vec::new();
    let refill = |heap: usize, blocks: &mut Vec<*mut u8>| {
        let mut out = [std::ptr::null_mut(); 32];
        let got = owners[heap].refill(shared, class(OF_64), &mut out);
        assert!(got > 0);
        blocks.extend_from_slice(&out[..got]);
    };
    while blocks.len() < 40 * 64 {
        refill(0, &mut blocks);
    }
    let freed: Vec<*mut u8> = blocks.iter().copied().step_by(2).collect();
    // SAFETY: the blocks are ours.
    unsafe { owners[0].flush(shared, class(OF_64), &freed) };
    let mut others = Vec::new();
    for _ in 0..200 {
        refill(1, &mut others);
        refill(0, &mut blocks);
        // SAFETY: taken just now.
        unsafe { owners[0].flush(shared, class(OF_64), &blocks.split_off(blocks.len() - 16)) };
    }
    assert_eq!(owners[0].counts().disowns.get(), 0);
}

#[test]
fn the_remote_blocks_of_a_slab_serve_its_owners_next_refill() {
    let (shared, owners) = heaps(2);
    let mut blocks = [std::ptr::null_mut(); 64];
    assert_eq!(owners[0].refill(shared, class(OF_64), &mut blocks), 64);
    // SAFETY: the blocks are ours.
    unsafe { flush_to_busy(shared, owners[0], owners[1], class(OF_64), &blocks[..8]) };
    let mut again = [std::ptr::null_mut(); 8];
    assert_eq!(owners[0].refill(shared, class(OF_64), &mut again), 8);
    assert_eq!(again[..], blocks[..8]);
    assert!(owners[0].counts().remote_drains.get() > 0);
}

#[test]
fn whole_free_pages_of_a_slab_in_use_go_back_and_its_blocks_stay_as_they_are() {
    // A hundred of the 128 blocks of 64 KiB.
    const KEPT_EACH: usize = REGION_BYTES / 512 * 100 / 128;
    let (shared, owners) = heaps(1);
    let mut blocks = Vec::new();
    while blocks.len() < 8192 {
        let mut out = [std::ptr::null_mut(); 64];
        let got = owners[0].refill(shared, class(512), &mut out);
        blocks.extend_from_slice(&out[..got]);
    }
    for &block in &blocks {
        // SAFETY: the block is ours.
        unsafe { fill(block, 512) };
    }
    // One or two of each slab stay: most of its pages are free.
    let (kept, freed): (Vec<_>, Vec<_>) = blocks
        .iter()
        .enumerate()
        .partition(|(index, _)| index % KEPT_EACH == 0);
    let freed: Vec<*mut u8> = freed.into_iter().map(|(_, &block)| block).collect();
    // SAFETY: the blocks are ours.
    unsafe { owners[0].flush(shared, class(512), &freed) };
    let given =
        owners[0].purge_holes(shared, true, usize::MAX) + owners[0].purge_pool(shared, true);
    let bytes = freed.len() * 512;
    assert!(given > bytes / 2, "{given} of {bytes} free bytes");
    assert!(given <= 8192 * 512 + REGION_BYTES);
    for &(_, &block) in &kept {
        // SAFETY: the block is still ours, and filled above.
        unsafe { check(block, 512) };
    }
    let again =
        owners[0].purge_holes(shared, true, usize::MAX) + owners[0].purge_pool(shared, true);
    assert_eq!(
        again, 0,
        "what is with the system already is not given twice"
    );
    // The purged blocks are blocks like any other.
    let mut out = [std::ptr::null_mut(); 64];
    let mut taken = Vec::new();
    while taken.len() < freed.len() {
        let count = owners[0].refill(shared, class(512), &mut out);
        assert!(count > 0);
        for &block in &out[..count] {
            assert!(!kept.iter().any(|&(_, &other)| other == block));
            // SAFETY: the block is ours.
            unsafe { fill(block, 512) };
        }
        taken.extend_from_slice(&out[..count]);
    }
    // As after a second burst like the first: as many blocks are free in each slab as before.
    // SAFETY: the blocks are ours.
    unsafe { owners[0].flush(shared, class(512), &taken) };
    let given =
        owners[0].purge_holes(shared, true, usize::MAX) + owners[0].purge_pool(shared, true);
    assert!(given > bytes / 2, "{given} of {bytes} free bytes");
    for &(_, &block) in &kept {
        // SAFETY: the block is still ours, and filled above.
        unsafe { check(block, 512) };
    }
}

#[test]
fn what_a_slab_on_used_memory_has_not_carved_goes_back() {
    let (shared, owners) = heaps(1);
    let mut blocks = [std::ptr::null_mut(); REGION_BYTES / 512];
    let got = owners[0].refill(shared, class(512), &mut blocks);
    for &block in &blocks[..got] {
        // SAFETY: the block is ours.
        unsafe { fill(block, 512) };
    }
    // SAFETY: the blocks are ours.
    unsafe { owners[0].flush(shared, class(512), &blocks[..got]) };
    owners[0].trim(shared);
    let mut few = [std::ptr::null_mut(); 3];
    assert_eq!(owners[0].refill(shared, class(64), &mut few), 3);
    assert_eq!(few[0], blocks[0], "the same region");
    for &block in &few {
        // SAFETY: the block is ours.
        unsafe { fill(block, 64) };
    }
    let rest = REGION_BYTES - hakmem_sys::vm::page_size();
    assert_eq!(owners[0].purge_holes(shared, false, usize::MAX), 0);
    assert_eq!(owners[0].purge_holes(shared, false, usize::MAX), rest);
    assert_eq!(owners[0].purge_holes(shared, true, usize::MAX), 0);
    // What is carved next is memory like any other.
    let mut more = [std::ptr::null_mut(); 64];
    let got = owners[0].refill(shared, class(64), &mut more);
    for &block in &more[..got] {
        // SAFETY: the block is ours.
        unsafe { fill(block, 64) };
    }
    for &block in &few {
        // SAFETY: the block is still ours, and filled above.
        unsafe { check(block, 64) };
    }
}

#[test]
fn a_number_is_entered_once() {
    let (shared, owners) = heaps(1);
    let second = owned(0);
    assert!(!shared.pool().owners.enter(second));
    let entered = shared.pool().owners.get(second.number()).unwrap();
    assert!(std::ptr::eq(entered, owners[0]));
}

#[test]
fn a_class_that_is_not_tiny_is_refused() {
    let (shared, owners) = heaps(1);
    let mid = ClassIndex::for_size(2048).expect("a mid size");
    let mut out = [std::ptr::null_mut(); 4];
    assert_eq!(owners[0].refill(shared, mid, &mut out), 0);
    assert_eq!(owners[0].refill_once(shared, mid, &mut out), 0);
}

#[test]
fn owner_numbers_end_where_codes_end() {
    // SAFETY: these are not used.
    let is_one = |number| unsafe { OwnedSlabs::new(number) }.is_some();
    assert!(is_one(hakmem_region_id::word::OWNERS - 1));
    assert!(!is_one(hakmem_region_id::word::OWNERS));
}

#[test]
fn slabs_that_become_empty_in_random_order_are_found_by_few_looks() {
    const SLABS: u64 = 2000;
    let (shared, heaps) = heaps(1);
    let class = class(1024);
    let mut blocks = vec![std::ptr::null_mut(); SLABS as usize * OF_1024];
    for part in blocks.chunks_mut(OF_1024) {
        assert_eq!(heaps[0].refill(shared, class, part), part.len());
    }
    Numbers(1).shuffle(&mut blocks);
    // Whoever frees into a slab of nobody's puts it into the class's pool.
    heaps[0].abandon(shared);
    for block in &blocks {
        // SAFETY: the block is ours.
        unsafe { heaps[0].flush(shared, class, std::slice::from_ref(block)) };
    }
    let counts = shared.pool().counts();
    let emptied = heaps[0].counts().emptied.get();
    assert!(
        emptied + 16 >= SLABS,
        "{emptied} of {SLABS} slabs are empty"
    );
    assert!(counts.slabs_met <= 12 * SLABS, "{counts:?}");
    assert!(
        counts.superslabs_met <= 40 * counts.superslabs_made,
        "{counts:?}"
    );
}

#[test]
fn memory_of_empty_slabs_goes_back_when_the_arena_needs_some_and_stays_once_it_was_missed() {
    static ARENA: Arena = Arena::new().with_reclaim(|| shared().reclaim());
    static POOL: SlabPool = SlabPool::new();
    fn shared() -> Shared<'static> {
        // SAFETY: both are used here only.
        unsafe { Shared::new(&ARENA, &POOL) }
    }
    const BYTES: usize = 16 << 20;
    let heap = heap(shared(), 0);
    let class = class(1024);
    let take = |bytes: usize| {
        let mut blocks = vec![std::ptr::null_mut(); bytes / 1024];
        let mut taken = 0;
        while taken < blocks.len() {
            let end = blocks.len().min(taken + OF_1024);
            let filled = heap.refill(shared(), class, &mut blocks[taken..end]);
            assert!(filled > 0);
            taken += filled;
        }
        blocks
    };
    // SAFETY: what is freed is ours.
    let free = |blocks: &[*mut u8]| unsafe { heap.flush(shared(), class, blocks) };
    // So that each superslab stays.
    let blocks = take(BYTES);
    let in_superslab = 32 * REGION_BYTES / 1024;
    for part in blocks.chunks(in_superslab) {
        free(&part[1..]);
    }
    let need_memory = || {
        assert!(ARENA.allocate(1, 1, Label::TAKEN).expect("memory").zeroed());
        POOL.counts().purged_bytes as usize
    };
    // All but one of each superslab, and the heap's current one.
    let empty = BYTES - BYTES / 32 - REGION_BYTES;
    assert_eq!(shared().dirty_bytes(), empty);
    let purged = need_memory();
    assert!(purged > empty - (5 << 20), "{purged} of {empty} bytes");
    assert_eq!(shared().dirty_bytes(), empty - purged);
    assert_eq!(need_memory(), purged, "what is left is too little");

    for _ in 0..10 {
        let again = take(empty);
        free(&again);
        assert_eq!(need_memory(), purged);
    }
    // It is forgotten by and by.
    for _ in 0..20 {
        heap.purge_pool(shared(), false);
    }
    free(&take(empty));
    assert!(need_memory() > purged);
    assert!(shared().dirty_bytes() < 5 << 20);
}

/// Has a heap take the blocks of this many slabs of 64-byte blocks, and free all but one block of
/// each.
fn make_sparse(shared: Shared<'static>, heap: &OwnedSlabs, slabs: usize) -> Vec<*mut u8> {
    let mut blocks = vec![std::ptr::null_mut(); slabs * OF_64];
    let mut got = 0;
    while got < blocks.len() {
        let end = blocks.len().min(got + 64);
        got += heap.refill(shared, class(64), &mut blocks[got..end]);
    }
    blocks.sort_unstable();
    let mut freed = Vec::new();
    let mut kept: Vec<*mut u8> = Vec::new();
    for block in blocks {
        let is_here = |kept: &*mut u8| (kept.addr() ^ block.addr()) < REGION_BYTES;
        if kept.last().is_some_and(is_here) {
            freed.push(block);
        } else {
            kept.push(block);
        }
    }
    // SAFETY: the blocks are ours.
    unsafe { heap.flush(shared, class(64), &freed) };
    kept
}

#[test]
fn a_heap_keeps_its_sparse_slabs_as_long_as_nobody_asks() {
    let (shared, heaps) = heaps(2);
    let kept = make_sparse(shared, heaps[0], 32);
    assert_eq!(heaps[0].counts().disowns.get(), 0);
    // SAFETY: the blocks are ours.
    unsafe { heaps[0].flush(shared, class(64), &kept) };
    assert_eq!(heaps[0].counts().claims.get(), 0);
    // The current one stays.
    assert_eq!(heaps[0].counts().emptied.get(), 31);
    trim_all(shared, &heaps);
    assert_eq!(shared.arena().stats().used_bytes, 0);
}

#[test]
fn a_heap_that_needs_slabs_gets_the_sparse_ones_of_one_that_works() {
    let (shared, heaps) = heaps(2);
    let kept = make_sparse(shared, heaps[0], 32);
    let mut out = [std::ptr::null_mut(); 64];
    let mut got = 0;
    // All but four, and the current one, are for others.
    while got < 27 * (OF_64 - 1) - out.len() {
        // So that it does not look asleep.
        let mut one = [std::ptr::null_mut()];
        heaps[0].refill(shared, class(8), &mut one);
        let count = heaps[1].refill(shared, class(64), &mut out);
        for block in &out[..count] {
            let place = block.addr() / REGION_BYTES;
            assert!(
                kept.iter().any(|kept| kept.addr() / REGION_BYTES == place),
                "after {got}"
            );
        }
        got += count;
    }
    assert_eq!(heaps[1].counts().slabs_started(), 0);
    assert!(heaps[1].counts().refills_pool.get() >= 26);
    // From then on there are none to spare, and it gets slabs of its own.
    while heaps[1].counts().slabs_started() == 0 {
        heaps[1].refill(shared, class(64), &mut out);
    }
    assert_eq!(heaps[0].counts().disowns.get(), 27);
}

#[test]
fn sparse_slabs_are_found_though_another_heap_has_said_so_since() {
    let (shared, heaps) = heaps(3);
    make_sparse(shared, heaps[0], 300);
    // The last to say so, with one to spare.
    make_sparse(shared, heaps[1], 6);
    let (mut out, mut one) = ([std::ptr::null_mut(); 64], [std::ptr::null_mut()]);
    while heaps[2].counts().refills_pool.get() < 200 {
        for heap in &heaps[..2] {
            heap.refill(shared, class(8), &mut one);
        }
        heaps[2].refill(shared, class(64), &mut out);
        assert!(
            heaps[2].counts().refills_arena.get() < 2,
            "it makes superslabs instead"
        );
    }
}

#[test]
fn a_sleepers_slabs_are_looked_at_once_as_long_as_nothing_changes() {
    let (shared, heaps) = heaps(2);
    let class = class(64);
    let mut blocks = vec![std::ptr::null_mut(); 4 * OF_64];
    for part in blocks.chunks_mut(OF_64) {
        assert_eq!(heaps[0].refill(shared, class, part), OF_64);
    }
    assert!(heaps[0].tend(shared));
    assert!(!heaps[0].tend(shared), "nothing has changed");
    let given = || heaps[0].counts().disowns.get() + heaps[0].counts().emptied.get();
    let before = given();
    // SAFETY: the blocks are ours.
    unsafe { heaps[1].flush(shared, class, &blocks[..OF_64 / 2]) };
    assert!(heaps[0].tend(shared), "another has freed into one");
    assert!(given() > before);
    assert!(!heaps[0].tend(shared));
    let (waiting, own) = blocks[OF_64..3 * OF_64].split_at(OF_64);
    // SAFETY: the blocks are ours.
    unsafe { flush_to_busy(shared, heaps[0], heaps[1], class, &waiting[1..]) };
    assert!(heaps[0].tend(shared), "another's blocks wait");
    assert!(!heaps[0].tend(shared));
    heaps[0].purge_holes(shared, true, usize::MAX);
    assert!(!heaps[0].tend(shared), "nothing has come");
    // SAFETY: the blocks are ours.
    unsafe { heaps[0].flush(shared, class, &own[1..]) };
    assert!(heaps[0].tend(shared), "its thread has been there");
    trim_all(shared, &heaps);
}
