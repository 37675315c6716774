//! Whether runs are used as a whole, as far as those tell that come back.
//!
//! A huge page behind runs is memory ahead of its use. Most programs fill their large blocks
//! and gain by it; one with large and mostly empty buffers would hold all of them. So the
//! first ones are taken on trust, and from then on a few pages of every so many freed runs
//! are read: those that nobody has written to read as zero.

use hakmem_page_arena::LARGE_STEP;
use hakmem_sys::sync::{AtomicU32, Ordering};

/// Places read in a freed block.
const PLACES: usize = 4;
/// `ALL` in the share of empty pages: all were.
const ALL: u32 = 1 << 16;
/// How much a look counts among those before it: the share is about that of the last 16.
const WEIGHT: u32 = 16;
/// Of so many blocks that stay with their thread one is wanted,
const KEPT_PER_LOOK: u32 = 4;
/// of the first so many: some are never looked at, as those that were filled with zeros.
const KEPT_MOST: u32 = 4096;
/// From this share of empty pages on, huge pages would be wasted.
const WASTE: u32 = ALL / 4;
/// How long runs are trusted, and by what known.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trust {
    /// Huge pages that are taken before there is evidence.
    pub pages: u32,
    /// So many looks are evidence.
    pub enough: u32,
    /// Of so many freed blocks one is looked at until then,
    pub at_first: u32,
    /// and of so many afterwards.
    pub later: u32,
}

/// What is known of the use of runs. Its counts are estimates: two threads at once may lose
/// one.
#[derive(Debug)]
pub(crate) struct RunUse {
    /// Huge pages taken for runs so far. Without any, nothing is read.
    taken: AtomicU32,
    /// Blocks freed since then; wraps.
    freed: AtomicU32,
    /// Blocks freed since then that stayed with their thread.
    kept: AtomicU32,
    /// How many were looked at.
    looks: AtomicU32,
    /// The share of pages that were empty, of late, in parts of [`ALL`].
    empty: AtomicU32,
    trust: Trust,
}

impl RunUse {
    hakmem_sys::const_new! {
        /// Nothing.
        pub fn new(trust: Trust) -> Self {
            Self {
                trust,
                taken: AtomicU32::new(0),
                freed: AtomicU32::new(0),
                kept: AtomicU32::new(0),
                looks: AtomicU32::new(0),
                empty: AtomicU32::new(0),
            }
        }
    }

    /// Whether the next run, of so many huge pages at least, will be used as a whole, by what is known.
    pub fn is_likely_whole(&self, pages: usize) -> bool {
        let empty = self.empty.load(Ordering::Relaxed);
        let taken = self.taken.load(Ordering::Relaxed) as usize;
        empty < WASTE && (self.has_evidence() || taken + pages <= self.trust.pages as usize)
    }

    /// Whether enough blocks were looked at.
    #[inline]
    fn has_evidence(&self) -> bool {
        self.looks.load(Ordering::Relaxed) >= self.trust.enough
    }

    /// Whether any huge page was taken for a run.
    #[inline]
    pub fn has_taken(&self) -> bool {
        self.taken.load(Ordering::Relaxed) != 0
    }

    /// Whether huge pages were taken, and too few blocks were looked at to say whether they are used.
    #[inline]
    pub fn is_unsure(&self) -> bool {
        self.has_taken() && !self.has_evidence() && self.kept.load(Ordering::Relaxed) < KEPT_MOST
    }

    /// Notes that a freed block stays with its thread. Returns whether it is wanted.
    pub fn note_kept(&self) -> bool {
        add(&self.kept, 1);
        self.kept
            .load(Ordering::Relaxed)
            .is_multiple_of(KEPT_PER_LOOK)
    }

    /// Notes that so many huge pages were taken for a run.
    pub fn note_huge(&self, pages: usize) {
        add(&self.taken, pages as u32);
    }

    /// Looks at a block that comes back, if it is time to.
    ///
    /// # Safety
    ///
    /// The block is the caller's, and all of it may be read; see [`empty_places`].
    pub unsafe fn note_freed(&self, block: *const u8, bytes: usize) {
        if !self.has_taken() {
            return;
        }
        let freed = self.freed.load(Ordering::Relaxed).wrapping_add(1);
        self.freed.store(freed, Ordering::Relaxed);
        let every = if self.has_evidence() {
            self.trust.later
        } else {
            self.trust.at_first
        };
        if freed.is_multiple_of(every) {
            // SAFETY: passed on.
            self.note_empty(unsafe { empty_places(block, bytes) });
        }
    }

    /// Notes that so many of [`PLACES`] were empty.
    fn note_empty(&self, places: usize) {
        let share = places as u32 * (ALL / PLACES as u32);
        let before = self.empty.load(Ordering::Relaxed);
        self.empty
            .store(before - before / WEIGHT + share / WEIGHT, Ordering::Relaxed);
        add(&self.looks, 1);
    }
}

/// Adds to a counter, up to the most, without a locked instruction.
pub(crate) fn add(counter: &AtomicU32, more: u32) {
    let sum = counter.load(Ordering::Relaxed).saturating_add(more);
    counter.store(sum, Ordering::Relaxed);
}

