//! The cache: bins, the tables that lead to them, and what else a thread has.

use crate::bin::{Bin, Grown, Popping, Slot};
use crate::depot::{ClassSet, Depot, Fill, blocks_in};
use crate::held::Held;
use crate::magazine::{Store, capacity, first_capacity};
use crate::source::Source;
use core::cell::{Cell, UnsafeCell};
use core::ops::Range;
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU8, Ordering};
use hakmem_region_id::size_class::{
    COARSE_BY_STEP, COARSE_STEPS, MID_BY_STEP, MID_STEPS, TINY_BY_STEP, TINY_BY_STEP_16,
    TINY_STEPS, coarse_step, mid_step,
};
use hakmem_region_id::word::{BIN_BYTES, bin_offset};
use hakmem_region_id::{CLASSES, ClassIndex};
use hakmem_sys::counter::Counter;
use hakmem_sys::lock::RawLock;
use hakmem_sys::opaque::opaque;
use static_assertions::const_assert_eq;

const_assert_eq!(size_of::<Bin>(), BIN_BYTES);

/// A slot with a null below it: the magazine of all bins that have none. Never written.
static NO_SLOTS: [Slot; 2] = [const { AtomicPtr::new(ptr::null_mut()) }; 2];

/// The lowest (and end) slot of the magazine that has none.
pub(crate) const fn no_slots() -> *mut Slot {
    // SAFETY: index 1 of an array of two.
    unsafe { (&raw const NO_SLOTS).cast::<Slot>().add(1).cast_mut() }
}

/// What happened to a cache, as counts of events.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct CacheCounts {
    /// Bins found empty.
    pub empty: Counter,
    /// Of these, filled from the depot.
    pub depot_hits: Counter,
    /// Blocks of larger classes taken where new memory would have been needed.
    pub loans: Counter,
    /// Bins found full.
    pub full: Counter,
    /// Of these, emptied into the depot.
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
    pub(crate) bins: [Bin; CLASSES + 1],
    // Cells, because the thread writes them while there are references to its cache.
    tiny: [Cell<u16>; TINY_STEPS],
    tiny_16: [Cell<u16>; TINY_STEPS],
    mid: [Cell<u16>; MID_STEPS],
    coarse: [Cell<u16>; COARSE_STEPS],
    /// Where pops from the bins of coarse classes are announced.
    pub(crate) popping: Popping,
    /// Magazines in the depot by class; written under the lock, as is
    pub(crate) kept: [AtomicU8; CLASSES],
    /// which classes' first one is half full.
    pub(crate) halves: ClassSet,
    /// Which classes have magazines of their full capacity, or will; and no more the first one.
    /// Written under the lock, once.
    pub(crate) grown: [Grown; CLASSES],
    /// Held on the slow paths, and by a reaper.
    pub(crate) lock: RawLock,
    pub(crate) behind: UnsafeCell<Behind>,
    pub(crate) counts: CacheCounts,
}

