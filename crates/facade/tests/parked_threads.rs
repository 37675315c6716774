//! Threads that each free too little to be noticed by themselves, and then wait.

use hakmem_alloc::Hakmem;
use hakmem_test_support::resident;
use std::sync::Barrier;
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

#[global_allocator]
static ALLOCATOR: Hakmem = Hakmem::new();

const THREADS: usize = 64;
/// Blocks that each thread has, of so many bytes: some 77 MB together.
const BLOCKS: usize = 40;
const SIZE: usize = 30_000;

#[test]
fn what_many_threads_free_that_wait_then_goes_back() {
    let (all_have, all_are_done, end) = (
        Barrier::new(THREADS),
        Barrier::new(THREADS + 1),
        Barrier::new(THREADS + 1),
    );
    thread::scope(|scope| {
        let before = resident();
        for _ in 0..THREADS {
            scope.spawn(|| {
                let blocks: Vec<Vec<u8>> = (0..BLOCKS).map(|_| vec![1; SIZE]).collect();
                all_have.wait();
                drop(blocks);
                all_are_done.wait();
                end.wait();
            });
        }
        all_are_done.wait();
        let start = Instant::now();
        let mut held = usize::MAX;
        while held > 16 << 20 && start.elapsed() < Duration::from_secs(20) {
            sleep(Duration::from_millis(100));
            held = resident().saturating_sub(before);
        }
        end.wait();
        assert!(held <= 16 << 20, "{held} bytes");
    });
}
