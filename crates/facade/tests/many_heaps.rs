//! In a program with threads the purge thread is there before there is much to give back, however many
//! heaps there are to ask.

use hakmem_alloc::Hakmem;
use hakmem_test_support::{resident, threads};
use std::sync::Barrier;
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

#[global_allocator]
static ALLOCATOR: Hakmem = Hakmem::new();

const THREADS: usize = 200;

#[test]
fn the_purge_thread_is_there_before_much_is_freed() {
    let (start, end) = (Barrier::new(THREADS + 1), Barrier::new(THREADS + 1));
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let block = Box::new(1_u8);
                start.wait();
                end.wait();
                drop(block);
            });
        }
        start.wait();
        let without = threads();
        // Fewer calls than there are between two looks, of which one in four would ask the heaps.
        let blocks: Vec<Vec<u8>> = (0..30).map(|_| vec![1; 1000 << 10]).collect();
        let with = threads();
        // It has nothing to do for so long that it parks.
        sleep(Duration::from_secs(4));
        let held = resident();
        drop(blocks);
        let freed = Instant::now();
        while resident() + (20 << 20) > held && freed.elapsed() < Duration::from_secs(20) {
            sleep(Duration::from_millis(20));
        }
        let given = held.saturating_sub(resident());
        end.wait();
        assert_eq!(with, without + 1, "30 MB could go back soon");
        assert!(given >= 20 << 20, "{given} bytes went back");
    });
}
