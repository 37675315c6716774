//! Whole free pages of slabs in use go back to the system.

mod support {
    pub mod heaps;
    pub mod take;
}

use hakmem_region_id::REGION_BYTES;
use hakmem_test_support::{check, fill};
use support::heaps::{class, heaps};
use support::take::take;

#[test]
fn whole_free_pages_of_a_slab_in_use_go_back_and_its_blocks_stay_as_they_are() {
    // A hundred of the 128 blocks of 64 KiB.
    const KEPT_EACH: usize = REGION_BYTES / 512 * 100 / 128;
    let (shared, owners) = heaps(1);
    let blocks = take(shared, owners[0], class(512), 8192);
    for &block in &blocks {
        // SAFETY: the block is ours.
        unsafe { fill(block, 512) };
    }
    // One or two of each slab stay: most of its pages are free.
    let (kept, freed): (Vec<_>, Vec<_>) = blocks
        .iter()
        .enumerate()
        .partition(|(index, _)| index % KEPT_EACH == 0);
    let freed: Vec<*mut u8> = freed.into_iter().map(|(_, &block)| block).collect();
    // SAFETY: the blocks are ours.
    unsafe { owners[0].flush(shared, class(512), &freed) };
    let given =
        owners[0].purge_holes(shared, true, usize::MAX) + owners[0].purge_pool(shared, true);
    let bytes = freed.len() * 512;
    assert!(given > bytes / 2, "{given} of {bytes} free bytes");
    assert!(given <= 8192 * 512 + REGION_BYTES);
    for &(_, &block) in &kept {
        // SAFETY: the block is still ours, and filled above.
        unsafe { check(block, 512) };
    }
    let again =
        owners[0].purge_holes(shared, true, usize::MAX) + owners[0].purge_pool(shared, true);
    assert_eq!(
        again, 0,
        "what is with the system already is not given twice"
    );
    // The purged blocks are blocks like any other.
    let taken = take(shared, owners[0], class(512), freed.len());
    for &block in &taken {
        assert!(!kept.iter().any(|&(_, &other)| other == block));
        // SAFETY: the block is ours.
        unsafe { fill(block, 512) };
    }
    // As after a second burst like the first: as many blocks are free in each slab as before.
    // SAFETY: the blocks are ours.
    unsafe { owners[0].flush(shared, class(512), &taken) };
    let given =
        owners[0].purge_holes(shared, true, usize::MAX) + owners[0].purge_pool(shared, true);
    assert!(given > bytes / 2, "{given} of {bytes} free bytes");
    for &(_, &block) in &kept {
        // SAFETY: the block is still ours, and filled above.
        unsafe { check(block, 512) };
    }
}

#[test]
fn what_a_slab_on_used_memory_has_not_carved_goes_back() {
    let (shared, owners) = heaps(1);
    let mut blocks = [std::ptr::null_mut(); REGION_BYTES / 512];
    let got = owners[0].refill(shared, class(512), &mut blocks);
    for &block in &blocks[..got] {
        // SAFETY: the block is ours.
        unsafe { fill(block, 512) };
    }
    // SAFETY: the blocks are ours.
    unsafe { owners[0].flush(shared, class(512), &blocks[..got]) };
    owners[0].trim(shared);
    let mut few = [std::ptr::null_mut(); 3];
    assert_eq!(owners[0].refill(shared, class(64), &mut few), 3);
    assert_eq!(few[0], blocks[0], "the same region");
    for &block in &few {
        // SAFETY: the block is ours.
        unsafe { fill(block, 64) };
    }
    let rest = REGION_BYTES - hakmem_sys::vm::page_size();
    assert_eq!(owners[0].purge_holes(shared, false, usize::MAX), 0);
    assert_eq!(owners[0].purge_holes(shared, false, usize::MAX), rest);
    assert_eq!(owners[0].purge_holes(shared, true, usize::MAX), 0);
    // What is carved next is memory like any other.
    let mut more = [std::ptr::null_mut(); 64];
    let got = owners[0].refill(shared, class(64), &mut more);
    for &block in &more[..got] {
        // SAFETY: the block is ours.
        unsafe { fill(block, 64) };
    }
    for &block in &few {
        // SAFETY: the block is still ours, and filled above.
        unsafe { check(block, 64) };
    }
}

#[test]
fn what_is_freed_after_a_purge_goes_back_at_the_next() {
    let (shared, owners) = heaps(1);
    let blocks = take(shared, owners[0], class(512), REGION_BYTES / 512);
    let (kept, freed) = blocks.split_at(1);
    let (first, second) = freed.split_at(freed.len() / 2);
    for part in [first, second] {
        // SAFETY: the blocks are ours.
        unsafe { owners[0].flush(shared, class(512), part) };
        let given = owners[0].purge_holes(shared, true, usize::MAX);
        assert!(given > 0, "of {} blocks", part.len());
    }
    // SAFETY: as above.
    unsafe { owners[0].flush(shared, class(512), kept) };
}
