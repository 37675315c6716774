//! Bins, depot, refill and flush.

use crate::bin::{Bin, Slot};
use crate::magazine::{MAX_CAPACITY, Magazine, Store, capacity, first_capacity};
use core::cell::{Cell, UnsafeCell};
use core::mem::MaybeUninit;
use core::ops::Range;
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, Ordering};
use hakmem_region_id::size_class::{
    MID_CLASSES, MID_STEPS, SMALL_CLASSES, SMALL_CLASSES_16, SMALL_STEPS,
};
use hakmem_region_id::word::{BIN_BYTES, bin_offset};
use hakmem_region_id::{CLASSES, ClassIndex};
use hakmem_sys::barrier;
use hakmem_sys::counter::Counter;
use hakmem_sys::lock::RawLock;
use hakmem_sys::opaque::opaque;
use static_assertions::{const_assert, const_assert_eq};

/// Full magazines that the depot keeps of a class at most,
const DEPOT_MAX: usize = 128;
/// the most bytes of blocks in them,
const DEPOT_CLASS_BYTES: usize = 128 * 1024;
/// and the most bytes of blocks in the whole depot.
const DEPOT_BYTES: usize = 512 * 1024;

/// After so many refills of a class in a row, or flushes, a thread is taken to allocate only, or to
/// free: it moves seven eighths of a magazine at a time, not half.
const IN_A_ROW: u8 = 4;

/// The blocks of a refill or a flush of which there were so many in a row.
fn batch_of(capacity: usize, in_a_row: u8) -> usize {
    if in_a_row < IN_A_ROW {
        capacity / 2
    } else {
        capacity - capacity / 8
    }
}

/// So many blocks of larger classes a class takes for one flush of its own blocks, where it would
/// need new memory: it had enough then, and will again (decision 21). None once all of those have
/// refused.
const LOANS: u8 = 32;
/// From so many of the next larger classes, which are 3/8 larger at most.
const LENDERS: usize = 3;

/// How many full magazines of each class the depot may keep.
static DEPOT_LIMITS: [u8; CLASSES] = {
    let mut limits = [0; CLASSES];
    let mut number = 0;
    while let Some(class) = ClassIndex::new(number) {
        let by_bytes = DEPOT_CLASS_BYTES / (capacity(class) * class.size());
        limits[number] = if by_bytes < DEPOT_MAX {
            by_bytes as u8
        } else {
            DEPOT_MAX as u8
        };
        number += 1;
    }
    limits
};

/// Where a cache gets blocks from and returns them to.
pub trait Source {
    /// Whether a [`ThreadCache::refill`] of a class may return a block of a larger one: only for
    /// whoever learns from the block, where it is freed, which class that is.
    const LENDS: bool = false;

    /// Fills `out` with free blocks of `class` from the front, in the order in
    /// which they should be used. Returns how many; zero means no memory.
    fn refill(&mut self, class: ClassIndex, out: &mut [*mut u8]) -> usize;

    /// As [`refill`](Self::refill), but a source may keep to memory that it has for the class
    /// already: zero means that new memory would be needed. Only asked of a source that
    /// [`LENDS`](Self::LENDS).
    fn refill_free(&mut self, class: ClassIndex, out: &mut [*mut u8]) -> usize {
        self.refill(class, out)
    }

    /// Takes back blocks of `class`, those freed first in front.
    fn flush(&mut self, class: ClassIndex, blocks: &[*mut u8]);

    /// As [`refill`](Self::refill), when the cache has had no block of `class` before. A source
    /// may give fewer here, for a thread that perhaps never needs more.
    fn first_refill(&mut self, class: ClassIndex, out: &mut [*mut u8]) -> usize {
        self.refill(class, out)
    }
}

const_assert_eq!(size_of::<Bin>(), BIN_BYTES);

/// A slot with a null below it: the magazine of all bins that have none. Never written.
static NO_SLOTS: [Slot; 2] = [const { AtomicPtr::new(ptr::null_mut()) }; 2];

/// The lowest (and end) slot of the magazine that has none.
const fn no_slots() -> *mut Slot {
    // SAFETY: index 1 of an array of two.
    unsafe { (&raw const NO_SLOTS).cast::<Slot>().add(1).cast_mut() }
}

