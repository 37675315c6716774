//! Thread heaps.

use crate::state::{ARENA, MID, SLABS, shared};
use crate::{huge, thread, upkeep};
use core::mem::offset_of;
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering};
use hakmem_mid_pool::SHARDS;
use hakmem_page_arena::Label;
use hakmem_region_id::word::OWNERS;
use hakmem_region_id::{ClassIndex, Kind, REGION_BYTES, REGION_SHIFT, RegionWord};
use hakmem_superslab::OwnedSlabs;
use hakmem_sys::barrier;
use hakmem_sys::counter::Counter;
use hakmem_sys::lock::Lock;
use hakmem_thread_cache::{Source, ThreadCache};
use static_assertions::const_assert_eq;

/// Microseconds without a slow path after which a thread seems to sleep.
pub(crate) const ASLEEP_US: u64 = 500;

/// Empty slabs that a heap takes between two looks for sleepers.
const SLABS_PER_LOOK: u64 = 2;

/// What the fast paths see of a heap.
#[repr(C)]
pub(crate) struct Front {
    pub cache: ThreadCache,
    /// A copy of where the region map is and how long it was when the heap last
    /// looked. The copy is the thread's own, so `free` can use its fields as
    /// operands where it would have to load the map's atomics first; a region
    /// that is not in it yet takes the slow path, which looks again.
    base: usize,
    len: usize,
    words: *const AtomicU32,
}

// SAFETY: a front is used by the one thread whose slot points to it, except for
// the two closed ones, which nobody ever writes: their bins have no slots.
unsafe impl Sync for Front {}

impl Front {
    /// A front whose every call takes the slow path.
    #[expect(
        clippy::declare_interior_mutable_const,
        reason = "each use is to be a front of its own"
    )]
    pub const CLOSED: Self = Self {
        cache: ThreadCache::CLOSED,
        base: 0,
        len: 0,
        words: ptr::null(),
    };

    /// The gate: the offset of the bin that takes the block at this address, or
    /// a number that is not below `BIN_LIMIT`.
    ///
    /// # Safety
    ///
    /// `this` is the calling thread's front.
    #[inline(always)]
    pub unsafe fn gate(this: *const Self, address: usize) -> u32 {
        // SAFETY: the front is valid, and the map has `len` words for ever.
        unsafe {
            let region = address.wrapping_sub((*this).base) >> REGION_SHIFT;
            if region >= (*this).len {
                return u32::MAX;
            }
            let word = (*(*this).words.add(region)).load(Ordering::Relaxed);
            RegionWord::from_bits(word).gate()
        }
    }

    /// Looks again where the region map is and how long.
    pub fn refresh(&mut self) {
        let map = ARENA.map();
        // The length first: its acquire covers the others.
        self.len = map.len();
        self.base = map.base();
        self.words = map.words();
    }
}

/// What a thread allocates from. Lies at the start of a region of its own, whose
/// rest is the memory of its magazines; never unmapped, used again by the next
/// thread.
#[repr(C)]
pub(crate) struct Heap {
    pub front: Front,
    pub slabs: OwnedSlabs,
    /// Bytes of blocks that came into this heap's bins, and that left them again
    /// or were freed past them. The sum over all heaps of what came less what left
    /// is what is in use or in bins.
    pub came: Counter,
    pub left: Counter,
    /// Calls of the thread that took a slow path.
    pub slow_calls: Counter,
    /// How many these were when somebody saw last that they had changed, and when that
    /// was, in microseconds.
    calls_seen: AtomicU64,
    seen_at: AtomicU64,
    /// Whether the heap has been reaped since.
    is_reaped: AtomicBool,
    /// Rounds of thread-exit destructors seen.
    pub exit_rounds: AtomicU32,
    /// Whether a thread uses it.
    attached: AtomicU32,
    /// The next idle heap, under the registry's lock.
    next_idle: AtomicPtr<Heap>,
}

const_assert_eq!(offset_of!(Heap, front), 0);
const_assert_eq!(offset_of!(Front, cache), 0);

