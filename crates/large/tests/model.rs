//! Large blocks that are runs of the arena against a list of the live ones.

mod support {
    pub mod arena;
    pub mod contents;
}

use hakmem_large::Large;
use hakmem_page_arena::{Arena, large_regions, run_regions};
use hakmem_region_id::{Kind, REGION_BYTES, RegionIndex};
use hakmem_test_support::assert_zero;
use proptest::prelude::*;
use support::arena::arena;
use support::contents::{check, fill};

/// A block of so many bytes moves its pages.
const MOVED: usize = 32 << 20;
/// Runs of blocks are multiples of so many bytes.
const STEP: usize = 64 << 10;

#[derive(Clone, Debug)]
enum Step {
    Allocate { size: usize, align: u32 },
    Free(usize),
    Resize { block: usize, size: usize },
    Move { block: usize, size: usize },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let size =
        || prop_oneof![4 => 1..400_000_usize, 2 => 400_000..3_000_000_usize, 1 => Just(40 << 20)];
    let step = prop_oneof![
        4 => (size(), 4..22_u32).prop_map(|(size, align)| Step::Allocate { size, align }),
        3 => any::<usize>().prop_map(Step::Free),
        4 => (any::<usize>(), size()).prop_map(|(block, size)| Step::Resize { block, size }),
        4 => (any::<usize>(), prop_oneof![size(), Just(60 << 20)])
            .prop_map(|(block, size)| Step::Move { block, size }),
    ];
    prop::collection::vec(step, 1..50)
}

#[derive(Debug)]
struct Live {
    address: *mut u8,
    size: usize,
    seed: u64,
    is_outside: bool,
    /// Regions of its run.
    regions: usize,
}

impl Live {
    /// Regions for so many bytes where the block starts in its run.
    fn regions_for(&self, size: usize) -> usize {
        run_regions(self.address.addr() % REGION_BYTES + size)
    }
}

struct Model {
    arena: &'static Arena,
    large: Large,
    live: Vec<Live>,
    seed: u64,
}

impl Model {
    fn region(&self, address: *mut u8) -> RegionIndex {
        self.arena
            .map()
            .region_of(address.addr())
            .expect("of the arena")
    }

    /// Checks what the words say of a live block, and its usable size.
    fn assert_block(&self, address: *mut u8, size: usize) {
        let first = self.region(address);
        // SAFETY: the block is live.
        assert_eq!(unsafe { Large::block_of(self.arena, first) }, address);
        // SAFETY: the block is live.
        let usable = unsafe { Large::run_bytes(self.arena, first) };
        assert!(
            usable >= size && usable < size + STEP + 1024,
            "{usable} for {size}"
        );
        for offset in 0..usable.div_ceil(REGION_BYTES) {
            // SAFETY: the region is in the map.
            let word = unsafe { self.arena.map().get(first.plus(offset)) };
            let expected = if offset == 0 {
                Kind::LargeStart
            } else {
                Kind::Inside
            };
            assert_eq!(word.kind(), Some(expected));
        }
    }

    fn assert_apart(&self) {
        let mut ranges: Vec<(usize, usize)> = self
            .live
            .iter()
            .map(|block| (block.address.addr(), block.address.addr() + block.size))
            .collect();
        ranges.sort_unstable();
        assert!(
            ranges.windows(2).all(|pair| pair[0].1 <= pair[1].0),
            "blocks overlap"
        );
        let used: usize = self
            .live
            .iter()
            .filter(|block| !block.is_outside)
            .map(|block| block.regions * REGION_BYTES)
            .sum();
        assert_eq!(self.arena.stats().used_bytes, used as u64);
        let outside = self.live.iter().filter(|block| block.is_outside).count();
        assert_eq!(self.large.outside_totals().0, outside);
        for block in &self.live {
            if block.is_outside {
                let usable = self.large.outside_bytes(block.address).expect("known");
                assert!(usable >= block.size && usable < block.size + 4096);
            } else {
                assert_eq!(self.large.outside_bytes(block.address), None);
                self.assert_block(block.address, block.size);
            }
        }
    }

