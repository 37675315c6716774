//! Larson: P. Larson and M. Krishnan, "Memory allocation for long-running server
//! applications", ISMM 1998; the program itself came with the Hoard benchmarks.
//!
//! A server's worker replaces random objects in its table for a while, then
//! ends and hands the table to a thread that has just started. Most blocks are
//! so freed by a thread that did not allocate them. Stresses freeing across threads, the
//! heaps of ended threads, and scaling.

use std::sync::mpsc;

use super::Slots;
use crate::measure::{Clock, Outcome};

#[derive(clap::Args)]
pub struct Args {
    /// Smallest block, in bytes.
    #[arg(long, default_value_t = 8)]
    min: usize,
    /// Largest block, in bytes.
    #[arg(long, default_value_t = 1024)]
    max: usize,
    /// Blocks in each thread's table.
    #[arg(long, default_value_t = 5000)]
    blocks: usize,
    /// Threads at work at any moment.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Replacements, all threads together.
    #[arg(long, default_value_t = 4_000_000)]
    ops: u64,
    /// Times each table is handed to a new thread.
    #[arg(long, default_value_t = 20)]
    generations: u64,
    /// Write one byte in every page of a block.
    #[arg(long)]
    touch: bool,
    /// Seed of the random sizes and places.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// A table on its way through the threads.
struct Lane {
    slots: Slots,
    generations: u64,
    ops: u64,
    touch: bool,
    answer: u64,
    done: mpsc::Sender<u64>,
}

pub fn run(args: &Args) -> Outcome {
    let lanes = args.threads.max(1) as u64;
    let ops = (args.ops / lanes / args.generations.max(1)).max(1);
    let (done, results) = mpsc::channel();
    let lane = |index: u64| Lane {
        slots: Slots::fill(args.blocks, args.min, args.max, args.seed + index),
        generations: args.generations.max(1),
        ops,
        touch: args.touch,
        answer: 0,
        done: done.clone(),
    };
    let tables: Vec<Lane> = (0..lanes).map(lane).collect();
    drop(done);
    let clock = Clock::start();
    for table in tables {
        std::thread::spawn(move || work(table));
    }
    let mut answer = 0_u64;
    for _ in 0..lanes {
        answer = answer.wrapping_add(results.recv().expect("every lane reports"));
    }
    let timed = clock.stop();
    Outcome::new(answer, ops * lanes * args.generations.max(1), timed)
}

fn work(mut lane: Lane) {
    for _ in 0..lane.ops {
        let gone = if lane.touch {
            lane.slots.replace_and_touch()
        } else {
            lane.slots.replace()
        };
        lane.answer = lane.answer.wrapping_add(gone);
    }
    lane.generations -= 1;
    if lane.generations == 0 {
        let answer = lane.answer.wrapping_add(lane.slots.check());
        let done = lane.done.clone();
        drop(lane);
        done.send(answer)
            .expect("the main thread waits for every lane");
    } else {
        std::thread::spawn(move || work(lane));
    }
}
