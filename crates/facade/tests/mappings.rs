//! Blocks that grow, and how many mappings the process has then: it may have 65 530, and new
//! threads and libraries need some.

mod support {
    pub mod block;
    pub mod direct;
    pub mod resize;
}

use hakmem_alloc::Hakmem;
use hakmem_test_support::{Numbers, resident, turn};
use support::block::Block;
use support::direct::{HAKMEM, layout};

#[global_allocator]
static ALLOCATOR: Hakmem = Hakmem::new();

/// From this size on a block that cannot grow where it is gets a mapping of its own.
const MOVED: usize = 32 << 20;

fn mappings() -> usize {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("Linux");
    maps.lines().count()
}

#[test]
fn blocks_that_grow_side_by_side_do_not_cut_memory_into_mappings() {
    let _turn = turn();
    let before = mappings();
    let mut numbers = Numbers(3);
    let mut blocks: Vec<Option<Block>> = (0..16).map(|_| None).collect();
    let mut most = 0;
    for step in 0..1500 {
        let index = numbers.below(blocks.len());
        match &mut blocks[index] {
            Some(block) if block.layout.size() < 2 * MOVED => {
                let size = block.layout.size();
                assert!(block.resize(size + size / 2));
            }
            other => {
                if let Some(block) = other.take() {
                    block.free();
                }
                let size = 100_000 + numbers.below(400_000);
                *other = Block::new(layout(size, 8), false, step);
            }
        }
        if step % 100 == 0 {
            most = most.max(mappings());
        }
    }
    let more = most.saturating_sub(before);
    assert!(more < 100, "{more} mappings for 16 blocks");
    blocks.into_iter().flatten().for_each(Block::free);
}

/// A block of so many bytes behind which there is no room.
fn walled(size: usize, align: usize) -> (Block, Block) {
    let make = |size| Block::new(layout(size, align), false, 1).expect("memory");
    (make(size), make(64 << 10))
}

#[test]
fn a_large_block_grows_without_being_twice_in_memory() {
    let _turn = turn();
    hakmem_alloc::trim();
    let before = resident();
    let (mut block, wall) = walled(4 * MOVED, 8);
    // SAFETY: the block is ours.
    unsafe { block.address.write_bytes(1, block.layout.size()) };
    block.fill(0);
    let filled = resident() - before;
    assert!(filled >= 4 * MOVED);
    // Written again and again, it would show where pages are left behind.
    for quarter in 5..10 {
        assert!(block.resize(quarter * MOVED));
        let grown = resident() - before;
        let touched = quarter * MOVED + (8 << 20);
        assert!(grown < touched, "{grown} resident for {touched}");
    }
    block.free();
    wall.free();
    let after = resident().saturating_sub(before);
    assert!(after < 8 << 20, "{after} after it was freed");
}

#[test]
fn a_large_block_that_moves_keeps_its_alignment() {
    let _turn = turn();
    for align in [1, 64, 4096, 8192, 1 << 16, 2 << 20] {
        let (mut block, wall) = walled(MOVED, align);
        for times in 2..6 {
            assert!(block.resize(times * MOVED + 1), "aligned to {align}");
        }
        block.free();
        wall.free();
    }
}

#[test]
fn a_block_that_has_moved_shrinks_to_any_size() {
    let _turn = turn();
    for size in [1, 1000, 100_000, MOVED / 2 - 1, MOVED / 2, MOVED] {
        let before = mappings();
        let many: Vec<_> = (0..6)
            .map(|_| {
                let (mut block, wall) = walled(MOVED, 8);
                assert!(block.resize(2 * MOVED));
                assert!(block.resize(size));
                // SAFETY: the block is live.
                let usable = unsafe { HAKMEM.usable_size(block.address) };
                assert!(usable >= size && usable <= 2 * size + (64 << 10));
                (block, wall)
            })
            .collect();
        if size < MOVED / 2 {
            let more = mappings().saturating_sub(before);
            assert!(more < 4, "{more} mappings for 6 blocks of {size}");
        }
        for (block, wall) in many {
            block.free();
            wall.free();
        }
    }
}
