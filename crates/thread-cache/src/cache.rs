//! Bins, depot, refill and flush.

use crate::magazine::{MAX_CAPACITY, Magazine, Slot, Store, capacity};
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU8, Ordering};
use hakmem_region_id::size_class::{
    MID_CLASSES, MID_STEPS, SMALL_CLASSES, SMALL_CLASSES_16, SMALL_STEPS,
};
use hakmem_region_id::word::{BIN_BYTES, bin_offset};
use hakmem_region_id::{CLASSES, ClassIndex};
use hakmem_sys::counter::Counter;
use static_assertions::const_assert_eq;

/// Full magazines that the depot keeps of a class at most,
const DEPOT_MAX: usize = 32;
/// the most bytes of blocks in them,
const DEPOT_CLASS_BYTES: usize = 128 * 1024;
/// and the most bytes of blocks in the whole depot.
const DEPOT_BYTES: usize = 512 * 1024;

/// How many full magazines of a class the depot may keep.
const fn depot_max(class: ClassIndex) -> u8 {
    let by_bytes = DEPOT_CLASS_BYTES / (capacity(class) * class.size());
    if by_bytes < DEPOT_MAX {
        by_bytes as u8
    } else {
        DEPOT_MAX as u8
    }
}

/// Where a cache gets blocks from and returns them to.
pub trait Source {
    /// Fills `out` with free blocks of `class` from the front, in the order in
    /// which they should be used. Returns how many; zero means no memory.
    fn refill(&mut self, class: ClassIndex, out: &mut [*mut u8]) -> usize;

    /// Takes back blocks of `class`, those freed first in front.
    fn flush(&mut self, class: ClassIndex, blocks: &[*mut u8]);
}

/// A bin: the top of the magazine in use, and the end of its slots.
#[derive(Debug)]
#[repr(C)]
struct Bin {
    /// One past the last block. Only the cache's thread writes these two; they are
    /// atomic so that others may count.
    top: AtomicPtr<Slot>,
    end: AtomicPtr<Slot>,
}

const_assert_eq!(size_of::<Bin>(), BIN_BYTES);

/// A slot with a null below it: the magazine of all bins that have none.
#[repr(transparent)]
struct NoSlots([Slot; 2]);

// SAFETY: two nulls that are never written.
unsafe impl Sync for NoSlots {}

static NO_SLOTS: NoSlots = NoSlots([ptr::null_mut(); 2]);

/// The lowest (and end) slot of the magazine that has none.
const fn no_slots() -> *mut Slot {
    // SAFETY: index 1 of an array of two.
    unsafe { (&raw const NO_SLOTS).cast::<Slot>().add(1).cast_mut() }
}

#[expect(
    clippy::declare_interior_mutable_const,
    reason = "each use is to be a bin of its own"
)]
const CLOSED_BIN: Bin = Bin {
    top: AtomicPtr::new(no_slots()),
    end: AtomicPtr::new(no_slots()),
};

/// What the depot has of a class.
#[derive(Debug)]
struct Depot {
    full: Option<Magazine>,
    /// How many; atomic as a bin's top is.
    count: AtomicU8,
    /// How many it may keep: grows where a refill shows that what was flushed before
    /// should have been kept.
    limit: u8,
    /// Magazines' worth of flushes since then.
    missed: u8,
}

/// What happened to a cache, as counts of events.
#[derive(Debug, Default)]
pub struct CacheCounts {
    /// Bins found empty.
    pub empty: Counter,
    /// Of these, filled by a magazine from the depot.
    pub depot_hits: Counter,
    /// Bins found full.
    pub full: Counter,
    /// Of these, emptied by putting the magazine into the depot.
    pub depot_stores: Counter,
}

/// A thread's cache of free blocks. See the crate's text.
///
/// The bins come first, and a bin is found by its byte offset, which is what the
/// tables and the region words hold.
#[derive(Debug)]
#[repr(C)]
pub struct ThreadCache {
    /// Bin 0 stays closed: it is where offset 0, "no class", leads.
    bins: [Bin; CLASSES + 1],
    small: [u16; SMALL_STEPS],
    small_16: [u16; SMALL_STEPS],
    mid: [u16; MID_STEPS],
    depots: [Depot; CLASSES],
    /// Bytes of blocks in the depot.
    depot_bytes: usize,
    store: Store,
    counts: CacheCounts,
}