/// Blocks that a reaper has in its hands at a time, of one or more bins.
const LIFTED: usize = 256;

const_assert!(MAX_CAPACITY <= LIFTED);

/// What the depot has of a class. How many magazines that are stands in
/// [`ThreadCache::kept`].
#[derive(Clone, Copy, Debug)]
struct Depot {
    full: Option<Magazine>,
    /// How many it may keep: grows where a refill shows that what was flushed before
    /// should have been kept.
    limit: u8,
    /// Magazines' worth of flushes since then.
    missed: u8,
    /// How many blocks the class may still take from larger classes.
    loans: u8,
    /// Flushes since the last refill from the source, or less than zero: refills since the last
    /// flush.
    drift: i8,
}

/// What happened to a cache, as counts of events.
#[derive(Debug, Default)]
pub struct CacheCounts {
    /// Bins found empty.
    pub empty: Counter,
    /// Of these, filled by a magazine from the depot.
    pub depot_hits: Counter,
    /// Blocks of larger classes taken where new memory would have been needed.
    pub loans: Counter,
    /// Bins found full.
    pub full: Counter,
    /// Of these, emptied by putting the magazine into the depot.
    pub depot_stores: Counter,
    /// Times another thread has taken blocks, because this one seemed to sleep.
    pub reaps: Counter,
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
    // Cells, because the thread writes them while there are references to its cache.
    small: [Cell<u16>; SMALL_STEPS],
    small_16: [Cell<u16>; SMALL_STEPS],
    mid: [Cell<u16>; MID_STEPS],
    /// Full magazines in the depot by class; written under the lock.
    kept: [AtomicU8; CLASSES],
    /// Which classes have magazines of their full capacity, or will; and no more the first one.
    /// Written under the lock, once.
    grown: [AtomicBool; CLASSES],
    /// Held on the slow paths, and by a reaper.
    lock: RawLock,
    behind: UnsafeCell<Behind>,
    counts: CacheCounts,
}

/// What lies behind the bins.
#[derive(Debug)]
struct Behind {
    depots: [Depot; CLASSES],
    /// Bytes of blocks in the depot.
    depot_bytes: usize,
    store: Store,
    /// Whether bins may have empty slots among their blocks.
    has_holes: bool,
    /// Whether the bins must not be reaped.
    are_bins_lost: bool,
}

const fn offset(class: u8) -> u16 {
    match ClassIndex::new(class as usize) {
        Some(class) => bin_offset(class) as u16,
        None => 0,
    }
}

const fn offsets<const N: usize>(classes: &[u8; N]) -> [Cell<u16>; N] {
    let mut table = [const { Cell::new(0) }; N];
    let mut step = 0;
    while step < N {
        table[step] = Cell::new(offset(classes[step]));
        step += 1;
    }
    table
}

fn open<const N: usize>(table: &[Cell<u16>; N], classes: &[u8; N]) {
    for (step, &class) in table.iter().zip(classes) {
        step.set(offset(class));
    }
}

