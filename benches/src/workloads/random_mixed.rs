//! Random-mixed: the classic steady-state test, as in mimalloc's `alloc-test`
//! (by OLogN Technologies) and this project's first bench.
//!
//! One thread replaces random slots with blocks of random size. Stresses the
//! two fast paths, the mix of size classes, and reuse while blocks are warm.

use super::Slots;
use crate::measure::{Outcome, timed};

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
    /// Replacements.
    #[arg(long, default_value_t = 10_000_000)]
    ops: u64,
    /// Seed of the random sizes and places.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

pub fn run(args: &Args) -> Outcome {
    let mut slots = Slots::fill(args.slots, args.min, args.max, args.seed);
    let (answer, time) = timed(|| {
        let mut answer = 0_u64;
        for _ in 0..args.ops {
            answer = answer.wrapping_add(slots.replace());
        }
        answer
    });
    let answer = answer.wrapping_add(slots.check());
    drop(slots);
    Outcome::new(answer, args.ops, time)
}
