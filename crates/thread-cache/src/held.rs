//! The slow paths: what is done with a cache while its lock is held.

use crate::bin::{Bin, Grown, Popping};
use crate::cache::{Behind, CacheCounts, ThreadCache, capacity_of, no_slots};
use crate::depot::{ClassSet, Depot, batch_of};
use crate::loans::LOANS;
use crate::magazine::{MAX_CAPACITY, Magazine, capacity, first_capacity};
use crate::source::{Source, give_back};
use core::mem::MaybeUninit;
use core::ops::Range;
use core::ptr;
use core::sync::atomic::AtomicU8;
use hakmem_region_id::ClassIndex;

/// So many frees of a class of which a thread has allocated nothing give it no magazine: the blocks
/// go home. They are other threads', and so may be what lies on their cache lines: whoever went on
/// with them would share these lines with whoever was given the rest.
const FREES_WITHOUT_MAGAZINE: u8 = 8;

/// So many nulls: most of the array that holds a batch is not used, and is left as it is.
#[inline(always)]
fn cleared(batch: &mut [MaybeUninit<*mut u8>; MAX_CAPACITY], room: usize) -> &mut [*mut u8] {
    let null = MaybeUninit::new(ptr::null_mut());
    let batch = &mut batch[..room];
    batch.fill(null);
    // SAFETY: so many have just been written.
    unsafe { &mut *(ptr::from_mut(batch) as *mut [*mut u8]) }
}

/// A cache while its lock is held. Only its address, which fits a register; what is asked for is
/// borrowed for that long, and never the tables.
pub(crate) struct Held {
    /// Valid, and its lock is taken.
    this: *const ThreadCache,
}

impl Drop for Held {
    fn drop(&mut self) {
        // SAFETY: a `Held` is made only after taking the lock.
        unsafe { (*self.this).lock.unlock() }
    }
}

impl Held {
    #[inline(always)]
    pub(crate) fn counts(&self) -> &CacheCounts {
        // SAFETY: the cache is valid, and these are atomics.
        unsafe { &(*self.this).counts }
    }

    #[inline(always)]
    pub(crate) fn kept(&self, class: ClassIndex) -> &AtomicU8 {
        // SAFETY: as above.
        unsafe { &(&(*self.this).kept)[class.number()] }
    }

    pub(crate) fn halves(&self) -> &ClassSet {
        // SAFETY: as above.
        unsafe { &(*self.this).halves }
    }

    #[inline(always)]
    pub(crate) fn grown(&self, class: ClassIndex) -> &Grown {
        // SAFETY: as above.
        unsafe { &(&(*self.this).grown)[class.number()] }
    }

    pub(crate) fn popping(&self) -> &Popping {
        // SAFETY: as above.
        unsafe { &(*self.this).popping }
    }

    #[inline(always)]
    pub(crate) fn behind(&mut self) -> &mut Behind {
        // SAFETY: the lock is held, so what is behind it is the caller's.
        unsafe { &mut *(*self.this).behind.get() }
    }

    #[inline(always)]
    pub(crate) fn depot(&mut self, class: ClassIndex) -> &mut Depot {
        &mut self.behind().depots[class.number()]
    }

    /// # Safety
    ///
    /// `this` is the calling thread's cache.
    pub(crate) unsafe fn lock_own(this: *const ThreadCache) -> Self {
        // SAFETY: the cache is valid; the lock is taken, and the thread is its owner.
        unsafe {
            (*this).lock.lock();
            let mut held = Self { this };
            if held.behind().has_holes {
                held.close_holes();
            }
            held
        }
    }

    /// # Safety
    ///
    /// The cache is valid.
    pub(crate) unsafe fn try_lock(this: *const ThreadCache) -> Option<Self> {
        // SAFETY: the cache is valid; the lock is taken before it is used.
        unsafe { (*this).lock.try_lock().then(|| Self { this }) }
    }

    pub(crate) fn bin(&self, class: ClassIndex) -> &Bin {
        // SAFETY: the cache is valid, and these are atomics.
        unsafe { &(&(*self.this).bins)[class.number() + 1] }
    }

    /// Slots of the bin's magazine, or of its first one if it has none.
    #[inline(always)]
    pub(crate) fn capacity(&self, class: ClassIndex) -> usize {
        capacity_of(class, self.grown(class))
    }

    pub(crate) fn has_magazine(&self, class: ClassIndex) -> bool {
        self.bin(class).end() != no_slots()
    }

