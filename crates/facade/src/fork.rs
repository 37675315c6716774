//! Fork: the child gets a heap that is in order.
//!
//! Before a fork all locks are taken, in the order in which they nest: that of the
//! upkeep, the heap registry, each heap's cache, each heap's slabs, the upkeep of the
//! slab pool and the mid pool, the registry of outside mappings, the arena. Afterwards both sides leave them. In the
//! child, the heaps of threads that do not exist there stay as they are: who frees into
//! their slabs does their work, and their depots can be reaped. What their bins held is
//! lost to the child, and what their run caches held: see [`Heap::lose`].
//! The run pool's lists change without a lock. In the child they are as they were at some moment,
//! because Linux holds up who writes to a page that has been copied until the fork is over: the child
//! has of each thread's writes all up to one. A run that was in hand then is lost, and may count as
//! retained.
//!
//! A fork may come from a signal handler, of a crash reporter say, which has interrupted a slow
//! path that holds locks. Those it cannot wait for, nor for long for one whose holder may be
//! waiting for them: it leaves what it cannot get as it is. Both sides return from the handler
//! to the slow path, which leaves what it holds. What another thread still held is free in the
//! child, whatever it was doing: a child of such a fork may do only what a handler may.
//!
//! The hooks are to be the outermost ones, which those are that are registered first; but a library
//! may have registered its own before it, or anybody else, has allocated. Such handlers run while all
//! locks are held for the fork, and allocate all the same: on the thread that forks these count as
//! free for whoever would wait for them. (In the fork of a handler that has interrupted a slow path they
//! must not, as the handler itself.)
//!
//! A program of one thread takes none: nobody else holds any.

use crate::heap::{self, Heap};
use crate::state::{ARENA, LARGE, MID, RUNS, SLABS};
use crate::{purger, registry, thread, upkeep};
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};
use hakmem_superslab::OwnedSlabs;
use hakmem_sys::lock::RawLock;
use hakmem_sys::{clock, errno, helper};
use hakmem_thread_cache::ThreadCache;

/// How long the fork of a handler that has interrupted a slow path waits for the other locks, in
/// milliseconds, in all: ten times what a slow path takes.
const PATIENCE_MS: u32 = 50;

/// How long all locks are waited for while the C library's lock of its streams is held, in milliseconds,
const ROUND_MS: u32 = 40;
/// and for how long that is tried again, before they are waited for without it.
const ROUNDS_MS: u32 = 2000;

static REGISTERED: AtomicBool = AtomicBool::new(false);
/// Held by the thread that forks, from before it takes the first of the others until after it has
/// left the last: no two threads have locks for a fork.
static FORKING: RawLock = RawLock::new();
/// Forks of handlers that have interrupted the hooks of the holder's fork; the holder's alone.
static NESTED: AtomicU32 = AtomicU32::new(0);
/// Whether the holder's hook has taken the lock of all streams, too; the holder's alone.
static STREAMS: AtomicBool = AtomicBool::new(false);
/// The process that this is: the one that has registered the hooks, or the child of a fork.
static PROCESS: AtomicI32 = AtomicI32::new(0);

/// Registers the hooks, once.
pub(crate) fn register_once() {
    if !REGISTERED.swap(true, Ordering::Relaxed) {
        PROCESS.store(hakmem_sys::fork::process(), Ordering::Relaxed);
        // Without memory for the registration a fork still works as long as no
        // other thread is in a slow path at that moment.
        // SAFETY: what they do is right around any fork.
        unsafe { hakmem_sys::fork::register(prepare, parent, child) };
    }
}

/// Whether the calling thread is between the hooks of a fork that has taken locks.
pub(crate) fn is_under_way_here() -> bool {
    FORKING.is_held_here()
}

/// Whether this is another process than whose memory it has, until it executes a program: the child of
/// a `vfork`. (Or that of a fork without hooks.)
pub(crate) fn is_in_borrowed_memory() -> bool {
    hakmem_sys::fork::process() != PROCESS.load(Ordering::Relaxed)
}

