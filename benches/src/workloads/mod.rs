//! The workloads, one file each. A workload does a fixed amount of work from a
//! fixed seed, checks what it can about the blocks it gets, and computes an
//! answer that must be the same whatever the allocator.

pub mod aligned;
pub mod big_heap;
pub mod bursts;
pub mod columns;
pub mod exchange;
pub mod false_sharing;
pub mod fastpath;
pub mod fragmentation;
pub mod fresh_heap;
pub mod growth;
pub mod headers;
pub mod idle;
pub mod larson;
pub mod latency;
pub mod phases;
pub mod producer_consumer;
pub mod random_mixed;
pub mod slots_mt;
pub mod start;
pub mod teardown;
pub mod threads;
pub mod trees;
pub mod zeroed;

use std::sync::Barrier;

use crate::block::Block;
use crate::measure::{Clock, Outcome, Timed};

/// The workloads and their arguments.
#[derive(clap::Subcommand)]
pub enum Workload {
    /// Server churn: blocks live on in tables handed from thread to thread.
    Larson(larson::Args),
    /// One thread replaces random slots with blocks of random size.
    RandomMixed(random_mixed::Args),
    /// Threads replace random slots of their own, 2 to 32 KiB.
    MidMt(slots_mt::Mid),
    /// Threads replace random slots of their own, 64 KiB to 1 MiB.
    LargeMt(slots_mt::Large),
    /// Blocks are allocated in some threads and freed in others.
    ProducerConsumer(producer_consumer::Args),
    /// All threads swap blocks through one table; threads come and go.
    Exchange(exchange::Args),
    /// Hoard's two tests for blocks that share a cache line between threads.
    FalseSharing(false_sharing::Args),
    /// Allocation only, on memory never used before.
    FreshHeap(fresh_heap::Args),
    /// Blocks are freed in random order until none is left.
    Teardown(teardown::Args),
    /// Blocks of one size, all allocated and then all freed, time after time.
    Bursts(bursts::Args),
    /// Binary trees are built and dropped.
    Trees(trees::Args),
    /// Random blocks of a large live heap are replaced.
    BigHeap(big_heap::Args),
    /// Long-lived survivors among blocks whose sizes change by phase.
    Fragmentation(fragmentation::Args),
    /// A pool of threads of which one is busy at a time.
    Phases(phases::Args),
    /// A burst, then nothing: what the resident set does over time.
    Idle(idle::Args),
    /// Growing vectors and chains of reallocations.
    Growth(growth::Args),
    /// Zeroed blocks, small and large.
    Zeroed(zeroed::Args),
    /// Alignments from 64 to 4096 bytes.
    Aligned(aligned::Args),
    /// Arrays of one length that are written side by side.
    Columns(columns::Args),
    /// Threads that are spawned, allocate a little, and end.
    Threads(threads::Args),
    /// Time of each single allocation and free.
    Latency(latency::Args),
    /// Ways to tell in `free` what a pointer is, in cycles.
    Headers(headers::Args),
    /// One pair of allocation and free, again and again.
    Fastpath(fastpath::Args),
}

impl Workload {
    /// Does the work.
    pub fn run(&self) -> Outcome {
        match self {
            Self::Larson(args) => larson::run(args),
            Self::RandomMixed(args) => random_mixed::run(args),
            Self::MidMt(args) => slots_mt::mid(args),
            Self::LargeMt(args) => slots_mt::large(args),
            Self::ProducerConsumer(args) => producer_consumer::run(args),
            Self::Exchange(args) => exchange::run(args),
            Self::FalseSharing(args) => false_sharing::run(args),
            Self::FreshHeap(args) => fresh_heap::run(args),
            Self::Teardown(args) => teardown::run(args),
            Self::Bursts(args) => bursts::run(args),
            Self::Trees(args) => trees::run(args),
            Self::BigHeap(args) => big_heap::run(args),
            Self::Fragmentation(args) => fragmentation::run(args),
            Self::Phases(args) => phases::run(args),
            Self::Idle(args) => idle::run(args),
            Self::Growth(args) => growth::run(args),
            Self::Zeroed(args) => zeroed::run(args),
            Self::Aligned(args) => aligned::run(args),
            Self::Columns(args) => columns::run(args),
            Self::Threads(args) => threads::run(args),
            Self::Latency(args) => latency::run(args),
            Self::Headers(args) => headers::run(args),
            Self::Fastpath(args) => fastpath::run(args),
        }
    }
}

/// Runs `work` in `count` threads that start together, and measures from there
/// until the last one is done. The answers are added up.
pub fn in_threads(count: usize, work: impl Fn(usize) -> u64 + Sync) -> (u64, Timed) {
    let ready = Barrier::new(count + 1);
    let go = Barrier::new(count + 1);
    std::thread::scope(|scope| {
        let handles: Vec<_> = (0..count)
            .map(|index| {
                let (work, ready, go) = (&work, &ready, &go);
                scope.spawn(move || {
                    ready.wait();
                    go.wait();
                    work(index)
                })
            })
            .collect();
        ready.wait();
        let clock = Clock::start();
        go.wait();
        let mut answer = 0_u64;
        for handle in handles {
            answer = answer.wrapping_add(handle.join().expect("a workload thread does not panic"));
        }
        (answer, clock.stop())
    })
}

/// Blocks in numbered places, each replaced at random.
pub struct Slots {
    blocks: Vec<Block>,
    min: usize,
    max: usize,
    rng: fastrand::Rng,
}

impl Slots {
    /// `count` blocks of `min` to `max` bytes.
    pub fn fill(count: usize, min: usize, max: usize, seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let blocks = (0..count)
            .map(|_| Block::new(rng.usize(min..=max), rng.u8(..)))
            .collect();
        Self {
            blocks,
            min,
            max,
            rng,
        }
    }

    /// Replaces one random block; returns the size of the one that went.
    #[inline]
    pub fn replace(&mut self) -> u64 {
        let place = self.rng.usize(..self.blocks.len());
        let size = self.rng.usize(self.min..=self.max);
        let slot = &mut self.blocks[place];
        let gone = slot.check();
        slot.replace(size, place as u8);
        gone
    }

    /// Replaces one random block by one all of whose pages are written.
    #[inline]
    pub fn replace_and_touch(&mut self) -> u64 {
        let place = self.rng.usize(..self.blocks.len());
        let size = self.rng.usize(self.min..=self.max);
        let slot = &mut self.blocks[place];
        let gone = slot.check();
        slot.replace(size, place as u8);
        slot.touch_pages();
        gone
    }

    /// The sizes of all blocks now in place, each checked.
    pub fn check(&self) -> u64 {
        self.blocks.iter().map(Block::check).sum()
    }
}
