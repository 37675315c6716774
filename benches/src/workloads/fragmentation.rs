//! Fragmentation: long-lived survivors among short-lived blocks, with sizes that
//! change from phase to phase. After the observations of P. Wilson et al.,
//! "Dynamic Storage Allocation: A Survey and Critical Review", IWMM 1995, and of
//! M. Johnstone and P. Wilson, "The memory fragmentation problem: solved?", ISMM 1998.
//!
//! Each phase allocates a batch of one size mix, keeps every tenth block, and frees
//! the rest. An allocator that cannot reuse the holes of one phase for the
//! sizes of the next grows with every phase. Reports what the process
//! holds at the end of the last phase against what is live.

use crate::block::Block;
use crate::measure::{Clock, Memory, Outcome};

/// Size ranges in bytes, one per phase, in turn.
const MIXES: [(usize, usize); 6] = [
    (16, 64),
    (200, 400),
    (48, 2048),
    (24, 40),
    (1000, 9000),
    (64, 700),
];

#[derive(clap::Args)]
pub struct Args {
    /// Phases.
    #[arg(long, default_value_t = 12)]
    phases: usize,
    /// Bytes each phase allocates, in MiB.
    #[arg(long, default_value_t = 32)]
    mib: usize,
    /// One block in this many survives its phase.
    #[arg(long, default_value_t = 10)]
    keep: usize,
    /// Seed of the random sizes.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

pub fn run(args: &Args) -> Outcome {
    let mut rng = fastrand::Rng::with_seed(args.seed);
    let mut survivors: Vec<Block> = Vec::new();
    let mut ops = 0_u64;
    let mut live = 0_u64;
    let mut curve = Vec::with_capacity(args.phases);
    let base = Memory::now().anonymous;
    let clock = Clock::start();
    for phase in 0..args.phases {
        let (min, max) = MIXES[phase % MIXES.len()];
        let mut batch = Vec::new();
        let mut bytes = 0;
        while bytes < args.mib << 20 {
            let block = Block::new(rng.usize(min..=max), phase as u8);
            bytes += block.size();
            batch.push(block);
        }
        rng.shuffle(&mut batch);
        ops += batch.len() as u64;
        let kept = batch.len() / args.keep.max(1);
        survivors.extend(batch.drain(..kept));
        drop(batch);
        // Survivors do not live for ever either.
        if phase >= 4 {
            for _ in 0..kept / 2 {
                let place = rng.usize(..survivors.len());
                survivors.swap_remove(place);
            }
        }
        live = survivors.iter().map(Block::check).sum();
        let held = Memory::now().anonymous.saturating_sub(base);
        curve.push((phase as f64, held as f64 / live as f64));
    }
    let timed = clock.stop();
    let held = Memory::now();
    let peak = held.peak as f64;
    let answer = live.wrapping_add(survivors.len() as u64);
    drop(survivors);
    Outcome::new(answer, ops, timed)
        .with("live_bytes", live as f64)
        .with("peak_over_live", peak / live as f64)
        .with(
            "held_over_live",
            held.anonymous.saturating_sub(base) as f64 / live as f64,
        )
        .with_series("held_over_live_by_phase", curve)
}
