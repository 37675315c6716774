//! Memory that one size has left serves another.

mod support {
    pub mod block;
    pub mod direct;
}

use hakmem_alloc::Hakmem;
use hakmem_test_support::resident;
use support::block::Block;
use support::direct::layout;

#[global_allocator]
static ALLOCATOR: Hakmem = Hakmem::new();

#[test]
fn what_blocks_of_one_size_leave_is_used_before_new_memory() {
    const BYTES: usize = 32 << 20;
    let fill = |size: usize| {
        let blocks: Vec<Block> = (0..BYTES / size)
            .map(|_| Block::new(layout(size, 8), false, 1).expect("memory"))
            .collect();
        blocks.into_iter().for_each(Block::free);
    };
    fill(8 << 10);
    let first = resident();
    assert!(first > BYTES, "blocks are written to, a byte of each page");
    for size in [4 << 10, 32 << 10, 12 << 10, 1000, 20 << 10, 8 << 10] {
        fill(size);
        // The table of blocks is in memory, too, and a few runs and slabs of each size stay with it.
        let now = resident();
        assert!(
            now < first + BYTES / 2,
            "{now} bytes after {first}, by {size}"
        );
    }
}
