//! Latency: how long each single allocation and each single free takes, for
//! programs in which the slowest call matters more than the average one. This project's own
//! test; the histogram is G. Tene's HdrHistogram.
//!
//! The load is random-mixed with a burst now and then, so that refills, flushes
//! and new memory are in it. Each figure includes one reading of the processor's clock,
//! the same for every peer; it is reported beside them, and shows how
//! fine the clock is: shorter calls than that cannot be told apart.

use hdrhistogram::Histogram;

use crate::block::Block;
use crate::measure::{Outcome, timed};
use crate::tick;

#[derive(clap::Args)]
pub struct Args {
    /// Smallest block, in bytes.
    #[arg(long, default_value_t = 8)]
    min: usize,
    /// Largest block, in bytes.
    #[arg(long, default_value_t = 1024)]
    max: usize,
    /// Blocks alive at any moment.
    #[arg(long, default_value_t = 4096)]
    slots: usize,
    /// Allocations, each with its free.
    #[arg(long, default_value_t = 2_000_000)]
    ops: u64,
    /// Seed of the random sizes and places.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Every how many operations a burst comes, and how many blocks it has.
const BURST_EVERY: u64 = 100_000;
const BURST: usize = 4000;

pub fn run(args: &Args) -> Outcome {
    let mut load = Load {
        rng: fastrand::Rng::with_seed(args.seed),
        min: args.min,
        max: args.max,
        allocs: histogram(),
        frees: histogram(),
    };
    let mut slots: Vec<Option<Block>> = (0..args.slots.max(1)).map(|_| None).collect();
    let mut burst = Vec::with_capacity(BURST);
    let (answer, time) = timed(|| {
        let mut answer = 0_u64;
        for op in 0..args.ops {
            let place = load.rng.usize(..slots.len());
            if let Some(gone) = slots[place].take() {
                answer = answer.wrapping_add(gone.check());
                load.free(gone);
            }
            slots[place] = Some(load.alloc());
            if op % BURST_EVERY == BURST_EVERY - 1 {
                burst.extend((0..BURST).map(|_| load.alloc()));
                for block in burst.drain(..) {
                    answer = answer.wrapping_add(block.check());
                    load.free(block);
                }
            }
        }
        answer
    });
    drop(slots);
    let scale = tick::nanoseconds_per_tick();
    let at = |histogram: &Histogram<u64>, quantile: f64| {
        histogram.value_at_quantile(quantile) as f64 * scale
    };
    Outcome::new(answer, args.ops, time)
        .with("clock_ns", tick::overhead() as f64 * scale)
        .with("alloc_p50_ns", at(&load.allocs, 0.5))
        .with("alloc_p99_ns", at(&load.allocs, 0.99))
        .with("alloc_p999_ns", at(&load.allocs, 0.999))
        .with("alloc_p9999_ns", at(&load.allocs, 0.9999))
        .with("alloc_max_ns", load.allocs.max() as f64 * scale)
        .with("free_p50_ns", at(&load.frees, 0.5))
        .with("free_p99_ns", at(&load.frees, 0.99))
        .with("free_p999_ns", at(&load.frees, 0.999))
        .with("free_p9999_ns", at(&load.frees, 0.9999))
        .with("free_max_ns", load.frees.max() as f64 * scale)
}

/// Up to a thousand million ticks, three digits; no allocation while recording.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_max(1_000_000_000, 3).expect("these bounds are valid")
}

struct Load {
    rng: fastrand::Rng,
    min: usize,
    max: usize,
    allocs: Histogram<u64>,
    frees: Histogram<u64>,
}

impl Load {
    fn alloc(&mut self) -> Block {
        let size = self.rng.usize(self.min..=self.max);
        let before = tick::now();
        let block = Block::new(size, 0xa5);
        let ticks = tick::now() - before;
        self.allocs.saturating_record(ticks);
        block
    }

    fn free(&mut self, block: Block) {
        let before = tick::now();
        drop(block);
        let ticks = tick::now() - before;
        self.frees.saturating_record(ticks);
    }
}
