//! A program without a purge thread, which works on after it has freed most of its memory.

use hakmem_alloc::{Hakmem, set_purge_thread};
use hakmem_test_support::{resident, threads};
use std::thread::sleep;
use std::time::{Duration, Instant};

#[global_allocator]
static ALLOCATOR: Hakmem = Hakmem::new();

const BLOCKS: usize = 64 << 10;
/// One block in so many stays, so that every slab does.
const STAYS: usize = 16;

#[test]
fn what_is_free_between_blocks_in_use_goes_back_while_the_program_works() {
    set_purge_thread(false);
    let without = threads();
    let mut blocks: Vec<Option<Box<[u8; 1000]>>> =
        (0..BLOCKS).map(|_| Some(Box::new([1; 1000]))).collect();
    for (number, block) in blocks.iter_mut().enumerate() {
        if number % STAYS > 0 {
            *block = None;
        }
    }
    let before = resident();
    let start = Instant::now();
    while resident() > before - (35 << 20) {
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "{} bytes of {before}",
            resident()
        );
        for _ in 0..100 {
            drop(vec![1_u8; 200 << 10]);
        }
        sleep(Duration::from_millis(10));
    }
    assert_eq!(threads(), without);
    drop(blocks);
}
