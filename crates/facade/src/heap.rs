//! Thread heaps.

use crate::state::{ARENA, MID, RUNS, SLABS, shared};
use crate::{free, huge, purger, thread, upkeep};
use core::cell::Cell;
use core::mem::offset_of;
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use hakmem_mid_pool::{CachedRun, RunCache, SHARDS, run_regions};
use hakmem_page_arena::Label;
use hakmem_region_id::word::OWNERS;
use hakmem_region_id::{ClassIndex, REGION_BYTES, REGION_SHIFT, RegionWord};
use hakmem_superslab::{OwnedSlabs, OwnerNumber};
use hakmem_sys::counter::Counter;
use hakmem_sys::lock::Lock;
use hakmem_sys::{barrier, clock, vm};
use hakmem_thread_cache::{Source, ThreadCache};
use static_assertions::const_assert_eq;

/// A heap with its magazines takes so much of the arena, at a multiple of it: the first ones
/// then lie where their bins do not meet the region words in a cache (decision 20).
const HEAP_BYTES: usize = 128 << 10;
const HEAP_REGIONS: usize = HEAP_BYTES / REGION_BYTES;

/// Microseconds without a slow path after which a thread seems to sleep.
pub(crate) const ASLEEP_US: u64 = 500;

/// So many heaps of a program take their first blocks of each class from slabs that they keep,
/// so that each class a thread uses has a page of its own. Later heaps share the slabs of these
/// blocks (decision 19),
const HEAPS_WITH_PAGES: u32 = 16;
/// and take so many bytes of a class.
const FIRST_BYTES: usize = 512;

/// Regions of empty slabs and of new runs of mid blocks that a heap takes between two looks for sleepers
/// (128 KiB).
const REGIONS_PER_LOOK: u64 = (128 << 10) / REGION_BYTES as u64;

/// What the fast paths see of a heap.
#[repr(C)]
pub(crate) struct Front {
    pub cache: ThreadCache,
    /// A copy of where the region map is and how long it was when the heap last
    /// looked. The copy is the thread's own, so `free` can use its fields as
    /// operands where it would have to load the map's atomics first; a region
    /// that is not in it yet takes the slow path, which looks again.
    ///
    /// Cells, because others have references to the heap meanwhile, though not to these.
    base: Cell<usize>,
    len: Cell<usize>,
    words: Cell<*const AtomicU32>,
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
        base: Cell::new(0),
        len: Cell::new(0),
        words: Cell::new(ptr::null()),
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
            let region = address.wrapping_sub((*this).base.get()) >> REGION_SHIFT;
            if region >= (*this).len.get() {
                return u32::MAX;
            }
            let word = (*(*this).words.get().add(region)).load(Ordering::Relaxed);
            RegionWord::from_bits(word).gate()
        }
    }

    /// Looks again where the region map is and how long.
    pub fn refresh(&self) {
        let map = ARENA.map();
        // The length first: its acquire covers the others.
        self.len.set(map.len());
        self.base.set(map.base());
        self.words.set(map.words());
    }
}

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
    mid_regions: Counter,
    /// How many these and the empty slabs it has taken are when it looks for sleepers next; written
    /// likewise.
    next_look: AtomicU64,
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
    /// Whether a thread uses it: [`IDLE`], [`ATTACHED`] or [`LOST`].
    attached: AtomicU32,
    /// The next idle heap, under the registry's lock.
    next_idle: AtomicPtr<Heap>,
}

/// No thread uses the heap.
const IDLE: u32 = 0;
/// One does.
const ATTACHED: u32 = 1;
/// One did that does not exist in this process.
const LOST: u32 = 2;

const_assert_eq!(offset_of!(Heap, front), 0);
const_assert_eq!(offset_of!(Front, cache), 0);

/// What no thread's number is.
pub(crate) const NO_THREAD: usize = 0;

/// So many heaps, the first ones, are found again if their threads go without a word.
const HEAPS_FOUND: usize = 8192;

/// The numbers of the threads that use these heaps; [`NO_THREAD`] for one that is idle, everybody's or
/// lost. Written by that thread alone, and by the only one of a fork's child.
static THREADS: [AtomicUsize; HEAPS_FOUND] = [const { AtomicUsize::new(NO_THREAD) }; HEAPS_FOUND];

