//! Where in its run a large block starts.
//!
//! Runs start at multiples of 16 or 64 KiB. If blocks did too, programs that go through several of
//! them side by side (a column store, a matrix by blocks) would have all their places in one
//! or two sets of the processor's caches. So blocks start up to a page later, and runs are as long as that
//! takes (`hakmem_page_arena::large_regions`). The idea is jemalloc's `cache-oblivious` large sizes; that it
//! adds no page to a smaller block, if that has room in its last one, is not.
//!
//! Of the whole pages that a block leaves of its run beyond that, which nobody touches, up to three are before it:
//! all blocks would lie in every sixteenth page else, and many of them share a few sets of the processor's cache
//! of addresses.

use core::sync::atomic::{AtomicU32, Ordering};
use hakmem_page_arena::{Arena, RUN_SIDE, SIDE_BYTES, SPREAD_STEP, spread_room};
use hakmem_region_id::{REGION_BYTES, RegionIndex};
use static_assertions::const_assert;

/// Runs that start in the same so many regions (512 KiB) have the same offset. So a page's
/// blocks, one after another, mostly start at the same place in it: a program that writes a
/// word in each page it uses then keeps to one or two lines of each.
const GROUP: u32 = ((512 << 10) / REGION_BYTES) as u32;

/// What pages are here; where they are larger, so are the steps.
const PAGE: usize = 4096;
/// So many pages at most are left before a block, which starts in its run's first region.
const MOST_PAGES: usize = 3;
const_assert!((MOST_PAGES + 1) * PAGE <= REGION_BYTES);

/// In the record of a block that its program has freed, while its run is kept as it is.
const FREE: u32 = 1 << 31;
/// In the record of a block that was filled with zeros when it was handed out.
const CLEARED: u32 = 1 << 30;

const_assert!(RUN_SIDE.end + size_of::<AtomicU32>() <= SIDE_BYTES);

/// The offset of the block in a run, kept in the part of the first region's side record
/// that is its holder's alone.
///
/// # Safety
///
/// The region is in the arena's map, and part of a large block.
#[inline]
unsafe fn record(arena: &Arena, first: RegionIndex) -> &AtomicU32 {
    // SAFETY: side records of regions in the map stay mapped for ever and are aligned to their
    // size. As long as the region belongs to a large block, nobody else uses this part.
    unsafe { &*arena.side_record(first).add(RUN_SIDE.end).cast() }
}

/// The offset in bytes that was set last; of a block marked as free, one that is no block's.
///
/// # Safety
///
/// As for [`record`].
#[inline]
pub(crate) unsafe fn get(arena: &Arena, first: RegionIndex) -> usize {
    // SAFETY: passed on.
    let bits = unsafe { record(arena, first) }.load(Ordering::Relaxed);
    (bits & !CLEARED) as usize
}

/// Marks a block as free, until an offset is set.
///
/// # Safety
///
/// As for [`record`], and the run is the caller's.
#[inline]
pub(crate) unsafe fn mark_free(arena: &Arena, first: RegionIndex) {
    // SAFETY: passed on.
    let record = unsafe { record(arena, first) };
    record.store(record.load(Ordering::Relaxed) | FREE, Ordering::Relaxed);
}

/// The offset that was set last, if the block is marked as free.
///
/// # Safety
///
/// As for [`record`].
#[inline]
pub(crate) unsafe fn of_free(arena: &Arena, first: RegionIndex) -> Option<usize> {
    // SAFETY: passed on.
    let bits = unsafe { record(arena, first) }.load(Ordering::Relaxed);
    (bits & FREE != 0).then_some((bits & !(FREE | CLEARED)) as usize)
}

/// Notes, until an offset is set, that the block was filled with zeros.
///
/// # Safety
///
/// As for [`record`], and the block is the caller's.
pub(crate) unsafe fn mark_cleared(arena: &Arena, first: RegionIndex) {
    // SAFETY: passed on.
    let record = unsafe { record(arena, first) };
    record.store(record.load(Ordering::Relaxed) | CLEARED, Ordering::Relaxed);
}

