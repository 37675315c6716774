//! Slabs that leave a heap: to the pool of their class, or, if they are all free, to their superslabs.

use crate::held::Held;
use crate::lists::SPARSE_KEPT;
use crate::owned::OwnedSlabs;
use crate::pool::Shared;
use crate::record::Place;
use crate::slab::Slab;
use hakmem_region_id::{ClassIndex, RegionWord, TINY_CLASSES};
use hakmem_remote_free::Disowned;
use hakmem_sys::sync::Ordering;

/// A sleeper's slab goes to the pool if one in so many of its blocks is free.
const SLEEPER_GIVES: u16 = 8;
/// So many are given at a time.
const SPARE_GIVEN: usize = 8;

impl OwnedSlabs {
    /// Gives up all slabs, for a heap whose thread ends. A slab into which a push
    /// is just arriving stays, and is dealt with by whoever uses the heap next or
    /// does its upkeep.
    pub fn abandon(&self, shared: Shared<'_>) {
        let mut held = self.held(shared);
        held.give_up_with_room(|_| true);
        held.give_up_full();
        for class in held.lists() {
            class.active.set(false);
        }
    }

    /// Takes in what is waiting for this heap, whose thread sleeps, and gives all slabs to
    /// the pool of which an eighth or more is free. Returns `false` if that has been done and
    /// nothing has changed since, or somebody holds the heap's lock.
    pub fn tend(&self, shared: Shared<'_>) -> bool {
        if self.is_tended.load(Ordering::Relaxed) && self.inbox.is_empty() {
            return false;
        }
        let Some(mut held) = self.try_held(shared) else {
            return false;
        };
        held.give_up_with_room(|slab| slab.available() >= slab.capacity().div_ceil(SLEEPER_GIVES));
        self.is_tended.store(true, Ordering::Relaxed);
        true
    }

    /// Gives a few sparse slabs that this heap has to spare to the class's pool. Returns `false` if
    /// there are none, or somebody holds the heap's lock.
    pub(crate) fn give_spare(&self, shared: Shared<'_>, class: ClassIndex) -> bool {
        let Some(held) = self.try_held(shared) else {
            return false;
        };
        let mut cursor = held.first(class, Place::Sparse);
        let mut given = false;
        for _ in 0..SPARE_GIVEN {
            let has_many = held.class(class).sparse_count.get() > SPARSE_KEPT;
            let Some(slab) = cursor.filter(|_| has_many) else {
                shared.note_no_spare(class, self.number);
                break;
            };
            cursor = held.after(slab);
            given |= held.give_to_pool(slab);
        }
        given
    }

    /// As [`tend`](Self::tend), but waits for the lock, and gives the pool's all-free
    /// slabs back to their superslabs.
    pub fn trim(&self, shared: Shared<'_>) {
        let mut held = self.held(shared);
        held.give_up_with_room(|slab| {
            slab.is_all_free() || matches!(slab.own().place.get(), Place::Partial | Place::Sparse)
        });
        held.clear_pools();
    }
}

impl<'a> Held<'a> {
    /// Gives an all-free slab back to its superslab, unless something still
    /// refers to it.
    #[inline(never)]
    pub(crate) fn release(&self, slab: Slab<'a>) -> bool {
        if !slab.remote().retire(self.owned.number) {
            return false;
        }
        self.unlink(slab);
        self.owned.counts.emptied.add(1);
        // SAFETY: all blocks are free, the list is retired, the slab is in none
        // of the heap's lists.
        unsafe { self.shared.give_empty(slab.region) };
        true
    }

    /// Gives a slab to the pool of its class (or to nobody, if it is full).
    /// Returns `false` if blocks are arriving in it and it has to stay.
    #[inline(never)]
    pub(crate) fn give_to_pool(&self, slab: Slab<'a>) -> bool {
        let class = slab.class();
        let region = slab.region;
        let listable = slab.available() > 0;
        let all_free = slab.is_all_free();
        let place = slab.own().place.get();
        self.unlink(slab);
        // The word changes before the mark: after it the slab is not ours.
        self.set_word(slab, RegionWord::unowned(class));
        match slab.remote().disown(listable) {
            Disowned::Refused => {
                self.set_word(slab, RegionWord::owned(self.owned.owner, class));
                self.link(slab, place);
                return false;
            }
            Disowned::Done => {}
            Disowned::List => self.shared.push_listed(class, region),
        }
        if all_free {
            self.shared.note_empty_listed(class);
        }
        self.owned.counts.disowns.add(1);
        true
    }

    /// Takes in what is waiting, and gives up all slabs with room of which `wanted` is true,
    /// empty ones to their superslabs. Those without are not looked at: there may be many.
    #[inline(never)]
    fn give_up_with_room(&mut self, wanted: impl Fn(Slab<'a>) -> bool) {
        self.take_inbox();
        for class in ClassIndex::all().take(TINY_CLASSES) {
            // All before the first, which may move slabs from one to another.
            let places = [Place::Current, Place::Partial, Place::Sparse];
            for first in places.map(|place| self.first(class, place)) {
                self.give_up(first, &wanted);
            }
        }
    }

    /// Gives up all slabs that were full when they were used last.
    fn give_up_full(&mut self) {
        for class in ClassIndex::all().take(TINY_CLASSES) {
            self.give_up(self.first(class, Place::Full), &|_| true);
        }
    }

    /// Gives up those slabs from this one of a list on of which `wanted` is true.
    #[inline(never)]
    fn give_up(&mut self, first: Option<Slab<'a>>, wanted: &dyn Fn(Slab<'a>) -> bool) {
        let mut cursor = first;
        while let Some(slab) = cursor {
            cursor = self.after(slab);
            if wanted(slab) && !(slab.is_all_free() && self.release(slab)) {
                self.give_to_pool(slab);
            }
        }
    }
}