/// What lies behind the bins.
#[derive(Debug)]
pub(crate) struct Behind {
    pub depots: [Depot; CLASSES],
    /// How much is in the depots, of the coarse classes and before that of all others.
    pub fills: [Fill; 2],
    pub store: Store,
    /// Whether bins may have empty slots among their blocks.
    pub has_holes: bool,
    /// Whether the bins must not be reaped.
    pub are_bins_lost: bool,
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

/// The class whose bin is at an offset, if one's is.
fn class_at(offset: u32) -> Option<ClassIndex> {
    ClassIndex::new((offset as usize / BIN_BYTES).checked_sub(1)?)
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
        tiny: offsets(&TINY_BY_STEP),
        tiny_16: offsets(&TINY_BY_STEP_16),
        mid: offsets(&MID_BY_STEP),
        coarse: offsets(&COARSE_BY_STEP),
        popping: Popping::new(),
        kept: [const { AtomicU8::new(0) }; CLASSES],
        halves: ClassSet::EMPTY,
        grown: [const { Grown::new() }; CLASSES],
        lock: RawLock::new(),
        behind: UnsafeCell::new(Behind {
            depots: [Depot::EMPTY; CLASSES],
            fills: [Fill::EMPTY; 2],
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
        let steps = this.tiny.iter().chain(&this.tiny_16);
        let steps = steps.chain(&this.mid).chain(&this.coarse);
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
        open(&this.tiny, &TINY_BY_STEP);
        open(&this.tiny_16, &TINY_BY_STEP_16);
        open(&this.mid, &MID_BY_STEP);
        open(&this.coarse, &COARSE_BY_STEP);
    }

    /// Whether allocs take the slow path on purpose.
    ///
    /// # Safety
    ///
    /// As for [`close_allocs`](Self::close_allocs).
    pub unsafe fn are_allocs_closed(this: *const Self) -> bool {
        // SAFETY: the tables are the thread's.
        unsafe { (*this).tiny[1].get() == 0 }
    }

    /// The bin for a size up to 1 KiB, 8-byte alignment.
    ///
    /// # Safety
    ///
    /// `this` is valid and `size` at most 1024.
    #[inline(always)]
    pub unsafe fn tiny_bin(this: *const Self, size: usize) -> u32 {
        // SAFETY: the step is inside the table.
        unsafe { u32::from(*(&raw const (*this).tiny).cast::<u16>().add((size + 7) >> 3)) }
    }

    /// The bin for a size up to 1 KiB with the alignment `malloc` promises.
    ///
    /// # Safety
    ///
    /// As for [`tiny_bin`](Self::tiny_bin).
    #[inline(always)]
    pub unsafe fn tiny_bin_16(this: *const Self, size: usize) -> u32 {
        // SAFETY: the step is inside the table.
        unsafe {
            u32::from(
                *(&raw const (*this).tiny_16)
                    .cast::<u16>()
                    .add((size + 7) >> 3),
            )
        }
    }

    /// The bin for a size above 1 KiB up to [`MAX_FINE`](hakmem_region_id::MAX_FINE).
    ///
    /// # Safety
    ///
    /// `this` is valid and `size` from 1 to [`MAX_FINE`](hakmem_region_id::MAX_FINE).
    #[inline(always)]
    pub unsafe fn mid_bin(this: *const Self, size: usize) -> u32 {
        // SAFETY: the step is inside the table.
        unsafe { u32::from(*(&raw const (*this).mid).cast::<u16>().add(mid_step(size))) }
    }

    /// The bin for a size above that up to [`MAX_CACHED`](hakmem_region_id::MAX_CACHED).
    ///
    /// # Safety
    ///
    /// `this` is valid and `size` within these bounds.
    #[inline(always)]
    pub unsafe fn coarse_bin(this: *const Self, size: usize) -> u32 {
        // SAFETY: the step is inside the table.
        unsafe {
            u32::from(
                *(&raw const (*this).coarse)
                    .cast::<u16>()
                    .add(coarse_step(size)),
            )
        }
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
    /// `this` is the calling thread's cache and `offset` that of a bin, of no coarse class.
    #[inline(always)]
    pub unsafe fn pop(this: *const Self, offset: u32) -> *mut u8 {
        debug_assert!(!class_at(offset).is_some_and(ClassIndex::is_coarse));
        // SAFETY: below the lowest slot of every magazine there is a null.
        unsafe { Self::bin(this, offset).pop() }
    }

    /// The same out of the bin of a coarse class: a thread that sleeps is to keep none of its blocks.
    ///
    /// # Safety
    ///
    /// `this` is the calling thread's cache and `offset` that of a bin.
    #[inline(always)]
    pub unsafe fn pop_coarse(this: *const Self, offset: u32) -> *mut u8 {
        // SAFETY: as above; other pops of these bins are made under the lock.
        unsafe { Self::bin(this, offset).pop_announced(&(*this).popping) }
    }

    /// The same out of the bin of a class.
    ///
    /// # Safety
    ///
    /// `this` is the calling thread's cache.
    #[inline(always)]
    pub unsafe fn pop_class(this: *const Self, class: ClassIndex) -> *mut u8 {
        // SAFETY: passed on.
        unsafe {
            if class.is_coarse() {
                Self::pop_coarse(this, bin_offset(class))
            } else {
                Self::pop(this, bin_offset(class))
            }
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
        // SAFETY: passed on.
        unsafe { Self::bin(this, offset).push(block) }
    }

    /// Takes a block of a class whose bin is empty, and fills the bin on the way:
    /// from the depot, else from the source. Null if there is no memory.
    ///
    /// Where the source [`LENDS`](Source::LENDS), the block is of a larger class if that saves new
    /// memory, and then at a multiple of `align`, a power of two that is no more than the class's
    /// [alignment](ClassIndex::align). Of others it is of `class`, and `align` means nothing.
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
    /// putting the older half, or all of it, into the depot, else by flushing that half, or most of it.
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
    /// that seems to sleep; with `whole` everything of the coarse classes. Nothing happens if it is on a slow path
    /// just now. Returns how many bytes of blocks that were.
    ///
    /// # Safety
    ///
    /// `this` is valid memory of a cache that is set up. The source takes no lock that a
    /// thread holds while it waits for a cache's.
    pub unsafe fn reap(this: *const Self, whole: bool, source: &mut impl Source) -> usize {
        // SAFETY: passed on.
        unsafe { Held::try_lock(this).map_or(0, |mut held| held.reap(whole, source)) }
    }

    /// Returns what is in the bins of the coarse classes to the source, if the thread has taken no block of them since
    /// this was called last. Nothing happens if it is on a slow path just now. Returns how many bytes of blocks that were.
    ///
    /// # Safety
    ///
    /// As for [`reap`](Self::reap).
    pub unsafe fn reap_unused(this: *const Self, source: &mut impl Source) -> usize {
        // SAFETY: passed on.
        unsafe { Held::try_lock(this).map_or(0, |mut held| held.reap_unused(source)) }
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
        let (bin, kept, halves, grown) = unsafe {
            (
                Self::bin(this, bin_offset(class)),
                &(*this).kept[class.number()],
                &(*this).halves,
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
        in_bin + blocks_in(class, kept.load(Ordering::Relaxed), halves.has(class))
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
/// Ordering: acquire.
#[inline(always)]
pub(crate) fn capacity_of(class: ClassIndex, grown: &Grown) -> usize {
    if grown.get() {
        capacity(class)
    } else {
        first_capacity(class)
    }
}
