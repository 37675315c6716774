//! One thread at a time has a lock, sees what the one before has written, and who sleeps for it is
//! woken. A fork that has taken all locks, in their order, finds what is behind them in order: no step
//! of the purge thread, or of anybody, is half done in the child; and its handlers, which take and
//! leave locks that it has, let nobody in.
//!
//! mutation: lock_taken_relaxed
//! mutation: lock_left_relaxed
//! mutation: lock_taken_as_if_alone
//! mutation: lock_left_in_silence
//! mutation: lock_left_within_a_fork
#![allow(clippy::doc_markdown, reason = "the names are for xtask to read")]
#![cfg(loom)]

use hakmem_sys::lock::RawLock;
use hakmem_sys::model::{Held, beside, explore};
use loom::sync::Arc;

/// Counts behind two locks, of which the first is taken before the second.
struct World {
    upkeep: RawLock,
    arena: RawLock,
    taken: Held<u32>,
    given: Held<u32>,
}

impl World {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            upkeep: RawLock::new(),
            arena: RawLock::new(),
            taken: Held::new(0),
            given: Held::new(0),
        })
    }

    /// Takes something under the arena's lock.
    fn take(&self) {
        self.arena.lock();
        self.taken.with_mut(|taken| *taken += 1);
        // SAFETY: taken above.
        unsafe { self.arena.unlock() };
    }

    /// A step of the purge thread: takes something out, and gives it back in another place. The upkeep's
    /// lock spans both.
    fn purge(&self) {
        self.upkeep.lock();
        self.taken.with_mut(|taken| *taken += 1);
        self.arena.lock();
        self.given.with_mut(|given| *given += 1);
        // SAFETY: taken above.
        unsafe {
            self.arena.unlock();
            self.upkeep.unlock();
        }
    }

    /// What a fork's child finds.
    fn fork(&self) -> (u32, u32) {
        // SAFETY: left below; nobody else has the thread's locks meanwhile.
        unsafe {
            self.upkeep.lock_for_fork();
            self.arena.lock_for_fork();
            // A handler that allocates.
            self.arena.lock();
            self.arena.unlock();
            let found = (
                self.taken.with(|taken| *taken),
                self.given.with(|given| *given),
            );
            self.upkeep.unlock_for_fork();
            self.arena.unlock_for_fork();
            found
        }
    }
}

#[test]
fn three_that_want_it_have_it_one_after_the_other() {
    explore(|| {
        let world = World::new();
        let others = [beside(&world, World::take), beside(&world, World::take)];
        world.take();
        for other in others {
            other.join().unwrap();
        }
        world.taken.with(|taken| assert_eq!(*taken, 3));
    });
}

#[test]
fn a_fork_finds_no_step_of_the_purge_thread_half_done() {
    explore(|| {
        let world = World::new();
        let purger = beside(&world, World::purge);
        let (taken, given) = world.fork();
        assert_eq!(taken, given, "in the child there is nobody to finish it");
        purger.join().unwrap();
    });
}

#[test]
fn what_a_handler_leaves_within_a_fork_is_still_the_forks() {
    explore(|| {
        let world = World::new();
        let other = beside(&world, World::take);
        let (taken, given) = world.fork();
        assert!(taken <= 1 && given == 0);
        other.join().unwrap();
        world.taken.with(|taken| assert_eq!(*taken, 1));
    });
}
