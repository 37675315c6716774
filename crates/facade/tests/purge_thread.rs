//! The purge thread, switched off and on.

use hakmem_alloc::{Hakmem, set_purge_thread};
use hakmem_test_support::threads;
use std::thread::sleep;
use std::time::{Duration, Instant};

#[global_allocator]
static ALLOCATOR: Hakmem = Hakmem::new();

/// Frees 100 MiB in blocks of 512 KiB, and makes the calls at which that is looked at.
fn burst() {
    let blocks: Vec<Vec<u8>> = (0..200).map(|_| vec![1; 512 << 10]).collect();
    drop(blocks);
    for _ in 0..300 {
        drop(vec![1_u8; 300 << 10]);
    }
}

/// Waits until the process has so many threads.
fn await_threads(count: usize) {
    let start = Instant::now();
    while threads() != count {
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "{} threads",
            threads()
        );
        burst();
        sleep(Duration::from_millis(20));
    }
}

#[test]
fn there_is_one_however_often_it_was_switched_off_and_on() {
    set_purge_thread(false);
    burst();
    let without = threads();
    set_purge_thread(true);
    await_threads(without + 1);
    for _ in 0..20 {
        set_purge_thread(false);
        set_purge_thread(true);
        burst();
        assert_eq!(threads(), without + 1);
    }
    set_purge_thread(false);
    await_threads(without);
    // It ended because it was to, and starts because it may.
    set_purge_thread(true);
    await_threads(without + 1);
}
