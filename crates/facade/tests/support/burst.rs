//! A burst of small blocks.

use super::block::Block;
use super::direct::layout;
use hakmem_alloc::stats;
use hakmem_test_support::resident;

/// Bytes in blocks of 256, all of them touched: far more than a small heap.
pub const BURST: usize = 96 << 20;

/// Fills a heap with small blocks, looks at it, and frees them. Returns how many bytes came as
/// huge pages meanwhile, and how many more were resident than the blocks have.
pub fn burst() -> (u64, usize) {
    let (before, resident_before) = (stats().huge_bytes, resident());
    let blocks: Vec<Block> = (0..BURST / 256)
        .map(|_| Block::new(layout(256, 8), false, 7).expect("memory"))
        .collect();
    let came = stats().huge_bytes - before;
    let table = blocks.capacity() * size_of::<Block>();
    let over = (resident() - resident_before).saturating_sub(BURST + table);
    for block in blocks {
        block.free();
    }
    (came, over)
}
