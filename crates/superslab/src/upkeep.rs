//! Upkeep: all-free slabs that wait in the pool, and whole free pages of slabs in use.

use crate::held::Held;
use crate::owned::OwnedSlabs;
use crate::pool::Shared;
use crate::record::Place;
use crate::slab::Slab;
use hakmem_region_id::{ClassIndex, TINY_CLASSES};
use hakmem_sys::sync::Ordering;

/// After so many slabs, or so many bytes that the system has taken, who gives the holes of a heap back
/// leaves the lock for others: some hundred microseconds.
const MET_AT_A_TIME: usize = 64;
const GIVEN_AT_A_TIME: usize = 1 << 20;

impl OwnedSlabs {
    /// Gives all-free slabs that stand in the pool's lists back to their
    /// superslabs, and wholly empty superslabs to the arena.
    pub fn clear_pool(&self, shared: Shared<'_>) {
        let held = self.held(shared);
        held.clear_pools();
        shared.end_whole_superslabs(0);
    }

    /// Gives all-free slabs that stand in the pool's lists back to their
    /// superslabs, whole free pages of the other slabs there to the system, and the
    /// memory of empty slabs too: of those that were empty at the last call
    /// already, or of all. Returns how many bytes went to the system.
    pub fn purge_pool(&self, shared: Shared<'_>, all: bool) -> usize {
        let held = self.held(shared);
        let mut given = 0;
        for class in ClassIndex::all().take(TINY_CLASSES) {
            given += held.settle_pool(class, |slab| slab.purge_holes(all));
        }
        given + shared.purge_empty(all)
    }

    /// Gives whole free pages of this heap's slabs back to the system: of slabs
    /// that nobody used since the last call, or with `now` of all. Returns how many
    /// bytes, or zero if somebody holds the lock; ends when that is `limit` bytes, or a little more. Leaves
    /// the lock now and then for others; what these move meanwhile may be passed over.
    pub fn purge_holes(&self, shared: Shared<'_>, now: bool, limit: usize) -> usize {
        let Some(held) = self.try_held(shared) else {
            return 0;
        };
        if held.take_inbox() {
            self.is_tended.store(false, Ordering::Relaxed);
        }
        let mut given = 0;
        for class in ClassIndex::all().take(TINY_CLASSES) {
            for place in [Place::Current, Place::Partial, Place::Sparse] {
                let mut cursor = held.first(class, place);
                let (mut met, mut before) = (0, given);
                while let Some(slab) = cursor {
                    given += slab.purge_holes(now);
                    met += 1;
                    cursor = held.after(slab);
                    if met < MET_AT_A_TIME && given - before < GIVEN_AT_A_TIME {
                        continue;
                    }
                    if given >= limit {
                        return given;
                    }
                    (met, before) = (0, given);
                    // SAFETY: held here.
                    unsafe { self.lock.let_others() };
                    // Others may have it by now.
                    cursor = cursor.filter(|slab| held.has(slab.region, class, place));
                }
            }
        }
        given
    }
}

impl<'a> Held<'a> {
    /// Gives the all-free slabs in the pools of all classes back to their superslabs.
    pub(crate) fn clear_pools(&self) {
        for class in ClassIndex::all().take(TINY_CLASSES) {
            if self.shared.has_empty_listed(class) {
                self.clear_pool_of_empty(class);
            }
        }
    }

    /// Gives the all-free slabs in a class's pool back to their superslabs.
    pub(crate) fn clear_pool_of_empty(&self, class: ClassIndex) {
        self.settle_pool(class, |_| 0);
    }

    /// Gives the all-free slabs in a class's pool back to their superslabs, and
    /// does something to the others. Returns the sum of what that returns.
    fn settle_pool(&self, class: ClassIndex, work: impl Fn(Slab<'a>) -> usize) -> usize {
        let (mut sum, mut met) = (0, 0);
        for region in self.shared.take_all_listed(class) {
            met += 1;
            let Some(slab) = self.claim_popped(region, class) else {
                continue;
            };
            slab.own().place.set(Place::Nowhere);
            if slab.is_all_free() && self.release(slab) {
                continue;
            }
            sum += work(slab);
            self.link(slab, slab.place_with_room());
            self.give_to_pool(slab);
        }
        self.shared.note_settled(class, met);
        sum
    }
}
