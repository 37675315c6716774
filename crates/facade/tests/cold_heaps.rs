//! What many threads leave that have ended.

use hakmem_alloc::{Hakmem, set_purge_thread, trim};
use hakmem_test_support::resident;
use std::hint::black_box;
use std::sync::Barrier;
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

#[global_allocator]
static ALLOCATOR: Hakmem = Hakmem::new();

const THREADS: usize = 400;

/// Threads that are there together, use so many sizes that their heaps get many magazines, and end.
fn come_and_go() {
    let all_are_there = Barrier::new(THREADS);
    let work = || {
        all_are_there.wait();
        for _ in 0..4 {
            let blocks: Vec<Vec<u8>> = (0..300).map(|n| Vec::with_capacity(n * 4)).collect();
            black_box(&blocks);
        }
        all_are_there.wait();
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
        // Not only their work, but the threads have ended then.
        for thread in threads {
            thread.join().unwrap();
        }
    });
}

#[test]
fn heaps_that_wait_for_threads_give_back_the_memory_of_their_magazines() {
    // The heap itself, what the C library keeps of the thread, metadata; and by itself, slabs that may be
    // wanted again. The magazines would be 11 KiB more.
    const MOST: usize = 20 << 10;
    const MOST_BY_ITSELF: usize = 35 << 10;
    let before = resident();
    let held = || resident().saturating_sub(before) / THREADS;
    set_purge_thread(false);
    come_and_go();
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(4) {
        // Any work: the program has to give memory back itself.
        black_box((0..1000).map(|n| vec![n; n]).collect::<Vec<_>>());
        sleep(Duration::from_millis(20));
    }
    let by_itself = held();
    assert!(
        by_itself <= MOST_BY_ITSELF,
        "{by_itself} bytes for each heap"
    );
    // Such heaps work as new ones do.
    come_and_go();
    trim();
    let trimmed = held();
    assert!(trimmed <= MOST, "{trimmed} bytes for each heap");
}
