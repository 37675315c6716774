//! Runs come back, and what is free goes back to the system.

use crate::arena::Arena;
use crate::free_runs::{FreeRun, INSIDE, State};
use crate::inner::purge;
use crate::space::Space;
use hakmem_region_id::{Kind, REGION_BYTES, RegionIndex, RegionWord};

/// Free runs from this length on go back to the system at once and become holes
/// (256 MiB): so much is not worth keeping for a second.
const HOLE_REGIONS: usize = (256 << 20) / REGION_BYTES;
/// The most the purge gives back between two looks at the lock, in regions
/// (4 MiB, about a millisecond of the system's time).
const PURGE_PART: usize = (4 << 20) / REGION_BYTES;
/// After so many parts of which the system has taken nothing, no more are tried: all memory may be locked.
const IN_VAIN: usize = 4;

impl Arena {
    /// Takes back a run, or a part of one, that was handed out.
    ///
    /// If it is the front of a run labelled [`Label::LARGE`](crate::Label::LARGE), the caller labels what is left
    /// of that.
    ///
    /// # Safety
    ///
    /// The `count` regions from `first` on are the caller's, and nothing in them
    /// is used any more.
    pub unsafe fn free(&self, first: RegionIndex, count: usize) {
        // SAFETY: passed on.
        unsafe { self.take_back(first, count, State::Dirty, hakmem_sys::clock::now_ms()) }
    }

    /// As [`free`](Self::free), of a run of which nothing is in memory: it reads as zero.
    ///
    /// # Safety
    ///
    /// As there, and what is said of the run is true.
    pub unsafe fn free_clean(&self, first: RegionIndex, count: usize) {
        // SAFETY: passed on.
        unsafe { self.take_back(first, count, State::Clean, 0) }
    }

    /// # Safety
    ///
    /// As for [`free`](Self::free), and the run is in this state.
    unsafe fn take_back(&self, first: RegionIndex, count: usize, state: State, stamp: u32) {
        let is_long = count >= HOLE_REGIONS;
        let _in_hand = is_long.then(|| self.written.0.in_hand.lock());
        let mut inner = self.written.0.inner.lock();
        let at = inner.records(&self.map);
        let run = FreeRun { first, len: count };
        // The last region of a run is no holder's but a large block's.
        if at.word(run.last()) != INSIDE {
            at.label(first, count, INSIDE);
        }
        let (mut state, mut stamp) = (state, stamp);
        if is_long {
            // As many pages take the system long: others can use the arena meanwhile.
            at.label_ends(run, RegionWord::of_kind(Kind::Taken));
            let space = inner.space;
            drop(inner);
            let space = space.filter(Space::can_fill_holes);
            // SAFETY: the run is the caller's and unused.
            let is_hole = space.is_some_and(|space| unsafe { space.decommit(first, count) });
            inner = self.written.0.inner.lock();
            if is_hole {
                inner.purged += if state == State::Dirty {
                    count as u64
                } else {
                    0
                };
                (state, stamp) = (State::Hole, 0);
            }
        }
        let at = inner.records(&self.map);
        inner.free.insert(at, run, state, stamp);
        self.note_counts(&inner);
    }

    /// Gives memory back to the system that has been dirty for at least
    /// `age_ms` milliseconds, at most `limit` regions of it, in parts between
    /// which others can use the arena. Returns how many regions it was.
    pub fn purge(&self, age_ms: u32, limit: usize) -> usize {
        self.give_back(limit, |now, stamp| now.wrapping_sub(stamp) >= age_ms)
    }

    /// The same with what `is_meant`, by the time and by when it was freed. What the system refuses to take
    /// (locked pages, for example) is out of the lists until the end: it is neither tried again meanwhile nor
    /// in the way of the rest. Where it refuses again and again, that is the end.
    fn give_back(&self, limit: usize, is_meant: impl Fn(u32, u32) -> bool) -> usize {
        let (mut given, mut in_vain) = (0, 0);
        while given < limit && in_vain < IN_VAIN {
            let part = (limit - given).min(PURGE_PART);
            let in_hand = self.written.0.in_hand.lock();
            let mut inner = self.written.0.inner.lock();
            // Under the lock: nothing in the lists is younger than this.
            let now = hakmem_sys::clock::now_ms();
            let is_meant = |stamp| is_meant(now, stamp);
            let Some(run) = inner.detach_dirty(&self.map, part, is_meant) else {
                break;
            };
            drop(inner);
            // SAFETY: the run was detached: it is in no list, so nobody uses it.
            let done = unsafe { purge(&self.map, run) };
            let mut inner = self.written.0.inner.lock();
            // SAFETY: as above, and so the system has answered.
            let taken = unsafe { inner.note_purged(&self.map, run, done) };
            self.note_counts(&inner);
            drop(inner);
            drop(in_hand);
            given += taken;
            in_vain += usize::from(taken == 0);
        }
        let mut inner = self.written.0.inner.lock();
        inner.put_back(&self.map);
        self.note_counts(&inner);
        given
    }

    /// Gives back, for a request, what is meant by [`give_back`](Self::give_back), unless somebody is
    /// giving back already.
    pub(crate) fn give_back_for_request(&self, limit: usize) {
        if limit > 0 && self.written.0.in_hand.try_lock().is_some() {
            self.give_back(limit, |_, _| true);
        }
    }

    /// Gives all free memory back to the system at once, and its addresses too, so
    /// that it counts against no limit; but in a large arena not those of short runs, unless they lie beside
    /// others, because a process may have only so many mappings. Returns how many regions were dirty.
    pub fn trim(&self) -> usize {
        let given = self.give_back(usize::MAX, |_, _| true);
        let mut inner = self.written.0.inner.lock();
        let before = inner.purged;
        inner.release_free(&self.map);
        self.note_counts(&inner);
        given + (inner.purged - before) as usize
    }
}