impl ThreadCache {
    /// A cache whose bins are empty and full at once, so that every alloc and
    /// every free takes the slow path.
    #[expect(
        clippy::declare_interior_mutable_const,
        reason = "each use is to be a cache of its own"
    )]
    pub const CLOSED: Self = Self {
        bins: [const { Bin::new(no_slots(), no_slots()) }; CLASSES + 1],
        small: offsets(&SMALL_CLASSES),
        small_16: offsets(&SMALL_CLASSES_16),
        mid: offsets(&MID_CLASSES),
        kept: [const { AtomicU8::new(0) }; CLASSES],
        grown: [const { AtomicBool::new(false) }; CLASSES],
        lock: RawLock::new(),
        behind: UnsafeCell::new(Behind {
            depots: [Depot {
                full: None,
                limit: 1,
                missed: 0,
                drift: 0,
                loans: 0,
            }; CLASSES],
            depot_bytes: 0,
            store: Store::EMPTY,
            has_holes: false,
            are_bins_lost: false,
        }),
        counts: CacheCounts {
            empty: Counter::new(),
            depot_hits: Counter::new(),
            loans: Counter::new(),
            full: Counter::new(),
            depot_stores: Counter::new(),
            reaps: Counter::new(),
        },
    };

    /// Gives a closed cache memory for its magazines; it works from then on.
    ///
    /// # Safety
    ///
    /// The memory is aligned to pointers, and the cache's alone for ever.
    pub unsafe fn set_memory(&mut self, start: *mut u8, end: *mut u8) {
        // SAFETY: passed on.
        unsafe { self.behind.get_mut().store.set_memory(start, end) }
    }

    /// Makes every alloc take the slow path until [`open_allocs`](Self::open_allocs):
    /// the tables lead to the bin that is empty for ever. Frees are not touched.
    ///
    /// # Safety
    ///
    /// `this` is the calling thread's cache.
    pub unsafe fn close_allocs(this: *const Self) {
        // SAFETY: the tables are the thread's.
        let this = unsafe { &*this };
        let steps = this.small.iter().chain(&this.small_16).chain(&this.mid);
        steps.for_each(|step| step.set(0));
    }

    /// Undoes [`close_allocs`](Self::close_allocs).
    ///
    /// # Safety
    ///
    /// As there.
    pub unsafe fn open_allocs(this: *const Self) {
        // SAFETY: the tables are the thread's.
        let this = unsafe { &*this };
        open(&this.small, &SMALL_CLASSES);
        open(&this.small_16, &SMALL_CLASSES_16);
        open(&this.mid, &MID_CLASSES);
    }

    /// Whether allocs take the slow path on purpose.
    ///
    /// # Safety
    ///
    /// As for [`close_allocs`](Self::close_allocs).
    pub unsafe fn are_allocs_closed(this: *const Self) -> bool {
        // SAFETY: the tables are the thread's.
        unsafe { (*this).small[1].get() == 0 }
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
        unsafe { &*opaque(this.byte_add(offset as usize).cast::<Bin>()) }
    }

    /// Takes a block out of the bin at this offset; null if it is empty.
    ///
    /// # Safety
    ///
    /// `this` is the calling thread's cache and `offset` that of a bin.
    #[inline(always)]
    pub unsafe fn pop(this: *const Self, offset: u32) -> *mut u8 {
        // SAFETY: below the lowest slot of every magazine there is a null.
        unsafe { Self::bin(this, offset).pop() }
    }

    /// Puts a block into the bin at this offset; `false` if it is full.
    ///
    /// # Safety
    ///
    /// `this` is the calling thread's cache, `offset` that of the bin of the
    /// block's class, and the block is free and not in any list.
    #[inline(always)]
    pub unsafe fn push(this: *const Self, offset: u32, block: *mut u8) -> bool {
        // SAFETY: passed on.
        unsafe { Self::bin(this, offset).push(block) }
    }

    /// Takes a block of a class whose bin is empty, and fills the bin on the way:
    /// from the depot, else from the source. Null if there is no memory.
    ///
    /// Where the source [`LENDS`](Source::LENDS), the block is of a larger class if that saves new
    /// memory, and then at a multiple of `align`, a power of two of which the class's size is a
    /// multiple, too. Of others it is of `class`, and `align` means nothing.
    ///
    /// # Safety
    ///
    /// The calling thread is the cache's, and has found the bin empty.
    pub unsafe fn refill(
        this: *const Self,
        class: ClassIndex,
        align: usize,
        source: &mut impl Source,
    ) -> *mut u8 {
        // SAFETY: the calling thread is the cache's.
        unsafe {
            let mut held = Held::lock_own(this);
            held.refill(class, align, source)
        }
    }

    /// Puts a block into a bin that is full, and makes room on the way: by
    /// putting the magazine into the depot, else by flushing the older half, or most of it.
    ///
    /// # Safety
    ///
    /// As for [`push`](Self::push).
    pub unsafe fn make_room_and_push(
        this: *const Self,
        class: ClassIndex,
        block: *mut u8,
        source: &mut impl Source,
    ) {
        // SAFETY: the calling thread is the cache's.
        unsafe {
            let mut held = Held::lock_own(this);
            held.make_room_and_push(class, block, source);
        }
    }

    /// Returns everything to the source. The cache keeps its magazines.
    ///
    /// # Safety
    ///
    /// `this` is the calling thread's cache.
    pub unsafe fn drain(this: *const Self, source: &mut impl Source) {
        // SAFETY: the calling thread is the cache's.
        unsafe {
            let mut held = Held::lock_own(this);
            held.drain(source);
        }
    }

    /// Forgets the magazines of a cache that holds no blocks; it makes new ones when it is used again.
    /// Returns where they were: what they held means nothing any more, and may be lost, but the memory
    /// is the cache's still.
    ///
    /// # Safety
    ///
    /// `this` is the calling thread's cache, and drained.
    pub unsafe fn clear_magazines(this: *const Self) -> Range<*mut u8> {
        // SAFETY: the calling thread is the cache's.
        unsafe { Held::lock_own(this).clear_magazines() }
    }

    /// Bytes of the memory of the cache that magazines lie in.
    ///
    /// # Safety
    ///
    /// `this` is the calling thread's cache.
    pub unsafe fn magazine_bytes(this: *const Self) -> usize {
        // SAFETY: the calling thread is the cache's.
        unsafe { Held::lock_own(this).behind().store.made_bytes() }
    }

    /// Returns everything but the topmost block of each bin to the source, for a thread
    /// that seems to sleep. Nothing happens if it is on a slow path just now. Returns how
    /// many bytes of blocks that were.
    ///
    /// # Safety
    ///
    /// `this` is valid memory of a cache that is set up. The source takes no lock that a
    /// thread holds while it waits for a cache's.
    pub unsafe fn reap(this: *const Self, source: &mut impl Source) -> usize {
        // SAFETY: passed on.
        unsafe { Held::try_lock(this).map_or(0, |mut held| held.reap(source)) }
    }

    /// Excludes the bins from being reaped for ever, in the child of a fork, for the cache
    /// of a thread that does not exist there.
    ///
    /// It was cut off in the middle of whatever it was doing with them. The depots are not
    /// concerned: they change under the lock only, which the fork hooks hold.
    ///
    /// # Safety
    ///
    /// `this` is valid memory of a cache; the caller holds its lock.
    pub unsafe fn lose_bins(this: *const Self) {
        // SAFETY: the lock is held.
        unsafe { (*(*this).behind.get()).are_bins_lost = true };
    }

    /// The lock of the slow paths, for the fork hooks.
    ///
    /// # Safety
    ///
    /// `this` is valid memory of a cache for as long as the result is used.
    pub unsafe fn raw_lock<'a>(this: *const Self) -> &'a RawLock {
        // SAFETY: only the lock is borrowed.
        unsafe { &(*this).lock }
    }

    /// About how many blocks of a class the cache holds: exact when its thread
    /// is not using it.
    ///
    /// # Safety
    ///
    /// `this` is valid memory of a cache that is set up.
    pub unsafe fn held(this: *const Self, class: ClassIndex) -> usize {
        // SAFETY: only atomics are borrowed.
        let (bin, kept, grown) = unsafe {
            (
                Self::bin(this, bin_offset(class)),
                &(*this).kept[class.number()],
                &(*this).grown[class.number()],
            )
        };
        // First: who sees that the class has grown sees its magazine, too.
        let slots = capacity_of(class, grown);
        let end = bin.end();
        if end == no_slots() {
            return 0;
        }
        // SAFETY: the magazine has so many slots, or more.
        let in_bin = unsafe { bin.count(end, slots) };
        in_bin + usize::from(kept.load(Ordering::Relaxed)) * capacity(class)
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
}

