//! Superslabs: taking empty slabs out of them, giving them back, and what becomes of their memory.

use crate::pool::{Shared, SlabPool};
use crate::record::{Backing, SuperslabLinks, own_of, shared_of};
use crate::superslab::{LENGTHS, SLABS, SuperslabWord, Taken};
use hakmem_page_arena::{Label, Shape, Use};
use hakmem_region_id::{Kind, REGION_BYTES, RegionIndex, RegionWord};
use hakmem_remote_free::TaggedStack;
use hakmem_sys::sync::Ordering;
use hakmem_sys::vm;

/// Wholly empty superslabs that are kept for the next slab.
const WHOLE_KEPT: u32 = 1;
/// And beyond that one in so many of the listed superslabs, until they are looked for.
const WHOLE_SHARE: u32 = 32;

/// Empty slabs that hold memory are offered when they are so many (8 MiB),
const DIRTY_LEAST: u32 = ((8 << 20) / REGION_BYTES) as u32;
/// one for so many in use, and one for each superslab that the last walk met; and beyond that as many
/// as were missed when they had gone. Half of the former and all of the latter stays.
const DIRTY_SHARE: u32 = 8;
/// So many bytes of them go back to the system in one call, which holds up a request, or some more:
/// a few milliseconds.
const RECLAIMED_AT_ONCE: usize = 16 << 20;
/// After so many superslabs of which the system takes nothing, a walk tries no more: all memory may
/// be locked.
const IN_VAIN: usize = 4;

/// Where an empty slab came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EmptySource {
    /// A superslab in use.
    Superslab,
    /// A superslab that was wholly empty.
    WholeSuperslab,
}

impl SlabPool {
    /// How many empty slabs that hold memory are too many, and how many of them stay then.
    fn most_dirty(&self) -> (u32, u32) {
        let used = self.used.load(Ordering::Relaxed);
        let listed = self.listed.load(Ordering::Relaxed);
        let missed = self.missed.load(Ordering::Relaxed);
        let share = DIRTY_LEAST.max(used / DIRTY_SHARE).max(listed);
        (
            missed.saturating_add(share),
            missed.saturating_add(share / 2),
        )
    }

    /// Whether so many empty slabs hold memory that [`reclaim`](Shared::reclaim) gives some back.
    fn has_too_much(&self) -> bool {
        self.dirty.load(Ordering::Relaxed) >= self.most_dirty().0
    }

