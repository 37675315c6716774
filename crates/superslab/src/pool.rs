//! What all heaps share: the pool, and of it the slabs with room that nobody owns. Its superslabs are in
//! `empty`.

use crate::record::PoolLinks;
use crate::{OwnedSlabs, OwnerTable};
use hakmem_page_arena::Arena;
use hakmem_region_id::{ClassIndex, REGION_BYTES, RegionIndex, TINY_CLASSES};
use hakmem_remote_free::{OwnerNumber, Surplus, TaggedStack};
use hakmem_sys::lock::{Lock, RawLock};
use hakmem_sys::sync::{AtomicU32, AtomicU64, Ordering};

/// All-free slabs that may stand in a class's pool before it is cleared of them,
const EMPTY_LISTED: u32 = 7;
/// and beyond that one in so many of the slabs in it.
const EMPTY_SHARE: u32 = 8;

/// Counters of a pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolCounts {
    /// Superslabs made so far.
    pub superslabs_made: u64,
    /// Superslabs given back to the arena so far.
    pub superslabs_ended: u64,
    /// Bytes of empty slabs given back to the system so far.
    pub purged_bytes: u64,
    /// Superslabs met so far by those who looked for wholly empty ones.
    pub superslabs_met: u64,
    /// Slabs of the classes' lists met so far by those who looked for all-free ones.
    pub slabs_met: u64,
}

/// The slabs that all heaps of an allocator share.
pub struct SlabPool {
    classes: [TaggedStack; TINY_CLASSES],
    /// Which heap has said last of each class that it has slabs to spare: its number and one.
    spare: [AtomicU32; TINY_CLASSES],
    /// The all-free slabs in each class's list.
    empty_listed: [Surplus; TINY_CLASSES],
    pub(crate) superslabs: TaggedStack,
    /// The superslabs in the list that are wholly empty.
    pub(crate) whole: Surplus,
    /// Advances with every purge: what became empty in an earlier epoch has been
    /// empty since before the purge before.
    pub(crate) epoch: AtomicU32,
    /// How many empty slabs hold memory.
    pub(crate) dirty: AtomicU32,
    /// How many slabs are not empty.
    pub(crate) used: AtomicU32,
    /// How many superslabs the last walk for dirty slabs met.
    pub(crate) listed: AtomicU32,
    /// How many slabs [`reclaim`](Shared::reclaim) has purged that are empty still, about,
    pub(crate) reclaimed: AtomicU32,
    /// and how many were taken again lately: who goes to and fro between slabs and other things is to
    /// keep its pages.
    pub(crate) missed: AtomicU32,
    /// Held while [`reclaim`](Shared::reclaim) has the list in pieces, so that a fork can wait for that.
    pub(crate) upkeep: Lock<()>,
    /// Which heap is looked at next.
    turn: AtomicU32,
    pub(crate) purged: AtomicU64,
    pub(crate) made: AtomicU64,
    pub(crate) ended: AtomicU64,
    pub(crate) superslabs_met: AtomicU64,
    slabs_met: AtomicU64,
    /// Who owns slabs.
    pub owners: OwnerTable,
}

impl Default for SlabPool {
    fn default() -> Self {
        Self::new()
    }
}

impl core::fmt::Debug for SlabPool {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("SlabPool")
            .field("counts", &self.counts())
            .finish_non_exhaustive()
    }
}

/// The arena and the pool over it: what every operation on slabs needs.
#[derive(Clone, Copy, Debug)]
pub struct Shared<'a> {
    pub(crate) arena: &'a Arena,
    pub(crate) pool: &'a SlabPool,
}

impl<'a> Shared<'a> {
    /// The two together.
    ///
    /// # Safety
    ///
    /// The pool is used with this arena only, and the arena with no other pool, for as long as the
    /// program runs. Every [`OwnedSlabs`] that is used with them was made for that, as
    /// [`OwnedSlabs::new`] has it.
    pub const unsafe fn new(arena: &'a Arena, pool: &'a SlabPool) -> Self {
        Self { arena, pool }
    }

    /// Where superslabs come from.
    pub const fn arena(self) -> &'a Arena {
        self.arena
    }

    /// The pool over that arena.
    pub const fn pool(self) -> &'a SlabPool {
        self.pool
    }
}

impl SlabPool {
    hakmem_sys::const_new! {
        /// A pool without slabs.
        pub fn new() -> Self {
            Self {
                classes: hakmem_sys::array_of!(TINY_CLASSES, TaggedStack::new()),
                spare: hakmem_sys::array_of!(TINY_CLASSES, AtomicU32::new(0)),
                empty_listed: hakmem_sys::array_of!(TINY_CLASSES, Surplus::new()),
                superslabs: TaggedStack::new(),
                whole: Surplus::new(),
                epoch: AtomicU32::new(0),
                dirty: AtomicU32::new(0),
                used: AtomicU32::new(0),
                listed: AtomicU32::new(0),
                reclaimed: AtomicU32::new(0),
                missed: AtomicU32::new(0),
                upkeep: Lock::new(()),
                turn: AtomicU32::new(0),
                purged: AtomicU64::new(0),
                made: AtomicU64::new(0),
                ended: AtomicU64::new(0),
                superslabs_met: AtomicU64::new(0),
                slabs_met: AtomicU64::new(0),
                owners: OwnerTable::new(),
            }
        }
    }

