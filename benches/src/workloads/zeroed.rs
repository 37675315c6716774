//! Zeroed: `vec![0; n]` and `calloc`. This project's own test.
//!
//! Small blocks have to be cleared; large ones fresh from the system are zero
//! already, and clearing them again costs page faults for pages the program may never use. The
//! program reads all of a small block and one byte in each page of a large one.

use crate::block::Block;
use crate::measure::{Outcome, timed};

#[derive(clap::Args)]
pub struct Args {
    /// Smallest block, in bytes.
    #[arg(long, default_value_t = 32)]
    min: usize,
    /// Largest block, in bytes.
    #[arg(long, default_value_t = 1024)]
    max: usize,
    /// Blocks alive at any moment.
    #[arg(long, default_value_t = 64)]
    slots: usize,
    /// Blocks allocated.
    #[arg(long, default_value_t = 1_000_000)]
    ops: u64,
    /// Read one byte in this many.
    #[arg(long, default_value_t = 8)]
    step: usize,
    /// Seed of the random sizes.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

pub fn run(args: &Args) -> Outcome {
    let mut rng = fastrand::Rng::with_seed(args.seed);
    let mut slots: Vec<Option<Block>> = (0..args.slots.max(1)).map(|_| None).collect();
    let (answer, time) = timed(|| {
        let mut answer = 0_u64;
        for _ in 0..args.ops {
            let place = rng.usize(..slots.len());
            slots[place] = None;
            let mut block = Block::zeroed(rng.usize(args.min..=args.max));
            let sum = block.sum(args.step.max(1));
            assert_eq!(
                sum,
                0,
                "a block of {} bytes that should be zero is not",
                block.size()
            );
            answer = answer.wrapping_add(block.size() as u64);
            // Dirty, so that handing it out again means clearing it.
            block.soil();
            slots[place] = Some(block);
        }
        answer
    });
    drop(slots);
    Outcome::new(answer, args.ops, time)
}
