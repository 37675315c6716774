//! Slabs of which most blocks are free stay with their heap until another needs some.

mod support {
    pub mod heaps;
    pub mod take;
    pub mod trim;
}

use hakmem_region_id::REGION_BYTES;
use hakmem_superslab::{OwnedSlabs, Shared};
use support::heaps::{class, heaps};
use support::take::take;
use support::trim::trim_all;

/// Blocks of 64 bytes in a slab.
const IN_SLAB: usize = REGION_BYTES / 64;

/// Has a heap take the blocks of this many slabs of 64-byte blocks, and free all but one block of
/// each.
fn make_sparse(shared: Shared<'static>, heap: &OwnedSlabs, slabs: usize) -> Vec<*mut u8> {
    let mut blocks = take(shared, heap, class(64), slabs * IN_SLAB);
    blocks.sort_unstable();
    let mut freed = Vec::new();
    let mut kept: Vec<*mut u8> = Vec::new();
    for block in blocks {
        let is_here = |kept: &*mut u8| (kept.addr() ^ block.addr()) < REGION_BYTES;
        if kept.last().is_some_and(is_here) {
            freed.push(block);
        } else {
            kept.push(block);
        }
    }
    // SAFETY: the blocks are ours.
    unsafe { heap.flush(shared, class(64), &freed) };
    kept
}

#[test]
fn a_heap_keeps_its_sparse_slabs_as_long_as_nobody_asks() {
    let (shared, heaps) = heaps(2);
    let kept = make_sparse(shared, heaps[0], 32);
    assert_eq!(heaps[0].counts().disowns.get(), 0);
    // SAFETY: the blocks are ours.
    unsafe { heaps[0].flush(shared, class(64), &kept) };
    assert_eq!(heaps[0].counts().claims.get(), 0);
    // The current one stays.
    assert_eq!(heaps[0].counts().emptied.get(), 31);
    trim_all(shared, &heaps);
    assert_eq!(shared.arena().stats().used_bytes, 0);
}

#[test]
fn a_heap_that_needs_slabs_gets_the_sparse_ones_of_one_that_works() {
    let (shared, heaps) = heaps(2);
    let kept = make_sparse(shared, heaps[0], 32);
    let mut out = [std::ptr::null_mut(); 64];
    let mut got = 0;
    // All but four, and the current one, are for others.
    while got < 27 * (IN_SLAB - 1) - out.len() {
        // So that it does not look asleep.
        let mut one = [std::ptr::null_mut()];
        heaps[0].refill(shared, class(8), &mut one);
        let count = heaps[1].refill(shared, class(64), &mut out);
        for block in &out[..count] {
            let place = block.addr() / REGION_BYTES;
            assert!(
                kept.iter().any(|kept| kept.addr() / REGION_BYTES == place),
                "after {got}"
            );
        }
        got += count;
    }
    assert_eq!(heaps[1].counts().slabs_started(), 0);
    assert!(heaps[1].counts().refills_pool.get() >= 26);
    // From then on there are none to spare, and it gets slabs of its own.
    while heaps[1].counts().slabs_started() == 0 {
        heaps[1].refill(shared, class(64), &mut out);
    }
    assert_eq!(heaps[0].counts().disowns.get(), 27);
}

#[test]
fn sparse_slabs_are_found_though_another_heap_has_said_so_since() {
    let (shared, heaps) = heaps(3);
    make_sparse(shared, heaps[0], 300);
    // The last to say so, with one to spare.
    make_sparse(shared, heaps[1], 6);
    let (mut out, mut one) = ([std::ptr::null_mut(); 64], [std::ptr::null_mut()]);
    while heaps[2].counts().refills_pool.get() < 200 {
        for heap in &heaps[..2] {
            heap.refill(shared, class(8), &mut one);
        }
        heaps[2].refill(shared, class(64), &mut out);
        assert!(
            heaps[2].counts().refills_arena.get() < 2,
            "it makes superslabs instead"
        );
    }
}
