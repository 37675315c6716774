//! Runs become longer or shorter where they are.

use crate::arena::Arena;
use crate::free_runs::Record;
use crate::run::Label;
use core::sync::atomic::Ordering;
use hakmem_region_id::{REGION_BYTES, RegionIndex};

/// From this length on (1 MiB) what a run grows by, where nothing was in memory, makes up for as
/// much dirty memory.
const MAKE_UP_REGIONS: usize = (1 << 20) / REGION_BYTES;

impl Arena {
    /// Makes a run of `old` regions `new` regions long where it is, if what
    /// follows it is free. Returns whether the added part reads as zero, or
    /// `None` if the run could not grow, or has then more regions than its label [may have](Label::may_have).
    ///
    /// # Safety
    ///
    /// The run is the caller's and was handed out with this label and `old` regions, fewer than `new`.
    pub unsafe fn extend(
        &self,
        first: RegionIndex,
        old: usize,
        new: usize,
        label: Label,
    ) -> Option<bool> {
        debug_assert!(new > old);
        if !label.may_have(new) {
            return None;
        }
        let mut inner = self.written.0.inner.lock();
        // Before the end becomes a region's number, which has 32 bits.
        if new > inner.space.as_ref()?.regions - first.index() {
            return None;
        }
        let end = first.plus(new);
        let reach = inner.reach(&self.map, first.plus(old), end)?;
        if reach.0 < end.0 {
            let missing = end.index() - reach.index();
            self.grow_by(&mut inner, missing).ok()?;
            // What was added may lie behind somebody else's mapping.
            let reach = inner.reach(&self.map, first.plus(old), end)?;
            if reach.0 < end.0 {
                return None;
            }
        }
        let (zeroed, fresh) = inner.take_behind(&self.map, first, old..new, label)?;
        inner.records(&self.map).record(first).set_len(new);
        if fresh >= MAKE_UP_REGIONS {
            if self.is_offered.load(Ordering::Relaxed) {
                drop(inner);
                self.reclaim_offered();
                inner = self.written.0.inner.lock();
            }
            let surplus = inner.surplus_dirty().min(fresh);
            self.note_counts(&inner);
            drop(inner);
            // Blocks that grow where they are would else leave ever more behind them.
            self.give_back_for_request(surplus);
            return Some(zeroed);
        }
        self.note_counts(&inner);
        Some(zeroed)
    }

    /// Gives the tail of a run back: it has `new` regions then instead of `old`.
    ///
    /// # Safety
    ///
    /// The run is the caller's and has `old` regions, more than `new`, which is
    /// not zero; nothing uses the tail.
    pub unsafe fn shrink(&self, first: RegionIndex, old: usize, new: usize) {
        let records: *mut Record =
            core::ptr::with_exposed_provenance_mut(self.records.load(Ordering::Relaxed));
        // SAFETY: the run's first record is its holder's while it is handed out.
        unsafe { (*records.add(first.index())).set_len(new) };
        // SAFETY: the tail is the caller's and unused.
        unsafe { self.free(first.plus(new), old - new) };
    }
}