/// How many slots the magazine of a bin has, by whether the class has grown.
///
/// Ordering: acquire, for [`Held::grow`]'s release.
#[inline(always)]
fn capacity_of(class: ClassIndex, grown: &AtomicBool) -> usize {
    if grown.load(Ordering::Acquire) {
        capacity(class)
    } else {
        first_capacity(class)
    }
}

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
struct Held {
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
    fn counts(&self) -> &CacheCounts {
        // SAFETY: the cache is valid, and these are atomics.
        unsafe { &(*self.this).counts }
    }

    #[inline(always)]
    fn kept(&self, class: ClassIndex) -> &AtomicU8 {
        // SAFETY: as above.
        unsafe { &(&(*self.this).kept)[class.number()] }
    }

    #[inline(always)]
    fn grown(&self, class: ClassIndex) -> &AtomicBool {
        // SAFETY: as above.
        unsafe { &(&(*self.this).grown)[class.number()] }
    }

    #[inline(always)]
    fn behind(&mut self) -> &mut Behind {
        // SAFETY: the lock is held, so what is behind it is the caller's.
        unsafe { &mut *(*self.this).behind.get() }
    }

    #[inline(always)]
    fn depot(&mut self, class: ClassIndex) -> &mut Depot {
        &mut self.behind().depots[class.number()]
    }