/// Heaps that wait for the next thread as the last one left them, at most.
const WARM_HEAPS: usize = 8;

/// The heaps that no thread uses.
struct Registry {
    /// With their blocks and slabs, the one idle for the shortest time first.
    warm: IdleHeaps,
    /// Empty, the one idle for the shortest time first.
    cold: IdleHeaps,
    /// Empty, and the memory of their magazines is with the system.
    bare: IdleHeaps,
}

static REGISTRY: Lock<Registry> = Lock::new(Registry {
    warm: IdleHeaps::NONE,
    cold: IdleHeaps::NONE,
    bare: IdleHeaps::NONE,
});

/// Bytes of the magazines of cold heaps; written under the registry's lock.
static COLD_BYTES: AtomicUsize = AtomicUsize::new(0);

/// Cold heaps whose magazines go back to the system in one call, at most: some milliseconds.
const STRIPPED_AT_ONCE: usize = 256;

/// A list of heaps through `next_idle`.
struct IdleHeaps {
    first: *mut Heap,
    count: usize,
}

// SAFETY: heaps are never unmapped; the pointers mean the same on all threads.
unsafe impl Send for IdleHeaps {}

impl IdleHeaps {
    const NONE: Self = Self {
        first: ptr::null_mut(),
        count: 0,
    };

    /// # Safety
    ///
    /// The heap is valid and in no list.
    unsafe fn push(&mut self, heap: *mut Heap) {
        // SAFETY: the heap is valid.
        unsafe { (*heap).next_idle.store(self.first, Ordering::Relaxed) };
        self.first = heap;
        self.count += 1;
    }

    /// Takes the first heap of which `wanted` is true out; null if there is none.
    fn take(&mut self, wanted: impl Fn(*mut Heap) -> bool) -> *mut Heap {
        let mut before = ptr::null_mut();
        let mut heap = self.first;
        while !heap.is_null() && !wanted(heap) {
            before = heap;
            // SAFETY: the heaps of the list are valid for ever.
            heap = unsafe { (*heap).next_idle.load(Ordering::Relaxed) };
        }
        if heap.is_null() {
            return heap;
        }
        // SAFETY: as above.
        unsafe {
            let next = (*heap).next_idle.load(Ordering::Relaxed);
            if before.is_null() {
                self.first = next;
            } else {
                (*before).next_idle.store(next, Ordering::Relaxed);
            }
        }
        self.count -= 1;
        heap
    }
}

impl Registry {
    /// # Safety
    ///
    /// The heap is the caller's, empty, and in no list.
    unsafe fn push_cold(&mut self, heap: *mut Heap) {
        // SAFETY: passed on.
        unsafe {
            COLD_BYTES.fetch_add(Heap::magazine_bytes(heap), Ordering::Relaxed);
            self.cold.push(heap);
        }
    }

    fn take_cold(&mut self, wanted: impl Fn(*mut Heap) -> bool) -> *mut Heap {
        let heap = self.cold.take(wanted);
        if !heap.is_null() {
            // SAFETY: whoever takes a heap out of the list has it for himself.
            COLD_BYTES.fetch_sub(unsafe { Heap::magazine_bytes(heap) }, Ordering::Relaxed);
        }
        heap
    }
}

/// Bytes of magazines that heaps have for threads which are not there yet.
pub(crate) fn cold_bytes() -> usize {
    COLD_BYTES.load(Ordering::Relaxed)
}

/// The registry's lock, for the fork hooks.
pub(crate) fn registry_lock() -> &'static hakmem_sys::lock::RawLock {
    REGISTRY.raw()
}

/// Gives the calling thread, which has none, a heap: the one that was left in its place, the one idle
/// for the shortest time, or a new one. Null if there is no memory.
///
/// `thread` is the thread's number, or [`NO_THREAD`] for a heap that is to be everybody's.
pub(crate) fn acquire(thread: usize) -> *mut Heap {
    let heap = left_by(thread).unwrap_or_else(idle_or_new);
    if heap.is_null() {
        return heap;
    }
    // SAFETY: heaps are valid for ever, and this one is the caller's now.
    unsafe {
        (*heap).set_thread(thread);
        (*heap).exit_rounds.store(0, Ordering::Relaxed);
        // What it does from here on may take no slow path for a while.
        (*heap).slow_calls.add(1);
    }
    heap
}

