//! Idle: a burst of work, then none. This project's own test.
//!
//! Several threads allocate and free, stay alive, and the program sleeps without
//! calling the allocator again. Reports the resident set, less pages already
//! offered back with `MADV_FREE`, over the time since the last free: what an idle program
//! goes on costing its machine.

use std::sync::Barrier;
use std::time::{Duration, Instant};

use crate::block::Block;
use crate::measure::{Clock, Outcome, resident_less_lazy};

/// Milliseconds after the last free at which memory is read.
const SAMPLES: [u64; 15] = [
    0, 50, 100, 200, 350, 500, 750, 1000, 1250, 1500, 2000, 3000, 5000, 7500, 10_000,
];

#[derive(clap::Args)]
pub struct Args {
    /// Threads that take part in the burst.
    #[arg(long, default_value_t = 4)]
    threads: usize,
    /// Bytes the burst holds, all threads together, in MiB.
    #[arg(long, default_value_t = 128)]
    mib: usize,
    /// Smallest block, in bytes.
    #[arg(long, default_value_t = 16)]
    min: usize,
    /// Largest block, in bytes.
    #[arg(long, default_value_t = 4096)]
    max: usize,
    /// How long to watch, in milliseconds.
    #[arg(long, default_value_t = 5000)]
    watch_ms: u64,
    /// Seed of the random sizes.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

pub fn run(args: &Args) -> Outcome {
    let threads = args.threads.max(1);
    let freed = Barrier::new(threads + 1);
    let end = Barrier::new(threads + 1);
    let before = resident_less_lazy();
    let mut curve = Vec::with_capacity(SAMPLES.len());
    let clock = Clock::start();
    let (answer, ops, timed) = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..threads)
            .map(|index| {
                let (freed, end) = (&freed, &end);
                scope.spawn(move || {
                    let seed = args.seed + index as u64;
                    let sums = burst((args.mib << 20) / threads, args.min, args.max, seed);
                    freed.wait();
                    end.wait();
                    sums
                })
            })
            .collect();
        freed.wait();
        let timed = clock.stop();
        let start = Instant::now();
        for at in SAMPLES.into_iter().filter(|&at| at <= args.watch_ms) {
            std::thread::sleep(Duration::from_millis(at).saturating_sub(start.elapsed()));
            let held = resident_less_lazy().saturating_sub(before);
            curve.push((start.elapsed().as_secs_f64(), held as f64));
        }
        end.wait();
        let (mut answer, mut ops) = (0_u64, 0);
        for handle in handles {
            let (sum, count) = handle.join().expect("a workload thread does not panic");
            answer = answer.wrapping_add(sum);
            ops += count;
        }
        (answer, ops, timed)
    });
    let at = |index: usize| curve.get(index).map_or(0.0, |point: &(f64, f64)| point.1);
    let (first, last) = (at(0), at(curve.len().saturating_sub(1)));
    Outcome::new(answer, ops, timed)
        .with("held_at_once_bytes", first)
        .with("held_at_end_bytes", last)
        .with_series("held_bytes_by_second", curve)
}

fn burst(bytes: usize, min: usize, max: usize, seed: u64) -> (u64, u64) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut blocks = Vec::new();
    let mut used = 0;
    while used < bytes {
        let mut block = Block::new(rng.usize(min..=max), seed as u8);
        block.touch_pages();
        used += block.size();
        blocks.push(block);
    }
    rng.shuffle(&mut blocks);
    (blocks.iter().map(Block::check).sum(), blocks.len() as u64)
}