    fn allocate(&mut self, size: usize, align: usize) {
        self.seed += 1;
        let block = self
            .large
            .allocate(self.arena, size, align)
            .expect("memory");
        assert_eq!(block.address.addr() % align, 0);
        if block.zeroed {
            // SAFETY: the block is ours, and no part of it is written yet.
            unsafe { assert_zero(block.address, size) };
        }
        fill(block.address, 0, size, self.seed);
        self.live.push(Live {
            address: block.address,
            size,
            seed: self.seed,
            is_outside: false,
            regions: large_regions(size, align),
        });
    }

    fn free(&mut self, index: usize) {
        let block = self.live.swap_remove(index);
        check(block.address, block.size, block.size, block.seed);
        self.give_back(&block);
    }

    fn give_back(&self, block: &Live) {
        // SAFETY: the block is live, and not used any more.
        unsafe {
            if block.is_outside {
                assert!(self.large.free_outside(block.address));
            } else {
                Large::free_run(self.arena, self.region(block.address));
            }
        }
    }

    fn resize_outside(&mut self, index: usize, size: usize) {
        let block = &mut self.live[index];
        // SAFETY: the block is live and ours.
        let resized = unsafe { self.large.resize_outside(block.address, size) };
        block.address = resized.expect("memory");
        check(block.address, block.size, size, block.seed);
        fill(block.address, 0, size, block.seed);
        block.size = size;
    }

    fn resize(&mut self, index: usize, size: usize) {
        if self.live[index].is_outside {
            return self.resize_outside(index, size);
        }
        let first = self.region(self.live[index].address);
        let block = &mut self.live[index];
        // SAFETY: the block is live and ours.
        if unsafe { Large::resize_in_place(self.arena, first, size) } {
            check(block.address, block.size, size, block.seed);
            fill(block.address, 0, size, block.seed);
            block.size = size;
            block.regions = block.regions_for(size);
        } else {
            assert!(
                block.regions_for(size) > block.regions,
                "shrinking always works"
            );
            check(block.address, block.size, block.size, block.seed);
        }
    }

    fn move_out(&mut self, index: usize, size: usize) {
        if self.live[index].is_outside {
            return;
        }
        let first = self.region(self.live[index].address);
        let block = &mut self.live[index];
        // SAFETY: the block is live and ours.
        let moved = unsafe { self.large.move_out(self.arena, first, size) };
        let Some(address) = moved else {
            // It may have a region more than it needs.
            let is_meant = block.size > MOVED && size > block.size + REGION_BYTES;
            assert!(!is_meant, "{} bytes were not moved to {size}", block.size);
            check(block.address, block.size, block.size, block.seed);
            return;
        };
        assert_eq!(address.addr() % 4096, block.address.addr() % 4096);
        check(address, block.size, size, block.seed);
        fill(address, 0, size, block.seed);
        block.address = address;
        block.size = size;
        block.is_outside = true;
    }
}

#[test]
fn blocks_do_not_overlap_keep_their_contents_and_all_come_back() {
    let arena = arena();
    let config = ProptestConfig {
        cases: 60,
        max_shrink_iters: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    proptest!(config, |(steps in steps())| {
        let mut model = Model {
            arena,
            large: Large::new(),
            live: Vec::new(),
            seed: 0,
        };
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for step in &steps {
                let count = model.live.len();
                match *step {
                    Step::Allocate { size, align } => model.allocate(size, 1 << align),
                    Step::Free(block) if count > 0 => model.free(block % count),
                    Step::Resize { block, size } if count > 0 => model.resize(block % count, size),
                    Step::Move { block, size } if count > 0 => model.move_out(block % count, size),
                    _ => {}
                }
                model.assert_apart();
            }
        }));
        for block in &model.live {
            model.give_back(block);
        }
        if let Err(panic) = outcome {
            std::panic::resume_unwind(panic);
        }
        prop_assert_eq!(arena.stats().used_bytes, 0);
        prop_assert_eq!(model.large.outside_totals(), (0, 0));
    });
}

