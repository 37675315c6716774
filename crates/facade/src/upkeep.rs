//! What is done from time to time, and when memory is short.

use crate::heap;
use crate::state::{ARENA, MID, RUNS, SLABS, shared};
use crate::thread::{self, Current};
use core::sync::atomic::{AtomicU32, Ordering};
use hakmem_remote_free::OwnerNumber;
use hakmem_sys::clock;

/// Dirty memory goes back to the system after this time.
const DIRTY_MS: u32 = 1000;
/// The most that one tick gives back, in regions (32 MiB).
const TICK_REGIONS: usize = 512;
/// Slow calls between two looks at the clock.
const CALLS_PER_LOOK: u32 = 64;

static CALLS: AtomicU32 = AtomicU32::new(0);
static LAST_TICK: AtomicU32 = AtomicU32::new(0);

/// Counts a slow call, and ticks if it is time.
///
/// The count is not exact when threads meet, and need not be: a load and a
/// store instead of a locked instruction.
#[inline]
pub(crate) fn count_slow_call() {
    let calls = CALLS.load(Ordering::Relaxed).wrapping_add(1);
    CALLS.store(calls, Ordering::Relaxed);
    if calls.is_multiple_of(CALLS_PER_LOOK) {
        tick();
    }
}

/// Gives back what has been dirty for a while, if nobody has looked recently.
pub(crate) fn tick() {
    let now = clock::now_ms();
    let last = LAST_TICK.load(Ordering::Relaxed);
    if now.wrapping_sub(last) < DIRTY_MS / 2
        || LAST_TICK
            .compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed)
            .is_err()
    {
        return;
    }
    RUNS.trim(&ARENA);
    clear_slab_pool();
    shared().purge_empty(false);
    ARENA.purge(DIRTY_MS, TICK_REGIONS);
}

/// Gives all-free slabs in the pool back to their superslabs.
fn clear_slab_pool() {
    if let Current::Own(heap) | Current::Fallback(heap) = thread::heap() {
        // SAFETY: heaps are valid for ever; their slabs have their own lock.
        unsafe { &(*heap).slabs }.clear_pool(shared());
    }
}

/// Gives everything that is free but kept to the arena: memory is short.
#[cold]
pub(crate) fn release_retained() {
    clear_slab_pool();
    RUNS.trim(&ARENA);
    MID.trim(&ARENA);
    shared().end_whole_superslabs(0);
}

/// Gives everything that is free back to the system: the calling thread's cache,
/// the surplus of all heaps, what the pools keep, and the arena's dirty memory.
/// Returns how many bytes that was.
pub fn trim() -> usize {
    if let Current::Own(heap) = thread::heap() {
        // SAFETY: the heap is the calling thread's.
        unsafe {
            let mut source = heap::HeapSource::of(heap);
            (*heap).front.cache.drain(&mut source);
        }
    }
    for number in 0..heap::made() {
        if let Some(slabs) = SLABS.owners.get(OwnerNumber(number)) {
            slabs.trim(shared());
        }
    }
    release_retained();
    shared().purge_empty(true) + ARENA.purge(0, usize::MAX) * hakmem_region_id::REGION_BYTES
}
