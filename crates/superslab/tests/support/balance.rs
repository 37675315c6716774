//! What is in use, and that nothing is kept.

use hakmem_region_id::RegionIndex;
use hakmem_superslab::{OwnedSlabs, Shared, used_blocks};

/// Blocks in use by the slabs' own records.
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

/// Gives back all that heaps without live blocks hold.
pub fn trim_all(shared: Shared<'_>, owners: &[&OwnedSlabs]) {
    // A heap's trim can send slabs to another's inbox, so everybody twice.
    for owned in owners.iter().chain(owners) {
        owned.trim(shared);
    }
    if let Some(owned) = owners.first() {
        owned.clear_pool(shared);
    }
}
