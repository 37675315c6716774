//! Threads that wait with blocks in their bins.

/// Sizes whose bins have room for four blocks each.
const SIZES: [usize; 7] = [1500, 3000, 6000, 10_000, 15_000, 22_000, 32_000];
const OF_EACH: usize = 4;

/// Blocks that fit into this thread's bins: 360 000 bytes together, all written.
pub fn blocks_for_bins() -> Vec<Vec<u8>> {
    let sizes = SIZES.iter().cycle().take(OF_EACH * SIZES.len());
    sizes.map(|&size| vec![1; size]).collect()
}

/// Frees them. A thread that has waited may have been taken for a sleeper before, and is looked at again only
/// after a call that its bins do not serve: so it makes one.
pub fn free_into_bins(blocks: Vec<Vec<u8>>) {
    drop(vec![1_u8; 700]);
    drop(blocks);
}
