//! The purge thread starts when it is worth it, however many heaps there are to ask.

use hakmem_alloc::Hakmem;
use hakmem_test_support::threads;
use std::sync::Barrier;
use std::thread;

#[global_allocator]
static ALLOCATOR: Hakmem = Hakmem::new();

const THREADS: usize = 200;

#[test]
fn runs_that_are_freed_are_seen_at_once_where_looks_are_rare() {
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
        assert_eq!(threads(), without);
        drop(blocks);
        let with = threads();
        end.wait();
        assert_eq!(with, without + 1, "30 MB wait to go back");
    });
}
