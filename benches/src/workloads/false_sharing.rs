//! False sharing: the tests "cache-thrash" and "cache-scratch" of E. Berger et
//! al., "Hoard: A Scalable Memory Allocator for Multithreaded Applications",
//! ASPLOS 2000.
//!
//! Active: each thread allocates a small block, writes it many times, frees it,
//! again and again; an allocator that gives two threads parts of one cache line
//! makes them fight for it. Passive: the blocks come from one thread, so they do
//! share lines; each thread frees the one it was given and goes on as before. An
//! allocator that hands such a block straight back to the thread keeps the fight
//! going.

use std::sync::Mutex;

use super::in_threads;
use crate::block::Block;
use crate::measure::Outcome;

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Kind {
    /// The allocator splits a line between threads by itself (cache-thrash).
    Active,
    /// The program hands parts of one line to several threads (cache-scratch).
    Passive,
}

#[derive(clap::Args)]
pub struct Args {
    /// Which of the two tests.
    #[arg(long, value_enum, default_value_t = Kind::Active)]
    kind: Kind,
    /// Block size, in bytes.
    #[arg(long, default_value_t = 8)]
    size: usize,
    /// Threads.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Blocks allocated, all threads together.
    #[arg(long, default_value_t = 100_000)]
    ops: u64,
    /// Writes into each block.
    #[arg(long, default_value_t = 1000)]
    writes: u32,
}

pub fn run(args: &Args) -> Outcome {
    let threads = args.threads.max(1);
    let ops = (args.ops / threads as u64).max(1);
    let given: Vec<Mutex<Option<Block>>> = (0..threads)
        .map(|_| {
            let passive = args.kind == Kind::Passive;
            Mutex::new(passive.then(|| Block::new(args.size, 0)))
        })
        .collect();
    let (answer, timed) = in_threads(threads, |index| {
        drop(given[index].lock().expect("locked once").take());
        let mut answer = 0_u64;
        for _ in 0..ops {
            let mut block = Block::new(args.size, 0);
            block.pound(args.size / 2, args.writes);
            answer += block.size() as u64;
        }
        answer
    });
    Outcome::new(answer, ops * threads as u64, timed)
}
