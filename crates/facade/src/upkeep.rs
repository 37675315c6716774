//! What is done from time to time, and when memory is short.

use crate::heap::{self, ASLEEP_US, Heap};
use crate::purger;
use crate::registry;
use crate::state::{ARENA, MID, RUNS, SLABS, shared};
use crate::thread::{self, Current};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use hakmem_region_id::{ClassIndex, REGION_BYTES};
use hakmem_superslab::OwnedSlabs;
use hakmem_sys::clock;
use hakmem_sys::counter::Counter;
use hakmem_sys::lock::Lock;
use hakmem_thread_cache::ThreadCache;

/// Dirty memory goes back to the system after this time.
pub(crate) const DIRTY_MS: u32 = 1000;
/// The least time between two ticks: what a step of the purge thread takes, less what the clock may be
/// behind.
const TICK_MS: u32 = 240;
/// The most that one tick gives back, in regions (64 MiB).
const TICK_REGIONS: usize = (64 << 20) / REGION_BYTES;
/// The most that a thread gives back for itself (256 MiB): all of one block that has not gone back when
/// it was freed.
const MOST_AT_ONCE: usize = (256 << 20) / REGION_BYTES;
/// So many caches' coarse blocks go back at most in a call of the program's: each takes a barrier on all threads.
pub(crate) const REAPS_AT_ONCE: usize = 16;
/// What the program gives back of holes at a time where it has to do that itself: about a millisecond's worth.
const HOLES_AT_ONCE: usize = 16 << 20;
/// Slow calls of a heap between two looks, or twice the runs that its thread puts into its run cache,
const CALLS_PER_LOOK: u64 = 64;
/// or bytes that come into its bins or leave them.
const MOVED_PER_LOOK: u64 = 256 << 10;

/// Held while free memory is on its way to the system, and by whoever counts it: a
/// step of the purge has blocks and runs in its hands. Nests outside all other locks.
pub(crate) static UPKEEP: Lock<()> = Lock::new(());

/// The heap that is looked at next for whether it sleeps.
static NEXT_SLEEPER: AtomicU32 = AtomicU32::new(0);
/// From when on a heap that is looked at may be reaped, in microseconds.
static NEXT_REAP: AtomicU64 = AtomicU64::new(0);
/// A reap that gave so many bytes may be followed by the next after this many microseconds: what it
/// gave would have taken longer to come from the system.
const WORTH: usize = 128 << 10;
const WORTHY_US: u64 = 50;

static LAST_TICK: AtomicU32 = AtomicU32::new(0);
static LAST_SWEEP: AtomicU32 = AtomicU32::new(0);

/// What kind of call leads here.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Caller {
    /// One that may come from anywhere, also from inside the C library while it
    /// holds its own locks: no thread is created then.
    Anything,
    /// One that does not come from the C library's inside with locks held.
    Program,
}

/// Counts a slow call of a heap, and looks after things if it is time.
#[inline]
pub(crate) fn count_slow_call(heap: &Heap, caller: Caller) {
    count_call(heap, caller, false);
}

/// The same, at once if it `must`.
#[inline(always)]
fn count_call(heap: &Heap, caller: Caller, must: bool) {
    let calls = heap.slow_calls.add(1);
    if must || calls.is_multiple_of(CALLS_PER_LOOK) {
        look(caller);
    }
}

/// The same after blocks have gone out of the heap's bins, by which [what has left it](Heap::left) was so much
/// before: a call may move 128 KiB, and a program's threads all together much by a few of them each.
#[inline]
pub(crate) fn count_flush(heap: &Heap, left_before: u64, caller: Caller) {
    count_call(heap, caller, is_much(&heap.left, left_before));
}

/// The same after a refill of a class. Of a coarse one a few blocks may be all that a thread takes: at once, too,
/// if the purge thread is to be there by what is held.
#[inline]
pub(crate) fn count_refill(heap: &Heap, class: ClassIndex, came_before: u64) {
    let must = is_much(&heap.came, came_before) || class.is_coarse() && purger::is_missing();
    count_call(heap, Caller::Program, must);
}

