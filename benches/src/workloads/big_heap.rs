//! Big heap: the cost of one free and one allocation in a program whose live
//! heap is far larger than the caches. This project's own test.
//!
//! Random small blocks are replaced. The program's own visit to the block costs a
//! cache miss whatever the allocator does, so as many visits are made without
//! replacing anything and their time is taken off; what remains is how many cold
//! lines the allocator touches. Grows with the heap, and shows how. The two take
//! turns, so that what slows the machine down for a while slows both.

use crate::block::Block;
use crate::measure::{Outcome, Timed, timed};

/// Turns of visits and replacements.
const TURNS: u64 = 20;

#[derive(clap::Args)]
pub struct Args {
    /// Live bytes, as asked for by the program, in MiB.
    #[arg(long, default_value_t = 64)]
    mib: u64,
    /// Smallest block, in bytes.
    #[arg(long, default_value_t = 16)]
    min: usize,
    /// Largest block, in bytes.
    #[arg(long, default_value_t = 512)]
    max: usize,
    /// Replacements.
    #[arg(long, default_value_t = 1_000_000)]
    ops: u64,
    /// Seed of the random sizes and places.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

pub fn run(args: &Args) -> Outcome {
    let mut rng = fastrand::Rng::with_seed(args.seed);
    let average = (args.min + args.max) as u64 / 2;
    let count = ((args.mib << 20) / average).max(1) as usize;
    let (mut blocks, fill) = timed(|| {
        let mut blocks: Vec<Block> = Vec::with_capacity(count);
        blocks.extend((0..count).map(|at| Block::new(rng.usize(args.min..=args.max), at as u8)));
        blocks
    });

    let mut visitor = fastrand::Rng::with_seed(args.seed + 1);
    let mut replacer = fastrand::Rng::with_seed(args.seed + 2);
    let (mut visits, mut time) = (Timed::default(), Timed::default());
    let mut sum = 0_u64;
    for turn in 0..TURNS {
        let ops = args.ops * (turn + 1) / TURNS - args.ops * turn / TURNS;
        // The visits alone: such places, the same reads and writes, nothing replaced.
        visits += timed(|| {
            for _ in 0..ops {
                let place = visitor.usize(..blocks.len());
                let size = visitor.usize(args.min..=args.max);
                sum = sum
                    .wrapping_add(blocks[place].check())
                    .wrapping_add(size as u64);
            }
        })
        .1;
        time += timed(|| {
            for _ in 0..ops {
                let place = replacer.usize(..blocks.len());
                let size = replacer.usize(args.min..=args.max);
                let slot = &mut blocks[place];
                sum = sum.wrapping_add(slot.check());
                slot.replace(size, place as u8);
            }
        })
        .1;
    }
    drop(blocks);
    let each = |seconds: f64| seconds * 1e9 / args.ops as f64;
    let less = (each(time.wall.as_secs_f64()) - each(visits.wall.as_secs_f64())).max(0.0);
    Outcome::new(sum, args.ops, time)
        .with("ns_less_touch", less)
        .with("touch_ns", each(visits.wall.as_secs_f64()))
        .with("fill_ns", fill.wall.as_secs_f64() * 1e9 / count as f64)
}
