//! Fork: the child gets a heap that is in order.
//!
//! Before a fork all locks are taken, in the order in which they nest: that of the
//! upkeep, the heap registry, each heap's cache, each heap's slabs, the mid pool's upkeep,
//! the registry of outside mappings, the arena. Afterwards both sides leave them. In the
//! child, the heaps of threads that do not exist there stay as they are: who frees into
//! their slabs does their work, and their depots can be reaped. What their bins held is
//! lost to the child: see [`ThreadCache::lose_bins`].
//!
//! A program of one thread takes none: nobody else holds any, and its fork may come from a
//! signal handler, of a crash reporter say, which has interrupted the slow path that does.
//! The child goes on as the parent does, to whose slow path the handler returns.

use crate::state::{ARENA, LARGE, MID, SLABS};
use crate::{heap, purger, thread, upkeep};
use core::sync::atomic::{AtomicBool, Ordering};
use hakmem_superslab::OwnedSlabs;
use hakmem_sys::lock::RawLock;
use hakmem_thread_cache::ThreadCache;

static REGISTERED: AtomicBool = AtomicBool::new(false);
/// Whether the last fork was that of a program with one thread.
static ALONE: AtomicBool = AtomicBool::new(false);

/// Registers the hooks, once.
pub(crate) fn register_once() {
    if !REGISTERED.swap(true, Ordering::Relaxed) {
        // Without memory for the registration a fork still works as long as no
        // other thread is in a slow path at that moment.
        // SAFETY: what they do is right around any fork.
        unsafe { hakmem_sys::fork::register(prepare, parent, child) };
    }
}

/// The locks of every heap, in lock order. Under the registry's lock these are always the
/// same.
fn heap_locks() -> impl Iterator<Item = &'static RawLock> {
    // SAFETY: heaps are valid for ever.
    let cache = |slabs| unsafe { ThreadCache::raw_lock(heap::of_slabs(slabs).cast()) };
    let all = || SLABS.owners.all();
    all().map(cache).chain(all().map(OwnedSlabs::raw_lock))
}

unsafe extern "C" fn prepare() {
    // Who is alone stays so until after the fork. It may be told more than once: a handler may
    // fork during a fork.
    let alone = hakmem_sys::fork::is_single_threaded();
    ALONE.store(alone, Ordering::Relaxed);
    if alone {
        return;
    }
    upkeep::UPKEEP.raw().lock();
    heap::registry_lock().lock();
    for lock in heap_locks() {
        lock.lock();
    }
    MID.raw_lock().lock();
    LARGE.raw_lock().lock();
    ARENA.raw_lock().lock();
}

unsafe extern "C" fn parent() {
    if ALONE.load(Ordering::Relaxed) {
        return;
    }
    // SAFETY: `prepare` took the locks on this thread.
    unsafe {
        ARENA.raw_lock().unlock();
        LARGE.raw_lock().unlock();
        MID.raw_lock().unlock();
        for lock in heap_locks() {
            lock.unlock();
        }
        heap::registry_lock().unlock();
        upkeep::UPKEEP.raw().unlock();
    }
}

unsafe extern "C" fn child() {
    if ALONE.load(Ordering::Relaxed) {
        return;
    }
    // SAFETY: the only thread of the child took the locks in `prepare`; nobody
    // waits for them here. Heaps are valid for ever.
    unsafe {
        for slabs in SLABS.owners.all() {
            let heap = heap::of_slabs(slabs);
            if (*heap).is_attached() && !thread::is_own(heap) {
                ThreadCache::lose_bins(heap.cast());
            }
        }
        ARENA.raw_lock().reset();
        LARGE.raw_lock().reset();
        MID.raw_lock().reset();
        for lock in heap_locks() {
            lock.reset();
        }
        heap::registry_lock().reset();
        upkeep::UPKEEP.raw().reset();
    }
    purger::after_fork_in_child();
}
