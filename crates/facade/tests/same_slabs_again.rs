//! The purge thread comes again for memory in slabs that it has purged before.

use hakmem_alloc::Hakmem;
use hakmem_test_support::{resident, threads};
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

/// Waits until so many eighths of the blocks' memory at most are there: what stays, and what shares its
/// pages.
fn await_holes(before: usize, eighths: usize) {
    let start = Instant::now();
    while resident().saturating_sub(before) > BLOCKS * 1000 / 8 * eighths {
        assert!(
            start.elapsed() < Duration::from_secs(30),
            "it does not fall"
        );
        sleep(Duration::from_millis(50));
    }
}

#[test]
fn the_purge_thread_comes_again_for_the_same_slabs() {
    let (before, without) = (resident(), threads());
    let fill = || -> Blocks { (0..BLOCKS).map(|_| Some(Box::new([1; 1000]))).collect() };
    let mut first = fill();
    free_most(&mut first);
    await_holes(before, 3);
    // It has nothing to do for so long that it ends, or parks.
    sleep(Duration::from_secs(5));
    // What it has left counts the slabs as a whole.
    let mut second = fill();
    assert!(resident() - before > BLOCKS * 1000 / 8 * 7);
    free_most(&mut second);
    await_holes(before, 5);
    assert_eq!(threads(), without + 1, "much is in use");
    drop((first, second));
    let start = Instant::now();
    while threads() != without {
        assert!(start.elapsed() < Duration::from_secs(60), "it stays");
        sleep(Duration::from_millis(50));
    }
}
