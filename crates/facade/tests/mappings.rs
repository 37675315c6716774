//! Blocks that grow, and how many mappings the process has then: it may have 65 530, and new
//! threads and libraries need some.

mod support {
    pub mod block;
    pub mod direct;
    pub mod resize;
}

use hakmem_alloc::{Hakmem, c};
use hakmem_test_support::{Numbers, resident, turn};
use std::alloc::GlobalAlloc;
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

/// A block of so many bytes, and another somewhere behind it.
fn walled(size: usize, align: usize) -> (Block, Block) {
    let make = || Block::new(layout(size, align), false, 1).expect("memory");
    let (one, other) = (make(), make());
    if one.address < other.address {
        (one, other)
    } else {
        (other, one)
    }
}

/// Makes the block longer than it can become where it is.
fn grow_beyond(block: &mut Block, wall: &Block) {
    let room = wall.address.addr() - block.address.addr();
    assert!(block.resize(room.max(2 * MOVED) + 1));
}

#[test]
fn a_large_block_grows_without_being_twice_in_memory() {
    let _turn = turn();
    hakmem_alloc::trim();
    let before = resident();
    let (mut block, wall) = walled(4 * MOVED, 8);
    let filled = resident() - before;
    assert!(filled >= 8 * MOVED);
    // Each time all of it is written, so what is left behind would show.
    for quarter in 5..10 {
        assert!(block.resize(quarter * MOVED));
        let grown = resident() - before;
        let touched = (quarter + 4) * MOVED + (8 << 20);
        assert!(grown < touched, "{grown} resident for {touched}");
    }
    block.free();
    let after = resident() - before;
    assert!(after < 4 * MOVED + (8 << 20), "{after} after it was freed");
    wall.free();
}

#[test]
fn a_large_block_that_cannot_grow_stays_and_its_untouched_pages_come_from_nowhere() {
    let _turn = turn();
    hakmem_alloc::trim();
    let own = layout(8 * MOVED, 8);
    // SAFETY: freed below, by the same layout; each is written inside its size.
    unsafe {
        let blocks = [HAKMEM.alloc_zeroed(own), HAKMEM.alloc_zeroed(own)];
        for block in blocks {
            assert!(!block.is_null());
            block.write(7);
        }
        let before = resident();
        for size in [1 << 47, 1 << 60] {
            for block in blocks {
                assert!(HAKMEM.realloc(block, own, size).is_null());
            }
        }
        let more = resident().saturating_sub(before);
        assert!(more < MOVED, "{more} bytes for what was refused");
        for block in blocks {
            assert_eq!((block.read(), block.add(own.size() - 1).read()), (7, 0));
            HAKMEM.dealloc(block, own);
        }
    }
}

#[test]
fn a_large_block_that_moves_keeps_its_alignment() {
    let _turn = turn();
    hakmem_alloc::trim();
    for align in [1, 64, 4096, 8192, 1 << 16, 2 << 20] {
        // Not whole huge pages: the system puts those to multiples of their size by itself.
        let (mut block, wall) = walled(MOVED + 1, align);
        grow_beyond(&mut block, &wall);
        let size = block.layout.size();
        assert!(block.resize(size + MOVED), "and once more");
        block.free();
        wall.free();
    }
}

#[test]
fn a_block_that_has_moved_and_becomes_small_comes_back() {
    let _turn = turn();
    hakmem_alloc::trim();
    for size in [1, 1000, 100_000, MOVED / 2 - 1, MOVED / 2, MOVED] {
        let (mut block, wall) = walled(MOVED, 8);
        let is_back = |block: &Block| block.address.addr().abs_diff(wall.address.addr()) < 1 << 40;
        grow_beyond(&mut block, &wall);
        assert!(!is_back(&block), "a mapping of its own");
        for distance in [0, 1, MOVED] {
            assert!(c::owns(block.address.wrapping_add(distance)));
        }
        assert!(block.resize(size));
        // SAFETY: the block is live.
        let usable = unsafe { HAKMEM.usable_size(block.address) };
        assert!(usable >= size && usable <= 2 * size + (64 << 10));
        assert_eq!(is_back(&block), size < MOVED / 2, "{size} bytes");
        block.free();
        wall.free();
    }
}

#[test]
fn a_block_that_has_moved_and_becomes_somewhat_smaller_gives_the_rest_back() {
    let _turn = turn();
    hakmem_alloc::trim();
    let (mut block, wall) = walled(MOVED, 8);
    grow_beyond(&mut block, &wall);
    let (full, place) = (block.layout.size(), block.address);
    let before = resident();
    assert!(block.resize(full / 8 * 5));
    assert_eq!(block.address, place);
    let less = before.saturating_sub(resident());
    assert!(less >= full / 4, "{less} bytes less of {full}");
    block.free();
    wall.free();
}

#[test]
fn a_trim_of_a_heap_full_of_gaps_leaves_room_for_mappings() {
    let _turn = turn();
    let before = mappings();
    let make = |seed| Block::new(layout(40_000, 8), false, seed).expect("memory");
    let mut blocks: Vec<_> = (0..10_000).map(|seed| Some(make(seed))).collect();
    for block in blocks.iter_mut().step_by(2) {
        block.take().expect("each once").free();
    }
    hakmem_alloc::trim();
    let more = mappings().saturating_sub(before);
    assert!(more < 100, "{more} mappings for 5000 gaps");
    blocks.into_iter().flatten().for_each(Block::free);
}
