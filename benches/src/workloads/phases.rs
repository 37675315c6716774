//! Phases: a pool of threads of which one is busy at a time, as in a server with
//! more workers than work. This project's own test.
//!
//! Each thread in its turn allocates the same amount, frees it, and goes to sleep
//! but does not end. Memory should follow the maximum in use at any
//! moment; where sleeping threads keep what they had, it follows the sum.

use std::sync::{Arc, Barrier};

use crate::block::Block;
use crate::measure::{Clock, Memory, Outcome, resident_less_lazy};

#[derive(clap::Args)]
pub struct Args {
    /// Threads in the pool.
    #[arg(long, default_value_t = 16)]
    threads: usize,
    /// Bytes each thread holds in its turn, in MiB.
    #[arg(long, default_value_t = 16)]
    mib: usize,
    /// Turns each thread has.
    #[arg(long, default_value_t = 2)]
    turns: usize,
    /// Smallest block, in bytes.
    #[arg(long, default_value_t = 16)]
    min: usize,
    /// Largest block, in bytes.
    #[arg(long, default_value_t = 1024)]
    max: usize,
    /// Seed of the random sizes.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

pub fn run(args: &Args) -> Outcome {
    let threads = args.threads.max(1);
    let before = Memory::now();
    let all_turns = Arc::new(Barrier::new(threads + 1));
    let mut handles = Vec::new();
    let clock = Clock::start();
    for index in 0..threads {
        let all_turns = Arc::clone(&all_turns);
        let (min, max, turns) = (args.min, args.max, args.turns.max(1));
        let (mib, seed) = (args.mib, args.seed + index as u64);
        handles.push(std::thread::spawn(move || {
            let mut answer = (0_u64, 0_u64);
            for turn in 0..turns * threads {
                if turn % threads == index {
                    let (sum, ops) = one_turn(mib, min, max, seed + turn as u64);
                    answer = (answer.0.wrapping_add(sum), answer.1 + ops);
                }
                all_turns.wait();
            }
            // Asleep, not ended, while the main thread reads the memory.
            all_turns.wait();
            answer
        }));
    }
    for _ in 0..args.turns.max(1) * threads {
        all_turns.wait();
    }
    let timed = clock.stop();
    let memory = Memory::now();
    let resident = resident_less_lazy();
    all_turns.wait();
    let (mut answer, mut ops) = (0_u64, 0);
    for handle in handles {
        let (sum, count) = handle.join().expect("a workload thread does not panic");
        answer = answer.wrapping_add(sum);
        ops += count;
    }
    let one_thread = (args.mib << 20) as f64;
    Outcome::new(answer, ops, timed)
        .with(
            "peak_over_one_thread",
            memory.peak.saturating_sub(before.peak) as f64 / one_thread,
        )
        .with(
            "idle_over_one_thread",
            resident.saturating_sub(before.resident) as f64 / one_thread,
        )
}

fn one_turn(mib: usize, min: usize, max: usize, seed: u64) -> (u64, u64) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut blocks = Vec::new();
    let mut bytes = 0;
    while bytes < mib << 20 {
        let block = Block::new(rng.usize(min..=max), seed as u8);
        bytes += block.size();
        blocks.push(block);
    }
    (blocks.iter().map(Block::check).sum(), blocks.len() as u64)
}
