//! What stands in regions.

use hakmem_page_arena::Arena;
use hakmem_region_id::{REGION_BYTES, RegionIndex};
use hakmem_test_support::Numbers;

/// Words of a region that carry its pattern: both ends and one in between.
const MARKED: [usize; 3] = [0, REGION_BYTES / 16 + 3, REGION_BYTES / 8 - 1];

pub fn words(arena: &Arena, region: RegionIndex) -> *mut u64 {
    std::ptr::with_exposed_provenance_mut(arena.map().address_of(region))
}

/// Writes a pattern into the regions from `first` on that belongs to `seed`;
/// `position` is where in their run they are.
pub fn fill(arena: &Arena, first: RegionIndex, position: usize, count: usize, seed: u64) {
    for index in 0..count {
        for mark in MARKED {
            // SAFETY: callers hold the regions.
            unsafe {
                words(arena, first.plus(index)).add(mark).write(value(
                    seed,
                    position + index,
                    mark,
                ));
            }
        }
    }
}

/// Checks the patterns of the regions at these positions in their run.
pub fn check(arena: &Arena, first: RegionIndex, positions: impl Iterator<Item = usize>, seed: u64) {
    for index in positions {
        for mark in MARKED {
            // SAFETY: callers hold the regions.
            let found = unsafe { words(arena, first.plus(index)).add(mark).read() };
            assert_eq!(
                found,
                value(seed, index, mark),
                "region {} (number {index} of its run), word {mark}: contents lost",
                first.plus(index).0
            );
        }
    }
}

fn value(seed: u64, position: usize, mark: usize) -> u64 {
    Numbers(seed ^ ((position as u64) << 20) ^ mark as u64).next() | 1
}

pub fn assert_zero(arena: &Arena, first: RegionIndex, count: usize) {
    // SAFETY: callers hold the regions.
    unsafe { hakmem_test_support::assert_zero(words(arena, first).cast(), count * REGION_BYTES) };
}
