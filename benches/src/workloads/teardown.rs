//! Teardown: a structure of many blocks is freed in random order, as a hash map or a graph of
//! boxed values is when it is dropped. This project's own test.
//!
//! Stresses what an allocator does when memory becomes wholly free in no order: its lists are
//! longest then, and a cost that grows with them shows. Only the frees are timed.

use crate::block::Block;
use crate::measure::{Outcome, timed};

#[derive(clap::Args)]
pub struct Args {
    /// Smallest block, in bytes.
    #[arg(long, default_value_t = 16)]
    min: usize,
    /// Largest block, in bytes.
    #[arg(long, default_value_t = 1024)]
    max: usize,
    /// Blocks.
    #[arg(long, default_value_t = 1_000_000)]
    ops: u64,
    /// Seed of the random sizes and the order.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

pub fn run(args: &Args) -> Outcome {
    let mut rng = fastrand::Rng::with_seed(args.seed);
    let mut blocks: Vec<Block> = (0..args.ops)
        .map(|_| Block::new(rng.usize(args.min..=args.max), 0x3c))
        .collect();
    let answer: u64 = blocks.iter().map(Block::check).sum();
    rng.shuffle(&mut blocks);
    let ((), time) = timed(|| drop(blocks));
    Outcome::new(answer, args.ops, time)
}