/// Whether that many bytes were moved since this counter said so much.
#[inline]
fn is_much(moved: &Counter, before: u64) -> bool {
    moved.get() / MOVED_PER_LOOK != before / MOVED_PER_LOOK
}

/// Looks after things when a thread with this heap has given back a run: at once if by that alone
/// there is a purge thread to be started, else as after any slow call.
pub(crate) fn count_freed_run(current: Current, caller: Caller) {
    match current {
        // SAFETY: the heap is the calling thread's.
        Current::Own(heap) if !purger::is_wanted_for_pooled(pooled_bytes()) => unsafe {
            count_slow_call(&*heap, caller);
        },
        _ => look(caller),
    }
}

/// Looks after things when a thread with this heap is to take a run that its cache has not: at once if the
/// purge thread is to be there by what is held, as a few of these may be all that is taken, else as after any
/// slow call.
pub(crate) fn count_taken_run(heap: &Heap) {
    count_call(heap, Caller::Program, purger::is_missing());
}

/// Looks after things from time to time where a thread's runs go to and fro between it and its
/// cache, which are no slow calls: after a free.
#[inline]
pub(crate) fn look_after_puts(heap: &Heap, caller: Caller) {
    // As many are taken out.
    if heap.runs.puts().is_multiple_of(CALLS_PER_LOOK / 2) {
        look(caller);
    }
}

/// Ticks if it is time, unless a thread of its own does, which is started here
/// if there is much to give back.
#[cold]
pub(crate) fn look(caller: Caller) {
    if !purger::runs(caller) {
        tick(REAPS_AT_ONCE);
    }
}

/// About how many bytes the system could have back: free runs, empty slabs, and
/// what is free inside slabs and runs in use (some of it never touched, and some
/// in bins, so this is too much rather than too little).
pub(crate) fn returnable_bytes() -> usize {
    // SAFETY: heaps are valid for ever; counters may be read by anybody.
    let add = |(came, left), heap: *mut Heap| unsafe {
        (came + (*heap).came.get(), left + (*heap).left.get())
    };
    let (came, left) = heap::all().fold((0, 0), add);
    let in_blocks = came.saturating_sub(left) as usize;
    pooled_bytes() + carved_bytes().saturating_sub(in_blocks)
}

/// Bytes of free runs, empty slabs, and empty heaps: what could go back that is not inside slabs and runs
/// in use, known without asking every heap. What heaps may keep of runs counts as free.
pub(crate) fn pooled_bytes() -> usize {
    let runs = ARENA.dirty_regions() * REGION_BYTES + RUNS.retained_bytes() + RUNS.leased_bytes();
    runs + shared().dirty_bytes() + registry::cold_bytes()
}

/// Bytes of the arena that are in memory, or may be.
pub(crate) fn held_bytes() -> usize {
    (ARENA.used_regions() + ARENA.dirty_regions()) * REGION_BYTES
}

/// Bytes of slabs and runs of blocks.
pub(crate) fn carved_bytes() -> usize {
    shared().used_bytes() + MID.used_bytes()
}

