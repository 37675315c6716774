//! What the region map says.

use hakmem_page_arena::Arena;
use hakmem_region_id::{Kind, RegionIndex, RegionWord};

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
