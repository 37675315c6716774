//! Mid-mt and large-mt: random-mixed for the sizes above the small classes, in
//! several threads, each with slots of its own. After the "mid" and "large"
//! profiles that allocator tests run beside larson.
//!
//! Stresses what lies behind the small classes: page runs, whole mappings, and
//! the locks around them. One byte is written per page, so memory that was given
//! back in between costs its page faults.

use super::{Slots, in_threads};
use crate::measure::Outcome;

#[derive(clap::Args)]
pub struct Mid {
    /// Smallest block, in bytes.
    #[arg(long, default_value_t = 2 << 10)]
    min: usize,
    /// Largest block, in bytes.
    #[arg(long, default_value_t = 32 << 10)]
    max: usize,
    /// Blocks each thread keeps.
    #[arg(long, default_value_t = 256)]
    slots: usize,
    /// Threads.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Replacements, all threads together.
    #[arg(long, default_value_t = 2_000_000)]
    ops: u64,
    /// Seed of the random sizes and places.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(clap::Args)]
pub struct Large {
    /// Smallest block, in bytes.
    #[arg(long, default_value_t = 64 << 10)]
    min: usize,
    /// Largest block, in bytes.
    #[arg(long, default_value_t = 1 << 20)]
    max: usize,
    /// Blocks each thread keeps.
    #[arg(long, default_value_t = 32)]
    slots: usize,
    /// Threads.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Replacements, all threads together.
    #[arg(long, default_value_t = 50_000)]
    ops: u64,
    /// Seed of the random sizes and places.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

pub fn mid(args: &Mid) -> Outcome {
    run(
        args.min,
        args.max,
        args.slots,
        args.threads,
        args.ops,
        args.seed,
    )
}

pub fn large(args: &Large) -> Outcome {
    run(
        args.min,
        args.max,
        args.slots,
        args.threads,
        args.ops,
        args.seed,
    )
}

fn run(min: usize, max: usize, slots: usize, threads: usize, ops: u64, seed: u64) -> Outcome {
    let threads = threads.max(1);
    let ops = (ops / threads as u64).max(1);
    let (answer, timed) = in_threads(threads, |index| {
        let mut slots = Slots::fill(slots, min, max, seed + index as u64);
        let mut answer = 0_u64;
        for _ in 0..ops {
            answer = answer.wrapping_add(slots.replace_and_touch());
        }
        answer.wrapping_add(slots.check())
    });
    Outcome::new(answer, ops * threads as u64, timed)
}
