//! Thread heaps.

use crate::front::Front;
use crate::registry::{self, NO_THREAD};
use crate::source::{HeapSource, REGIONS_PER_LOOK};
use crate::state::{ARENA, RUNS, SLABS};
use crate::{free, thread};
use core::mem::offset_of;
use core::ops::Range;
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering};
use hakmem_mid_pool::{CachedRun, RunCache, SHARDS};
use hakmem_page_arena::Label;
use hakmem_region_id::word::OWNERS;
use hakmem_region_id::{ClassIndex, REGION_BYTES};
use hakmem_superslab::OwnedSlabs;
use hakmem_sys::counter::Counter;
use hakmem_sys::vm;
use hakmem_thread_cache::ThreadCache;
use static_assertions::const_assert_eq;

/// A heap with its magazines takes so much of the arena, at a multiple of it: the first ones
/// then lie where their bins do not meet the region words in a cache (decision 20).
const HEAP_BYTES: usize = 128 << 10;
const HEAP_REGIONS: usize = HEAP_BYTES / REGION_BYTES;

/// Microseconds without a slow path after which a thread seems to sleep.
pub(crate) const ASLEEP_US: u64 = 500;

/// What a thread allocates from. Lies at the start of [`HEAP_BYTES`] of its own, whose
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
    /// Runs of blocks that the thread has freed.
    pub runs: RunCache,
    /// Regions of new runs of mid blocks that the heap has taken; written under the cache's lock.
    pub mid_regions: Counter,
    /// How many these and the empty slabs it has taken are when it looks for sleepers next; written
    /// likewise.
    pub next_look: AtomicU64,
    /// Calls of the thread that took a slow path.
    pub slow_calls: Counter,
    /// How many these were when somebody saw last that they had changed, and when that
    /// was, in microseconds.
    calls_seen: AtomicU64,
    seen_at: AtomicU64,
    /// Whether the heap has been reaped since.
    pub is_reaped: AtomicBool,
    /// Rounds of thread-exit destructors seen.
    pub exit_rounds: AtomicU32,
    /// Whether a thread uses it: [`IDLE`], [`ATTACHED`] or [`LOST`].
    pub attached: AtomicU32,
    /// The next idle heap, under the registry's lock.
    pub next_idle: AtomicPtr<Heap>,
}

/// No thread uses the heap.
pub(crate) const IDLE: u32 = 0;
/// One does.
pub(crate) const ATTACHED: u32 = 1;
/// One did that does not exist in this process.
const LOST: u32 = 2;

const_assert_eq!(offset_of!(Heap, front), 0);

/// Writes a heap without slabs, attached, to `heap`: field by field, because the whole of it as
/// one value would lie on the stack first, and its two pages would stay with each thread. False,
/// and nothing is used, when numbers have run out.
///
/// # Safety
///
/// `heap` can be written to, and nobody else uses it. It stays there, and is entered among the owners
/// of [`SLABS`] before its slabs are used.
unsafe fn write_new(heap: *mut Heap, number: u32) -> bool {
    // All fields are named here, so that one more cannot be forgotten below.
    let _ = |heap: &Heap| {
        let Heap {
            front: _,
            slabs: _,
            came: _,
            left: _,
            runs: _,
            slow_calls: _,
            mid_regions: _,
            next_look: _,
            calls_seen: _,
            seen_at: _,
            is_reaped: _,
            exit_rounds: _,
            attached: _,
            next_idle: _,
        } = heap;
    };
    // SAFETY: the caller's promise.
    unsafe {
        if !OwnedSlabs::init(&raw mut (*heap).slabs, number) {
            return false;
        }
        (&raw mut (*heap).front).write(Front::CLOSED);
        (&raw mut (*heap).came).write(Counter::new());
        (&raw mut (*heap).left).write(Counter::new());
        (&raw mut (*heap).runs).write(RunCache::new());
        (&raw mut (*heap).slow_calls).write(Counter::new());
        (&raw mut (*heap).mid_regions).write(Counter::new());
        (&raw mut (*heap).next_look).write(AtomicU64::new(REGIONS_PER_LOOK));
        (&raw mut (*heap).calls_seen).write(AtomicU64::new(0));
        (&raw mut (*heap).seen_at).write(AtomicU64::new(0));
        (&raw mut (*heap).is_reaped).write(AtomicBool::new(false));
        (&raw mut (*heap).exit_rounds).write(AtomicU32::new(0));
        (&raw mut (*heap).attached).write(AtomicU32::new(ATTACHED));
        (&raw mut (*heap).next_idle).write(AtomicPtr::new(ptr::null_mut()));
    }
    true
}

