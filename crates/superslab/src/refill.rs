//! Refills: where free blocks come from, stage by stage.

use crate::empty::EmptySource;
use crate::held::Held;
use crate::owned::OwnedSlabs;
use crate::pool::Shared;
use crate::record::Place;
use hakmem_page_arena::Use;
use hakmem_region_id::{ClassIndex, REGION_BYTES, RegionIndex, RegionWord};
use hakmem_sys::sync::Ordering;

/// Untouched memory is asked for an eighth of what the class has full slabs of at a time: it
/// will be used, and at worst so much is there too early.
const AHEAD: usize = 8;
/// If that is at least so many bytes: less at a time costs as much as the pages one by one. Where
/// regions have 16 KiB, it is a whole slab.
const LEAST_AHEAD: usize = 16 * 1024;
/// From this many full slabs on (16 MiB), a heap's next superslab is taken to become full too:
/// of what the heap has, a huge page is an eighth at most.
const DENSE_FROM: u32 = ((16 << 20) / REGION_BYTES) as u32;

impl OwnedSlabs {
    /// Takes up to `out.len()` free blocks of a tiny class, mostly in
    /// ascending order. Returns how many; zero only when there is no memory, or the class is not
    /// tiny.
    pub fn refill(&self, shared: Shared<'_>, class: ClassIndex, out: &mut [*mut u8]) -> usize {
        if !class.is_tiny() {
            return 0;
        }
        self.note_visit();
        self.held(shared).refill(class, out)
    }

    /// As [`refill`](Self::refill), but of one slab, and a heap without slabs of the class has
    /// none afterwards: the class's pool gets it, for whoever comes next. For a heap that perhaps
    /// never needs more.
    pub fn refill_once(&self, shared: Shared<'_>, class: ClassIndex, out: &mut [*mut u8]) -> usize {
        if !class.is_tiny() {
            return 0;
        }
        self.note_visit();
        self.held(shared).refill_once(class, out)
    }
}

impl Held<'_> {
    fn refill(&mut self, class: ClassIndex, out: &mut [*mut u8]) -> usize {
        self.class(class).active.set(true);
        let mut filled = 0;
        loop {
            if let Some(slab) = self.first(class, Place::Current) {
                let ahead = self.class(class).full_count.get() as usize * REGION_BYTES / AHEAD;
                if ahead >= LEAST_AHEAD {
                    slab.populate(out.len() - filled, ahead.min(REGION_BYTES));
                }
                filled += slab.take(&mut out[filled..]);
                if filled == out.len() {
                    self.owned.counts.refills_own.add(1);
                    return filled;
                }
                if slab.remote().waiting() > 0 {
                    self.drain(slab);
                    continue;
                }
                self.retire_current(slab, class);
            }
            if !self.owned.inbox.is_empty() {
                self.take_inbox();
            }
            if self.promote_head(class) {
                continue;
            }
            // Half a batch is enough not to go to the next stage for more.
            if filled * 2 >= out.len() {
                self.owned.counts.refills_own.add(1);
                return filled;
            }
            if !self.find_slab(class) {
                return filled;
            }
        }
    }

    fn refill_once(&mut self, class: ClassIndex, out: &mut [*mut u8]) -> usize {
        let heads = self.class(class);
        let heads = [&heads.current, &heads.partial, &heads.sparse, &heads.full];
        if heads.iter().any(|head| head.get() != 0) {
            return self.refill(class, out);
        }
        if !self.find_slab(class) {
            return 0;
        }
        let Some(slab) = self.first(class, Place::Current) else {
            return 0;
        };
        let filled = slab.take(out);
        self.give_to_pool(slab);
        filled
    }

    /// Makes a slab that was not this heap's the current one: stage by stage, the one that
    /// needs least first.
    fn find_slab(&self, class: ClassIndex) -> bool {
        self.claim_listed(class)
            || (self.ask_for_spare(class) && self.claim_listed(class))
            || self.start_empty(class)
            || (self.look_at_others(class) && self.claim_listed(class))
            || self.start_superslab(class)
    }

    /// Has another heap that has sparse slabs of a class to spare give some to the class's pool.
    /// Returns whether it has.
    fn ask_for_spare(&self, class: ClassIndex) -> bool {
        let Some(number) = self.shared.has_spare(class) else {
            return false;
        };
        if number == self.owned.number {
            // It has none: it is looking for some.
            self.shared.note_no_spare(class, number);
            return false;
        }
        let other = self.shared.pool.owners.get(number);
        other.is_some_and(|other| other.give_spare(self.shared, class))
    }

    /// Makes a slab out of the class's pool the current one.
    fn claim_listed(&self, class: ClassIndex) -> bool {
        while let Some(region) = self.shared.pop_listed(class) {
            let Some(slab) = self.claim_popped(region, class) else {
                continue;
            };
            self.owned.counts.refills_pool.add(1);
            if slab.available() == 0 {
                self.link(slab, Place::Full);
                continue;
            }
            self.link(slab, Place::Current);
            return true;
        }
        false
    }

    /// Makes an empty slab of a superslab there is the current one.
    fn start_empty(&self, class: ClassIndex) -> bool {
        let Some((region, source)) = self.shared.take_empty() else {
            return false;
        };
        let counts = &self.owned.counts;
        let count = match source {
            EmptySource::Superslab => &counts.refills_empty,
            EmptySource::WholeSuperslab => &counts.refills_superslab,
        };
        count.add(1);
        // SAFETY: it was taken, and nobody else knows it.
        unsafe { self.start(region, class) };
        true
    }

    /// Makes the first slab of a new superslab the current one.
    fn start_superslab(&self, class: ClassIndex) -> bool {
        // What sleepers gave up may have become an empty slab, not one of this class.
        if self.start_empty(class) {
            return true;
        }
        let full: u32 = self
            .lists()
            .iter()
            .map(|class| class.full_count.get())
            .sum();
        let expected = if full >= DENSE_FROM {
            Use::Proven
        } else {
            Use::Unknown
        };
        let Some(region) = self.shared.make_superslab(expected) else {
            return false;
        };
        self.owned.counts.refills_arena.add(1);
        // SAFETY: as above.
        unsafe { self.start(region, class) };
        true
    }

    /// Does the upkeep of heaps whose threads have done nothing since somebody looked last: what
    /// they hold is needed here. Of others, takes what they have to spare of the class, though
    /// another has said so since. Returns whether there was anything.
    fn look_at_others(&self, class: ClassIndex) -> bool {
        let mut found = false;
        let others = self.shared.heaps_in_turn();
        for other in others.filter(|other| other.number != self.owned.number) {
            let visits = other.visits.load(Ordering::Relaxed);
            found |= if other.visits_seen.swap(visits, Ordering::Relaxed) == visits {
                other.tend(self.shared)
            } else {
                other.give_spare(self.shared, class)
            };
        }
        found
    }

    /// Makes an empty slab that this heap holds the current one.
    ///
    /// # Safety
    ///
    /// It was taken from its superslab for that.
    #[inline(never)]
    unsafe fn start(&self, region: RegionIndex, class: ClassIndex) {
        // SAFETY: it is this heap's.
        let slab = unsafe { self.slab(region) };
        slab.start(class);
        slab.remote().adopt(self.owned.number);
        self.set_word(slab, RegionWord::owned(self.owned.owner, class));
        self.link(slab, Place::Current);
    }
}
