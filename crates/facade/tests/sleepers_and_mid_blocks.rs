//! Threads that wait with blocks in their bins, while another needs blocks above 1 KiB.

mod support {
    pub mod sleepers;
}

use hakmem_alloc::{Hakmem, set_purge_thread, stats};
use std::sync::Barrier;
use std::thread::{self, sleep};
use std::time::Duration;
use support::sleepers::{blocks_for_bins, free_into_bins};

#[global_allocator]
static ALLOCATOR: Hakmem = Hakmem::new();

/// With 12 MB in their bins.
const THREADS: usize = 32;
/// Blocks that make a look due, and so many looks: first slowly, so that all are seen to sleep; then so
/// fast that some of them are reaped within a millisecond.
const STEP: usize = 5;
const SLOW_STEPS: usize = 8;
const STEPS: usize = 200;
const LEAST: Duration = Duration::from_millis(4);

/// The processor time of the calling thread: where others have the processor for milliseconds, it has not
/// looked meanwhile.
fn own_time() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: a valid place for the time.
    let outcome = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert_eq!(outcome, 0);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[test]
fn what_is_in_the_bins_of_threads_that_wait_is_taken_for_mid_blocks() {
    // It would do so as well.
    set_purge_thread(false);
    let (all_have, all_are_done, end) = (
        Barrier::new(THREADS),
        Barrier::new(THREADS + 1),
        Barrier::new(THREADS + 1),
    );
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let blocks = blocks_for_bins();
                // So that none takes what another frees.
                all_have.wait();
                free_into_bins(blocks);
                all_are_done.wait();
                end.wait();
            });
        }
        all_are_done.wait();
        let before = stats().cached_bytes;
        let mut blocks: Vec<Vec<u8>> = Vec::new();
        let mut look = || blocks.extend((0..STEP).map(|_| Vec::with_capacity(32_000)));
        for _ in 0..SLOW_STEPS {
            look();
            sleep(Duration::from_micros(600));
        }
        let least = own_time() + LEAST;
        let mut steps = 0;
        while steps < STEPS || own_time() < least {
            look();
            steps += 1;
        }
        let after = stats().cached_bytes;
        end.wait();
        assert!(before > 8 << 20, "{before} bytes are too little to see");
        assert!(after < before / 2, "{after} bytes of {before}");
    });
}