/// Makes a heap, attached, and enters it among the owners. Called under the registry's
/// lock, so numbers are given once.
pub(crate) fn make(number: u32) -> *mut Heap {
    if number >= OWNERS {
        return ptr::null_mut();
    }
    let Some(run) = ARENA.allocate(HEAP_REGIONS, HEAP_REGIONS, Label::TAKEN) else {
        return ptr::null_mut();
    };
    let start: *mut u8 = ptr::with_exposed_provenance_mut(ARENA.map().address_of(run.first));
    let heap: *mut Heap = start.cast();
    // SAFETY: the region was handed out for this heap and is large enough and
    // aligned for it; the memory behind the heap is for the magazines. It goes back only if the heap
    // could not be entered, and so is not used.
    unsafe {
        if !write_new(heap, number) {
            ARENA.free(run.first, HEAP_REGIONS);
            return ptr::null_mut();
        }
        (*heap).front.refresh();
        let magazines = start.add(size_of::<Heap>().next_multiple_of(64));
        let end = start.add(HEAP_BYTES);
        if run.soiled > 0 {
            // What was freed there would stay for ever: most of it no magazine will use.
            purge_pages(magazines..end);
        }
        (*heap).front.cache.set_memory(magazines, end);
        let slabs: &'static OwnedSlabs = &(*heap).slabs;
        if !SLABS.owners.enter(slabs) {
            ARENA.free(run.first, HEAP_REGIONS);
            return ptr::null_mut();
        }
    }
    heap
}

/// Gives a part of a heap's magazines back to the system, but for what shares a page with the heap itself, which
/// is before them. Returns how many bytes that were.
///
/// # Safety
///
/// Nothing that is in these pages is needed any more, up to the end of the last one.
unsafe fn purge_pages(magazines: Range<*mut u8>) -> usize {
    let [from, to] =
        [magazines.start, magazines.end].map(|at| at.addr().next_multiple_of(vm::page_size()));
    // SAFETY: passed on; they are in the heap's memory.
    if from < to && unsafe { vm::purge(from, to - from) } {
        to - from
    } else {
        0
    }
}

/// Every heap there is.
pub(crate) fn all() -> impl Iterator<Item = *mut Heap> {
    SLABS.owners.all().map(of_slabs)
}

/// The runs that all heaps keep for their threads.
pub(crate) fn kept_runs() -> impl Iterator<Item = CachedRun> {
    // SAFETY: heaps are valid for ever, and anybody may look.
    all().flat_map(|heap| unsafe { &(*heap).runs }.held())
}

/// The heap whose slabs these are.
pub(crate) fn of_slabs(slabs: &'static OwnedSlabs) -> *mut Heap {
    // Every `OwnedSlabs` in the owner table is a field of a heap, which lies in the arena, whose
    // addresses are exposed. The reference itself is one to the field, and no more.
    let address = ptr::from_ref(slabs).addr() - offset_of!(Heap, slabs);
    ptr::with_exposed_provenance_mut(address)
}

impl Heap {
    /// Whether a thread uses the heap.
    pub fn is_attached(&self) -> bool {
        self.attached.load(Ordering::Relaxed) == ATTACHED
    }

    /// Whether the heap waits for a thread, or is on its way there.
    pub fn is_idle(&self) -> bool {
        self.attached.load(Ordering::Relaxed) == IDLE
    }

    /// Has the heap of a thread that does not exist in the child of a fork stay as it is, for
    /// others to reap.
    ///
    /// # Safety
    ///
    /// The heap is attached, and in no other hands.
    pub unsafe fn lose(this: *mut Self) {
        // SAFETY: passed on.
        unsafe {
            ThreadCache::lose_bins(this.cast());
            (*this).attached.store(LOST, Ordering::Relaxed);
            // A thread of the child may have the number.
            registry::note_thread(&*this, NO_THREAD);
        }
    }

    /// Empties the bins, and gives back the runs.
    ///
    /// # Safety
    ///
    /// The heap is the calling thread's, or out of the list of those that wait.
    pub unsafe fn drain(this: *mut Self) {
        // SAFETY: passed on.
        unsafe {
            let mut source = HeapSource::of(this);
            ThreadCache::drain(&raw const (*this).front.cache, &mut source);
            (*this).runs.clear(&RUNS, (*this).give_back());
        }
    }

    /// Gives back the runs that are kept for the thread, on its behalf. Returns how many bytes that were.
    fn reap_runs(&self) -> usize {
        self.reap_runs_by(|runs| runs.reap(&RUNS, self.give_back()))
    }

    /// The same, if the thread has not asked for a run or freed one since this was called last.
    pub fn reap_unused_runs(&self) -> usize {
        self.reap_runs_by(|runs| runs.reap_unused(&RUNS, self.give_back()))
    }

    /// Does so unless the thread is on a slow path just now. Under the cache's lock: one at a time does it then, and a
    /// fork waits for it.
    fn reap_runs_by(&self, reap: impl FnOnce(&RunCache) -> usize) -> usize {
        // SAFETY: heaps are valid for ever. The locks that a run's way back takes nest inside the cache's, which is
        // left once.
        unsafe {
            let lock = ThreadCache::raw_lock(&raw const self.front.cache);
            if !lock.try_lock() {
                return 0;
            }
            let regions = reap(&self.runs);
            lock.unlock();
            regions * REGION_BYTES
        }
    }

