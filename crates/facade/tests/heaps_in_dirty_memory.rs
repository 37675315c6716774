//! Heaps of threads that begin where others have freed much.

use hakmem_alloc::{Hakmem, set_purge_thread, trim};
use hakmem_test_support::resident;
use std::hint::black_box;
use std::sync::Barrier;
use std::thread;

#[global_allocator]
static ALLOCATOR: Hakmem = Hakmem::new();

const THREADS: usize = 64;

#[test]
fn a_heap_keeps_nothing_of_what_was_freed_in_its_place() {
    // The heap, its first magazine, a block, a stack; a heap's place is 128 KiB.
    const MOST: usize = 48 << 10;
    set_purge_thread(false);
    let before = resident();
    let freed: Vec<Vec<u8>> = (0..16).map(|n| vec![n; 1_000_000]).collect();
    drop(black_box(freed));
    let (all_have_one, may_end) = (Barrier::new(THREADS + 1), Barrier::new(THREADS + 1));
    let work = || {
        let block = black_box(Box::new(5_u64));
        all_have_one.wait();
        may_end.wait();
        drop(block);
    };
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(work);
        }
        all_have_one.wait();
        trim();
        let held = resident().saturating_sub(before) / THREADS;
        may_end.wait();
        assert!(held <= MOST, "{held} bytes for each thread");
    });
}
