//! Threads: what a thread costs that allocates a little. This project's own test.
//!
//! Threads are spawned and joined by the thousand, a few at a time; each
//! allocates one block in every power of two up to 4 KiB and frees it, or as many blocks
//! of 8 to 512 bytes as asked for. Stresses
//! the set-up and the tear-down of a thread's heap. Then a number of threads that have done
//! the same stay alive, and the growth of the resident set is shared among them.

use std::sync::Barrier;

use crate::block::Block;
use crate::measure::{Memory, Outcome, timed};

#[derive(clap::Args)]
pub struct Args {
    /// Threads spawned and joined.
    #[arg(long, default_value_t = 10_000)]
    ops: u64,
    /// Threads alive at once while they come and go.
    #[arg(long, default_value_t = 4)]
    abreast: u64,
    /// Threads that stay, for the memory per thread.
    #[arg(long, default_value_t = 200)]
    stay: usize,
    /// Blocks of each thread; 0 for one in every power of two up to 4 KiB.
    #[arg(long, default_value_t = 0)]
    blocks: usize,
}

pub fn run(args: &Args) -> Outcome {
    let blocks = args.blocks;
    let (answer, time) = timed(|| {
        let mut answer = 0_u64;
        let mut left = args.ops;
        while left > 0 {
            let group = left.min(args.abreast.max(1));
            let handles: Vec<_> = (0..group)
                .map(|_| std::thread::spawn(move || one_thread(blocks)))
                .collect();
            for handle in handles {
                answer =
                    answer.wrapping_add(handle.join().expect("a workload thread does not panic"));
            }
            left -= group;
        }
        answer
    });

    let before = Memory::now().anonymous;
    let done = Barrier::new(args.stay + 1);
    let end = Barrier::new(args.stay + 1);
    let mut after = before;
    let stayed: u64 = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..args.stay)
            .map(|_| {
                scope.spawn(|| {
                    let answer = one_thread(blocks);
                    done.wait();
                    end.wait();
                    answer
                })
            })
            .collect();
        done.wait();
        after = Memory::now().anonymous;
        end.wait();
        handles
            .into_iter()
            .map(|handle| handle.join().expect("it does not panic"))
            .sum()
    });
    let per_thread = after.saturating_sub(before) as f64 / args.stay.max(1) as f64;
    Outcome::new(answer.wrapping_add(stayed), args.ops, time).with("bytes_per_thread", per_thread)
}

fn one_thread(blocks: usize) -> u64 {
    let blocks: Vec<Block> = if blocks == 0 {
        (3..=12)
            .map(|shift| Block::new(1 << shift, shift))
            .collect()
    } else {
        let mut rng = fastrand::Rng::with_seed(blocks as u64);
        (0..blocks)
            .map(|at| Block::new(rng.usize(8..=512), at as u8))
            .collect()
    };
    blocks.iter().map(Block::check).sum()
}
