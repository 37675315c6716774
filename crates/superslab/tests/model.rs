//! Several heaps on one thread against a map of the live blocks.

mod support {
    pub mod heaps;
    pub mod trim;
    pub mod used;
}

use hakmem_region_id::{ClassIndex, REGION_BYTES, RegionWord};
use hakmem_superslab::{OwnedSlabs, Shared};
use hakmem_test_support::{check, fill};
use proptest::prelude::*;
use std::collections::BTreeMap;
use support::heaps::{class, heaps};
use support::trim::trim_all;
use support::used::used_bytes;

const HEAPS: usize = 3;
const SIZES: [usize; 6] = [8, 24, 64, 112, 320, 1024];

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