struct Registry {
    idle: *mut Heap,
}

// SAFETY: heaps are never unmapped; the pointers mean the same on all threads.
unsafe impl Send for Registry {}

static REGISTRY: Lock<Registry> = Lock::new(Registry {
    idle: ptr::null_mut(),
});

/// The registry's lock, for the fork hooks.
pub(crate) fn registry_lock() -> &'static hakmem_sys::lock::RawLock {
    REGISTRY.raw()
}

/// Gives the calling thread a heap: the one idle for the shortest time, or a new
/// one. Null if there is no memory.
pub(crate) fn acquire() -> *mut Heap {
    let mut registry = REGISTRY.lock();
    let heap = registry.idle;
    if heap.is_null() {
        let number = SLABS.owners.len();
        if number == 0 {
            // While the process has one thread, as a rule.
            barrier::prepare();
            huge::configure();
        }
        return make(number);
    }
    // SAFETY: idle heaps are valid and in this list once.
    unsafe {
        registry.idle = (*heap).next_idle.load(Ordering::Relaxed);
        (*heap).attached.store(1, Ordering::Relaxed);
        (*heap).exit_rounds.store(0, Ordering::Relaxed);
    }
    heap
}

/// Makes a heap nobody uses available.
///
/// # Safety
///
/// The heap is the caller's, its cache is empty, and it will not be used again
/// by the caller.
pub(crate) unsafe fn release(heap: *mut Heap) {
    let mut registry = REGISTRY.lock();
    // SAFETY: the heap is valid and in no list.
    unsafe {
        (*heap).attached.store(0, Ordering::Relaxed);
        (*heap).next_idle.store(registry.idle, Ordering::Relaxed);
    }
    registry.idle = heap;
}

/// Makes a heap, attached, and enters it among the owners. Called under the registry's
/// lock, so numbers are given once.
fn make(number: u32) -> *mut Heap {
    if number >= OWNERS {
        return ptr::null_mut();
    }
    let label = Label::uniform(RegionWord::of_kind(Kind::Taken));
    let Some(run) = ARENA.allocate(1, 1, label) else {
        return ptr::null_mut();
    };
    let Some(slabs) = OwnedSlabs::new(number) else {
        return ptr::null_mut();
    };
    let start: *mut u8 = ptr::with_exposed_provenance_mut(ARENA.map().address_of(run.first));
    let heap: *mut Heap = start.cast();
    // SAFETY: the region was handed out for this heap and is large enough and
    // aligned for it; the memory behind the heap is for the magazines. Dirty
    // memory is cleared first, because magazines start from zero.
    unsafe {
        if !run.zeroed {
            start.write_bytes(0, REGION_BYTES);
        }
        ptr::write(
            heap,
            Heap {
                front: Front::CLOSED,
                slabs,
                came: Counter::new(),
                left: Counter::new(),
                slow_calls: Counter::new(),
                calls_seen: AtomicU64::new(0),
                seen_at: AtomicU64::new(0),
                is_reaped: AtomicBool::new(false),
                exit_rounds: AtomicU32::new(0),
                attached: AtomicU32::new(1),
                next_idle: AtomicPtr::new(ptr::null_mut()),
            },
        );
        (*heap).front.refresh();
        let magazines = size_of::<Heap>().next_multiple_of(64);
        (*heap)
            .front
            .cache
            .set_memory(start.add(magazines), start.add(REGION_BYTES));
        let slabs: &'static OwnedSlabs = &(*heap).slabs;
        if !shared().pool.owners.set(slabs.number(), slabs) {
            ARENA.free(run.first, 1);
            return ptr::null_mut();
        }
    }
    heap
}

/// The heap whose slabs these are.
pub(crate) fn of_slabs(slabs: &'static OwnedSlabs) -> *mut Heap {
    // SAFETY: every `OwnedSlabs` in the owner table is a field of a heap.
    unsafe {
        ptr::from_ref(slabs)
            .cast_mut()
            .byte_sub(offset_of!(Heap, slabs))
            .cast()
    }
}

