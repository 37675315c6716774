//! What a heap holds whose thread sleeps, and what one whose thread works.

mod support {
    pub mod busy;
    pub mod heaps;
    pub mod take;
    pub mod trim;
}

use hakmem_region_id::REGION_BYTES;
use support::busy::flush_to_busy;
use support::heaps::{class, heaps};
use support::take::take;
use support::trim::trim_all;

/// A slab has 64 blocks of this size.
const OF_64: usize = REGION_BYTES / 64;

#[test]
fn what_a_sleeper_holds_is_used_before_a_second_new_superslab_is_made() {
    const SLABS: usize = 96;
    let (shared, owners) = heaps(2);
    let blocks = take(shared, owners[0], class(OF_64), SLABS * 64);
    // Half of each slab: too little to be surplus, so all stay the first heap's.
    let freed: Vec<*mut u8> = blocks.iter().copied().step_by(2).collect();
    // SAFETY: the blocks are ours.
    unsafe { owners[0].flush(shared, class(OF_64), &freed) };
    assert_eq!(owners[0].counts().disowns.get(), 0);
    let made = shared.pool().counts().superslabs_made;
    // The first heap sleeps from here on. The second needs as much as was freed.
    take(shared, owners[1], class(OF_64), freed.len());
    assert_eq!(shared.pool().counts().superslabs_made, made + 1);
    assert!(owners[0].counts().disowns.get() > 0);
}

#[test]
fn a_heap_that_works_is_left_what_it_holds() {
    let (shared, owners) = heaps(2);
    let mut blocks = take(shared, owners[0], class(OF_64), 40 * 64);
    let refill = |heap: usize, blocks: &mut Vec<*mut u8>| {
        let mut out = [std::ptr::null_mut(); 32];
        let got = owners[heap].refill(shared, class(OF_64), &mut out);
        assert!(got > 0);
        blocks.extend_from_slice(&out[..got]);
    };
    let freed: Vec<*mut u8> = blocks.iter().copied().step_by(2).collect();
    // SAFETY: the blocks are ours.
    unsafe { owners[0].flush(shared, class(OF_64), &freed) };
    let mut others = Vec::new();
    for _ in 0..200 {
        refill(1, &mut others);
        refill(0, &mut blocks);
        // SAFETY: taken just now.
        unsafe { owners[0].flush(shared, class(OF_64), &blocks.split_off(blocks.len() - 16)) };
    }
    assert_eq!(owners[0].counts().disowns.get(), 0);
}

#[test]
fn a_sleepers_slabs_are_looked_at_once_as_long_as_nothing_changes() {
    let (shared, heaps) = heaps(2);
    let class = class(64);
    let mut blocks = vec![std::ptr::null_mut(); 4 * OF_64];
    for part in blocks.chunks_mut(OF_64) {
        assert_eq!(heaps[0].refill(shared, class, part), OF_64);
    }
    assert!(heaps[0].tend(shared));
    assert!(!heaps[0].tend(shared), "nothing has changed");
    let given = || heaps[0].counts().disowns.get() + heaps[0].counts().emptied.get();
    let before = given();
    // SAFETY: the blocks are ours.
    unsafe { heaps[1].flush(shared, class, &blocks[..OF_64 / 2]) };
    assert!(heaps[0].tend(shared), "another has freed into one");
    assert!(given() > before);
    assert!(!heaps[0].tend(shared));
    let (waiting, own) = blocks[OF_64..3 * OF_64].split_at(OF_64);
    // SAFETY: the blocks are ours.
    unsafe { flush_to_busy(shared, heaps[0], heaps[1], class, &waiting[1..]) };
    assert!(heaps[0].tend(shared), "another's blocks wait");
    assert!(!heaps[0].tend(shared));
    heaps[0].purge_holes(shared, true, usize::MAX);
    assert!(!heaps[0].tend(shared), "nothing has come");
    // SAFETY: the blocks are ours.
    unsafe { heaps[0].flush(shared, class, &own[1..]) };
    assert!(heaps[0].tend(shared), "its thread has been there");
    trim_all(shared, &heaps);
}