    /// The pool's lock, for the fork hooks.
    pub fn raw_lock(&self) -> &RawLock {
        self.upkeep.raw()
    }

    /// The pool's counters.
    pub fn counts(&self) -> PoolCounts {
        PoolCounts {
            superslabs_made: self.made.load(Ordering::Relaxed),
            superslabs_ended: self.ended.load(Ordering::Relaxed),
            purged_bytes: self.purged.load(Ordering::Relaxed),
            superslabs_met: self.superslabs_met.load(Ordering::Relaxed),
            slabs_met: self.slabs_met.load(Ordering::Relaxed),
        }
    }
}

impl<'a> Shared<'a> {
    /// Bytes of empty slabs that the system could have back (relaxed).
    pub fn dirty_bytes(self) -> usize {
        self.pool.dirty.load(Ordering::Relaxed) as usize * REGION_BYTES
    }

    /// Bytes of slabs that are not empty (relaxed).
    pub fn used_bytes(self) -> usize {
        self.pool.used.load(Ordering::Relaxed) as usize * REGION_BYTES
    }

    /// Pops a slab of a class out of the class's list. The caller settles it with
    /// [`unlist`](hakmem_remote_free::RemoteList::unlist).
    pub(crate) fn pop_listed(self, class: ClassIndex) -> Option<RegionIndex> {
        self.pool.classes[class.number()]
            .pop(&PoolLinks(self.arena))
            .map(RegionIndex)
    }

    /// Puts a slab that has just been marked as listed into its class's list.
    pub(crate) fn push_listed(self, class: ClassIndex, region: RegionIndex) {
        self.pool.classes[class.number()].push(&PoolLinks(self.arena), region.0);
    }

    /// Notes that a heap has slabs of a class to spare: a hint for whoever needs some.
    pub(crate) fn note_spare(self, class: ClassIndex, owner: OwnerNumber) {
        let spare = &self.pool.spare[class.number()];
        if spare.load(Ordering::Relaxed) != owner.0 + 1 {
            spare.store(owner.0 + 1, Ordering::Relaxed);
        }
    }

    /// Notes that this heap has no slabs of a class to spare, if it was the last to say it has.
    pub(crate) fn note_no_spare(self, class: ClassIndex, owner: OwnerNumber) {
        let spare = &self.pool.spare[class.number()];
        let _ = spare.compare_exchange(owner.0 + 1, 0, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Which heap may have slabs of a class to spare.
    pub(crate) fn has_spare(self, class: ClassIndex) -> Option<OwnerNumber> {
        let number = self.pool.spare[class.number()].load(Ordering::Relaxed);
        number.checked_sub(1).map(OwnerNumber)
    }

    /// Notes that an all-free slab stays in its class's list.
    pub(crate) fn note_empty_listed(self, class: ClassIndex) {
        self.pool.empty_listed[class.number()].add();
    }

    /// Whether so many all-free slabs stand in the class's list that looking for them pays.
    pub(crate) fn has_many_empty_listed(self, class: ClassIndex) -> bool {
        self.pool.empty_listed[class.number()].is_due(EMPTY_LISTED)
    }

    /// Takes all slabs of a class out of its list; the caller settles each, and says by
    /// [`note_settled`](Self::note_settled) how many those were.
    pub(crate) fn take_all_listed(self, class: ClassIndex) -> ListedSlabs<'a> {
        self.pool.empty_listed[class.number()].set(0);
        ListedSlabs {
            arena: self.arena,
            next: self.pool.classes[class.number()].take_all(),
        }
    }

    /// Notes that so many slabs of a class's list were settled.
    pub(crate) fn note_settled(self, class: ClassIndex, met: u32) {
        self.pool.empty_listed[class.number()].note_walk(met, EMPTY_SHARE);
        self.pool
            .slabs_met
            .fetch_add(u64::from(met), Ordering::Relaxed);
    }

    /// Heaps to look at next for what they hold in their sleep.
    pub(crate) fn heaps_in_turn(self) -> impl Iterator<Item = &'static OwnedSlabs> + 'a {
        self.pool.owners.in_turn(&self.pool.turn)
    }

    /// Whether slabs that are all free stand in a class's list.
    pub(crate) fn has_empty_listed(self, class: ClassIndex) -> bool {
        self.pool.empty_listed[class.number()].count() > 0
    }
}

/// Slabs taken out of a class's list.
pub(crate) struct ListedSlabs<'a> {
    arena: &'a Arena,
    next: Option<u32>,
}

impl Iterator for ListedSlabs<'_> {
    type Item = RegionIndex;

    fn next(&mut self) -> Option<RegionIndex> {
        let region = self.next?;
        self.next = TaggedStack::next(&PoolLinks(self.arena), region);
        Some(RegionIndex(region))
    }
}
