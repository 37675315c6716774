//! Growth: vectors that grow by pushes and buffers that grow by `realloc`, the
//! most common way in which Rust programs come by their memory. This
//! project's own test, after "realloc" loops in many allocator suites.
//!
//! Stresses `realloc`: growth in place, moves between size classes, and
//! `mremap` for the large.

use std::hint::black_box;

use crate::measure::{Outcome, timed};

#[derive(Clone, Copy, clap::ValueEnum)]
enum Kind {
    /// Many vectors, pushed to in turn.
    Push,
    /// One buffer at a time, grown in small steps to a large size.
    Chain,
    /// Many buffers, one of which grows by half at a time; above the final size it starts again.
    Side,
}

#[derive(clap::Args)]
pub struct Args {
    /// Which of them.
    #[arg(long, value_enum, default_value_t = Kind::Push)]
    kind: Kind,
    /// Vectors or buffers alive at once (push, side), or grown one after the other (chain).
    #[arg(long, default_value_t = 64)]
    count: usize,
    /// Final size of each, in KiB.
    #[arg(long, default_value_t = 256)]
    kib: usize,
    /// Times everything is done.
    #[arg(long, default_value_t = 4)]
    repeat: u64,
}

pub fn run(args: &Args) -> Outcome {
    let ((answer, ops), time) = timed(|| {
        let mut sums = (0_u64, 0_u64);
        for round in 0..args.repeat.max(1) {
            let (answer, ops) = match args.kind {
                Kind::Push => push(args.count, (args.kib << 10) / 8, round),
                Kind::Chain => chain(args.count, args.kib << 10),
                Kind::Side => side(args.count, args.kib << 10, round),
            };
            sums = (sums.0.wrapping_add(answer), sums.1 + ops);
        }
        sums
    });
    Outcome::new(answer, ops, time)
}

fn push(count: usize, length: usize, round: u64) -> (u64, u64) {
    let mut vectors: Vec<Vec<u64>> = vec![Vec::new(); count];
    for value in 0..length as u64 {
        for vector in &mut vectors {
            vector.push(value ^ round);
        }
    }
    let answer = black_box(&vectors)
        .iter()
        .map(|vector| vector.iter().step_by(97).sum::<u64>())
        .fold(0, u64::wrapping_add);
    (answer, (count * length) as u64)
}

/// Exact reservations: every step is a `realloc`, which the amortized growth of
/// a vector would hide.
fn chain(count: usize, bytes: usize) -> (u64, u64) {
    let mut answer = 0_u64;
    let mut ops = 0;
    for buffer in 0..count {
        let mut grown: Vec<u8> = Vec::new();
        let mut step = 16;
        while grown.len() < bytes {
            grown.reserve_exact(step);
            grown.push(buffer as u8);
            grown.resize(grown.len() + step - 1, 0);
            ops += 1;
            // An eighth more each time, so that a step is a step at every size.
            step = (grown.len() / 8).max(16);
        }
        answer = answer.wrapping_add(black_box(&grown).iter().map(|&byte| u64::from(byte)).sum());
        answer = answer.wrapping_add(grown.len() as u64);
    }
    (answer, ops)
}

/// Steps of a buffer in one turn of [`side`], on average.
const STEPS: usize = 32;

/// Buffers in each other's way, so that growing one takes another place.
fn side(count: usize, bytes: usize, seed: u64) -> (u64, u64) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut buffers: Vec<Vec<u8>> = vec![Vec::new(); count];
    let mut answer = 0_u64;
    for _ in 0..count * STEPS {
        let buffer = &mut buffers[rng.usize(0..count)];
        let length = buffer.len();
        if length == 0 || length > bytes {
            answer = answer.wrapping_add(
                buffer
                    .iter()
                    .step_by(509)
                    .map(|&byte| u64::from(byte))
                    .sum(),
            );
            let first = bytes / 64 + rng.usize(0..bytes / 64);
            *buffer = vec![first as u8; first];
        } else {
            buffer.reserve_exact(length / 2);
            buffer.resize(length + length / 2, length as u8);
        }
    }
    (answer, (count * STEPS) as u64)
}
