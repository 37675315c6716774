//! The heaps that no thread uses, and where a thread gets one.

use crate::heap::{self, ATTACHED, Heap, IDLE};
use crate::state::{SLABS, shared};
use crate::{settings, thread};
use core::ptr;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use hakmem_superslab::OwnerNumber;
use hakmem_sys::lock::Lock;
use hakmem_sys::{barrier, clock};

/// What no thread's number is.
pub(crate) const NO_THREAD: usize = 0;

/// So many heaps, the first ones, are found again if their threads go without a word.
const HEAPS_FOUND: usize = 8192;

/// The numbers of the threads that use these heaps; [`NO_THREAD`] for one that is idle, everybody's or
/// lost. Written by that thread alone, and by the only one of a fork's child.
static THREADS: [AtomicUsize; HEAPS_FOUND] = [const { AtomicUsize::new(NO_THREAD) }; HEAPS_FOUND];

/// Writes down which thread uses a heap.
pub(crate) fn note_thread(heap: &Heap, thread: usize) {
    if let Some(user) = THREADS.get(heap.slabs.number().0 as usize) {
        user.store(thread, Ordering::Relaxed);
    }
}

/// Heaps that threads use, and [everybody's](thread::fallback_heap); written under the registry's lock.
static ATTACHED_HEAPS: AtomicU32 = AtomicU32::new(0);

/// How many threads have a heap, as far as is known: also those that went without their exit hook.
pub(crate) fn attached_heaps() -> u32 {
    let everybodys = thread::fallback_heap();
    // SAFETY: heaps are valid for ever.
    let everybodys = u32::from(!everybodys.is_null() && unsafe { (*everybodys).is_attached() });
    ATTACHED_HEAPS
        .load(Ordering::Relaxed)
        .saturating_sub(everybodys)
}

/// Whether any thread has one.
pub(crate) fn is_any_attached() -> bool {
    attached_heaps() > 0
}

/// Has so many heaps be attached, in the child of a fork.
pub(crate) fn set_attached_heaps(count: u32) {
    ATTACHED_HEAPS.store(count, Ordering::Relaxed);
}

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
pub(crate) fn raw_lock() -> &'static hakmem_sys::lock::RawLock {
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
        note_thread(&*heap, thread);
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
    SLABS
        .owners
        .get(OwnerNumber(number as u32))
        .map(heap::of_slabs)
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
            settings::configure();
        }
        heap = heap::make(number);
    }
    if !heap.is_null() {
        // SAFETY: heaps are valid for ever, and this one is the caller's now.
        unsafe { (*heap).attached.store(ATTACHED, Ordering::Relaxed) };
        ATTACHED_HEAPS.fetch_add(1, Ordering::Relaxed);
    }
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
        note_thread(&*heap, NO_THREAD);
        (*heap).attached.store(IDLE, Ordering::Relaxed);
        ATTACHED_HEAPS.fetch_sub(1, Ordering::Relaxed);
        // Who looks from here on sees a heap that has been used just now.
        (*heap).slow_calls.add(1);
        if registry.warm.count < WARM_HEAPS {
            registry.warm.push(heap);
        } else {
            drop(registry);
            make_cold(heap);
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
        unsafe { make_cold(heap) };
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
unsafe fn make_cold(heap: *mut Heap) {
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
