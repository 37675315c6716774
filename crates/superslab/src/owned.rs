//! The slabs of one heap.

use crate::lists::{ClassSlabs, Lists};
use core::mem::MaybeUninit;
use hakmem_region_id::{OwnerId, TINY_CLASSES};
use hakmem_remote_free::{OwnerNumber, TaggedStack};
use hakmem_sys::counter::Counter;
use hakmem_sys::lock::RawLock;
use hakmem_sys::sync::{AtomicBool, AtomicU32, Ordering};

/// What happened to a heap's slabs, as counts of events.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct SlabCounts {
    /// Refills served from the heap's own slabs.
    pub refills_own: Counter,
    /// Slabs claimed from the pool of their class for a refill.
    pub refills_pool: Counter,
    /// Empty slabs taken from superslabs in use.
    pub refills_empty: Counter,
    /// Empty slabs taken from wholly empty superslabs.
    pub refills_superslab: Counter,
    /// Empty slabs taken from new superslabs.
    pub refills_arena: Counter,
    /// Blocks that came back into the heap's own slabs.
    pub local_frees: Counter,
    /// Blocks freed by this heap that went to another's slab.
    pub remote_frees: Counter,
    /// Chains pushed to slabs of other heaps.
    pub remote_pushes: Counter,
    /// Chains taken from remote lists.
    pub remote_drains: Counter,
    /// Slabs claimed by freeing into them.
    pub claims: Counter,
    /// Slabs given up.
    pub disowns: Counter,
    /// Slabs that became empty and went back to their superslab.
    pub emptied: Counter,
    /// Times this heap took in what was waiting for another one. This and `remote_frees` are
    /// added to without the heap's lock: by `add_shared` only.
    pub helps: Counter,
}

impl SlabCounts {
    /// Empty slabs taken, wherever from.
    pub fn slabs_started(&self) -> u64 {
        self.refills_empty.get() + self.refills_superslab.get() + self.refills_arena.get()
    }
}

/// The slabs that one heap owns, and its inbox.
///
/// All work on them is done under the heap's lock. Its own thread takes it on slow paths only.
/// Others wait for it a little to free blocks of its slabs, only try it to do the upkeep of a
/// heap whose thread sleeps, and wait as long as it takes in [`trim`](Self::trim).
pub struct OwnedSlabs {
    pub(crate) number: OwnerNumber,
    pub(crate) owner: OwnerId,
    pub(crate) lock: RawLock,
    /// Slabs in whose remote lists blocks are waiting.
    pub(crate) inbox: TaggedStack,
    pub(crate) lists: Lists,
    /// How often the heap's own thread came, and what that was when another looked last.
    pub(crate) visits: AtomicU32,
    pub(crate) visits_seen: AtomicU32,
    /// Whether nothing has changed since another did the upkeep. Written under the lock.
    pub(crate) is_tended: AtomicBool,
    pub(crate) counts: SlabCounts,
}

// SAFETY: the cells in `lists` are only reached through `Held`, which exists under the lock.
unsafe impl Sync for OwnedSlabs {}

impl core::fmt::Debug for OwnedSlabs {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("OwnedSlabs")
            .field("number", &self.number)
            .field("counts", &self.counts)
            .finish_non_exhaustive()
    }
}

impl OwnedSlabs {
    /// No slabs yet, for the owner with this number; `None` when numbers have
    /// run out.
    ///
    /// # Safety
    ///
    /// Before anything else is done with them, these slabs are where they stay for as long as the
    /// program runs, and are [entered](crate::OwnerTable::enter) among the owners of one pool. They are
    /// used with that pool only, and with its arena. (Those that could not be entered, because there
    /// was no memory or another has the number, are not used.)
    pub unsafe fn new(number: u32) -> Option<Self> {
        let mut slabs = MaybeUninit::uninit();
        // SAFETY: the place is a local one; it is initialised where `init` says so. The rest is
        // passed on.
        unsafe { Self::init(slabs.as_mut_ptr(), number).then(|| slabs.assume_init()) }
    }

    /// The same in `place`, without a value of some kilobytes on the stack, whose pages would
    /// stay with each thread. False, and nothing is written, when numbers have run out.
    ///
    /// # Safety
    ///
    /// `place` can be written to, and nobody else uses it; and as for [`new`](Self::new).
    pub unsafe fn init(place: *mut Self, number: u32) -> bool {
        let Some(owner) = OwnerId::from_number(number) else {
            return false;
        };
        // All fields are named here, so that one more cannot be forgotten below.
        let _ = |slabs: &Self| {
            let Self {
                number: _,
                owner: _,
                lock: _,
                inbox: _,
                lists: _,
                visits: _,
                visits_seen: _,
                is_tended: _,
                counts: _,
            } = slabs;
        };
        // SAFETY: the place is the caller's to write to.
        unsafe {
            let lists: *mut ClassSlabs = (&raw mut (*place).lists).cast();
            for class in 0..TINY_CLASSES {
                lists.add(class).write(ClassSlabs::default());
            }
            (&raw mut (*place).number).write(OwnerNumber(number));
            (&raw mut (*place).owner).write(owner);
            (&raw mut (*place).lock).write(RawLock::new());
            (&raw mut (*place).inbox).write(TaggedStack::new());
            (&raw mut (*place).visits).write(AtomicU32::new(0));
            (&raw mut (*place).visits_seen).write(AtomicU32::new(0));
            (&raw mut (*place).is_tended).write(AtomicBool::new(false));
            (&raw mut (*place).counts).write(SlabCounts::default());
        }
        true
    }

    /// The owner code that the words of these slabs carry.
    pub fn owner(&self) -> OwnerId {
        self.owner
    }

    /// The number by which the owner stands in the
    /// [`OwnerTable`](crate::OwnerTable).
    pub fn number(&self) -> OwnerNumber {
        self.number
    }

    /// What has happened so far.
    pub fn counts(&self) -> &SlabCounts {
        &self.counts
    }

    /// The heap's lock, for the fork hooks.
    pub fn raw_lock(&self) -> &RawLock {
        &self.lock
    }

    /// Counts a visit of the heap's own thread. Not exact where threads share a heap, and need not be.
    pub(crate) fn note_visit(&self) {
        let visits = self.visits.load(Ordering::Relaxed).wrapping_add(1);
        self.visits.store(visits, Ordering::Relaxed);
    }
}