    /// Moves the blocks of all bins down over the slots that a reaper has emptied.
    ///
    /// # Safety
    ///
    /// The calling thread is the owner.
    #[cold]
    unsafe fn close_holes(&mut self) {
        for class in ClassIndex::all().filter(|&class| self.has_magazine(class)) {
            // SAFETY: the calling thread is the owner, and the lock is held.
            unsafe { self.bin(class).close_holes(self.capacity(class)) };
        }
        self.behind().has_holes = false;
    }

    /// The lowest slot of a bin and how many blocks it holds, none of them missing.
    ///
    /// # Safety
    ///
    /// The calling thread is the owner.
    pub(crate) unsafe fn contents(&self, class: ClassIndex) -> (*mut *mut u8, usize) {
        let bin = self.bin(class);
        if bin.end() == no_slots() {
            return (bin.end().cast(), 0);
        }
        let capacity = self.capacity(class);
        // SAFETY: it has one, of so many slots.
        let lowest = unsafe { self.magazine(class, capacity) }.lowest();
        (lowest.cast(), bin.height(capacity))
    }

    /// # Safety
    ///
    /// As for [`ThreadCache::refill`].
    pub(crate) unsafe fn refill<S: Source>(
        &mut self,
        class: ClassIndex,
        align: usize,
        source: &mut S,
    ) -> *mut u8 {
        // SAFETY: the calling thread is the owner.
        unsafe {
            // What a reaper has emptied had blocks left below.
            let block = self.bin(class).pop();
            if !block.is_null() {
                return block;
            }
            self.counts().empty.add(1);
            if self.take_from_depot(class) {
                self.counts().depot_hits.add(1);
                return self.bin(class).pop();
            }
            let in_a_row = self.note_refill(class);
            let may_borrow = S::LENDS && self.depot(class).loans > 0;
            let is_first = !self.has_magazine(class);
            let room = if is_first {
                self.first_room(class)
            } else {
                let mut slots = self.capacity(class);
                if slots != capacity(class) {
                    slots = self.grow(class);
                }
                batch_of(slots, in_a_row)
            };
            let mut batch = [const { MaybeUninit::uninit() }; MAX_CAPACITY];
            let batch = cleared(&mut batch, room);
            let mut got = if may_borrow {
                source.refill_free(class, batch)
            } else if is_first {
                source.first_refill(class, batch)
            } else {
                source.refill(class, batch)
            };
            if got == 0 && S::LENDS {
                let lent = self.borrow(class, align, source);
                if !lent.is_null() {
                    return lent;
                }
                if may_borrow {
                    got = source.refill(class, batch);
                }
            }
            if let Some(rest) = batch[..got].get(1..) {
                // The bin was empty, and a batch fits into its magazine.
                self.bin(class).push_all(rest);
            }
            batch[0]
        }
    }

    /// # Safety
    ///
    /// As for [`ThreadCache::make_room_and_push`].
    pub(crate) unsafe fn make_room_and_push(
        &mut self,
        class: ClassIndex,
        block: *mut u8,
        source: &mut impl Source,
    ) {
        self.counts().full.add(1);
        // SAFETY: the calling thread is the owner.
        unsafe {
            // What a reaper has emptied has room.
            if self.bin(class).push(block) {
                return;
            }
            let slots = self.capacity(class);
            if self.has_magazine(class) && slots == capacity(class) {
                self.empty_full(class, slots, source);
            } else if !self.make_room(class, slots, source) {
                give_back(source, class, &[block]);
                return;
            }
            let pushed = self.bin(class).push(block);
            debug_assert!(pushed);
        }
    }

    /// Makes room in the bin of a class that has no magazine yet, or its first one. `false` if the
    /// block is not to go into it, or there is no memory for any.
    ///
    /// # Safety
    ///
    /// The calling thread is the owner, and the bin is full or has no magazine.
    #[cold]
    unsafe fn make_room(
        &mut self,
        class: ClassIndex,
        slots: usize,
        source: &mut impl Source,
    ) -> bool {
        // SAFETY: passed on.
        unsafe {
            if !self.has_magazine(class) {
                let homed = &mut self.depot(class).homed;
                if *homed < FREES_WITHOUT_MAGAZINE {
                    *homed += 1;
                    return false;
                }
                return self.make_magazine(class);
            }
            if self.grow(class) == slots {
                self.flush_oldest(class, slots, source);
            }
        }
        true
    }

    /// Flushes the older half of a full bin, or most of it.
    ///
    /// # Safety
    ///
    /// The calling thread is the owner, and the bin has so many slots, all with blocks.
    pub(crate) unsafe fn flush_oldest(
        &mut self,
        class: ClassIndex,
        capacity: usize,
        source: &mut impl Source,
    ) {
        let depot = self.depot(class);
        depot.loans = LOANS;
        let batch = depot.note_flush(class, capacity);
        let bin = self.bin(class);
        // SAFETY: the lower `batch` slots hold blocks, and under the lock nobody writes slots but
        // this thread.
        unsafe {
            let lowest = self.magazine(class, capacity).lowest();
            give_back(
                source,
                class,
                core::slice::from_raw_parts(lowest.cast(), batch),
            );
            bin.drop_lowest(capacity, batch);
        }
    }