/// Calls `act` with each lock, in lock order. Under the registry's lock these are always the
/// same.
fn each_lock(mut act: impl FnMut(&'static RawLock)) {
    act(upkeep::UPKEEP.raw());
    act(registry::raw_lock());
    for slabs in SLABS.owners.all() {
        // SAFETY: heaps are valid for ever.
        act(unsafe { ThreadCache::raw_lock(heap::of_slabs(slabs).cast()) });
    }
    SLABS
        .owners
        .all()
        .map(OwnedSlabs::raw_lock)
        .for_each(&mut act);
    act(SLABS.raw_lock());
    act(MID.raw_lock());
    act(LARGE.raw_lock());
    ARENA.raw_locks().into_iter().for_each(act);
}

unsafe extern "C" fn prepare() {
    if FORKING.is_held_here() {
        // This thread has all locks that it needs, or will.
        NESTED.fetch_add(1, Ordering::Relaxed);
        return;
    }
    // Who is alone stays so until after the fork.
    if hakmem_sys::fork::is_single_threaded() {
        return;
    }
    let mut has_interrupted = false;
    each_lock(|lock| has_interrupted |= lock.is_held_here());
    if !has_interrupted {
        take_all();
        return;
    }
    let deadline = clock::now_ms().wrapping_add(PATIENCE_MS);
    if take_before(&FORKING, deadline) {
        each_lock(|lock| {
            if !lock.is_held_here() {
                take_before(lock, deadline);
            }
        });
    }
}

/// Takes a lock if it becomes free in time.
fn take_before(lock: &RawLock, deadline: u32) -> bool {
    // SAFETY: no code here takes a lock that it holds.
    unsafe { lock.lock_for_fork_before(deadline) }
}

/// Takes all locks, and before them that of the C library's streams: whoever flushes all of these waits
/// with it for ours, and the C library takes it after all hooks.
///
/// A handler of another thread that has interrupted a slow path, and so holds one of ours, may wait in its
/// own fork for that of the streams. So nobody waits for ours for long while he has it.
fn take_all() {
    let start = clock::now_ms();
    while clock::now_ms().wrapping_sub(start) < ROUNDS_MS {
        // SAFETY: this thread is about to fork, and leaves them below, or after that.
        let streams = unsafe { hakmem_sys::fork::hold_streams() };
        if !streams {
            break;
        }
        let deadline = clock::now_ms().wrapping_add(ROUND_MS);
        let mut has_all = take_before(&FORKING, deadline);
        if has_all {
            STREAMS.store(true, Ordering::Relaxed);
            each_lock(|lock| has_all = has_all && take_before(lock, deadline));
            if has_all {
                return;
            }
            leave_all();
        } else {
            // SAFETY: taken above.
            unsafe { hakmem_sys::fork::release_streams() };
        }
        errno::preserved(|| helper::sleep_ms(1));
    }
    // SAFETY: as in `take_before`.
    unsafe {
        FORKING.lock_for_fork();
        each_lock(|lock| lock.lock_for_fork());
    }
}

/// Leaves what was taken for a fork.
fn leave_all() {
    each_lock(|lock| {
        if lock.is_held_here_for_fork() {
            // SAFETY: it was taken on this thread.
            unsafe { lock.unlock_for_fork() };
        }
    });
    let streams = STREAMS.swap(false, Ordering::Relaxed);
    // SAFETY: as above.
    unsafe {
        FORKING.unlock_for_fork();
        if streams {
            hakmem_sys::fork::release_streams();
        }
    }
}

/// Whether this is the end of a fork within the hooks of this thread's fork.
fn was_nested() -> bool {
    let left = |nested: u32| nested.checked_sub(1);
    FORKING.is_held_here()
        && NESTED
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, left)
            .is_ok()
}

