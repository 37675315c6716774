//! Memory that goes back to the system.

mod support {
    pub mod asleep;
    pub mod block;
    pub mod direct;
}

use hakmem_alloc::{Hakmem, stats};
use hakmem_test_support::{HARNESS_BYTES, Numbers, resident, turn};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;
use support::asleep::beside_a_sleeper;
use support::block::Block;
use support::direct::layout;

#[global_allocator]
static ALLOCATOR: Hakmem = Hakmem::new();

/// About 80 MB in blocks of all kinds, and how much it is.
fn burst() -> (Vec<Block>, usize) {
    let mut numbers = Numbers(5);
    let mut blocks = Vec::new();
    let mut bytes = 0;
    while bytes < 80 << 20 {
        let size = match numbers.below(100) {
            0..=79 => 16 + numbers.below(1000),
            80..=94 => 1000 + numbers.below(31_000),
            _ => 40_000 + numbers.below(2 << 20),
        };
        blocks.push(Block::new(layout(size, 8), false, 1).expect("memory"));
        bytes += size;
    }
    (blocks, bytes)
}

#[test]
fn a_trim_leaves_nothing_dirty_and_returns_what_was_freed() {
    let _turn = turn();
    hakmem_alloc::trim();
    let (before, resident_before) = (stats(), resident());
    let (blocks, bytes) = burst();
    let resident_full = resident();
    // Blocks carry a byte for each page at least, so all of them are resident.
    assert!(resident_full > resident_before + bytes / 2);
    let survivors: Vec<Block> = {
        let mut survivors = Vec::new();
        for (index, block) in blocks.into_iter().enumerate() {
            if index % 5000 == 0 {
                survivors.push(block);
            } else {
                block.free();
            }
        }
        survivors
    };
    let given = hakmem_alloc::trim();
    let trimmed = stats();
    assert!(given > 0);
    assert_eq!(trimmed.dirty_bytes, 0);
    assert_eq!(trimmed.retained_bytes, 0);
    let resident_trimmed = resident();
    assert!(
        resident_trimmed < resident_before + bytes / 8,
        "{resident_before} bytes resident before a burst of {bytes}, {resident_full} in it, \
         {resident_trimmed} after a trim"
    );
    for block in survivors {
        block.free();
    }
    // The next burst finds everything in order.
    for block in burst().0 {
        block.free();
    }
    hakmem_alloc::trim();
    let live = stats().live_bytes;
    assert!(
        live <= before.live_bytes + HARNESS_BYTES,
        "{} bytes live before, {live} after",
        before.live_bytes
    );
}

#[test]
fn a_trim_reaches_what_finished_threads_have_left() {
    let _turn = turn();
    hakmem_alloc::trim();
    let resident_before = resident();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let blocks: Vec<Block> = (0..30_000)
                    .map(|seed| Block::new(layout(256, 8), false, seed).expect("memory"))
                    .collect();
                blocks.into_iter().for_each(Block::free);
            });
        }
    });
    hakmem_alloc::trim();
    let trimmed = stats();
    assert_eq!(trimmed.dirty_bytes, 0);
    assert!(
        resident() < resident_before + (10 << 20),
        "{resident_before} before, {} after: {trimmed:?}",
        resident()
    );
}

#[test]
fn an_idle_programs_memory_goes_back_by_itself() {
    let _turn = turn();
    hakmem_alloc::trim();
    let resident_before = resident();
    let (blocks, bytes) = burst();
    let full = resident();
    blocks.into_iter().for_each(Block::free);
    // Nothing but waiting, and for longer than a second, after which memory goes
    // back a part at a time.
    for _ in 0..200 {
        thread::sleep(Duration::from_millis(100));
        if resident() < resident_before + bytes / 8 {
            return;
        }
    }
    panic!(
        "{resident_before} bytes resident before a burst of {bytes}, {full} in it, {} twenty \
         seconds after it: {:?}",
        resident(),
        stats()
    );
}

#[test]
fn a_trim_with_nothing_to_give_is_nothing() {
    let _turn = turn();
    let mut second = usize::MAX;
    // The thread of the test before may still be about to end, and to leave what it has.
    for _ in 0..20 {
        hakmem_alloc::trim();
        let kept = Block::new(layout(5000, 8), false, 1).expect("memory");
        second = second.min(hakmem_alloc::trim());
        kept.free();
        if second <= 4 << 20 {
            return;
        }
        thread::sleep(Duration::from_millis(50));
    }
    panic!("{second} bytes given by a second trim");
}

#[test]
fn a_trim_reaches_the_bins_of_threads_that_wait() {
    const BLOCKS: u64 = 4000;
    let _turn = turn();
    let (to_thread, from_main) = mpsc::channel::<()>();
    let (to_main, from_thread) = mpsc::channel::<()>();
    let sleeper = thread::spawn(move || {
        for round in 0..3 {
            let blocks: Vec<Block> = (0..BLOCKS)
                .map(|seed| {
                    let size = 16 + (seed as usize * 37) % 2000;
                    Block::new(layout(size, 8), false, seed + round).expect("memory")
                })
                .collect();
            blocks.into_iter().for_each(Block::free);
            to_main.send(()).expect("the main thread waits");
            from_main.recv().expect("the main thread answers");
        }
    });
    for _ in 0..3 {
        from_thread.recv().expect("the thread works");
        let before = stats();
        hakmem_alloc::trim();
        let after = stats();
        assert!(after.reaps > before.reaps, "{before:?}");
        assert!(
            after.cached_bytes < before.cached_bytes / 4,
            "{} bytes cached before a trim, {} after",
            before.cached_bytes,
            after.cached_bytes
        );
        to_thread.send(()).expect("the thread waits");
    }
    sleeper.join().expect("the blocks are in order");
}

#[test]
fn a_thread_that_sleeps_keeps_no_block_of_a_coarse_class() {
    let _turn = turn();
    hakmem_alloc::trim();
    let work = || {
        for size in [40_000, 65_536, 100_000, 131_072] {
            let block = || Block::new(layout(size, 8), false, 1).expect("memory");
            let blocks = [block(), block(), block()];
            blocks.into_iter().for_each(Block::free);
        }
    };
    let (before, after) = beside_a_sleeper(work, || {
        let before = stats().cached_bytes;
        hakmem_alloc::trim();
        (before, stats().cached_bytes)
    });
    assert!(before >= 900_000, "{before} bytes");
    // Those of small classes stay.
    assert!(after < 80_000, "{after} bytes");
}
