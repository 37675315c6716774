//! Runs to do something with.

use hakmem_page_arena::{Arena, Label};
use hakmem_region_id::RegionIndex;

/// The first region of a run of so many, labelled as a large block's.
pub fn hand_out(arena: &Arena, count: usize) -> RegionIndex {
    let run = arena.allocate(count, 1, Label::LARGE);
    run.expect("memory").first
}
