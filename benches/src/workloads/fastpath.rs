//! Fastpath: one allocation and one free of one size, again and again. The oldest
//! allocator test there is, and no measure of a program; it shows
//! the length of the two fast paths and nothing else.
//!
//! `cargo xtask bench fastpath` runs it per size class, for time as it is and
//! for instructions under callgrind, twice with different counts, so that everything but
//! the pair cancels out.

use crate::block::Block;
use crate::measure::{Outcome, timed};

#[derive(clap::Args)]
pub struct Args {
    /// Block size, in bytes.
    #[arg(long, default_value_t = 64)]
    size: usize,
    /// Pairs.
    #[arg(long, default_value_t = 10_000_000)]
    ops: u64,
    /// Blocks allocated before the first of them is freed.
    #[arg(long, default_value_t = 1)]
    depth: usize,
}

pub fn run(args: &Args) -> Outcome {
    let depth = args.depth.max(1);
    let mut held = Vec::with_capacity(depth);
    // One round first: the first blocks of a class are not the fast path.
    pairs(args.size, depth as u64, depth, &mut held);
    let (answer, time) = timed(|| pairs(args.size, args.ops, depth, &mut held));
    Outcome::new(answer, args.ops, time)
}

fn pairs(size: usize, ops: u64, depth: usize, held: &mut Vec<Block>) -> u64 {
    let mut answer = 0_u64;
    if depth == 1 {
        for _ in 0..ops {
            answer += Block::new(size, 1).check();
        }
        return answer;
    }
    for _ in 0..ops / depth as u64 {
        held.extend((0..depth).map(|_| Block::new(size, 1)));
        answer += held.drain(..).map(|block| block.check()).sum::<u64>();
    }
    answer
}