    /// What gives a run back that was kept for the thread.
    fn give_back(&self) -> impl Fn(CachedRun) + use<> {
        let shard = self.shard();
        move |run| {
            // SAFETY: such a run's block is freed, and it is in no other hands.
            unsafe { free::give_back_run(run, shard) };
        }
    }

    /// Whether the heap's thread has taken no slow path for [`ASLEEP_US`], as far as is
    /// known from those who asked before, and its cache has not been reaped since.
    pub fn is_to_reap(&self, now: u64) -> bool {
        let calls = self.calls();
        // Who sees these calls sees the time with them: they come last, with release.
        if self.calls_seen.load(Ordering::Acquire) != calls {
            self.seen_at.store(now, Ordering::Relaxed);
            self.is_reaped.store(false, Ordering::Relaxed);
            self.calls_seen.store(calls, Ordering::Release);
            return false;
        }
        !self.is_reaped.load(Ordering::Relaxed) && self.is_seen_before(now, ASLEEP_US)
    }

    /// Whether it is so many microseconds that the heap was last seen at work.
    pub fn is_seen_before(&self, now: u64, after: u64) -> bool {
        now.saturating_sub(self.seen_at.load(Ordering::Relaxed)) >= after
    }

    /// Notes that nobody uses the heap from now on, and that there is nothing in it to reap.
    pub fn note_emptied(&self, now: u64) {
        self.seen_at.store(now, Ordering::Relaxed);
        self.is_reaped.store(true, Ordering::Relaxed);
        self.calls_seen.store(self.calls(), Ordering::Release);
    }

    /// A number that grows with each slow path that the thread takes.
    fn calls(&self) -> u64 {
        self.slow_calls.get() + self.runs.visits()
    }

    /// # Safety
    ///
    /// The heap is the caller's.
    pub unsafe fn magazine_bytes(this: *const Self) -> usize {
        // SAFETY: passed on; the cache comes first.
        unsafe { ThreadCache::magazine_bytes(this.cast()) }
    }

    /// Gives the memory of the magazines back to the system. Returns how many bytes that were.
    ///
    /// # Safety
    ///
    /// The heap is the caller's, and empty.
    pub unsafe fn strip(this: *mut Self) -> usize {
        // SAFETY: passed on; the cache comes first. What was in the magazines means nothing any more, nor
        // does anything behind them.
        unsafe { purge_pages(ThreadCache::clear_magazines(this.cast())) }
    }

    /// Returns the runs, and what the bins hold but for one block of each class, or with `whole` of each that is
    /// not coarse, on behalf of the heap's thread. Returns how many bytes that were.
    ///
    /// # Safety
    ///
    /// `this` is a valid heap.
    pub unsafe fn reap(this: *mut Self, whole: bool) -> usize {
        // SAFETY: heaps are valid for ever. The source's locks nest inside the cache's.
        unsafe {
            let runs = (*this).reap_runs();
            let Some(slabs) = thread::slabs() else {
                return runs;
            };
            // The tiny blocks go out by the slabs of the calling thread, so that the
            // heap's own do not look visited.
            let mut source = HeapSource::with_slabs(this, slabs);
            (*this).is_reaped.store(true, Ordering::Relaxed);
            runs + ThreadCache::reap(&raw const (*this).front.cache, whole, &mut source)
        }
    }

    /// Gives back the blocks of coarse classes in the bins, if the thread has taken none since this was called last.
    /// Returns how many bytes that were.
    ///
    /// # Safety
    ///
    /// `this` is a valid heap.
    pub unsafe fn reap_unused(this: *mut Self) -> usize {
        // SAFETY: as above.
        unsafe {
            let Some(slabs) = thread::slabs() else {
                return 0;
            };
            let mut source = HeapSource::with_slabs(this, slabs);
            ThreadCache::reap_unused(&raw const (*this).front.cache, &mut source)
        }
    }

    /// Does some work with the source of a heap that threads share, under its cache's lock: that
    /// keeps its counters right, and a fork away from lists in pieces.
    ///
    /// # Safety
    ///
    /// `this` is a valid heap, and the caller holds none of the locks.
    pub unsafe fn with_source<T>(this: *mut Self, work: impl FnOnce(&mut HeapSource) -> T) -> T {
        // SAFETY: heaps are valid for ever. The source's locks nest inside the cache's, which is
        // taken here and left once.
        unsafe {
            let lock = ThreadCache::raw_lock(this.cast());
            lock.lock();
            let mut source = HeapSource::of(this);
            let done = work(&mut source);
            lock.unlock();
            source.look_if_due();
            done
        }
    }

    /// Bytes of blocks in bins and depot.
    pub fn cached_bytes(&self) -> usize {
        // SAFETY: of another thread's cache only atomics are read.
        let held = |class| unsafe { ThreadCache::held(&raw const self.front.cache, class) };
        ClassIndex::all()
            .map(|class| held(class) * class.size())
            .sum()
    }

    /// Which lists of the shared pools the heap's thread looks at first.
    pub fn shard(&self) -> usize {
        self.slabs.number().0 as usize % SHARDS
    }
}