const fn offsets<const N: usize>(classes: [u8; N]) -> [u16; N] {
    let mut table = [0; N];
    let mut step = 0;
    while step < N {
        table[step] = match ClassIndex::new(classes[step] as usize) {
            Some(class) => bin_offset(class) as u16,
            None => 0,
        };
        step += 1;
    }
    table
}

impl ThreadCache {
    /// A cache whose bins are empty and full at once, so that every alloc and
    /// every free takes the slow path.
    #[expect(
        clippy::declare_interior_mutable_const,
        reason = "each use is to be a cache of its own"
    )]
    pub const CLOSED: Self = Self {
        bins: [const { CLOSED_BIN }; CLASSES + 1],
        small: offsets(SMALL_CLASSES),
        small_16: offsets(SMALL_CLASSES_16),
        mid: offsets(MID_CLASSES),
        depots: [const {
            Depot {
                full: None,
                count: AtomicU8::new(0),
                limit: 1,
                missed: 0,
            }
        }; CLASSES],
        depot_bytes: 0,
        store: Store::EMPTY,
        counts: CacheCounts {
            empty: Counter::new(),
            depot_hits: Counter::new(),
            full: Counter::new(),
            depot_stores: Counter::new(),
        },
    };

    /// Gives a closed cache memory for its magazines; it works from then on.
    ///
    /// # Safety
    ///
    /// The memory is zeroed, aligned to pointers, and the cache's alone for ever.
    pub unsafe fn set_memory(&mut self, start: *mut u8, end: *mut u8) {
        // SAFETY: passed on.
        unsafe { self.store.set_memory(start, end) }
    }

    /// Makes every alloc take the slow path until [`open_allocs`](Self::open_allocs):
    /// the tables lead to the bin that is empty for ever. Frees are not touched.
    pub fn close_allocs(&mut self) {
        self.small = [0; SMALL_STEPS];
        self.small_16 = [0; SMALL_STEPS];
        self.mid = [0; MID_STEPS];
    }

    /// Undoes [`close_allocs`](Self::close_allocs).
    pub fn open_allocs(&mut self) {
        self.small = offsets(SMALL_CLASSES);
        self.small_16 = offsets(SMALL_CLASSES_16);
        self.mid = offsets(MID_CLASSES);
    }

    /// Whether allocs take the slow path on purpose.
    pub fn are_allocs_closed(&self) -> bool {
        self.small[1] == 0
    }

    /// The bin for a size up to 1 KiB, 8-byte alignment.
    ///
    /// # Safety
    ///
    /// `this` is valid and `size` at most 1024.
    #[inline(always)]
    pub unsafe fn small_bin(this: *const Self, size: usize) -> u32 {
        // SAFETY: the step is inside the table.
        unsafe {
            u32::from(
                *(&raw const (*this).small)
                    .cast::<u16>()
                    .add((size + 7) >> 3),
            )
        }
    }

    /// The bin for a size up to 1 KiB with the alignment `malloc` promises.
    ///
    /// # Safety
    ///
    /// As for [`small_bin`](Self::small_bin).
    #[inline(always)]
    pub unsafe fn small_bin_16(this: *const Self, size: usize) -> u32 {
        // SAFETY: the step is inside the table.
        unsafe {
            u32::from(
                *(&raw const (*this).small_16)
                    .cast::<u16>()
                    .add((size + 7) >> 3),
            )
        }
    }

    /// The bin for a size above 1 KiB up to 32 KiB.
    ///
    /// # Safety
    ///
    /// `this` is valid and `size` from 1 to 32768.
    #[inline(always)]
    pub unsafe fn mid_bin(this: *const Self, size: usize) -> u32 {
        // SAFETY: the step is inside the table.
        unsafe { u32::from(*(&raw const (*this).mid).cast::<u16>().add((size - 1) >> 7)) }
    }

    #[inline(always)]
    unsafe fn bin<'a>(this: *const Self, offset: u32) -> &'a Bin {
        // SAFETY: the bins come first, and offsets are those of bins.
        unsafe { &*this.byte_add(offset as usize).cast::<Bin>() }
    }

    /// Takes a block out of the bin at this offset; null if it is empty.
    ///
    /// # Safety
    ///
    /// `this` is the calling thread's cache and `offset` that of a bin.
    #[inline(always)]
    pub unsafe fn pop(this: *const Self, offset: u32) -> *mut u8 {
        // SAFETY: below the lowest slot of every magazine there is a null, which
        // stops the top from going lower.
        unsafe {
            let bin = Self::bin(this, offset);
            let top = bin.top.load(Ordering::Relaxed).sub(1);
            let block = *top;
            if !block.is_null() {
                bin.top.store(top, Ordering::Relaxed);
            }
            block
        }
    }

    /// Puts a block into the bin at this offset; `false` if it is full.
    ///
    /// # Safety
    ///
    /// `this` is the calling thread's cache, `offset` that of the bin of the
    /// block's class, and the block is free and not in any list.
    #[inline(always)]
    pub unsafe fn push(this: *const Self, offset: u32, block: *mut u8) -> bool {
        // SAFETY: the top is below the end, so there is a slot.
        unsafe {
            let bin = Self::bin(this, offset);
            let top = bin.top.load(Ordering::Relaxed);
            // Not an atomic load, for the sake of one instruction: only this thread writes.
            if top == *bin.end.as_ptr() {
                return false;
            }
            *top = block;
            bin.top.store(top.add(1), Ordering::Relaxed);
            true
        }
    }

    /// Takes a block of a class whose bin is empty, and fills the bin on the way:
    /// from the depot, else from the source. Null if there is no memory.
    ///
    /// # Safety
    ///
    /// The bin is empty, and the calling thread is the cache's.
    pub unsafe fn refill(&mut self, class: ClassIndex, source: &mut impl Source) -> *mut u8 {
        self.counts.empty.add(1);
        if let Some(full) = self.take_full(class) {
            self.counts.depot_hits.add(1);
            self.install(class, full, capacity(class));
        } else {
            let depot = &mut self.depots[class.number()];
            if depot.missed > 0 {
                depot.missed -= 1;
                depot.limit = (depot.limit + 1).min(depot_max(class));
            }
            let mut batch = [ptr::null_mut(); MAX_CAPACITY / 2];
            let wanted = if self.ensure_magazine(class) {
                capacity(class) / 2
            } else {
                1
            };
            let got = source.refill(class, &mut batch[..wanted]);
            if got <= 1 {
                return batch[0];
            }
            let bin = &mut self.bins[class.number() + 1];
            let mut top = *bin.top.get_mut();
            for &block in batch[1..got].iter().rev() {
                // SAFETY: the bin was empty and a batch is half a magazine.
                unsafe {
                    *top = block;
                    top = top.add(1);
                }
            }
            bin.top.store(top, Ordering::Relaxed);
            return batch[0];
        }
        // SAFETY: the bin has just been filled.
        unsafe { Self::pop(self, bin_offset(class)) }
    }

    /// Puts a block into a bin that is full, and makes room on the way: by
    /// putting the magazine into the depot, else by flushing the older half.
    ///
    /// # Safety
    ///
    /// As for [`push`](Self::push).
    pub unsafe fn make_room_and_push(
        &mut self,
        class: ClassIndex,
        block: *mut u8,
        source: &mut impl Source,
    ) {
        self.counts.full.add(1);
        if !self.ensure_magazine(class) {
            source.flush(class, &[block]);
            return;
        }
        let capacity = capacity(class);
        let number = class.number();
        let (lowest, count) = self.contents(class);
        if count == capacity {
            let depot = &mut self.depots[number];
            let bytes = capacity * class.size();
            let spare = if *depot.count.get_mut() < depot.limit
                && self.depot_bytes + bytes <= DEPOT_BYTES
            {
                self.store.take(class)
            } else {
                None
            };
            if let Some(spare) = spare {
                self.counts.depot_stores.add(1);
                // SAFETY: the bin has a magazine, whose lowest slot this is.
                let full = unsafe { Magazine::from_lowest(lowest) };
                full.set_next(depot.full);
                depot.full = Some(full);
                let count = *depot.count.get_mut();
                depot.count.store(count + 1, Ordering::Relaxed);
                self.depot_bytes += bytes;
                self.install(class, spare, 0);
            } else {
                depot.missed = depot.missed.saturating_add(1);
                let half = capacity / 2;
                // SAFETY: the lower `half` slots hold blocks; the others move
                // down over them.
                unsafe {
                    source.flush(class, core::slice::from_raw_parts(lowest, half));
                    ptr::copy(lowest.add(half), lowest, capacity - half);
                    self.bins[number + 1]
                        .top
                        .store(lowest.add(capacity - half), Ordering::Relaxed);
                }
            }
        }
        // SAFETY: there is room now.
        let pushed = unsafe { Self::push(self, bin_offset(class), block) };
        debug_assert!(pushed);
    }

    /// Returns everything to the source. The cache keeps its magazines.
    pub fn drain(&mut self, source: &mut impl Source) {
        for class in ClassIndex::all() {
            while let Some(full) = self.take_full(class) {
                // SAFETY: magazines in the depot are full.
                source.flush(class, unsafe {
                    core::slice::from_raw_parts(full.lowest(), capacity(class))
                });
                self.store.give(class, full);
            }
            let (lowest, count) = self.contents(class);
            if count > 0 {
                // SAFETY: so many slots from the lowest hold blocks.
                source.flush(class, unsafe { core::slice::from_raw_parts(lowest, count) });
                self.bins[class.number() + 1]
                    .top
                    .store(lowest, Ordering::Relaxed);
            }
        }
    }

    /// About how many blocks of a class the cache holds: exact when its thread
    /// is not using it.
    ///
    /// # Safety
    ///
    /// `this` is valid memory of a cache that is set up.
    pub unsafe fn held(this: *const Self, class: ClassIndex) -> usize {
        // SAFETY: only atomics are borrowed.
        let (bin, depot) = unsafe {
            (
                &(*this).bins[class.number() + 1],
                &(*this).depots[class.number()].count,
            )
        };
        let end = bin.end.load(Ordering::Relaxed) as usize;
        if end == no_slots() as usize {
            return 0;
        }
        // The two need not belong together if the thread is at work.
        let top = bin.top.load(Ordering::Relaxed) as usize;
        let room = end.saturating_sub(top) / size_of::<Slot>();
        let depot = usize::from(depot.load(Ordering::Relaxed));
        capacity(class).saturating_sub(room) + depot * capacity(class)
    }

    /// What has happened so far to a cache, which may be another thread's.
    ///
    /// # Safety
    ///
    /// `this` is valid memory of a cache for as long as the result is used.
    pub unsafe fn counts_of<'a>(this: *const Self) -> &'a CacheCounts {
        // SAFETY: the counters are atomics, apart from what the thread borrows.
        unsafe { &(*this).counts }
    }

    /// The lowest slot of a bin and how many blocks it holds.
    fn contents(&mut self, class: ClassIndex) -> (*mut Slot, usize) {
        let bin = &mut self.bins[class.number() + 1];
        let end = *bin.end.get_mut();
        if end == no_slots() {
            return (end, 0);
        }
        // SAFETY: `end` is so many slots above the lowest.
        let lowest = unsafe { end.sub(capacity(class)) };
        let count = (*bin.top.get_mut() as usize - lowest as usize) / size_of::<Slot>();
        (lowest, count)
    }

    fn take_full(&mut self, class: ClassIndex) -> Option<Magazine> {
        let depot = &mut self.depots[class.number()];
        let full = depot.full?;
        depot.full = full.next();
        let count = *depot.count.get_mut();
        depot.count.store(count - 1, Ordering::Relaxed);
        self.depot_bytes -= capacity(class) * class.size();
        Some(full)
    }

    /// Makes sure that the bin has a magazine. `false` if there is no memory.
    fn ensure_magazine(&mut self, class: ClassIndex) -> bool {
        if *self.bins[class.number() + 1].end.get_mut() != no_slots() {
            return true;
        }
        let Some(magazine) = self.store.take(class) else {
            return false;
        };
        self.install(class, magazine, 0);
        true
    }

    /// Makes a magazine with `count` blocks the bin's; the empty one that was
    /// there becomes spare.
    fn install(&mut self, class: ClassIndex, magazine: Magazine, count: usize) {
        let (old, held) = self.contents(class);
        let bin = &mut self.bins[class.number() + 1];
        if *bin.end.get_mut() != no_slots() && held == 0 {
            // SAFETY: the bin has a magazine, whose lowest slot this is.
            let spare = unsafe { Magazine::from_lowest(old) };
            self.store.give(class, spare);
        }
        // SAFETY: a magazine has `capacity` slots, `count` of them used.
        unsafe {
            bin.end
                .store(magazine.lowest().add(capacity(class)), Ordering::Relaxed);
            bin.top
                .store(magazine.lowest().add(count), Ordering::Relaxed);
        }
    }
}
