//! Heaps to test with.

#![allow(dead_code, reason = "each test binary uses a part of this")]

use hakmem_page_arena::Arena;
use hakmem_region_id::{ClassIndex, RegionIndex};
use hakmem_superslab::{OwnedSlabs, Shared, SlabPool, used_blocks};

/// An arena, a pool over it and so many heaps.
pub fn heaps(count: u32) -> (Shared<'static>, Vec<&'static OwnedSlabs>) {
    let shared = Shared {
        arena: Box::leak(Box::new(Arena::new())),
        pool: Box::leak(Box::new(SlabPool::new())),
    };
    let owners = (0..count).map(|number| heap(shared, number)).collect();
    (shared, owners)
}

pub fn heap(shared: Shared<'static>, number: u32) -> &'static OwnedSlabs {
    let owned: &'static OwnedSlabs =
        Box::leak(Box::new(OwnedSlabs::new(number).expect("a small number")));
    assert!(shared.pool.owners.set(owned.number(), owned));
    owned
}

pub fn class(size: usize) -> ClassIndex {
    ClassIndex::for_size(size).expect("a tiny size")
}

/// Blocks in use by the slabs' own records.
pub fn used_bytes(shared: Shared<'_>) -> usize {
    let map = shared.arena.map();
    (0..map.len())
        .map(|index| RegionIndex(index as u32))
        .filter_map(|region| {
            // SAFETY: the region is in the map.
            let class = unsafe { map.get(region) }.class()?;
            Some(used_blocks(shared.arena, region) * class.size())
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