    /// # Safety
    ///
    /// As for [`ThreadCache::drain`].
    pub(crate) unsafe fn drain(&mut self, source: &mut impl Source) {
        self.drain_depot(source);
        for class in ClassIndex::all() {
            // SAFETY: the calling thread is the owner.
            let (lowest, count) = unsafe { self.contents(class) };
            if count > 0 {
                // SAFETY: so many slots from the lowest hold blocks, as above.
                give_back(source, class, unsafe {
                    core::slice::from_raw_parts(lowest, count)
                });
                // SAFETY: as above.
                unsafe { self.bin(class).drop_lowest(self.capacity(class), count) };
            }
        }
    }

    /// # Safety
    ///
    /// As for [`ThreadCache::clear_magazines`].
    pub(crate) unsafe fn clear_magazines(&mut self) -> Range<*mut u8> {
        debug_assert!(self.behind().fills.iter().all(|fill| fill.bytes == 0));
        for class in ClassIndex::all() {
            // SAFETY: the calling thread is the owner.
            unsafe {
                debug_assert_eq!(self.contents(class).1, 0);
                self.bin(class).install(no_slots(), 0, 0);
            }
            self.depot(class).forget_thread();
        }
        self.behind().store.clear()
    }

    /// Gives a bin that has no magazine one: its first, unless it had that before all were cleared.
    /// `false` if there is no memory.
    ///
    /// # Safety
    ///
    /// The calling thread is the owner, and the bin has no magazine.
    unsafe fn make_magazine(&mut self, class: ClassIndex) -> bool {
        let slots = self.capacity(class);
        let has_grown = self.grown(class).get();
        let store = &mut self.behind().store;
        let magazine = if has_grown {
            store.take(class)
        } else {
            store.take_first(class)
        };
        let Some(magazine) = magazine else {
            return false;
        };
        // SAFETY: the calling thread is the owner. The magazine has so many slots, and was just taken.
        unsafe { self.install(class, magazine, slots, 0) };
        true
    }

    /// The blocks of the first refill of a class, whose bin gets its magazine if there is memory.
    ///
    /// # Safety
    ///
    /// As for [`make_magazine`](Self::make_magazine).
    #[cold]
    unsafe fn first_room(&mut self, class: ClassIndex) -> usize {
        // SAFETY: passed on.
        if unsafe { self.make_magazine(class) } {
            first_capacity(class) / 2
        } else {
            1
        }
    }

    /// Replaces the first magazine of a bin by one of the full capacity, if there is memory. Returns
    /// how many slots the bin has then.
    ///
    /// Ordering: release, after the bin has the new magazine.
    ///
    /// # Safety
    ///
    /// The calling thread is the owner, and the class has not grown.
    #[cold]
    unsafe fn grow(&mut self, class: ClassIndex) -> usize {
        let Some(magazine) = self.behind().store.take(class) else {
            return first_capacity(class);
        };
        let slots = capacity(class);
        // SAFETY: the calling thread is the owner. The blocks lie in the lowest slots, which under
        // the lock nobody else writes; the other magazine has more, and nobody knows it yet.
        unsafe {
            let (lowest, count) = self.contents(class);
            ptr::copy_nonoverlapping(lowest, magazine.lowest().cast(), count);
            let first = Magazine::from_lowest(lowest.cast());
            self.install(class, magazine, slots, count);
            self.grown(class).set();
            self.behind().store.give_first(first);
        }
        slots
    }

    /// The bin's magazine.
    ///
    /// # Safety
    ///
    /// The bin has one, with so many slots.
    pub(crate) unsafe fn magazine(&self, class: ClassIndex, slots: usize) -> Magazine {
        // SAFETY: `end` is so many slots above the lowest.
        unsafe { Magazine::from_lowest(self.bin(class).end().sub(slots)) }
    }

    /// Makes a magazine with so many slots, of which the lowest `count` hold blocks, the bin's.
    ///
    /// # Safety
    ///
    /// The calling thread is the owner, and the magazine nobody else's.
    pub(crate) unsafe fn install(
        &self,
        class: ClassIndex,
        magazine: Magazine,
        slots: usize,
        count: usize,
    ) {
        // SAFETY: passed on.
        unsafe {
            let end = magazine.lowest().add(slots);
            self.bin(class).install(end, slots, count);
        }
    }
}
