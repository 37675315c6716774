//! The purge thread comes again for memory in slabs that it has purged before.

use hakmem_alloc::Hakmem;
use hakmem_test_support::threads;
use std::thread::sleep;
use std::time::{Duration, Instant};

#[global_allocator]
static ALLOCATOR: Hakmem = Hakmem::new();

const BLOCKS: usize = 48 << 10;
/// One block in so many stays, so that every slab does.
const STAYS: usize = 16;

type Blocks = Vec<Option<Box<[u8; 1000]>>>;

fn free_most(blocks: &mut Blocks) {
    for (number, block) in blocks.iter_mut().enumerate() {
        if number % STAYS > 0 {
            *block = None;
        }
    }
}

#[test]
fn the_purge_thread_comes_again_for_the_same_slabs() {
    let without = threads();
    let fill = || -> Blocks { (0..BLOCKS).map(|_| Some(Box::new([1; 1000]))).collect() };
    let mut first = fill();
    free_most(&mut first);
    assert_eq!(threads(), without + 1, "45 MB could go back");
    let start = Instant::now();
    while threads() != without {
        assert!(start.elapsed() < Duration::from_secs(60));
        sleep(Duration::from_millis(50));
    }
    // What it has left counts the slabs as a whole.
    let mut second = fill();
    free_most(&mut second);
    assert_eq!(threads(), without + 1, "45 MB could go back again");
    drop((first, second));
}
