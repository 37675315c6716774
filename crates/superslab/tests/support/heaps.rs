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

/// A heap for the pool.
pub fn heap(shared: Shared<'static>, number: u32) -> &'static OwnedSlabs {
    let owned = owned(number);
    assert!(shared.pool().owners.enter(owned));
    owned
}

/// A heap that is not entered yet.
pub fn owned(number: u32) -> &'static OwnedSlabs {
    // SAFETY: the tests use heaps that they have entered, and with what they were entered in.
    let owned = unsafe { OwnedSlabs::new(number) };
    Box::leak(Box::new(owned.expect("a small number")))
}

pub fn class(size: usize) -> ClassIndex {
    ClassIndex::for_size(size).expect("a tiny size")
}