/// Whether that was noted.
///
/// # Safety
///
/// As for [`record`].
pub(crate) unsafe fn is_cleared(arena: &Arena, first: RegionIndex) -> bool {
    // SAFETY: passed on.
    unsafe { record(arena, first) }.load(Ordering::Relaxed) & CLEARED != 0
}

/// Sets the offset of a run just handed out.
///
/// # Safety
///
/// As for [`record`], and the run is the caller's.
#[inline]
pub(crate) unsafe fn set(arena: &Arena, first: RegionIndex, offset: usize) {
    // SAFETY: passed on.
    unsafe { record(arena, first) }.store(offset as u32, Ordering::Relaxed);
}

/// The offset that was set last of a block that is marked as free, if it is one for a block of `size` bytes in that run
/// of `regions` regions as well: it takes no multiplications to find.
///
/// # Safety
///
/// As for [`record`], and the run is the caller's.
#[inline]
pub(crate) unsafe fn again(
    arena: &Arena,
    first: RegionIndex,
    regions: usize,
    size: usize,
) -> Option<usize> {
    // SAFETY: passed on.
    let last = unsafe { of_free(arena, first) }?;
    suits(last, regions, size).then_some(last)
}

/// Whether a block of `size` bytes may start so far into a run of `regions` regions, with its alignment of its own. Not
/// at the start, where blocks are that leave no room.
#[inline]
fn suits(offset: usize, regions: usize, size: usize) -> bool {
    let run_bytes = regions * REGION_BYTES;
    offset > 0 && offset + size <= run_bytes && offset % PAGE <= spread_room(size, 1, run_bytes)
}

