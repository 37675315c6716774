//! The lock of slow paths.
#![cfg(not(loom))]

use hakmem_sys::lock::{Lock, RawLock};
use hakmem_sys::{clock, errno};
use hakmem_test_support::{assert_aborts, is_child};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

#[test]
fn increments_under_the_lock_are_not_lost() {
    const THREADS: usize = 8;
    const ROUNDS: usize = 20_000;
    static COUNT: Lock<usize> = Lock::new(0);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for _ in 0..ROUNDS {
                    *COUNT.lock() += 1;
                }
            });
        }
    });
    assert_eq!(*COUNT.lock(), THREADS * ROUNDS);
}

#[test]
fn one_thread_at_a_time_holds_the_lock() {
    let lock = RawLock::new();
    let inside = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for round in 0..2_000 {
                    let is_taken = match round % 3 {
                        0 => lock.try_lock(),
                        1 => lock.lock_soon(),
                        _ => {
                            lock.lock();
                            true
                        }
                    };
                    if !is_taken {
                        continue;
                    }
                    assert!(!inside.swap(true, Ordering::Relaxed));
                    if round % 64 == 0 {
                        thread::yield_now();
                    }
                    assert!(inside.swap(false, Ordering::Relaxed));
                    // SAFETY: taken above.
                    unsafe { lock.unlock() };
                }
            });
        }
    });
}

#[test]
fn taken_for_a_fork_it_is_free_for_its_thread_and_no_other() {
    let lock = Lock::new(0);
    // SAFETY: each guard is gone before the next one is taken.
    unsafe { lock.raw().lock_for_fork() };
    *lock.lock() += 1;
    *lock.lock() += 1;
    assert!(lock.raw().is_held_here_for_fork());
    thread::scope(|scope| {
        scope.spawn(|| assert!(lock.try_lock().is_none()));
    });
    // SAFETY: taken above.
    unsafe { lock.raw().unlock_for_fork() };
    thread::scope(|scope| {
        scope.spawn(|| assert_eq!(lock.try_lock().map(|count| *count), Some(2)));
    });
}

/// Who leaves a lock can be interrupted, for good, before waking another.
#[test]
fn a_lock_that_becomes_free_without_a_call_is_found_free() {
    static LOCK: RawLock = RawLock::new();
    static HAS_IT: AtomicBool = AtomicBool::new(false);
    LOCK.lock();
    // Not waited for: where this fails, it sleeps for ever.
    thread::spawn(|| {
        LOCK.lock();
        HAS_IT.store(true, Ordering::Relaxed);
        // SAFETY: taken above.
        unsafe { LOCK.unlock() };
    });
    thread::sleep(Duration::from_millis(100));
    // SAFETY: this thread holds it.
    unsafe { LOCK.reset() };
    let begin = Instant::now();
    while !HAS_IT.load(Ordering::Relaxed) {
        assert!(begin.elapsed() < Duration::from_secs(10), "it still sleeps");
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_held_lock_is_not_taken_by_trying() {
    let lock = RawLock::new();
    assert!(lock.try_lock());
    assert!(!lock.try_lock());
    // SAFETY: taken above.
    unsafe { lock.unlock() };
    assert!(lock.try_lock());
}

#[test]
fn one_who_waits_a_little_gives_up_and_gets_a_free_lock() {
    let lock = RawLock::new();
    assert!(lock.lock_soon());
    // Whoever holds it does nothing: this comes back all the same.
    assert!(!lock.lock_soon());
    // SAFETY: taken above.
    unsafe { lock.unlock() };
    assert!(lock.try_lock());
}

#[test]
fn a_sleeping_waiter_is_woken_and_keeps_its_errno() {
    let lock = RawLock::new();
    lock.lock();
    thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            errno::set(77);
            lock.lock();
            // SAFETY: taken above.
            unsafe { lock.unlock() };
            errno::get()
        });
        // Long enough for the waiter to have given up spinning.
        thread::sleep(Duration::from_millis(50));
        assert!(!waiter.is_finished());
        errno::set(78);
        // SAFETY: taken above.
        unsafe { lock.unlock() };
        assert_eq!(errno::get(), 78);
        assert_eq!(waiter.join().unwrap(), 77);
    });
}

