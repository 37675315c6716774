//! What the region map says.

use hakmem_page_arena::Arena;
use hakmem_region_id::{Kind, RegionIndex, RegionWord};

pub fn word_of(arena: &Arena, region: RegionIndex) -> RegionWord {
    // SAFETY: callers pass regions of the map.
    unsafe { arena.map().get(region) }
}

/// What the run is that a region is a part of, of all regions of the map; `None` if it has a class.
pub fn kinds(arena: &Arena) -> impl Iterator<Item = Option<Kind>> {
    let words = (0..arena.map().len()).map(|index| word_of(arena, RegionIndex(index as u32)));
    words.scan(None, |last, word| {
        if word.kind() != Some(Kind::Inside) {
            *last = word.kind();
        }
        Some(*last)
    })
}

/// Counts, by kind, the regions of the map.
pub fn regions_of(arena: &Arena, kind: Option<Kind>) -> usize {
    kinds(arena).filter(|&found| found == kind).count()
}