/// Whether `period` milliseconds have passed since `last`, which is now then.
pub(crate) fn is_due(last: &AtomicU32, period: u32) -> bool {
    let now = clock::now_ms();
    let before = last.load(Ordering::Relaxed);
    now.wrapping_sub(before) >= period
        && last
            .compare_exchange(before, now, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
}

/// Gives back what has been dirty for a while, if nobody has looked recently and
/// nobody is at it, and unused coarse blocks and runs of so many caches. Returns how many bytes it was.
pub(crate) fn tick(mut reaps: usize) -> usize {
    if !is_due(&LAST_TICK, TICK_MS) {
        return 0;
    }
    let Some(_steady) = UPKEEP.try_lock() else {
        return 0;
    };
    let mut given = 0;
    if is_due(&LAST_SWEEP, DIRTY_MS) {
        for heap in heap::all() {
            // SAFETY: heaps are valid for ever.
            unsafe {
                if reaps > 0 && (*heap).reap_unused_runs() + Heap::reap_unused(heap) > 0 {
                    reaps -= 1;
                }
            }
        }
        RUNS.trim(&ARENA);
        MID.sweep(&ARENA);
        given += registry::strip(u64::from(DIRTY_MS) * 1000);
        if let Some(slabs) = thread::slabs() {
            given += slabs.purge_pool(shared(), false);
        }
        if purger::must_not_run() {
            // A part of what the thread would do, in a call of the program's.
            given += purge_some_holes(false);
            look_for_sleepers();
        }
    }
    given + ARENA.purge(DIRTY_MS, TICK_REGIONS) * REGION_BYTES
}

/// Gives free memory back at once, however young it is, but for so many bytes of free runs, and for some of
/// the whole free pages between blocks in use: for a thread that frees and frees where no thread can be
/// started for it. Returns whether that was all the system takes of free runs; not if it was a part, or
/// nothing at all, or if somebody else is at it.
pub(crate) fn purge_beyond(kept: usize) -> bool {
    let Some(_steady) = UPKEEP.try_lock() else {
        return false;
    };
    MID.reclaim(&ARENA);
    let surplus = ARENA.dirty_regions().saturating_sub(kept / REGION_BYTES);
    let part = surplus.min(MOST_AT_ONCE);
    let given = ARENA.purge(0, part);
    if given == part && part < surplus {
        return false;
    }
    let pooled = thread::slabs().map_or(0, |slabs| slabs.purge_pool(shared(), true));
    given + pooled + purge_some_holes(true) > 0
}

/// Gives whole free pages of slabs and runs in use back to the system, of those that
/// were not used since the last call. Returns how many bytes it was.
pub(crate) fn purge_holes() -> usize {
    let mut steps = hole_steps(false);
    let step = || {
        let _steady = UPKEEP.lock();
        steps.next()
    };
    core::iter::from_fn(step).sum()
}

/// The same, or with `now` of all, until some [`HOLES_AT_ONCE`] bytes are given back.
fn purge_some_holes(now: bool) -> usize {
    let mut given = MID.purge_holes(&ARENA, now, HOLES_AT_ONCE);
    for slabs in all_slabs() {
        if given < HOLES_AT_ONCE {
            given += slabs.purge_holes(shared(), now, HOLES_AT_ONCE - given);
        }
    }
    given
}

/// The steps of doing that, or with `now` of doing it to all: how many bytes each gave.
fn hole_steps(now: bool) -> impl Iterator<Item = usize> {
    core::iter::once_with(move || MID.purge_holes(&ARENA, now, usize::MAX))
        .chain(all_slabs().map(move |slabs| slabs.purge_holes(shared(), now, usize::MAX)))
}

/// Empties the bins of threads that seem to sleep, but for one block of each class, and the
/// heaps of threads that are gone. Returns how many bytes of the sleepers' blocks that were.
pub(crate) fn reap_sleepers() -> usize {
    // SAFETY: heaps are valid for ever.
    let reap = |heap: *mut Heap| unsafe {
        if !(*heap).is_to_reap(clock::now_us()) {
            return 0;
        }
        let _steady = UPKEEP.lock();
        if (*heap).is_idle() {
            registry::cool_once(heap);
            0
        } else {
            Heap::reap(heap, false)
        }
    };
    heap::all().map(reap).sum()
}

/// Looks at some heaps in turn, which of their threads seem to sleep or are gone, and empties
/// the heaps of these and reaps the first of those. A reap interrupts all processors that the
/// program runs on: this does one in [`ASLEEP_US`] at most, but for those that gave [much](WORTH).
pub(crate) fn look_for_sleepers() {
    if SLABS.owners.len() < 2 {
        return;
    }
    let now = clock::now_us();
    let next = NEXT_REAP.load(Ordering::Relaxed);
    let mut may_reap = now >= next;
    for slabs in SLABS.owners.in_turn(&NEXT_SLEEPER) {
        let heap = heap::of_slabs(slabs);
        // SAFETY: heaps are valid for ever.
        unsafe {
            // This thread does not sleep, though it may have got by without slow calls.
            if thread::is_own(heap) || !(*heap).is_to_reap(now) {
                continue;
            }
            if (*heap).is_idle() {
                registry::cool_once(heap);
            } else if may_reap {
                may_reap = false;
                let turn = NEXT_REAP.compare_exchange(
                    next,
                    now + ASLEEP_US,
                    Ordering::Relaxed,
                    Ordering::Relaxed,
                );
                if turn.is_err() {
                    continue;
                }
                let given = Heap::reap(heap, false);
                if given >= WORTH {
                    NEXT_REAP.store(now + WORTHY_US, Ordering::Relaxed);
                }
                if given > 0 {
                    (*heap).slabs.tend(shared());
                }
            }
        }
    }
}

/// The slabs of every heap there is.
fn all_slabs() -> impl Iterator<Item = &'static OwnedSlabs> {
    SLABS.owners.all()
}