/// The heap of a thread that had this number, which is the calling one's now, and has gone without its
/// exit hook (decision 33).
///
/// As the calling thread has no heap yet, one with its number is no living thread's, and nobody else comes
/// for it. All that its thread has done to it can be seen here: a place for threads is given to the next
/// when the last one has gone.
fn left_by(thread: usize) -> Option<*mut Heap> {
    if thread == NO_THREAD {
        return None;
    }
    let heaps = (SLABS.owners.len() as usize).min(HEAPS_FOUND);
    let number = THREADS[..heaps]
        .iter()
        .position(|user| user.load(Ordering::Relaxed) == thread)?;
    SLABS.owners.get(OwnerNumber(number as u32)).map(of_slabs)
}

/// A heap that waits, or a new one, attached: under the registry's lock, as far as a fork can see.
fn idle_or_new() -> *mut Heap {
    let mut registry = REGISTRY.lock();
    let mut heap = registry.warm.take(|_| true);
    if heap.is_null() {
        heap = registry.take_cold(|_| true);
    }
    if heap.is_null() {
        heap = registry.bare.take(|_| true);
    }
    if heap.is_null() {
        let number = SLABS.owners.len();
        if number == 0 {
            // While the process has one thread, as a rule.
            barrier::prepare();
            huge::configure();
            purger::configure();
        }
        return make(number);
    }
    // SAFETY: heaps are valid for ever, and this one is the caller's now.
    unsafe { (*heap).attached.store(ATTACHED, Ordering::Relaxed) };
    heap
}

/// Makes a heap nobody uses available: as it is, to save the next thread most of its slow
/// calls and this one the way back of every block; or empty, where enough heaps wait.
///
/// # Safety
///
/// The heap is the caller's and will not be used again by the caller.
pub(crate) unsafe fn release(heap: *mut Heap) {
    let mut registry = REGISTRY.lock();
    // SAFETY: the heap is valid, the caller's, and in no list.
    unsafe {
        (*heap).set_thread(NO_THREAD);
        (*heap).attached.store(IDLE, Ordering::Relaxed);
        // Who looks from here on sees a heap that has been used just now.
        (*heap).slow_calls.add(1);
        if registry.warm.count < WARM_HEAPS {
            registry.warm.push(heap);
        } else {
            drop(registry);
            retire(heap);
        }
    }
}

/// Empties the heaps of which `wanted` is true among those that wait as their threads left
/// them: nobody has come for what is in them.
pub(crate) fn cool(wanted: impl Fn(*mut Heap) -> bool) {
    loop {
        let heap = REGISTRY.lock().warm.take(&wanted);
        if heap.is_null() {
            return;
        }
        // SAFETY: whoever takes a heap out of the list has it for himself.
        unsafe { retire(heap) };
    }
}

/// Empties this heap if it is one of them. That is tried once for each time it is used, as a
/// sleeper is reaped once.
///
/// # Safety
///
/// The heap is valid.
pub(crate) unsafe fn cool_once(heap: *mut Heap) {
    // SAFETY: heaps are valid for ever.
    unsafe { (*heap).is_reaped.store(true, Ordering::Relaxed) };
    cool(|idle| idle == heap);
}

/// Empties a heap and makes it available.
///
/// # Safety
///
/// The heap is the caller's, and in no list.
unsafe fn retire(heap: *mut Heap) {
    // SAFETY: passed on.
    unsafe {
        Heap::drain(heap);
        (*heap).slabs.abandon(shared());
        (*heap).note_emptied(clock::now_us());
        REGISTRY.lock().push_cold(heap);
    }
}