/// To take a lock, and to leave it again.
type Way = (unsafe fn(&RawLock), unsafe fn(&RawLock));

const WAYS: [Way; 2] = [
    (RawLock::lock, RawLock::unlock),
    (RawLock::lock_for_fork, RawLock::unlock_for_fork),
];

#[test]
fn a_lock_knows_whether_the_calling_thread_holds_it() {
    let lock = RawLock::new();
    assert!(!lock.is_held_here());
    for (take, leave) in WAYS {
        // SAFETY: the thread holds it once only.
        unsafe { take(&lock) };
        assert!(lock.is_held_here());
        thread::scope(|scope| {
            scope.spawn(|| {
                assert!(!lock.is_held_here() && !lock.is_held_here_for_fork());
                // SAFETY: as above.
                assert!(!unsafe { lock.lock_for_fork_before(clock::now_ms()) });
            });
        });
        // SAFETY: taken above.
        unsafe { leave(&lock) };
        assert!(!lock.is_held_here());
    }
    lock.lock();
    assert!(!lock.is_held_here_for_fork());
    // SAFETY: taken above.
    unsafe { lock.unlock() };
    // SAFETY: as above.
    assert!(unsafe { lock.lock_for_fork_before(clock::now_ms()) } && lock.is_held_here_for_fork());
}

#[test]
fn one_who_has_slept_for_a_lock_holds_it_then() {
    let lock = RawLock::new();
    for ((take, leave), is_for_fork) in WAYS.into_iter().zip([false, true]) {
        lock.lock();
        thread::scope(|scope| {
            let waiter = scope.spawn(|| {
                // SAFETY: the thread holds it once only.
                unsafe { take(&lock) };
                let here = (lock.is_held_here(), lock.is_held_here_for_fork());
                // SAFETY: taken above.
                unsafe { leave(&lock) };
                here
            });
            thread::sleep(Duration::from_millis(50));
            assert!(lock.is_held_here());
            // SAFETY: taken above.
            unsafe { lock.unlock() };
            assert_eq!(waiter.join().unwrap(), (true, is_for_fork));
        });
    }
}

#[test]
fn zeroed_memory_is_an_unlocked_lock() {
    // SAFETY: what is tested; the type's text promises it.
    let lock: RawLock = unsafe { std::mem::zeroed() };
    assert!(lock.try_lock());
}

#[test]
fn a_lock_can_be_left_for_another_and_reset() {
    let lock = Lock::new(1);
    lock.raw().lock();
    thread::scope(|scope| {
        // SAFETY: the thread stands for the one that holds the lock.
        scope.spawn(|| unsafe { lock.raw().unlock() });
    });
    assert_eq!(*lock.lock(), 1);
    *lock.lock() = 2;
    lock.raw().lock();
    // SAFETY: this thread holds it.
    unsafe { lock.raw().reset() };
    assert_eq!(*lock.lock(), 2);
}

#[test]
fn a_lock_is_tried_without_waiting_and_left_by_the_guard() {
    let lock = Lock::new(1);
    let held = lock.lock();
    assert!(lock.try_lock().is_none());
    // A try that failed has not left the lock.
    assert!(lock.try_lock().is_none());
    drop(held);
    *lock.try_lock().expect("nobody holds it") += 1;
    assert_eq!(*lock.lock(), 2);
}

#[test]
fn who_waits_for_a_lock_of_its_own_is_told_so() {
    if !is_child() {
        return assert_aborts(
            "who_waits_for_a_lock_of_its_own_is_told_so",
            "waits for a lock that it holds itself",
        );
    }
    let lock = Lock::new(1);
    let _held = lock.lock();
    let _again = lock.lock();
}