#[test]
fn sizes_beyond_any_address_space_are_refused() {
    let arena = arena();
    let large = Large::new();
    let kept = large.allocate(arena, 100_000, 16).unwrap();
    fill(kept.address, 0, 100_000, 1);
    let first = arena.map().region_of(kept.address.addr()).unwrap();
    for size in [
        1 << 50,
        isize::MAX as usize - 65536,
        isize::MAX as usize - 1,
        isize::MAX as usize,
        isize::MAX as usize + 1,
        usize::MAX - 65536,
        usize::MAX - 1,
        usize::MAX,
    ] {
        for align in [1, 4096, 1 << 20, 1 << 40] {
            assert_eq!(
                large.allocate(arena, size, align),
                None,
                "{size} by {align}"
            );
        }
        // SAFETY: the block is live and ours.
        unsafe {
            assert!(!Large::resize_in_place(arena, first, size));
            assert_eq!(large.move_out(arena, first, size), None);
        }
    }
    assert_eq!(large.allocate(arena, 1, 1 << 62), None);
    check(kept.address, 100_000, 100_000, 1);
    assert_eq!(arena.stats().used_bytes, 2 * STEP as u64);
}

#[test]
fn a_block_grows_where_it_is_when_nothing_lies_behind_it() {
    let arena = arena();
    let large = Large::new();
    let block = large.allocate(arena, 300_000, 16).unwrap();
    fill(block.address, 0, 300_000, 5);
    let first = arena.map().region_of(block.address.addr()).unwrap();
    // SAFETY: the block is live and ours.
    unsafe {
        assert!(Large::resize_in_place(arena, first, 20 << 20));
        assert!(Large::run_bytes(arena, first) >= 20 << 20);
    }
    check(block.address, 300_000, 20 << 20, 5);
}

#[test]
fn that_a_block_was_cleared_is_known_until_its_run_is_used_anew() {
    const SIZE: usize = 300_000;
    let arena = arena();
    let block = Large::new().allocate(arena, SIZE, 16).unwrap().address;
    let first = arena.map().region_of(block.addr()).unwrap();
    fill(block, 0, SIZE, 5);
    // SAFETY: the block is live and ours.
    unsafe {
        let bytes = Large::run_bytes(arena, first);
        assert!(!Large::is_cleared(arena, first));
        Large::clear(arena, block, SIZE);
        assert_zero(block, SIZE);
        assert!(Large::is_cleared(arena, first));
        assert_eq!(Large::block_of(arena, first), block);
        assert_eq!(Large::run_bytes(arena, first), bytes);
        Large::mark_free(arena, first);
        assert!(Large::is_cleared(arena, first));
        assert_eq!(Large::freed_block_of(arena, first), Some(block));
        let again = Large::place(arena, first, large_regions(SIZE, 16), SIZE, 16);
        assert_eq!(again, block);
        assert!(!Large::is_cleared(arena, first));
    }
}

#[test]
fn a_block_that_has_moved_leaves_no_memory_behind() {
    const MORE: usize = MOVED + 2 * REGION_BYTES;
    let arena = arena();
    let large = Large::new();
    let block = large.allocate(arena, MOVED, 16).unwrap();
    let behind = large.allocate(arena, 1_000_000, 16).unwrap();
    fill(block.address, 0, MOVED, 5);
    fill(behind.address, 0, 1_000_000, 6);
    let first = arena.map().region_of(block.address.addr()).unwrap();
    // SAFETY: the block is live and ours.
    let moved = unsafe { large.move_out(arena, first, MORE) }.expect("memory");
    check(moved, MOVED, MORE, 5);
    check(behind.address, 1_000_000, 1_000_000, 6);
    let stats = arena.stats();
    assert_eq!(stats.used_bytes, 1 << 20);
    assert_eq!(stats.dirty_bytes, 0, "its pages have moved with it");
    let again = large.allocate(arena, MOVED, 16).unwrap();
    // SAFETY: the blocks are live and ours.
    unsafe {
        assert!(again.zeroed, "and what is left reads as zero");
        assert_zero(again.address, MOVED);
        assert!(large.free_outside(moved));
        assert!(!large.free_outside(moved));
    }
}

#[test]
fn a_smaller_block_is_not_moved() {
    let arena = arena();
    let large = Large::new();
    let block = large.allocate(arena, MOVED - STEP, 4096).unwrap();
    let first = arena.map().region_of(block.address.addr()).unwrap();
    // SAFETY: the block is live and ours.
    assert_eq!(unsafe { large.move_out(arena, first, 2 * MOVED) }, None);
}