impl Heap {
    /// Whether a thread uses the heap.
    pub fn is_attached(&self) -> bool {
        self.attached.load(Ordering::Relaxed) != 0
    }

    /// Empties the bins.
    ///
    /// # Safety
    ///
    /// The heap is the calling thread's.
    pub unsafe fn drain(this: *mut Self) {
        // SAFETY: passed on.
        unsafe {
            let mut source = HeapSource::of(this);
            ThreadCache::drain(&raw const (*this).front.cache, &mut source);
        }
    }

    /// Whether the heap's thread has taken no slow path for [`ASLEEP_US`], as far as is
    /// known from those who asked before, and its cache has not been reaped since.
    pub fn is_to_reap(&self, now: u64) -> bool {
        let calls = self.slow_calls.get();
        // Who sees these calls sees the time with them: they come last, with release.
        if self.calls_seen.load(Ordering::Acquire) != calls {
            self.seen_at.store(now, Ordering::Relaxed);
            self.is_reaped.store(false, Ordering::Relaxed);
            self.calls_seen.store(calls, Ordering::Release);
            return false;
        }
        !self.is_reaped.load(Ordering::Relaxed)
            && now.saturating_sub(self.seen_at.load(Ordering::Relaxed)) >= ASLEEP_US
    }

    /// Returns what the bins hold, but for one block of each class, on behalf of the
    /// heap's thread. Returns how many bytes that were.
    ///
    /// # Safety
    ///
    /// `this` is a valid heap.
    pub unsafe fn reap(this: *mut Self) -> usize {
        // SAFETY: heaps are valid for ever. The source's locks nest inside the cache's.
        unsafe {
            let Some(slabs) = thread::slabs() else {
                return 0;
            };
            // The tiny blocks go out by the slabs of the calling thread, so that the
            // heap's own do not look visited.
            let mut source = HeapSource {
                slabs,
                ..HeapSource::of(this)
            };
            (*this).is_reaped.store(true, Ordering::Relaxed);
            ThreadCache::reap(&raw const (*this).front.cache, &mut source)
        }
    }

    /// Which lists of the shared pools the heap's thread looks at first.
    pub fn shard(&self) -> usize {
        self.slabs.number().0 as usize % SHARDS
    }
}

/// Where the bins of a heap get blocks from.
pub(crate) struct HeapSource {
    pub slabs: &'static OwnedSlabs,
    shard: usize,
    came: &'static Counter,
    left: &'static Counter,
}

impl HeapSource {
    /// # Safety
    ///
    /// `heap` is a valid heap.
    pub unsafe fn of(heap: *mut Heap) -> Self {
        // SAFETY: heaps are valid for ever; the slabs have their own lock.
        unsafe {
            Self {
                slabs: &(*heap).slabs,
                shard: (*heap).shard(),
                came: &(*heap).came,
                left: &(*heap).left,
            }
        }
    }
}

impl Source for HeapSource {
    fn refill(&mut self, class: ClassIndex, out: &mut [*mut u8]) -> usize {
        let filled = if class.is_tiny() {
            let started = self.slabs.counts().slabs_started() / SLABS_PER_LOOK;
            let filled = self.slabs.refill(shared(), class, out);
            if self.slabs.counts().slabs_started() / SLABS_PER_LOOK != started {
                upkeep::look_for_sleepers();
            }
            filled
        } else {
            MID.refill(&ARENA, class, self.shard, out)
        };
        self.came.add((filled * class.size()) as u64);
        filled
    }

    fn flush(&mut self, class: ClassIndex, blocks: &[*mut u8]) {
        self.left.add((blocks.len() * class.size()) as u64);
        // SAFETY: what is in a bin is free, and of the bin's class.
        unsafe {
            if class.is_tiny() {
                self.slabs.flush(shared(), blocks);
            } else {
                MID.flush(&ARENA, class, blocks);
            }
        }
    }
}
