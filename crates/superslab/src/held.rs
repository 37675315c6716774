//! A heap's slabs while its lock is held.

use crate::owned::OwnedSlabs;
use crate::pool::Shared;
use crate::record::shared_of;
use crate::slab::Slab;
use hakmem_region_id::{ClassIndex, RegionIndex, RegionWord};
use hakmem_remote_free::Unlisted;
use hakmem_sys::sync::Ordering;

/// A heap's slabs while its lock is held.
pub(crate) struct Held<'a> {
    pub owned: &'a OwnedSlabs,
    pub shared: Shared<'a>,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        // SAFETY: a `Held` is made only after taking the lock.
        unsafe { self.owned.lock.unlock() }
    }
}

impl OwnedSlabs {
    /// Waits for the heap's lock.
    pub(crate) fn held<'a>(&'a self, shared: Shared<'a>) -> Held<'a> {
        self.lock.lock();
        self.is_tended.store(false, Ordering::Relaxed);
        Held {
            owned: self,
            shared,
        }
    }

    /// As [`held`](Self::held), unless somebody else holds the lock for longer.
    pub(crate) fn held_soon<'a>(&'a self, shared: Shared<'a>) -> Option<Held<'a>> {
        self.lock.lock_soon().then(|| {
            self.is_tended.store(false, Ordering::Relaxed);
            Held {
                owned: self,
                shared,
            }
        })
    }

    /// As [`held`](Self::held), unless somebody else holds the lock, and the caller sees to
    /// `is_tended`.
    pub(crate) fn try_held<'a>(&'a self, shared: Shared<'a>) -> Option<Held<'a>> {
        self.lock.try_lock().then(|| Held {
            owned: self,
            shared,
        })
    }
}

impl<'a> Held<'a> {
    /// A view of a slab this heap owns.
    ///
    /// # Safety
    ///
    /// This heap owns the slab, or nobody else can know it, for as long as the view is used; and for so
    /// long the lock is held.
    pub(crate) unsafe fn slab(&self, region: RegionIndex) -> Slab<'a> {
        // SAFETY: passed on.
        unsafe { Slab::new(self.shared.arena, region) }
    }

    /// Claims a slab that was popped out of its class's list, unless it has got an owner meanwhile. It
    /// stands in none of this heap's lists yet.
    pub(crate) fn claim_popped(&self, region: RegionIndex, class: ClassIndex) -> Option<Slab<'a>> {
        let remote = &shared_of(self.shared.arena, region).remote;
        if remote.unlist(self.owned.number) == Unlisted::HasOwner {
            return None;
        }
        // SAFETY: it was claimed.
        let slab = unsafe { self.slab(region) };
        self.set_word(slab, RegionWord::owned(self.owned.owner, class));
        Some(slab)
    }

    /// Writes the word of a slab's region.
    pub(crate) fn set_word(&self, slab: Slab<'a>, word: RegionWord) {
        // SAFETY: a view of a slab is its owner's, who may change its word.
        unsafe { self.shared.arena.map().set(slab.region, word) }
    }
}
