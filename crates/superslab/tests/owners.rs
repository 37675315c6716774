//! Slabs change hands, and owners have numbers.

mod support {
    pub mod heaps;
    pub mod trim;
}

use hakmem_region_id::REGION_BYTES;
use hakmem_superslab::OwnedSlabs;
use support::heaps::{class, heaps, owned};
use support::trim::trim_all;

/// A slab has 128 blocks of this size.
const OF_128: usize = REGION_BYTES / 128;

#[test]
fn what_an_abandoned_heap_leaves_serves_the_next_one() {
    let (shared, owners) = heaps(2);
    let mut blocks = [std::ptr::null_mut(); 32];
    assert_eq!(owners[0].refill(shared, class(OF_128), &mut blocks), 32);
    // SAFETY: the blocks are ours.
    unsafe { owners[0].flush(shared, class(OF_128), &blocks[..16]) };
    owners[0].abandon(shared);
    let mut again = [std::ptr::null_mut(); 16];
    assert_eq!(owners[1].refill(shared, class(OF_128), &mut again), 16);
    assert_eq!(again[..], blocks[..16]);
    assert_eq!(owners[1].counts().refills_pool.get(), 1);
    assert_eq!(owners[1].counts().refills_arena.get(), 0);
}

#[test]
fn a_free_into_a_slab_that_nobody_owns_claims_it() {
    let (shared, owners) = heaps(2);
    let mut blocks = [std::ptr::null_mut(); 128];
    assert_eq!(owners[0].refill(shared, class(OF_128), &mut blocks), 128);
    owners[0].abandon(shared);
    // SAFETY: the blocks are ours.
    unsafe { owners[1].flush(shared, class(OF_128), &blocks) };
    assert!(owners[1].counts().claims.get() > 0);
    assert_eq!(owners[1].counts().remote_pushes.get(), 0);
    trim_all(shared, &owners);
    assert_eq!(shared.arena().stats().used_bytes, 0);
}

#[test]
fn a_number_is_entered_once() {
    let (shared, owners) = heaps(1);
    let second = owned(0);
    assert!(!shared.pool().owners.enter(second));
    let entered = shared.pool().owners.get(second.number()).unwrap();
    assert!(std::ptr::eq(entered, owners[0]));
}

#[test]
fn owner_numbers_end_where_codes_end() {
    // SAFETY: these are not used.
    let is_one = |number| unsafe { OwnedSlabs::new(number) }.is_some();
    assert!(is_one(hakmem_region_id::word::OWNERS - 1));
    assert!(!is_one(hakmem_region_id::word::OWNERS));
}
