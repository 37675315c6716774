//! Aligned: blocks aligned to 64 up to 4096 bytes, as SIMD buffers, cache-padded
//! values and direct I/O need them. After the `aligned_alloc` part of
//! D. Leijen's mimalloc tests.
//!
//! Stresses the path for alignments above the natural one, and the memory it
//! wastes.

use crate::block::Block;
use crate::measure::{Outcome, timed};

#[derive(clap::Args)]
pub struct Args {
    /// Smallest alignment, in bytes, a power of two.
    #[arg(long, default_value_t = 64)]
    min_align: usize,
    /// Largest alignment, in bytes, a power of two.
    #[arg(long, default_value_t = 4096)]
    max_align: usize,
    /// Smallest block, in bytes.
    #[arg(long, default_value_t = 16)]
    min: usize,
    /// Largest block, in bytes.
    #[arg(long, default_value_t = 4096)]
    max: usize,
    /// Blocks alive at any moment.
    #[arg(long, default_value_t = 1024)]
    slots: usize,
    /// Replacements.
    #[arg(long, default_value_t = 2_000_000)]
    ops: u64,
    /// Seed of the random sizes, alignments and places.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

pub fn run(args: &Args) -> Outcome {
    assert!(
        args.min_align.is_power_of_two() && args.max_align.is_power_of_two(),
        "alignments are powers of two"
    );
    let mut rng = fastrand::Rng::with_seed(args.seed);
    let (low, high) = (
        args.min_align.trailing_zeros(),
        args.max_align.trailing_zeros(),
    );
    let mut slots: Vec<Option<Block>> = (0..args.slots.max(1)).map(|_| None).collect();
    let (answer, time) = timed(|| {
        let mut answer = 0_u64;
        for _ in 0..args.ops {
            let place = rng.usize(..slots.len());
            let align = 1 << rng.u32(low..=high);
            if let Some(gone) = slots[place].take() {
                answer = answer.wrapping_add(gone.check());
            }
            let block = Block::aligned(rng.usize(args.min..=args.max), align, place as u8);
            assert_eq!(
                block.address() % align,
                0,
                "a block is not aligned to {align}"
            );
            slots[place] = Some(block);
        }
        answer
    });
    drop(slots);
    Outcome::new(answer, args.ops, time)
}