/// What [`free_state`] was when collecting last gave nothing that helped.
static VAIN: AtomicU64 = AtomicU64::new(0);

/// A number that changes when something is freed that collecting could find.
fn free_state() -> u64 {
    let mut cached = 0;
    if let Current::Own(heap) = thread::heap() {
        for class in ClassIndex::all() {
            // SAFETY: the heap is the calling thread's.
            cached += unsafe { ThreadCache::held(&raw const (*heap).front.cache, class) };
        }
    }
    // SAFETY: heaps are valid for ever; counters may be read by anybody.
    let add = |(left, kept), heap: *mut Heap| unsafe {
        (left + (*heap).left.get(), kept + (*heap).runs.held_bytes())
    };
    let (left, kept) = heap::all().fold((0_u64, 0), add);
    let returnable = returnable_bytes() + kept;
    (returnable as u64).wrapping_mul(31) ^ left.wrapping_mul(0x9e37_79b9) ^ cached as u64
}

/// Collects, unless nothing was freed since that was last in vain: a program at
/// its limit may ask again and again.
#[cold]
pub(crate) fn collect_if_it_may_help() -> bool {
    if VAIN.load(Ordering::Relaxed) == free_state() {
        return false;
    }
    collect();
    true
}

/// Notes that there was no memory even after collecting.
#[cold]
pub(crate) fn note_collecting_was_vain() {
    VAIN.store(free_state(), Ordering::Relaxed);
}

/// Collects everything that is free but kept, down to the arena: the calling
/// thread's cache, those of others as far as they can be reaped, the surplus of all
/// heaps, what the pools keep.
#[cold]
pub(crate) fn collect() {
    if let Current::Own(heap) = thread::heap() {
        // SAFETY: the heap is the calling thread's.
        unsafe { Heap::drain(heap) };
    }
    registry::cool(|_| true);
    for heap in heap::all() {
        // SAFETY: heaps are valid for ever.
        unsafe { Heap::reap(heap, true) };
    }
    for slabs in all_slabs() {
        slabs.trim(shared());
    }
    RUNS.trim(&ARENA);
    MID.trim(&ARENA);
    if let Some(slabs) = thread::slabs() {
        slabs.clear_pool(shared());
    }
}

/// Gives everything that is free back to the system: the calling thread's cache,
/// those of other threads but for a block of each class up to 32 KiB, the surplus of all heaps, what
/// the pools keep, and the arena's free memory with its addresses. Returns how many bytes that was.
pub fn trim() -> usize {
    let _steady = UPKEEP.lock();
    collect();
    let mut given = 0;
    if let Some(slabs) = thread::slabs() {
        given += slabs.purge_pool(shared(), true);
    }
    while let stripped @ 1.. = registry::strip(0) {
        given += stripped;
    }
    given + hole_steps(true).sum::<usize>() + ARENA.trim() * REGION_BYTES
}
