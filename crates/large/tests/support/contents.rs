//! What stands in blocks that may be moved.

use hakmem_test_support::Numbers;

/// Bytes between the marks that [`fill`] makes.
const STEP: usize = 4096 - 8;

fn marks(size: usize) -> impl Iterator<Item = usize> {
    (0..size.saturating_sub(8)).step_by(STEP)
}

/// Writes a pattern that depends on `seed` alone, so that it may be moved.
pub fn fill(block: *mut u8, from: usize, size: usize, seed: u64) {
    for offset in marks(size).filter(|&offset| offset >= from) {
        // SAFETY: callers hold the block.
        unsafe {
            block
                .add(offset)
                .cast::<u64>()
                .write_unaligned(Numbers(seed ^ offset as u64).next());
        }
    }
}

/// Checks the part of the pattern for `size` bytes that lies in `kept` bytes.
pub fn check(block: *mut u8, size: usize, kept: usize, seed: u64) {
    for offset in marks(size.min(kept)) {
        // SAFETY: callers hold the block.
        let found = unsafe { block.add(offset).cast::<u64>().read_unaligned() };
        assert_eq!(
            found,
            Numbers(seed ^ offset as u64).next(),
            "byte {offset} of {size} at {block:p}"
        );
    }
}
