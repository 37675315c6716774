//! Which blocks a refill hands out, and from where it takes them.

mod support {
    pub mod heaps;
    pub mod take;
}

use hakmem_region_id::{ClassIndex, REGION_BYTES};
use hakmem_test_support::resident_pages;
use support::heaps::{class, heaps};
use support::take::take;

/// A slab has 64 blocks of this size,
const OF_64: usize = REGION_BYTES / 64;
/// and 1024 of this.
const OF_1024: usize = REGION_BYTES / 1024;

#[test]
fn a_freed_block_is_reused_before_a_new_slab_is_taken() {
    let (shared, owners) = heaps(1);
    // Two slabs of 64 blocks.
    let all = take(shared, owners[0], class(OF_64), 128);
    let slabs = |blocks: &[*mut u8]| {
        let mut regions: Vec<usize> = blocks.iter().map(|b| b.addr() / REGION_BYTES).collect();
        regions.sort_unstable();
        regions.dedup();
        regions
    };
    let before = slabs(&all);
    // SAFETY: the blocks are ours.
    unsafe { owners[0].flush(shared, class(OF_64), &all[10..40]) };
    let mut out = [std::ptr::null_mut(); 30];
    assert_eq!(owners[0].refill(shared, class(OF_64), &mut out), 30);
    assert_eq!(out[..], all[10..40]);
    assert_eq!(slabs(&all), before);
}

#[test]
fn fresh_blocks_come_in_ascending_order() {
    let (shared, owners) = heaps(1);
    let mut last = 0;
    for _ in 0..20 {
        let mut out = [std::ptr::null_mut(); 40];
        assert_eq!(owners[0].refill(shared, class(OF_1024), &mut out), 40);
        for block in out {
            assert!(block.addr() > last);
            last = block.addr();
        }
    }
}

#[test]
fn untouched_memory_comes_ahead_by_an_eighth_of_what_the_class_has_full() {
    const BATCH: usize = 4;
    // An eighth of fewer slabs is less than 16 KiB: too little to be worth it.
    const FROM: usize = 8 * (16 << 10) / REGION_BYTES;
    let (shared, owners) = heaps(1);
    let page = hakmem_sys::vm::page_size();
    let pages = REGION_BYTES / page;
    for full in 0..12 {
        // A slab of blocks of 1 KiB, none of which is touched.
        for batch in 0..REGION_BYTES / 1024 / BATCH {
            let mut out = [std::ptr::null_mut(); BATCH];
            let got = owners[0].refill(shared, class(1024), &mut out);
            assert_eq!(got, BATCH);
            let slab = out[0].addr() / REGION_BYTES * REGION_BYTES;
            if full == 0 && batch == 0 {
                forbid_huge(slab);
            }
            let needed = (BATCH * 1024 * (batch + 1)).div_ceil(page);
            let ahead = (full * pages / 8).clamp(1, pages);
            let expected = if full < FROM || !knows_populate() {
                0
            } else {
                needed.next_multiple_of(ahead).min(pages)
            };
            assert_eq!(resident_pages(slab, pages), expected, "{full} {batch}");
        }
    }
}

/// Keeps the system from putting a huge page behind this slab by itself.
fn forbid_huge(slab: usize) {
    let huge = hakmem_sys::vm::HUGE_PAGE_BYTES;
    // SAFETY: the arena is the test's, and starts where a huge page could.
    unsafe { hakmem_sys::vm::let_be_huge(slab / huge * huge, huge, false) };
}

fn knows_populate() -> bool {
    let page = hakmem_sys::vm::page_size();
    let start = hakmem_sys::vm::map(page).expect("memory");
    // SAFETY: mapped just now, for this test.
    unsafe {
        let known = hakmem_sys::vm::populate(start, page);
        hakmem_sys::vm::unmap(start, page);
        known
    }
}

#[test]
fn heaps_that_refill_once_share_a_slab() {
    let (shared, owners) = heaps(3);
    let once = |heap: usize| {
        let mut out = [std::ptr::null_mut(); 4];
        assert_eq!(owners[heap].refill_once(shared, class(64), &mut out), 4);
        out
    };
    let (first, second) = (once(0), once(1));
    assert_eq!(second[0].addr(), first[3].addr() + 64);
    // The next that needs more gets the slab, and keeps it.
    let mut out = [std::ptr::null_mut(); 8];
    assert_eq!(owners[2].refill(shared, class(64), &mut out), 8);
    assert_eq!(out[0].addr(), second[3].addr() + 64);
    let third = once(2);
    assert_eq!(third[0].addr(), out[7].addr() + 64);
    assert_ne!(
        once(0)[0].addr() / REGION_BYTES,
        out[0].addr() / REGION_BYTES
    );
    assert_eq!(owners[0].counts().slabs_started(), 2);
    assert_eq!(owners[1].counts().slabs_started(), 0);
}

#[test]
fn a_class_that_is_not_tiny_is_refused() {
    let (shared, owners) = heaps(1);
    let mid = ClassIndex::for_size(2048).expect("a mid size");
    let mut out = [std::ptr::null_mut(); 4];
    assert_eq!(owners[0].refill(shared, mid, &mut out), 0);
    assert_eq!(owners[0].refill_once(shared, mid, &mut out), 0);
}