    /// Notes that a slab without memory is about to get some again.
    fn note_clean_taken(&self) {
        let reclaimed = self.reclaimed.load(Ordering::Relaxed);
        if reclaimed > 0 {
            self.reclaimed.store(reclaimed - 1, Ordering::Relaxed);
            self.missed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Forgets by and by that slabs were missed.
    fn forget_missed(&self) {
        let missed = self.missed.load(Ordering::Relaxed);
        self.missed.store(missed / 2, Ordering::Relaxed);
        self.reclaimed.store(0, Ordering::Relaxed);
    }
}

impl Shared<'_> {
    /// Finds an empty slab in the superslabs there are.
    pub(crate) fn take_empty(self) -> Option<(RegionIndex, EmptySource)> {
        let links = SuperslabLinks(self.arena);
        while let Some(first) = self.pool.superslabs.peek() {
            let word = SuperslabWord(&shared_of(self.arena, RegionIndex(first)).superslab);
            if let Taken::Slab {
                number,
                first: whole,
            } = word.take()
            {
                let source = if whole {
                    self.pool.whole.remove();
                    EmptySource::WholeSuperslab
                } else {
                    EmptySource::Superslab
                };
                let region = RegionIndex(first).plus(number);
                if self.is_dirty(region) {
                    self.pool.dirty.fetch_sub(1, Ordering::Relaxed);
                } else {
                    self.pool.note_clean_taken();
                }
                self.pool.used.fetch_add(1, Ordering::Relaxed);
                return Some((region, source));
            }
            // Used up: out of the list with it, or with whatever is on top now.
            if let Some(popped) = self.pool.superslabs.pop(&links) {
                let word = SuperslabWord(&shared_of(self.arena, RegionIndex(popped)).superslab);
                if word.unlist() {
                    self.pool.superslabs.push(&links, popped);
                }
            }
        }
        None
    }

    /// The first slab of a new superslab, of which so much will be used; `None` if there is
    /// no memory.
    pub(crate) fn make_superslab(self, expected: Use) -> Option<RegionIndex> {
        let shapes = LENGTHS.map(|length| {
            let (regions, align) = (length, length);
            (Shape { regions, align }, Label::TAKEN)
        });
        let run = self.arena.allocate_in_chunk(&shapes, expected, 0)?;
        let length = run.regions;
        if run.huge_pages > 0 || !run.zeroed() {
            let epoch = self.pool.epoch.load(Ordering::Relaxed) as u8;
            for number in 0..length {
                // SAFETY: the superslab is new, and nobody else knows its slabs.
                let own = unsafe { own_of(self.arena, run.first.plus(number)) };
                own.memory.set(Backing::ALL);
                own.emptied.set(epoch);
            }
            self.pool
                .dirty
                .fetch_add(length as u32 - 1, Ordering::Relaxed);
        }
        SuperslabWord(&shared_of(self.arena, run.first).superslab).start(length);
        self.pool
            .superslabs
            .push(&SuperslabLinks(self.arena), run.first.0);
        self.pool.made.fetch_add(1, Ordering::Relaxed);
        self.pool.used.fetch_add(1, Ordering::Relaxed);
        Some(run.first)
    }

    /// The first region of the superslab that a slab is part of, and its number there.
    ///
    /// # Panics
    ///
    /// If the caller does not hold the slab.
    fn superslab_of(self, region: RegionIndex) -> (RegionIndex, usize) {
        // Superslabs are aligned to their own length in addresses; so is the arena's base. Where one
        // of a length starts that the slab would be part of, it is.
        let found = LENGTHS.into_iter().find_map(|length| {
            let number = region.index() % length;
            let first = RegionIndex(region.0 - number as u32);
            let word = SuperslabWord(&shared_of(self.arena, first).superslab);
            (word.length() == length).then_some((first, number))
        });
        found.expect("a slab is part of a superslab")
    }

    /// Gives an empty slab back.
    ///
    /// # Safety
    ///
    /// The caller holds the slab, its remote list is retired, and none of its
    /// blocks is in use.
    pub(crate) unsafe fn give_empty(self, region: RegionIndex) {
        // SAFETY: the caller holds the region and its slab.
        unsafe {
            self.arena
                .map()
                .set(region, RegionWord::of_kind(Kind::Taken));
            own_of(self.arena, region)
                .emptied
                .set(self.pool.epoch.load(Ordering::Relaxed) as u8);
        }
        let dirty = self.pool.dirty.fetch_add(1, Ordering::Relaxed) + 1;
        self.pool.used.fetch_sub(1, Ordering::Relaxed);
        if dirty.is_multiple_of(DIRTY_LEAST) && dirty >= self.pool.most_dirty().0 {
            self.arena.offer();
        }
        let (first, number) = self.superslab_of(region);
        let given = SuperslabWord(&shared_of(self.arena, first).superslab).give(number);
        if given.list {
            self.pool
                .superslabs
                .push(&SuperslabLinks(self.arena), first.0);
        }
        if given.whole {
            self.pool.whole.add();
            if self.pool.whole.is_due(WHOLE_KEPT) {
                self.end_whole_superslabs(WHOLE_KEPT);
            }
        }
    }

    /// Gives wholly empty superslabs back to the arena, all but `keep`. Returns
    /// how many. The caller holds some heap's lock, as for
    /// [`purge_empty`](Self::purge_empty).
    pub(crate) fn end_whole_superslabs(self, keep: u32) -> usize {
        let links = SuperslabLinks(self.arena);
        let (mut kept, mut met) = (0, 0);
        let mut ended = 0;
        let mut next = self.pool.superslabs.take_all();
        while let Some(first) = next {
            next = TaggedStack::next(&links, first);
            met += 1;
            let word = SuperslabWord(&shared_of(self.arena, RegionIndex(first)).superslab);
            let length = word.length();
            if word.is_whole() && kept < keep {
                kept += 1;
            } else if word.end() {
                self.forget_dirty(RegionIndex(first), length);
                // SAFETY: the superslab was popped, and all of its slabs were
                // empty when its word became zero, so nobody can reach it.
                unsafe { self.arena.free(RegionIndex(first), length) };
                ended += 1;
                continue;
            } else if !word.unlist() {
                continue;
            }
            self.pool.superslabs.push(&links, first);
        }
        self.pool.whole.set(kept);
        self.pool.whole.note_walk(met, WHOLE_SHARE);
        self.pool
            .superslabs_met
            .fetch_add(u64::from(met), Ordering::Relaxed);
        self.pool.ended.fetch_add(ended, Ordering::Relaxed);
        ended as usize
    }

    /// Gives the memory of empty slabs back to the system: of those that were
    /// empty before the last call already, or of all. The slabs stay where they
    /// are. Returns how many bytes it was.
    ///
    /// The caller holds some heap's lock, so that a fork does not happen while
    /// the list is in pieces.
    pub(crate) fn purge_empty(self, all: bool) -> usize {
        let epoch = self.pool.epoch.fetch_add(1, Ordering::Relaxed) as u8;
        let bytes = self.purge_listed(usize::MAX, |emptied| all || emptied != epoch);
        self.pool.forget_missed();
        // One that became whole while its other slabs were held there was not
        // counted by whoever gave the last one back.
        self.end_whole_superslabs(WHOLE_KEPT);
        bytes
    }

    /// Gives the memory of empty slabs back to the system, where they have so much that a walk over the
    /// superslabs is worth it, and half of that stays: for when the arena is
    /// [offered](hakmem_page_arena::Arena::offer) it, and about to take as much from the system for
    /// something else. Waits for no lock but the arena's.
    pub fn reclaim(self) {
        if !self.pool.has_too_much() {
            return;
        }
        let Some(_held) = self.pool.upkeep.try_lock() else {
            // Somebody is at it, or a fork is.
            self.arena.offer();
            return;
        };
        // These the arena can use as they are.
        if self.pool.whole.count() > WHOLE_KEPT {
            self.end_whole_superslabs(WHOLE_KEPT);
        }
        let kept = self.pool.most_dirty().1;
        let dirty = self.pool.dirty.load(Ordering::Relaxed);
        let most = dirty.saturating_sub(kept) as usize * REGION_BYTES;
        // What is met last comes to lie on top, and is taken next: that stays.
        let bytes = self.purge_listed(most.min(RECLAIMED_AT_ONCE), |_| true);
        let slabs = (bytes / REGION_BYTES) as u32;
        self.pool.reclaimed.fetch_add(slabs, Ordering::Relaxed);
        if bytes > 0 && self.pool.has_too_much() {
            self.arena.offer();
        }
    }

    /// Gives the memory of listed empty slabs back to the system, of those of which `is_due` is true
    /// for when they became empty, until that is `most` bytes or some more. Returns how many bytes it was.
    fn purge_listed(self, most: usize, is_due: impl Fn(u8) -> bool) -> usize {
        let links = SuperslabLinks(self.arena);
        let (mut bytes, mut met, mut refused) = (0, 0, 0);
        let mut next = self.pool.superslabs.take_all();
        while let Some(first) = next {
            next = TaggedStack::next(&links, first);
            met += 1;
            if bytes < most && refused < IN_VAIN {
                match self.purge_superslab(RegionIndex(first), &is_due) {
                    Some(given) => bytes += given,
                    None => refused += 1,
                }
            }
            // It was popped as listed, and is put back as listed.
            self.pool.superslabs.push(&links, first);
        }
        self.pool.listed.store(met, Ordering::Relaxed);
        self.pool.purged.fetch_add(bytes as u64, Ordering::Relaxed);
        bytes
    }

    /// The same of one superslab, which the caller has popped. `None` if the system has refused all.
    fn purge_superslab(self, first: RegionIndex, is_due: impl Fn(u8) -> bool) -> Option<usize> {
        let word = SuperslabWord(&shared_of(self.arena, first).superslab);
        let taken = word.take_all();
        let mut due = 0_u32;
        for number in (0..SLABS).filter(|number| taken >> number & 1 != 0) {
            // SAFETY: the slab's bit was taken, so it is this thread's.
            let own = unsafe { own_of(self.arena, first.plus(number)) };
            if own.memory.get().is_some() && is_due(own.emptied.get()) {
                due |= 1 << number;
            }
        }
        let (mut bytes, tries) = (0, due != 0);
        while due != 0 {
            let start = due.trailing_zeros() as usize;
            let count = (due >> start).trailing_ones() as usize;
            due &= !((u32::MAX >> (u32::BITS as usize - count)) << start);
            bytes += self.purge_taken(first.plus(start), count);
        }
        if word.give_all(taken) && !word.is_all(taken.into()) {
            // Whoever gave the last one back meanwhile did not see the others.
            self.pool.whole.add();
        }
        (bytes > 0 || !tries).then_some(bytes)
    }

    /// Gives the memory of so many slabs in a row, which the caller has taken, back to the
    /// system. Returns how many bytes it was: none if the system refuses.
    fn purge_taken(self, first: RegionIndex, count: usize) -> usize {
        let bytes = count * REGION_BYTES;
        // SAFETY: the slabs are empty, and this thread's.
        if !unsafe { vm::purge(self.arena.map().address_of(first), bytes) } {
            return 0;
        }
        for number in 0..count {
            // SAFETY: as above.
            unsafe { own_of(self.arena, first.plus(number)) }
                .memory
                .set(Backing::NONE);
        }
        self.pool.dirty.fetch_sub(count as u32, Ordering::Relaxed);
        bytes
    }

    /// Whether an empty slab that the caller holds has memory.
    fn is_dirty(self, region: RegionIndex) -> bool {
        // SAFETY: the caller holds the slab.
        unsafe { own_of(self.arena, region).memory.get().is_some() }
    }

    /// Clears the marks of an ended superslab's slabs: whether its memory is dirty
    /// is the arena's to know then.
    fn forget_dirty(self, first: RegionIndex, length: usize) {
        for number in 0..length {
            let region = first.plus(number);
            if self.is_dirty(region) {
                self.pool.dirty.fetch_sub(1, Ordering::Relaxed);
                // SAFETY: the superslab has ended, so its slabs are this thread's.
                unsafe { own_of(self.arena, region).memory.set(Backing::NONE) };
            }
        }
    }
}
