//! Columns: arrays of one length that are gone through side by side, element by element, as the columns of a
//! table, or a matrix whose rows are blocks, down a column. This project's own test.
//!
//! Stresses where blocks of one size lie: at addresses that agree in their lower bits they share a few sets of the
//! processor's caches, of data and of addresses. The allocator is not called meanwhile.

use std::hint::black_box;

use crate::measure::{Outcome, timed};

#[derive(clap::Args)]
pub struct Args {
    /// How many arrays.
    #[arg(long, default_value_t = 128)]
    columns: usize,
    /// Bytes of each.
    #[arg(long, default_value_t = 16 << 10)]
    bytes: usize,
    /// Elements written, in all arrays together.
    #[arg(long, default_value_t = 20_000_000)]
    ops: u64,
}

pub fn run(args: &Args) -> Outcome {
    let length = (args.bytes / size_of::<u64>()).max(1);
    let mut columns: Vec<Vec<u64>> = (0..args.columns.max(1) as u64)
        .map(|number| vec![number; length])
        .collect();
    let elements = (columns.len() * length) as u64;
    let passes = args.ops.div_ceil(elements);
    let ((), time) = timed(|| {
        for pass in 0..passes {
            for row in 0..length {
                for column in &mut columns {
                    column[row] += pass;
                }
            }
            black_box(&mut columns);
        }
    });
    let answer = columns.iter().flatten().sum();
    Outcome::new(answer, passes * elements, time)
}
