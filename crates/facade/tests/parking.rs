//! The parked purge thread, in processes in which nobody else is at work.

mod support {
    pub mod forked;
    pub mod sleepers;
}

use hakmem_alloc::{Hakmem, set_purge_thread, stats};
use hakmem_test_support::{resident, threads};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};
use support::forked::in_child;
use support::sleepers::{blocks_for_bins, free_into_bins};

#[global_allocator]
static ALLOCATOR: Hakmem = Hakmem::new();

const MEGABYTE: usize = 1 << 20;
/// The thread's own look may come first, in place of what is to wake it.
const ATTEMPTS: usize = 4;

fn filled(megabytes: usize) -> Vec<Vec<u8>> {
    (0..megabytes).map(|_| vec![1; MEGABYTE]).collect()
}

/// Waits for something that a program would wait for, too: longer than it takes by far.
fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        if start.elapsed() > Duration::from_secs(40) {
            // A panic would wait for the threads.
            eprintln!("not so: {what}");
            std::process::abort();
        }
        sleep(Duration::from_millis(20));
        drop(vec![1_u8; 40_000]);
    }
}

/// What is held, in megabytes, where it is to be much by far.
const MUCH: usize = 80;
/// Where it is little more than what the thread parks for.
const LITTLE: usize = 12;

/// Has the purge thread park, beside two threads that hold so many megabytes; then what `work` does with
/// these must wake it.
fn is_woken(megabytes: usize, work: impl Fn(&mut Vec<Vec<u8>>, &AtomicBool)) -> bool {
    let ends = AtomicBool::new(false);
    let before = stats().purge_parks;
    thread::scope(|scope| {
        let other = scope.spawn(|| {
            let own = Box::new(1_u8);
            while !ends.load(Ordering::Relaxed) {
                sleep(Duration::from_millis(1));
            }
            drop(own);
        });
        let mut held = filled(megabytes);
        wait_until("the purge thread parks", || stats().purge_parks > before);
        let wakes = stats().purge_wakes;
        work(&mut held, &ends);
        if ends.load(Ordering::Relaxed) {
            other.join().unwrap();
        }
        let is_woken = stats().purge_wakes > wakes;
        ends.store(true, Ordering::Relaxed);
        is_woken
    })
}

#[test]
fn who_frees_much_wakes_it() {
    in_child(|| {
        let free = |held: &mut Vec<Vec<u8>>, _: &_| held.truncate(10);
        assert!((0..ATTEMPTS).any(|_| is_woken(MUCH, free)));
    });
}

#[test]
fn who_frees_little_wakes_it_if_that_is_most() {
    in_child(|| {
        let free = |held: &mut Vec<Vec<u8>>, _: &_| held.truncate(1);
        assert!((0..ATTEMPTS).any(|_| is_woken(LITTLE, free)));
    });
}

#[test]
fn who_leaves_but_one_wakes_it_to_end() {
    in_child(|| {
        let end = |_: &mut _, ends: &AtomicBool| ends.store(true, Ordering::Relaxed);
        assert!((0..ATTEMPTS).any(|_| is_woken(MUCH, end)));
        wait_until("it ends", || threads() == 1);
    });
}

#[test]
fn who_switches_it_off_wakes_it_to_end() {
    in_child(|| {
        let switch_off = |_: &mut _, _: &_| {
            set_purge_thread(false);
            wait_until("it ends", || threads() == 2);
        };
        let attempt = || {
            set_purge_thread(true);
            is_woken(MUCH, switch_off)
        };
        assert!((0..ATTEMPTS).any(|_| attempt()));
    });
}

/// What lies in bins is not known to be free, and nobody makes a call.
#[test]
fn it_finds_by_itself_what_sleeping_threads_have_in_their_bins() {
    const THREADS: usize = 120;
    in_child(|| {
        let step = Barrier::new(THREADS + 1);
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    let blocks = blocks_for_bins();
                    step.wait();
                    step.wait();
                    free_into_bins(blocks);
                    step.wait();
                });
            }
            let before = stats().purge_parks;
            step.wait();
            wait_until("it parks", || stats().purge_parks > before);
            let held = resident();
            step.wait();
            // Some 43 MB are free, of which bins keep a quarter.
            wait_until("what is in bins goes back", || {
                resident() + 20 * MEGABYTE < held
            });
            step.wait();
        });
    });
}
