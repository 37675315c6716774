//! Threads whose bins hold what they have freed, all together much, and which then wait.

use hakmem_alloc::Hakmem;
use hakmem_test_support::resident;
use std::sync::Barrier;
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

#[global_allocator]
static ALLOCATOR: Hakmem = Hakmem::new();

const THREADS: usize = 150;
/// Blocks that each thread has of each of these sizes, which its bins have room for: 54 MB together.
const BLOCKS: usize = 8;
const SIZES: [usize; 7] = [1500, 3000, 6000, 10_000, 15_000, 22_000, 32_000];
/// A bin keeps its topmost block: 90 000 bytes for each thread, and what shares their pages. With longer
/// regions some 34 MB stay, as measured.
const MOST: usize = THREADS
    * if cfg!(hakmem_wide_regions) {
        270_000
    } else {
        180_000
    };

#[test]
fn what_is_in_the_bins_of_many_threads_that_wait_goes_back() {
    let [all_have, may_free, all_are_done, end] = [(); 4].map(|()| Barrier::new(THREADS + 1));
    thread::scope(|scope| {
        let before = resident();
        for _ in 0..THREADS {
            scope.spawn(|| {
                let sizes = SIZES.iter().cycle().take(BLOCKS * SIZES.len());
                let blocks: Vec<Vec<u8>> = sizes.map(|&size| vec![1; size]).collect();
                all_have.wait();
                may_free.wait();
                drop(blocks);
                all_are_done.wait();
                end.wait();
            });
        }
        all_have.wait();
        // Before the first bin could be reaped.
        let at_once = resident().saturating_sub(before);
        may_free.wait();
        all_are_done.wait();
        let start = Instant::now();
        let mut held = usize::MAX;
        while held > MOST && start.elapsed() < Duration::from_secs(20) {
            sleep(Duration::from_millis(100));
            held = resident().saturating_sub(before);
        }
        end.wait();
        assert!(
            2 * at_once > 3 * MOST,
            "{at_once} bytes are too little to see"
        );
        assert!(held <= MOST, "{held} bytes");
    });
}
