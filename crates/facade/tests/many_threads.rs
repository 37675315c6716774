//! What a thread costs where there are many that do little.

use hakmem_alloc::Hakmem;
use hakmem_test_support::resident;
use std::hint::black_box;
use std::sync::Barrier;
use std::thread;

#[global_allocator]
static ALLOCATOR: Hakmem = Hakmem::new();

#[test]
fn threads_with_a_block_of_each_size_share_the_pages_these_lie_in() {
    const THREADS: usize = 150;
    // The thread's stack and what else the C library has for it, the heap, the pages of blocks
    // of 2 and 4 KiB, which lie on two. One page more for each smaller size would be 32 KiB.
    const MOST: usize = 48 << 10;
    let all_there = Barrier::new(THREADS + 1);
    let measured = Barrier::new(THREADS + 1);
    let before = resident();
    let after = thread::scope(|scope| {
        for number in 0..THREADS {
            let (all_there, measured) = (&all_there, &measured);
            scope.spawn(move || {
                let blocks: Vec<Vec<u8>> =
                    (3..=12).map(|bits| vec![number as u8; 1 << bits]).collect();
                all_there.wait();
                measured.wait();
                let mut bytes = black_box(blocks).into_iter().flatten();
                assert!(bytes.all(|byte| byte == number as u8));
            });
        }
        all_there.wait();
        let after = resident();
        measured.wait();
        after
    });
    let each = (after - before) / THREADS;
    assert!(each <= MOST, "{each} bytes for each thread, of {MOST}");
}
