//! Threads whose bins hold what they have freed, all together much, and which then wait.

mod support {
    pub mod sleepers;
}

use hakmem_alloc::Hakmem;
use hakmem_test_support::resident;
use std::sync::Barrier;
use std::thread::{self, sleep};
use std::time::{Duration, Instant};
use support::sleepers::{blocks_for_bins, free_into_bins};

#[global_allocator]
static ALLOCATOR: Hakmem = Hakmem::new();

const THREADS: usize = 150;
/// A bin keeps its topmost block.
const MOST: usize = THREADS * 150_000;

#[test]
fn what_is_in_the_bins_of_many_threads_that_wait_goes_back() {
    let step = Barrier::new(THREADS + 1);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                step.wait();
                step.wait();
                let blocks = blocks_for_bins();
                step.wait();
                step.wait();
                free_into_bins(blocks);
                step.wait();
                step.wait();
            });
        }
        // All are there.
        step.wait();
        let before = resident();
        step.wait();
        // All have their blocks, and none of these is in a bin that could be reaped.
        step.wait();
        let at_once = resident().saturating_sub(before);
        step.wait();
        // All are freed.
        step.wait();
        let start = Instant::now();
        let mut held = usize::MAX;
        while held > MOST && start.elapsed() < Duration::from_secs(20) {
            sleep(Duration::from_millis(100));
            held = resident().saturating_sub(before);
        }
        step.wait();
        assert!(
            2 * at_once > 3 * MOST,
            "{at_once} bytes are too little to see"
        );
        assert!(held <= MOST, "{held} bytes");
    });
}
