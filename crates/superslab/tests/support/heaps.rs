//! Heaps to test with.

use hakmem_page_arena::Arena;
use hakmem_region_id::ClassIndex;
use hakmem_superslab::{OwnedSlabs, Shared, SlabPool};

/// An arena, a pool over it and so many heaps.
pub fn heaps(count: u32) -> (Shared<'static>, Vec<&'static OwnedSlabs>) {
    let (arena, pool) = (
        Box::leak(Box::new(Arena::new())),
        Box::leak(Box::new(SlabPool::new())),
    );
    // SAFETY: both were made just now. The tests use heaps with what they were made for.
    let shared = unsafe { Shared::new(arena, pool) };
    let owners = (0..count).map(|number| heap(shared, number)).collect();
    (shared, owners)
}

pub fn heap(shared: Shared<'static>, number: u32) -> &'static OwnedSlabs {
    let owned: &'static OwnedSlabs =
        Box::leak(Box::new(OwnedSlabs::new(number).expect("a small number")));
    assert!(shared.pool().owners.enter(owned));
    owned
}

pub fn class(size: usize) -> ClassIndex {
    ClassIndex::for_size(size).expect("a tiny size")
}
