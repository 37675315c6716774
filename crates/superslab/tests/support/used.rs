//! What is in use.

use hakmem_region_id::RegionIndex;
use hakmem_superslab::{Shared, used_blocks};

/// Bytes of the blocks in use, by the slabs' own records.
pub fn used_bytes(shared: Shared<'_>) -> usize {
    let map = shared.arena().map();
    (0..map.len())
        .map(|index| RegionIndex(index as u32))
        .filter_map(|region| {
            // SAFETY: the region is in the map.
            unsafe {
                let class = map.get(region).class()?;
                Some(used_blocks(shared.arena(), region) * class.size())
            }
        })
        .sum()
}
