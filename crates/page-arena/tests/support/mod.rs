//! Arenas of both kinds, and memory that can be checked.

#![allow(dead_code, reason = "each test binary uses a part of this")]

use hakmem_page_arena::{Arena, Label};
use hakmem_region_id::{Kind, REGION_BYTES, RegionIndex, RegionWord};
use hakmem_sys::vm;
use hakmem_test_support::Numbers;

/// Words of a region that carry its pattern: both ends and one in between.
const MARKED: [usize; 3] = [0, 4099, REGION_BYTES / 8 - 1];

/// An arena that lives as long as the process.
pub fn arena() -> &'static Arena {
    Box::leak(Box::new(Arena::new()))
}

/// An arena whose range is reserved as a whole: what an arena falls back to when
/// all places where it would claim addresses are taken.
pub fn reserved_arena() -> &'static Arena {
    for _ in 0..8 {
        let arena = arena();
        let run = arena.allocate(1, 1, Label::LARGE).expect("memory");
        // SAFETY: allocated above.
        unsafe { arena.free(run.first, 1) };
        if is_reserved(arena) {
            return arena;
        }
    }
    panic!("eight arenas in one process, and none had to reserve its range");
}

/// Whether addresses of the range that are not in use yet are set aside.
pub fn is_reserved(arena: &Arena) -> bool {
    let beyond = arena.map().base() + arena.map().len() * REGION_BYTES;
    match vm::map_at(beyond, REGION_BYTES) {
        Ok(()) => {
            // SAFETY: mapped above.
            unsafe { vm::unmap(beyond, REGION_BYTES) };
            false
        }
        Err(_) => true,
    }
}

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

pub fn check(arena: &Arena, first: RegionIndex, count: usize, seed: u64) {
    for index in 0..count {
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

pub fn word_of(arena: &Arena, region: RegionIndex) -> RegionWord {
    // SAFETY: callers pass regions of the map.
    unsafe { arena.map().get(region) }
}

/// Counts, by kind, the regions of the map; `None` counts those with a class.
pub fn regions_of(arena: &Arena, kind: Option<Kind>) -> usize {
    (0..arena.map().len())
        .filter(|&index| word_of(arena, RegionIndex(index as u32)).kind() == kind)
        .count()
}
