//! Fresh heap: a program that only allocates, as compilers and short commands
//! do. After the first phase of "mleak" and of D. Lea's malloc traces.
//!
//! Stresses carving of new memory and the page faults it costs, which are part of the
//! time. Freeing is not.

use crate::block::Block;
use crate::measure::{Outcome, timed};

#[derive(clap::Args)]
pub struct Args {
    /// Smallest block, in bytes.
    #[arg(long, default_value_t = 16)]
    min: usize,
    /// Largest block, in bytes.
    #[arg(long, default_value_t = 256)]
    max: usize,
    /// Blocks.
    #[arg(long, default_value_t = 1_000_000)]
    ops: u64,
    /// Seed of the random sizes.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

pub fn run(args: &Args) -> Outcome {
    let mut rng = fastrand::Rng::with_seed(args.seed);
    let mut blocks: Vec<Block> = Vec::with_capacity(args.ops as usize);
    // The table's own pages are not the allocator's work: write them first.
    blocks
        .spare_capacity_mut()
        .iter_mut()
        .step_by(64)
        .for_each(|place| {
            // SAFETY: spare capacity may be written; it stays uninitialized for the vector.
            unsafe { place.as_mut_ptr().cast::<u8>().write_volatile(0) };
        });
    let ((), time) = timed(|| {
        for _ in 0..args.ops {
            blocks.push(Block::new(rng.usize(args.min..=args.max), 0x5a));
        }
    });
    let answer: u64 = blocks.iter().map(Block::check).sum();
    let live = answer as f64;
    let peak = crate::measure::Memory::now().anonymous as f64;
    drop(blocks);
    Outcome::new(answer, args.ops, time).with("rss_over_live", peak / live)
}
