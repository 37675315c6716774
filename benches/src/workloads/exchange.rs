//! Exchange: all threads swap blocks through one table, so a block may be freed
//! by any thread, and threads come and go while their blocks live on. After
//! "mstress" (D. Leijen, in mimalloc's tests) and "rptest" (M. Jansson).
//!
//! Stresses remote frees without a pattern, random lifetimes, and the heaps of
//! ended threads.

use std::sync::atomic::{AtomicPtr, Ordering};

use super::in_threads;
use crate::block::Block;
use crate::measure::{Outcome, Timed};

#[derive(clap::Args)]
pub struct Args {
    /// Smallest block, in bytes.
    #[arg(long, default_value_t = 16)]
    min: usize,
    /// Largest block, in bytes; one block in sixteen is up to 32 times larger.
    #[arg(long, default_value_t = 512)]
    max: usize,
    /// Places in the shared table.
    #[arg(long, default_value_t = 20_000)]
    slots: usize,
    /// Threads at work at any moment.
    #[arg(long, default_value_t = 4)]
    threads: usize,
    /// Swaps, all threads together.
    #[arg(long, default_value_t = 2_000_000)]
    ops: u64,
    /// Times all threads end and new ones start.
    #[arg(long, default_value_t = 10)]
    generations: u64,
    /// Seed of the random sizes and places.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

pub fn run(args: &Args) -> Outcome {
    let threads = args.threads.max(1);
    let generations = args.generations.max(1);
    let ops = (args.ops / generations / threads as u64).max(1);
    // Boxed blocks: a swap of one pointer moves both the box and the block.
    let table: Vec<AtomicPtr<Block>> = (0..args.slots).map(|_| AtomicPtr::default()).collect();
    let mut answer = 0_u64;
    let mut total: Option<Timed> = None;
    for generation in 0..generations {
        let (sum, timed) = in_threads(threads, |index| {
            let seed = args.seed + (generation * threads as u64) + index as u64;
            swap_blocks(&table, args, ops, seed)
        });
        answer = answer.wrapping_add(sum);
        total = Some(match total {
            None => timed,
            Some(before) => Timed {
                wall: before.wall + timed.wall,
                cpu: before.cpu + timed.cpu,
                minor_faults: before.minor_faults + timed.minor_faults,
            },
        });
    }
    for place in &table {
        answer = answer.wrapping_add(take(place, std::ptr::null_mut()));
    }
    let timed = total.expect("there is at least one generation");
    Outcome::new(answer, ops * generations * threads as u64, timed)
}

fn swap_blocks(table: &[AtomicPtr<Block>], args: &Args, ops: u64, seed: u64) -> u64 {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut answer = 0_u64;
    for _ in 0..ops {
        let mut size = rng.usize(args.min..=args.max);
        if rng.u8(..) < 16 {
            size *= rng.usize(1..=32);
        }
        let fresh = Box::into_raw(Box::new(Block::new(size, seed as u8)));
        let place = rng.usize(..table.len());
        answer = answer.wrapping_add(take(&table[place], fresh));
    }
    answer
}

/// Puts `fresh` into a place and frees what was there; returns its size.
fn take(place: &AtomicPtr<Block>, fresh: *mut Block) -> u64 {
    // Release: the block's content goes with the pointer. Acquire: so does the
    // content of the block that comes back.
    let gone = place.swap(fresh, Ordering::AcqRel);
    if gone.is_null() {
        return 0;
    }
    // SAFETY: every non-null pointer in the table came from `Box::into_raw`, and
    // the swap gave this one to us alone.
    let block = unsafe { Box::from_raw(gone) };
    block.check()
}