unsafe extern "C" fn parent() {
    if was_nested() || !FORKING.is_held_here() {
        return;
    }
    leave_all();
}

unsafe extern "C" fn child() {
    // The outer fork's hooks go on here as they do in the parent.
    let was_nested = was_nested();
    let (mut leased, mut attached) = (0, 0);
    for slabs in SLABS.owners.all() {
        let heap = heap::of_slabs(slabs);
        // SAFETY: heaps are valid for ever. The bins' thread does not exist here, and their lock is
        // this thread's, or that of a thread that does not exist either.
        unsafe {
            if thread::is_own(heap) {
                (*heap).runs.lose_lifted();
            } else {
                (*heap).runs.lose();
                if (*heap).is_attached() {
                    Heap::lose(heap);
                }
            }
            leased += (*heap).runs.leased();
            attached += u32::from((*heap).is_attached());
        }
    }
    RUNS.set_leased(leased);
    registry::set_attached_heaps(attached);
    each_lock(|lock| {
        if !lock.is_held_here() || (lock.is_held_here_for_fork() && !was_nested) {
            // SAFETY: nobody holds it who exists here; or `prepare` took it on this thread, the
            // only one of the child.
            unsafe { lock.reset() };
        }
    });
    if !was_nested {
        // It counts another's forks, if this thread's has not got so far.
        NESTED.store(0, Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { FORKING.reset() };
    }
    if STREAMS.swap(false, Ordering::Relaxed) {
        // SAFETY: this is the child, which has no other thread yet.
        unsafe { hakmem_sys::fork::reset_streams() };
    }
    PROCESS.store(hakmem_sys::fork::process(), Ordering::Relaxed);
    purger::after_fork_in_child();
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use std::sync::Barrier;
    use std::thread;

    fn held_for_fork() -> usize {
        let mut held = 0;
        each_lock(|lock| held += usize::from(lock.is_held_here_for_fork()));
        held
    }

    /// The process has another thread, that of the test's harness.
    #[test]
    fn the_hooks_leave_what_their_thread_held_and_what_others_hold() {
        let mut all = 0;
        each_lock(|_| all += 1);
        let upkeep = upkeep::UPKEEP.raw();
        // SAFETY: the hooks are called as around a fork. Locks are left by who took them.
        unsafe {
            prepare();
            assert_eq!(held_for_fork(), all);
            // A handler forks meanwhile.
            prepare();
            parent();
            assert_eq!(held_for_fork(), all);
            parent();
            assert_eq!(held_for_fork(), 0);
            assert!(!FORKING.is_held_here());

            // A handler that has interrupted who holds a lock, which another waits for.
            upkeep.lock();
            prepare();
            assert_eq!(held_for_fork(), all - 1);
            parent();
            assert_eq!(held_for_fork(), 0);
            assert!(upkeep.is_held_here());

            let (taken, done) = (Barrier::new(2), Barrier::new(2));
            thread::scope(|scope| {
                scope.spawn(|| {
                    MID.raw_lock().lock();
                    taken.wait();
                    done.wait();
                });
                taken.wait();
                prepare();
                assert_eq!(held_for_fork(), all - 2);
                parent();
                assert!(!MID.raw_lock().try_lock());
                prepare();
                // As in the child, where the other does not exist.
                child();
                assert_eq!(held_for_fork(), 0);
                assert!(upkeep.is_held_here());
                assert!(MID.raw_lock().try_lock() && ARENA.raw_locks()[1].try_lock());
                done.wait();
            });
            MID.raw_lock().unlock();
            ARENA.raw_locks()[1].unlock();
            upkeep.unlock();
            assert!(!FORKING.is_held_here());

            // In the child of a thread that was not in the hooks, but another was, and had been
            // interrupted there by one that forks.
            NESTED.store(1, Ordering::Relaxed);
            child();
            prepare();
            parent();
            assert_eq!(held_for_fork(), 0);
        }
    }
}