/// How many of [`PLACES`] places in a block read as zero: pages apart from its start, because
/// who writes little to a page often begins there, and spread over its inside, because what
/// a program leaves empty is rarely at the ends. What may be there only because a run is a
/// multiple of [`LARGE_STEP`], and was not asked for, is not read.
///
/// # Safety
///
/// The block is the caller's, aligned to 8, has so many bytes, at least 64 KiB less four
/// pages, and all of it may be read.
unsafe fn empty_places(block: *const u8, bytes: usize) -> usize {
    let asked_for = bytes.saturating_sub(LARGE_STEP).max(bytes / 2);
    // In larger pages than 4 KiB these are only other places.
    let step = (bytes / (PLACES + 2))
        .min(asked_for / PLACES)
        .next_multiple_of(4096);
    debug_assert!(PLACES * step + size_of::<u64>() <= bytes);
    (1..=PLACES)
        .filter(|part| {
            // SAFETY: no place lies four pages or more beyond `asked_for`, and the block has six
            // more than that. Whatever is there, it may be uninitialized for the language: hence
            // volatile.
            unsafe { block.add(part * step).cast::<u64>().read_volatile() == 0 }
        })
        .count()
}

#[cfg(all(test, not(loom)))]
mod tests {
    extern crate std;

    use super::*;
    use hakmem_region_id::REGION_BYTES;
    use std::vec;

    const TRUST: Trust = Trust {
        pages: 40,
        enough: 16,
        at_first: 2,
        later: 4,
    };

    fn with_looks(looks: u32, empty: usize) -> RunUse {
        let known = RunUse::new(TRUST);
        for _ in 0..looks {
            known.note_empty(empty);
        }
        known
    }

    #[test]
    fn runs_are_trusted_at_first_and_up_to_a_limit() {
        let known = RunUse::new(TRUST);
        for _ in 0..TRUST.pages {
            assert!(known.is_likely_whole(1));
            known.note_huge(1);
        }
        assert!(!known.is_likely_whole(1));
        for _ in 0..TRUST.enough {
            assert!(!known.is_likely_whole(1));
            known.note_empty(0);
        }
        assert!(known.is_likely_whole(1));
    }

    #[test]
    fn a_few_empty_runs_end_the_trust_and_full_ones_restore_it() {
        assert!(with_looks(4, PLACES).is_likely_whole(1));
        let known = with_looks(5, PLACES);
        assert!(!known.is_likely_whole(1));
        for _ in 0..100 {
            known.note_empty(0);
        }
        assert!(known.is_likely_whole(1));
        for _ in 0..1000 {
            known.note_empty(PLACES);
        }
        assert!(!known.is_likely_whole(1));
    }

    #[test]
    fn a_page_in_four_may_be_empty_but_not_half_of_them() {
        assert!(with_looks(1000, 0).is_likely_whole(1));
        assert!(!with_looks(1000, 2).is_likely_whole(1));
    }

    #[test]
    fn nothing_is_read_before_a_huge_page_was_taken() {
        let known = RunUse::new(TRUST);
        for _ in 0..2 * TRUST.at_first {
            // SAFETY: not read; the test would fault.
            unsafe { known.note_freed(core::ptr::null(), REGION_BYTES) };
        }
        assert!(!known.is_unsure());
        assert_eq!(known.looks.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn of_what_stays_with_its_thread_a_part_is_wanted_and_not_for_ever() {
        let known = RunUse::new(TRUST);
        known.note_huge(1);
        let wanted = (0..KEPT_MOST).filter(|_| {
            assert!(known.is_unsure());
            known.note_kept()
        });
        assert_eq!(wanted.count() as u32, KEPT_MOST / KEPT_PER_LOOK);
        assert!(!known.is_unsure());
    }

    #[test]
    fn more_freed_blocks_are_looked_at_until_there_is_evidence() {
        let known = RunUse::new(TRUST);
        known.note_huge(1);
        let block = vec![1_u64; REGION_BYTES * 8 / size_of::<u64>()];
        let free = |times: u32| {
            for _ in 0..times {
                // SAFETY: the vector has so many bytes.
                unsafe { known.note_freed(block.as_ptr().cast(), size_of_val(&*block)) };
            }
            known.looks.load(Ordering::Relaxed)
        };
        assert!(known.is_unsure());
        assert_eq!(free(TRUST.at_first * TRUST.enough), TRUST.enough);
        assert!(!known.is_unsure());
        assert_eq!(free(TRUST.later * 10), TRUST.enough + 10);
    }

    #[test]
    fn what_is_read_is_inside_the_block_and_pages_from_its_start() {
        const LINE: usize = 64;
        // The lengths of runs of large blocks.
        for bytes in (1..=16)
            .map(|steps| steps * (64 << 10))
            .flat_map(|run| [run, run - 4096 + LINE])
        {
            let mut block = vec![0_u64; bytes / 8];
            let empty = |block: &[u64]| {
                // SAFETY: the vector has so many bytes.
                unsafe { empty_places(block.as_ptr().cast(), size_of_val(block)) }
            };
            assert_eq!(empty(&block), PLACES);
            block.iter_mut().step_by(512).for_each(|word| *word = 1);
            assert_eq!(empty(&block), 0);
            block.fill(1);
            block.iter_mut().step_by(512).for_each(|word| *word = 0);
            assert_eq!(empty(&block), PLACES);
        }
    }

    #[test]
    fn what_was_not_asked_for_is_not_taken_for_empty() {
        for run in (1..=16).map(|steps| steps * LARGE_STEP) {
            // The shortest block of such a run, filled.
            let size = (run - LARGE_STEP).max(LARGE_STEP / 2) + 8;
            let mut block = vec![0_u64; run / 8];
            block[..size / 8].fill(1);
            // SAFETY: the vector has so many bytes.
            assert_eq!(unsafe { empty_places(block.as_ptr().cast(), run) }, 0);
            // Half of that is noticed.
            block[size / 16..].fill(0);
            // SAFETY: as above.
            assert!(unsafe { empty_places(block.as_ptr().cast(), run) } >= PLACES / 4);
        }
    }
}
