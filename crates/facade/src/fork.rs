//! Fork: the child gets a heap that is in order.
//!
//! Before a fork all locks are taken, in the order in which they nest: that of the
//! upkeep, the heap registry, each heap's cache, each heap's slabs, the mid pool's upkeep,
//! the registry of outside mappings, the arena. Afterwards both sides leave them. In the
//! child, the heaps of threads that do not exist there stay as they are: who frees into
//! their slabs does their work, and their depots can be reaped. What their bins held is
//! lost to the child: see [`ThreadCache::lose_bins`].
//!
//! A fork may come from a signal handler, of a crash reporter say, which has interrupted a slow
//! path that holds locks. Those it cannot wait for, nor for long for one whose holder may be
//! waiting for them: it leaves what it cannot get as it is. Both sides return from the handler
//! to the slow path, which leaves what it holds. What another thread still held is free in the
//! child, whatever it was doing: a child of such a fork may do only what a handler may.
//!
//! A program of one thread takes none: nobody else holds any.

use crate::state::{ARENA, LARGE, MID, SLABS};
use crate::{heap, purger, thread, upkeep};
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use hakmem_superslab::OwnedSlabs;
use hakmem_sys::lock::RawLock;
use hakmem_sys::{errno, helper};
use hakmem_thread_cache::ThreadCache;

/// How long the fork of a handler that has interrupted a slow path waits for the other locks, in
/// milliseconds, in all: ten times what a slow path takes.
const PATIENCE_MS: u32 = 50;

static REGISTERED: AtomicBool = AtomicBool::new(false);
/// Whether the last fork was that of a program with one thread.
static ALONE: AtomicBool = AtomicBool::new(false);
/// Forks of handlers that have interrupted the hooks of this thread's fork, which has all locks
/// that it needs, or will.
static NESTED: AtomicU32 = AtomicU32::new(0);

/// Registers the hooks, once.
pub(crate) fn register_once() {
    if !REGISTERED.swap(true, Ordering::Relaxed) {
        // Without memory for the registration a fork still works as long as no
        // other thread is in a slow path at that moment.
        // SAFETY: what they do is right around any fork.
        unsafe { hakmem_sys::fork::register(prepare, parent, child) };
    }
}

/// Calls `act` with each lock, in lock order. Under the registry's lock these are always the
/// same.
fn each_lock(mut act: impl FnMut(&'static RawLock)) {
    act(upkeep::UPKEEP.raw());
    act(heap::registry_lock());
    for slabs in SLABS.owners.all() {
        // SAFETY: heaps are valid for ever.
        act(unsafe { ThreadCache::raw_lock(heap::of_slabs(slabs).cast()) });
    }
    SLABS
        .owners
        .all()
        .map(OwnedSlabs::raw_lock)
        .for_each(&mut act);
    act(MID.raw_lock());
    act(LARGE.raw_lock());
    act(ARENA.raw_lock());
}

/// Whether the calling thread holds a lock for which `is_held` says so.
fn holds(is_held: fn(&RawLock) -> bool) -> bool {
    let mut holds = false;
    each_lock(|lock| holds |= is_held(lock));
    holds
}

unsafe extern "C" fn prepare() {
    // Who is alone stays so until after the fork. It may be told more than once: a handler may
    // fork during a fork.
    let alone = hakmem_sys::fork::is_single_threaded();
    ALONE.store(alone, Ordering::Relaxed);
    if alone {
        return;
    }
    if holds(RawLock::is_held_here_for_fork) {
        NESTED.fetch_add(1, Ordering::Relaxed);
        return;
    }
    if !holds(RawLock::is_held_here) {
        each_lock(RawLock::lock_for_fork);
        return;
    }
    let mut patience = PATIENCE_MS;
    each_lock(|lock| {
        while !lock.is_held_here() && !lock.try_lock_for_fork() && patience > 0 {
            errno::preserved(|| helper::sleep_ms(1));
            patience -= 1;
        }
    });
}

/// Whether this is the end of a fork that took no locks.
fn took_none() -> bool {
    let left = |nested: u32| nested.checked_sub(1);
    ALONE.load(Ordering::Relaxed)
        || (holds(RawLock::is_held_here_for_fork)
            && NESTED
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, left)
                .is_ok())
}

unsafe extern "C" fn parent() {
    if took_none() {
        return;
    }
    each_lock(|lock| {
        if lock.is_held_here_for_fork() {
            // SAFETY: `prepare` took it on this thread.
            unsafe { lock.unlock() };
        }
    });
}

unsafe extern "C" fn child() {
    if took_none() {
        return;
    }
    for slabs in SLABS.owners.all() {
        let heap = heap::of_slabs(slabs);
        // SAFETY: heaps are valid for ever. The bins' thread does not exist here, and their lock is
        // this thread's, or that of a thread that does not exist either.
        unsafe {
            if (*heap).is_attached() && !thread::is_own(heap) {
                ThreadCache::lose_bins(heap.cast());
            }
        }
    }
    each_lock(|lock| {
        if lock.is_held_here_for_fork() || !lock.is_held_here() {
            // SAFETY: `prepare` took it on this thread, the only one of the child; or nobody holds
            // it who exists here.
            unsafe { lock.reset() };
        }
    });
    purger::after_fork_in_child();
}