/// The offset for a block of `size` bytes at a multiple of `align` in a run of `regions` regions: at another place of
/// its page in the next group of runs, and in another page in the next run, of those that it leaves.
#[inline]
pub(crate) fn choose(first: RegionIndex, regions: usize, size: usize, align: usize) -> usize {
    let run_bytes = regions * REGION_BYTES;
    let room = spread_room(size, align, run_bytes);
    let places = room / SPREAD_STEP + 1;
    // Mixed twice: a multiplication alone brings every ninth megabyte back.
    let hash = (first.0 / GROUP).wrapping_mul(0x9e37_79b9);
    let hash = (hash ^ (hash >> 15)).wrapping_mul(0x85eb_ca6b);
    let place = (((u64::from(hash) * places as u64) >> 32) as usize) * SPREAD_STEP;
    let pages = if align <= SPREAD_STEP {
        run_bytes.saturating_sub(size + room) / PAGE
    } else {
        0
    };
    first.spread(pages.min(MOST_PAGES) as u32 + 1) as usize * PAGE + place
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use hakmem_page_arena::large_regions;
    use std::collections::BTreeSet;

    /// The offsets of blocks of `size` bytes in 640 runs in a row.
    fn offsets(size: usize) -> BTreeSet<usize> {
        let regions = large_regions(size, 1);
        (0..640)
            .map(|run| choose(RegionIndex(run * regions as u32), regions, size, 1))
            .collect()
    }

    #[test]
    fn a_block_stays_in_its_run() {
        for steps in (1..=16).map(|steps| steps * (64 << 10)) {
            for missing in [
                0, 1, 63, 64, 65, 1023, 1024, 4095, 4096, 4097, 40_000, 65_535,
            ] {
                let size = steps - missing;
                let run_bytes = large_regions(size, 1) * REGION_BYTES;
                for offset in offsets(size) {
                    assert!(offset.is_multiple_of(SPREAD_STEP) && offset < (MOST_PAGES + 1) * PAGE);
                    assert!(offset + size <= run_bytes, "{size} at {offset}");
                }
            }
        }
    }

    #[test]
    fn a_smaller_block_has_no_more_pages_than_it_needs() {
        for size in (33_000..192_usize << 10).step_by(61) {
            // Those with less than a kilobyte left get one more.
            if size.wrapping_neg() % PAGE < 1024 {
                continue;
            }
            for offset in offsets(size) {
                assert_eq!(
                    (offset % PAGE + size).div_ceil(PAGE),
                    size.div_ceil(PAGE),
                    "{size}"
                );
            }
        }
    }

    #[test]
    fn a_block_starts_where_the_last_one_did_if_that_is_a_place_for_it() {
        for (last, size) in [(100_000, 88_000), (200_000, 197_000), (250_000, 250_001)] {
            let regions = large_regions(last, 1);
            assert_eq!(regions, large_regions(size, 1), "{last} and {size}");
            let run_bytes = regions * REGION_BYTES;
            let mut suited = 0;
            for offset in offsets(last) {
                let fits = offset + size <= run_bytes;
                let no_page_more = size >= 192 << 10
                    || (offset % PAGE + size).div_ceil(PAGE) == size.div_ceil(PAGE);
                let expected = offset > 0 && fits && no_page_more;
                assert_eq!(suits(offset, regions, size), expected, "{size} at {offset}");
                suited += usize::from(expected);
            }
            assert!(suited > 5, "{suited} of {last}");
        }
        // Behind one that left no room others find their places anew.
        assert!(!suits(0, large_regions(200_000, 1), 200_000));
        assert!(!suits(64, (256 << 10) / REGION_BYTES, (256 << 10) - 63));
    }

    #[test]
    fn blocks_of_a_group_start_at_the_same_place() {
        let (regions, size) = (large_regions(200_000, 1), 200_000);
        for group in 0..100 {
            let places: BTreeSet<_> = (0..GROUP)
                .map(|region| choose(RegionIndex(GROUP * group + region), regions, size, 1) % PAGE)
                .collect();
            assert_eq!(places.len(), 1);
        }
    }

    #[test]
    fn blocks_in_a_row_start_at_many_places() {
        // With a page more; in the 3392 bytes that its last page has left.
        assert!(offsets(200_000).len() > 50);
        assert!(offsets(180_928).len() > 40);
        assert!(offsets(1_000_000).len() > 50);
        // With a page more, as their own have nothing left.
        for size in [36 << 10, 48 << 10, (48 << 10) - 1000, 100 << 10] {
            assert!(offsets(size).len() > 30, "{size}");
        }
        // With a region more, which is for these.
        for size in [1 << 20, (1 << 20) - 1000, 3 << 20] {
            assert!(offsets(size).len() > 50, "{size}");
        }
        if REGION_BYTES < 64 << 10 {
            for size in [64 << 10, (64 << 10) - 1000, 128 << 10, 256 << 10] {
                assert!(offsets(size).len() > 50, "{size}");
            }
        }
        let regions = large_regions(1_000_000, 1);
        let near: BTreeSet<_> = (0..16)
            .map(|run| choose(RegionIndex(run * regions as u32), regions, 1_000_000, 1) % PAGE)
            .collect();
        assert!(near.len() >= 12, "sixteen in a row: {near:?}");
    }

    #[test]
    fn blocks_in_a_row_start_in_each_of_the_pages_that_they_leave() {
        for (size, pages) in [(50_000, 4), (100_000, 4), (57_344, 2), (196_608 - 8192, 2)] {
            let mut runs = [0; MOST_PAGES + 1];
            for run in 0..600 {
                let regions = large_regions(size, 1);
                let offset = choose(RegionIndex(run * regions as u32), regions, size, 1);
                runs[offset / PAGE] += 1;
            }
            let even = 600 / pages;
            let is_even = |&runs: &usize| runs.abs_diff(even) <= even / 3;
            assert!(runs[..pages].iter().all(is_even), "{size}: {runs:?}");
            assert!(runs[pages..].iter().all(|&runs| runs == 0), "{size}");
            assert_eq!(
                choose(RegionIndex(77), large_regions(size, 1), size, 128),
                0
            );
        }
    }
}
