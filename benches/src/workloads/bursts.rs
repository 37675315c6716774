//! Bursts: some blocks of one size are allocated, written and freed again, all of them, time after time, as a
//! request or a frame does with what it needs. In the manner of the "batch" tests of several allocators' suites.
//!
//! Stresses what lies behind a thread's bins: as soon as a burst has more than they hold, each of its blocks is
//! written down as free and found again.

use crate::block::Block;
use crate::measure::{Outcome, timed};

/// In which order the blocks of a burst are freed.
#[derive(Clone, Copy, clap::ValueEnum)]
enum Order {
    /// The first one first.
    Forward,
    /// The last one first.
    Backward,
    /// Anyhow.
    Random,
}

#[derive(clap::Args)]
pub struct Args {
    /// Bytes of each block.
    #[arg(long, default_value_t = 64)]
    size: usize,
    /// Blocks in a burst.
    #[arg(long, default_value_t = 10_000)]
    blocks: usize,
    /// In which order they are freed.
    #[arg(long, value_enum, default_value_t = Order::Forward)]
    order: Order,
    /// Blocks allocated and freed in all.
    #[arg(long, default_value_t = 5_000_000)]
    ops: u64,
    /// Seed of the random order.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

pub fn run(args: &Args) -> Outcome {
    let count = args.blocks.max(1);
    let bursts = args.ops.div_ceil(count as u64);
    let mut order: Vec<usize> = (0..count).collect();
    match args.order {
        Order::Forward => {}
        Order::Backward => order.reverse(),
        Order::Random => fastrand::Rng::with_seed(args.seed).shuffle(&mut order),
    }
    let mut blocks: Vec<Option<Block>> = Vec::new();
    blocks.resize_with(count, || None);
    let (answer, time) = timed(|| {
        let mut answer = 0_u64;
        for burst in 0..bursts {
            for place in &mut blocks {
                *place = Some(Block::new(args.size, burst as u8));
            }
            for &place in &order {
                if let Some(block) = blocks[place].take() {
                    answer = answer.wrapping_add(block.check());
                }
            }
        }
        answer
    });
    Outcome::new(answer, bursts * count as u64, time)
}