/// Gives the magazines of heaps that have waited cold for so many microseconds back to the system, of
/// some of them. Returns how many bytes that were.
pub(crate) fn strip(after: u64) -> usize {
    let now = clock::now_us();
    // SAFETY: heaps are valid for ever.
    let has_waited = |heap: *mut Heap| unsafe { (*heap).is_seen_before(now, after) };
    let mut given = 0;
    for _ in 0..STRIPPED_AT_ONCE {
        let heap = REGISTRY.lock().take_cold(has_waited);
        if heap.is_null() {
            break;
        }
        // SAFETY: whoever takes a heap out of the list has it for himself; it was emptied when it came
        // there.
        unsafe {
            given += Heap::strip(heap);
            REGISTRY.lock().bare.push(heap);
        }
    }
    given
}

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
fn make(number: u32) -> *mut Heap {
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
        let magazines = size_of::<Heap>().next_multiple_of(64);
        (*heap)
            .front
            .cache
            .set_memory(start.add(magazines), start.add(HEAP_BYTES));
        let slabs: &'static OwnedSlabs = &(*heap).slabs;
        if !SLABS.owners.enter(slabs) {
            ARENA.free(run.first, HEAP_REGIONS);
            return ptr::null_mut();
        }
    }
    heap
}

/// Whether any thread has a heap.
pub(crate) fn is_any_attached() -> bool {
    let fallback = thread::fallback_heap();
    // SAFETY: heaps are valid for ever.
    all().any(|heap| heap != fallback && unsafe { (*heap).is_attached() })
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

    /// Writes down which thread uses the heap.
    fn set_thread(&self, thread: usize) {
        if let Some(user) = THREADS.get(self.slabs.number().0 as usize) {
            user.store(thread, Ordering::Relaxed);
        }
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
            (*this).set_thread(NO_THREAD);
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
            (*this).clear_runs();
        }
    }

    /// Gives back the runs that are kept for the thread. Returns how many bytes that were.
    pub fn clear_runs(&self) -> usize {
        self.runs.clear(&RUNS, self.give_back()) * REGION_BYTES
    }

    /// The same, if the thread has not asked for a run or freed one since this was called last.
    pub fn clear_unused_runs(&self) {
        self.runs.clear_unused(&RUNS, self.give_back());
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
    fn is_seen_before(&self, now: u64, after: u64) -> bool {
        now.saturating_sub(self.seen_at.load(Ordering::Relaxed)) >= after
    }

    /// Notes that nobody uses the heap from now on, and that there is nothing in it to reap.
    fn note_emptied(&self, now: u64) {
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
    unsafe fn magazine_bytes(this: *const Self) -> usize {
        // SAFETY: passed on; the cache comes first.
        unsafe { ThreadCache::magazine_bytes(this.cast()) }
    }

    /// Gives the memory of the magazines back to the system. Returns how many bytes that were.
    ///
    /// # Safety
    ///
    /// The heap is the caller's, and empty.
    unsafe fn strip(this: *mut Self) -> usize {
        // SAFETY: passed on; the cache comes first.
        let magazines = unsafe { ThreadCache::clear_magazines(this.cast()) };
        // The heap itself ends in the first page. The last one has nothing else in it.
        let pages =
            [magazines.start, magazines.end].map(|at| at.addr().next_multiple_of(vm::page_size()));
        let length = pages[1] - pages[0];
        // SAFETY: what these pages held means nothing any more, and they are in the heap's memory.
        if length > 0 && unsafe { vm::purge(pages[0], length) } {
            length
        } else {
            0
        }
    }

    /// Returns the runs, and what the bins hold but for one block of each class, on behalf of the
    /// heap's thread. Returns how many bytes that were.
    ///
    /// # Safety
    ///
    /// `this` is a valid heap.
    pub unsafe fn reap(this: *mut Self) -> usize {
        // SAFETY: heaps are valid for ever. The source's locks nest inside the cache's.
        unsafe {
            let runs = (*this).clear_runs();
            let Some(slabs) = thread::slabs() else {
                return runs;
            };
            // The tiny blocks go out by the slabs of the calling thread, so that the
            // heap's own do not look visited.
            let mut source = HeapSource {
                slabs,
                ..HeapSource::of(this)
            };
            (*this).is_reaped.store(true, Ordering::Relaxed);
            runs + ThreadCache::reap(&raw const (*this).front.cache, &mut source)
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

/// Where the bins of a heap get blocks from.
pub(crate) struct HeapSource {
    pub slabs: &'static OwnedSlabs,
    /// Whether a refill has taken so much new memory that it is time to look for sleepers.
    is_look_due: bool,
    /// For its counters and its number: a pointer to all of them, as a source is made on each slow
    /// call.
    heap: *const Heap,
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
                is_look_due: false,
                heap,
            }
        }
    }

    fn shard(&self) -> usize {
        // SAFETY: heaps are valid for ever.
        unsafe { (*self.heap).shard() }
    }

    /// Looks for sleepers if a refill has made that due. Not in the refill, under the cache's
    /// lock: the look takes the registry's, which comes before it, and other caches'.
    #[inline(always)]
    pub fn look_if_due(&self) {
        if self.is_look_due {
            upkeep::look_for_sleepers();
        }
    }

    /// Refills from the slabs, and notes when a look for sleepers is due.
    fn refill_tiny(
        &mut self,
        class: ClassIndex,
        refill: impl FnOnce(&OwnedSlabs) -> usize,
    ) -> usize {
        let filled = refill(self.slabs);
        self.note_taken();
        self.count(class, filled)
    }

    /// The same from runs of mid blocks.
    fn refill_mid(&mut self, class: ClassIndex, out: &mut [*mut u8]) -> usize {
        let mut filled = MID.refill_free(&ARENA, class, self.shard(), out);
        if filled == 0 {
            filled = MID.refill_new(&ARENA, class, self.shard(), out);
            if filled > 0 {
                // SAFETY: heaps are valid for ever.
                unsafe { (*self.heap).mid_regions.add(run_regions(class) as u64) };
                self.note_taken();
            }
        }
        self.count(class, filled)
    }

    /// Notes when a look for sleepers is due: the heap may have taken new memory.
    fn note_taken(&mut self) {
        // SAFETY: heaps are valid for ever.
        let heap = unsafe { &*self.heap };
        let taken = self.slabs.counts().slabs_started() + heap.mid_regions.get();
        if taken >= heap.next_look.load(Ordering::Relaxed) {
            let next = (taken / REGIONS_PER_LOOK + 1) * REGIONS_PER_LOOK;
            heap.next_look.store(next, Ordering::Relaxed);
            self.is_look_due = true;
        }
    }

    /// Counts the blocks of a refill.
    fn count(&self, class: ClassIndex, filled: usize) -> usize {
        // SAFETY: heaps are valid for ever.
        unsafe { (*self.heap).came.add((filled * class.size()) as u64) };
        filled
    }
}

impl Source for HeapSource {
    // A free takes the class from the region word.
    const LENDS: bool = true;

    fn refill(&mut self, class: ClassIndex, out: &mut [*mut u8]) -> usize {
        if class.is_tiny() {
            self.refill_tiny(class, |slabs| slabs.refill(shared(), class, out))
        } else {
            self.refill_mid(class, out)
        }
    }

    fn refill_free(&mut self, class: ClassIndex, out: &mut [*mut u8]) -> usize {
        if class.is_tiny() {
            // New memory for these comes by the page, which costs less than blocks one by one.
            self.refill(class, out)
        } else {
            self.count(class, MID.refill_free(&ARENA, class, self.shard(), out))
        }
    }

    fn first_refill(&mut self, class: ClassIndex, out: &mut [*mut u8]) -> usize {
        if !class.is_tiny() || self.slabs.number().0 < HEAPS_WITH_PAGES {
            return self.refill(class, out);
        }
        let few = (FIRST_BYTES / class.size()).clamp(1, out.len());
        self.refill_tiny(class, |slabs| {
            slabs.refill_once(shared(), class, &mut out[..few])
        })
    }

    fn flush(&mut self, class: ClassIndex, blocks: &[*mut u8]) {
        // SAFETY: heaps are valid for ever. What is in a bin is free, and of the bin's class.
        unsafe {
            (*self.heap).left.add((blocks.len() * class.size()) as u64);
            if class.is_tiny() {
                self.slabs.flush(shared(), class, blocks);
            } else {
                MID.flush(&ARENA, class, blocks);
            }
        }
    }
}
