//! Blocks that one heap frees in the slabs of another, on one thread.

mod support {
    pub mod busy;
    pub mod heaps;
    pub mod take;
    pub mod trim;
    pub mod used;
}

use hakmem_region_id::REGION_BYTES;
use support::busy::flush_to_busy;
use support::heaps::{class, heaps};
use support::take::take;
use support::trim::trim_all;
use support::used::used_bytes;

/// A slab has 64 blocks of this size.
const OF_64: usize = REGION_BYTES / 64;

#[test]
fn blocks_freed_for_a_heap_that_sleeps_are_free_at_once() {
    let (shared, owners) = heaps(2);
    let blocks = take(shared, owners[0], class(OF_64), 640);
    // The first heap does nothing from here on.
    // SAFETY: the blocks are ours.
    unsafe { owners[1].flush(shared, class(OF_64), &blocks) };
    assert_eq!(used_bytes(shared), 0);
    assert_eq!(owners[1].counts().remote_frees.get(), 640);
    assert_eq!(owners[1].counts().remote_pushes.get(), 0);
    let superslab = 32 * REGION_BYTES as u64;
    assert!(owners[0].counts().emptied.get() + owners[0].counts().disowns.get() > 0);
    owners[1].trim(shared);
    assert!(shared.arena().stats().used_bytes <= superslab);
}

#[test]
fn blocks_of_many_heaps_go_home_in_one_flush_and_only_a_busy_heaps_are_sent() {
    const EACH: usize = 32;
    let (shared, owners) = heaps(5);
    let [own, one, busy, other, gone] = owners[..] else {
        unreachable!("five heaps were made");
    };
    let mut of_heap = Vec::new();
    for heap in &owners {
        let mut blocks = [std::ptr::null_mut(); EACH];
        assert_eq!(heap.refill(shared, class(64), &mut blocks), EACH);
        of_heap.push(blocks);
    }
    gone.abandon(shared);
    // In turn, and by twos, so that some lie side by side in their slabs; more than 64 in all.
    let mixed: Vec<_> = (0..EACH / 2)
        .flat_map(|pair| {
            of_heap
                .iter()
                .flat_map(move |of| [of[2 * pair], of[2 * pair + 1]])
        })
        .collect();
    // SAFETY: the blocks are ours.
    unsafe { flush_to_busy(shared, busy, own, class(64), &mixed) };
    // 64 blocks at a time: each send one chain to the busy heap's slab, and the first ones claim
    // the slab that nobody owns, so that the rest of its blocks are the heap's own.
    let chains = mixed.len().div_ceil(64) as u64;
    assert_eq!(own.counts().remote_pushes.get(), chains);
    let first = mixed[..64].iter();
    let claiming = first.filter(|block| of_heap[4].contains(block)).count();
    let remote = 3 * EACH + claiming;
    assert_eq!(own.counts().remote_frees.get(), remote as u64);
    assert_eq!(own.counts().local_frees.get(), (5 * EACH - remote) as u64);
    assert_eq!(own.counts().claims.get(), 1);
    assert_eq!(busy.counts().remote_drains.get(), 0);
    // What waits is not in use; and each of the others has all of its blocks again.
    assert_eq!(used_bytes(shared), 0);
    for (heap, blocks) in [(own, of_heap[0]), (one, of_heap[1]), (other, of_heap[3])] {
        let mut again = [std::ptr::null_mut(); EACH];
        assert_eq!(heap.refill(shared, class(64), &mut again), EACH);
        assert_eq!(again, blocks);
        // SAFETY: the blocks are ours.
        unsafe { heap.flush(shared, class(64), &again) };
    }
    trim_all(shared, &owners);
    assert_eq!(shared.arena().stats().used_bytes, 0);
}

#[test]
fn what_waits_for_a_heap_is_taken_in_by_the_next_that_frees_there() {
    let (shared, owners) = heaps(2);
    let mut blocks = [std::ptr::null_mut(); 64];
    assert_eq!(owners[0].refill(shared, class(OF_64), &mut blocks), 64);
    let untouched = |block: *mut u8| {
        // SAFETY: the block is ours and has a word; two bytes of it may be a link.
        unsafe { block.cast::<u64>().write(u64::MAX) };
    };
    blocks.iter().copied().for_each(untouched);
    // SAFETY: the blocks are ours.
    unsafe { flush_to_busy(shared, owners[0], owners[1], class(OF_64), &blocks[..8]) };
    assert_eq!(owners[1].counts().remote_pushes.get(), 1);
    assert_eq!(owners[0].counts().remote_drains.get(), 0);
    // SAFETY: as above.
    unsafe { owners[1].flush(shared, class(OF_64), &blocks[8..16]) };
    assert_eq!(owners[1].counts().helps.get(), 1);
    assert_eq!(owners[0].counts().remote_drains.get(), 1);
    // What went to the bits has not been written to.
    // SAFETY: nobody has been given the block since.
    assert_eq!(unsafe { blocks[8].cast::<u64>().read() }, u64::MAX);
    let mut again = [std::ptr::null_mut(); 16];
    assert_eq!(owners[0].refill(shared, class(OF_64), &mut again), 16);
    assert_eq!(again[..], blocks[..16]);
}

#[test]
fn the_remote_blocks_of_a_slab_serve_its_owners_next_refill() {
    let (shared, owners) = heaps(2);
    let mut blocks = [std::ptr::null_mut(); 64];
    assert_eq!(owners[0].refill(shared, class(OF_64), &mut blocks), 64);
    // SAFETY: the blocks are ours.
    unsafe { flush_to_busy(shared, owners[0], owners[1], class(OF_64), &blocks[..8]) };
    let mut again = [std::ptr::null_mut(); 8];
    assert_eq!(owners[0].refill(shared, class(OF_64), &mut again), 8);
    assert_eq!(again[..], blocks[..8]);
    assert!(owners[0].counts().remote_drains.get() > 0);
}
