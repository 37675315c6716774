//! The first block that a thread frees, where it is another thread's.

use hakmem_alloc::Hakmem;
use std::hint::black_box;
use std::sync::Barrier;
use std::thread;

#[global_allocator]
static ALLOCATOR: Hakmem = Hakmem::new();

const THREADS: usize = 4;

/// The cache line that a block lies on.
#[expect(clippy::borrowed_box, reason = "where it is, not what it holds")]
fn line_of(block: &Box<u64>) -> usize {
    (&raw const **block).addr() / 64
}

/// What several threads are given by one often lies on one line.
#[test]
fn a_thread_that_frees_what_it_was_given_does_not_go_on_in_its_cache_line() {
    let given: [Box<u64>; THREADS] = black_box([0, 1, 2, 3].map(Box::new));
    let theirs: Vec<usize> = given.iter().map(line_of).collect();
    let (all_there, all_done) = (Barrier::new(THREADS), Barrier::new(THREADS));
    thread::scope(|scope| {
        for block in given {
            let (theirs, all_there, all_done) = (&theirs, &all_there, &all_done);
            scope.spawn(move || {
                // A thread that has ended leaves its heap, with bins that are in use, to the next.
                all_there.wait();
                drop(block);
                let mine: [Box<u64>; 4] = black_box([0, 1, 2, 3].map(Box::new));
                all_done.wait();
                for line in mine.iter().map(line_of) {
                    assert!(!theirs.contains(&line), "{line:x} is one of {theirs:x?}");
                }
            });
        }
    });
}