    /// # Safety
    ///
    /// `this` is the calling thread's cache.
    unsafe fn lock_own(this: *const ThreadCache) -> Self {
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
    unsafe fn try_lock(this: *const ThreadCache) -> Option<Self> {
        // SAFETY: the cache is valid; the lock is taken before it is used.
        unsafe { (*this).lock.try_lock().then(|| Self { this }) }
    }

    fn bin(&self, class: ClassIndex) -> &Bin {
        // SAFETY: the cache is valid, and these are atomics.
        unsafe { &(&(*self.this).bins)[class.number() + 1] }
    }

    /// Slots of the bin's magazine, or of its first one if it has none.
    #[inline(always)]
    fn capacity(&self, class: ClassIndex) -> usize {
        capacity_of(class, self.grown(class))
    }

    fn has_magazine(&self, class: ClassIndex) -> bool {
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
    unsafe fn contents(&self, class: ClassIndex) -> (*mut *mut u8, usize) {
        let bin = self.bin(class);
        if bin.end() == no_slots() {
            return (bin.end().cast(), 0);
        }
        let capacity = self.capacity(class);
        // SAFETY: `end` is so many slots above the lowest.
        let lowest = unsafe { bin.end().sub(capacity) };
        (lowest.cast(), bin.height(capacity))
    }

    /// # Safety
    ///
    /// As for [`ThreadCache::refill`].
    unsafe fn refill<S: Source>(
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
            if let Some(full) = self.take_full(class) {
                self.counts().depot_hits.add(1);
                // The depot has none of a class that has not grown, so the bin's is full size, too.
                let capacity = capacity(class);
                let empty = Magazine::from_lowest(self.bin(class).end().sub(capacity));
                self.behind().store.give(class, empty);
                self.install(class, full, capacity, capacity);
                return self.bin(class).pop();
            }
            let depot = self.depot(class);
            if depot.missed > 0 {
                depot.missed -= 1;
                depot.limit = (depot.limit + 1).min(DEPOT_LIMITS[class.number()]);
            }
            let may_borrow = S::LENDS && depot.loans > 0;
            let drift = depot.drift.min(0);
            depot.drift = drift.saturating_sub(1);
            let is_first = !self.has_magazine(class);
            let room = if is_first {
                self.first_room(class)
            } else {
                let mut slots = self.capacity(class);
                if slots != capacity(class) {
                    slots = self.grow(class);
                }
                batch_of(slots, drift.unsigned_abs())
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

    /// A block of one of the next larger classes, where there is no new memory or the class has
    /// loans left; null if none of them has one. The block goes into no bin of this class: when
    /// it is freed, its own class gets it.
    ///
    /// # Safety
    ///
    /// As for [`ThreadCache::refill`].
    #[cold]
    unsafe fn borrow(
        &mut self,
        class: ClassIndex,
        align: usize,
        source: &mut impl Source,
    ) -> *mut u8 {
        // A block of any size that is not 8 is aligned so for C, however little was asked for: a
        // `realloc` of this one may leave it where it is.
        let align = align.max(16);
        let larger = (class.number() + 1..)
            .take(LENDERS)
            .filter_map(ClassIndex::new);
        let is_aligned = |lender: &ClassIndex| lender.size().is_multiple_of(align);
        let asks_all = larger.clone().all(|lender| is_aligned(&lender));
        let lenders = larger.filter(is_aligned);
        let mut lent = [ptr::null_mut()];
        for lender in lenders.clone() {
            // SAFETY: the calling thread is the owner.
            unsafe {
                lent[0] = self.bin(lender).pop();
                if !lent[0].is_null() {
                    break;
                }
            }
        }
        if lent[0].is_null() {
            for lender in lenders {
                if source.refill_free(lender, &mut lent) > 0 {
                    break;
                }
            }
        }
        let loans = &mut self.depot(class).loans;
        if lent[0].is_null() {
            // Not asked again before the class has had blocks to spare once more.
            if asks_all {
                *loans = 0;
            }
        } else {
            *loans = loans.saturating_sub(1);
            self.counts().loans.add(1);
        }
        lent[0]
    }

    /// # Safety
    ///
    /// As for [`ThreadCache::make_room_and_push`].
    unsafe fn make_room_and_push(
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
                source.flush(class, &[block]);
                return;
            }
            let pushed = self.bin(class).push(block);
            debug_assert!(pushed);
        }
    }

    /// Makes room in the bin of a class that has no magazine yet, or its first one. `false` if there
    /// is no memory for any.
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
                return self.make_magazine(class);
            }
            if self.grow(class) == slots {
                self.flush_oldest(class, slots, source);
            }
        }
        true
    }

    /// Puts the bin's magazine into the depot, or, where there is no room for it, flushes the older
    /// half or most of it.
    ///
    /// # Safety
    ///
    /// The calling thread is the owner; the bin is full, and its magazine of the full capacity.
    unsafe fn empty_full(&mut self, class: ClassIndex, capacity: usize, source: &mut impl Source) {
        let kept = self.kept(class).load(Ordering::Relaxed);
        let bytes = capacity * class.size();
        let may_keep =
            kept < self.depot(class).limit && self.behind().depot_bytes + bytes <= DEPOT_BYTES;
        let spare = if may_keep {
            self.behind().store.take_for_depot(class)
        } else {
            None
        };
        let Some(spare) = spare else {
            // SAFETY: passed on.
            unsafe { self.flush_oldest(class, capacity, source) };
            return;
        };
        self.counts().depot_stores.add(1);
        // SAFETY: the bin's magazine has so many slots below the end.
        let full = unsafe { Magazine::from_lowest(self.bin(class).end().sub(capacity)) };
        full.set_next(self.depot(class).full);
        self.depot(class).full = Some(full);
        self.kept(class).store(kept + 1, Ordering::Relaxed);
        self.behind().depot_bytes += bytes;
        // SAFETY: passed on.
        unsafe { self.install(class, spare, capacity, 0) };
    }

    /// Flushes the older half of a full bin, or most of it.
    ///
    /// # Safety
    ///
    /// The calling thread is the owner, and the bin has so many slots, all with blocks.
    unsafe fn flush_oldest(
        &mut self,
        class: ClassIndex,
        capacity: usize,
        source: &mut impl Source,
    ) {
        let depot = self.depot(class);
        depot.missed = depot.missed.saturating_add(1);
        depot.loans = LOANS;
        let drift = depot.drift.max(0);
        depot.drift = drift.saturating_add(1);
        let batch = batch_of(capacity, drift.unsigned_abs());
        let bin = self.bin(class);
        // SAFETY: the lower `batch` slots hold blocks, and under the lock nobody writes slots but
        // this thread.
        unsafe {
            let lowest: *const *mut u8 = bin.end().sub(capacity).cast();
            source.flush(class, core::slice::from_raw_parts(lowest, batch));
            bin.drop_lowest(capacity, batch);
        }
    }

    /// # Safety
    ///
    /// As for [`ThreadCache::drain`].
    unsafe fn drain(&mut self, source: &mut impl Source) {
        self.drain_depot(source);
        for class in ClassIndex::all() {
            // SAFETY: the calling thread is the owner.
            let (lowest, count) = unsafe { self.contents(class) };
            if count > 0 {
                // SAFETY: so many slots from the lowest hold blocks, as above.
                source.flush(class, unsafe { core::slice::from_raw_parts(lowest, count) });
                // SAFETY: as above.
                unsafe { self.bin(class).drop_lowest(self.capacity(class), count) };
            }
        }
    }

    /// # Safety
    ///
    /// As for [`ThreadCache::clear_magazines`].
    unsafe fn clear_magazines(&mut self) -> Range<*mut u8> {
        debug_assert_eq!(self.behind().depot_bytes, 0);
        for class in ClassIndex::all() {
            // SAFETY: the calling thread is the owner.
            unsafe {
                debug_assert_eq!(self.contents(class).1, 0);
                self.bin(class).install(no_slots(), 0, 0);
            }
        }
        self.behind().store.clear()
    }

    /// Returns what is in the depot to the source. Returns how many bytes that were.
    fn drain_depot(&mut self, source: &mut impl Source) -> usize {
        let before = self.behind().depot_bytes;
        for class in ClassIndex::all() {
            while let Some(full) = self.take_full(class) {
                // SAFETY: magazines in the depot are full.
                source.flush(class, unsafe {
                    core::slice::from_raw_parts(full.lowest().cast(), capacity(class))
                });
                self.behind().store.give(class, full);
            }
        }
        before
    }

    fn reap(&mut self, source: &mut impl Source) -> usize {
        let mut bytes = self.drain_depot(source);
        let mut counts = [0_u8; CLASSES];
        let mut next = if self.behind().are_bins_lost {
            CLASSES
        } else {
            0
        };
        while next < CLASSES {
            // A barrier for as many bins as there is room for.
            let mut lifted = [ptr::null_mut(); LIFTED];
            let mut used = 0;
            let first = next;
            while let Some(class) = ClassIndex::new(next)
                && used + self.capacity(class) <= LIFTED
            {
                used += self.lift(class, &mut lifted[used..], &mut counts);
                next += 1;
            }
            if used == 0 {
                continue;
            }
            self.behind().has_holes = true;
            let passed = barrier::all_threads();
            let mut rest = &mut lifted[..used];
            for class in (first..next).filter_map(ClassIndex::new) {
                let (lifted, others) = rest.split_at_mut(usize::from(counts[class.number()]));
                rest = others;
                bytes += self.settle(class, lifted, passed, source);
            }
            if !passed {
                break;
            }
        }
        if bytes > 0 {
            self.counts().reaps.add(1);
        }
        bytes
    }

    /// Lifts the blocks of a bin. Returns how many, and notes it.
    fn lift(&self, class: ClassIndex, lifted: &mut [*mut u8], counts: &mut [u8; CLASSES]) -> usize {
        if !self.has_magazine(class) {
            return 0;
        }
        // SAFETY: the lock is held, and the bin has a magazine.
        let count = unsafe { self.bin(class).lift(self.capacity(class), lifted) };
        counts[class.number()] = count as u8;
        count
    }

    /// Returns to the source what has been lifted and was not needed any more. Returns
    /// how many bytes that were.
    fn settle(
        &self,
        class: ClassIndex,
        lifted: &mut [*mut u8],
        passed: bool,
        source: &mut impl Source,
    ) -> usize {
        if lifted.is_empty() {
            return 0;
        }
        let capacity = self.capacity(class);
        // SAFETY: the lock has been held since the lift, and the bin has a magazine of so many
        // slots.
        let taken = unsafe { self.bin(class).settle(capacity, lifted, passed) };
        if taken > 0 {
            source.flush(class, &lifted[..taken]);
        }
        taken * class.size()
    }

    fn take_full(&mut self, class: ClassIndex) -> Option<Magazine> {
        let depot = self.depot(class);
        let full = depot.full?;
        depot.full = full.next();
        let kept = self.kept(class);
        kept.store(kept.load(Ordering::Relaxed) - 1, Ordering::Relaxed);
        self.behind().depot_bytes -= capacity(class) * class.size();
        Some(full)
    }

    /// Gives a bin that has no magazine one: its first, unless it had that before all were cleared.
    /// `false` if there is no memory.
    ///
    /// # Safety
    ///
    /// The calling thread is the owner, and the bin has no magazine.
    unsafe fn make_magazine(&mut self, class: ClassIndex) -> bool {
        let slots = self.capacity(class);
        let has_grown = self.grown(class).load(Ordering::Relaxed);
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
            self.grown(class).store(true, Ordering::Release);
            self.behind().store.give_first(first);
        }
        slots
    }

    /// Makes a magazine with so many slots, of which the lowest `count` hold blocks, the bin's.
    ///
    /// # Safety
    ///
    /// The calling thread is the owner, and the magazine nobody else's.
    unsafe fn install(&self, class: ClassIndex, magazine: Magazine, slots: usize, count: usize) {
        // SAFETY: passed on.
        unsafe {
            let end = magazine.lowest().add(slots);
            self.bin(class).install(end, slots, count);
        }
    }
}
