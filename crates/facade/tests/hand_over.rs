//! Threads that come and go and free what others have allocated, with patterns
//! in every block. One test: it looks at the counters of the whole process.

mod support {
    pub mod block;
    pub mod direct;
    pub mod resize;
}

use hakmem_alloc::{Hakmem, stats};
use hakmem_test_support::Numbers;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;
use support::block::Block;
use support::direct::layout;

#[global_allocator]
static ALLOCATOR: Hakmem = Hakmem::new();

const SLOTS: usize = 2048;

fn random_layout(numbers: &mut Numbers) -> std::alloc::Layout {
    let size = match numbers.below(1000) {
        0..=699 => 1 + numbers.below(256),
        700..=899 => 1 + numbers.below(2000),
        900..=984 => 1 + numbers.below(32 << 10),
        985..=997 => 1 + numbers.below(300_000),
        _ => 1 + numbers.below(3 << 20),
    };
    let align = match numbers.below(20) {
        0 => 1 << numbers.below(13),
        _ => 1 << numbers.below(5),
    };
    layout(size, align)
}

/// Puts blocks into random slots and frees or resizes what was there.
fn work(slots: &[Mutex<Option<Block>>], seed: u64, steps: u64) {
    let mut numbers = Numbers(seed);
    for step in 0..steps {
        let mut block = Block::new(
            random_layout(&mut numbers),
            numbers.below(8) == 0,
            seed << 32 | step,
        )
        .expect("memory");
        if numbers.below(8) == 0 {
            assert!(block.resize(random_layout(&mut numbers).size()));
        }
        let old = slots[numbers.below(SLOTS)].lock().unwrap().replace(block);
        if let Some(mut old) = old {
            if numbers.below(8) == 0 {
                assert!(old.resize(random_layout(&mut numbers).size()));
            }
            old.free();
        }
        // A burst: free a stretch.
        if numbers.below(500) == 0 {
            let start = numbers.below(SLOTS - 200);
            for slot in &slots[start..start + 200] {
                if let Some(block) = slot.lock().unwrap().take() {
                    block.free();
                }
            }
        }
    }
}

/// Frees what is in the slots.
fn clear(slots: &[Mutex<Option<Block>>]) {
    for slot in slots {
        if let Some(block) = slot.lock().unwrap().take() {
            block.free();
        }
    }
}

#[test]
fn what_any_thread_allocates_any_other_may_free_and_nothing_is_lost() {
    let slots: Vec<Mutex<Option<Block>>> = (0..SLOTS).map(|_| Mutex::new(None)).collect();
    // What the standard library keeps for its first threads is not a loss.
    for _ in 0..2 {
        thread::spawn(|| ()).join().unwrap();
    }
    // Nor what the test's frame takes when it first waits for the test.
    work(&slots, 1, 6_000);
    clear(&slots);
    let before = stats();
    for (round, threads) in (0_u64..).zip([1, 2, 8, 64, 8, 1]) {
        // Each thread's work is done by three, one after the other.
        for life in 0..3_u64 {
            thread::scope(|scope| {
                for index in 0..threads {
                    let slots = &slots;
                    let seed = (round * 3 + life) * 100 + index + 1;
                    scope.spawn(move || work(slots, seed, 6_000 / threads));
                }
            });
        }
    }
    let during = stats();
    assert!(during.live_bytes > before.live_bytes);
    assert!(during.remote_frees > 0 && during.claims > 0, "{during:?}");
    assert!(during.heaps <= 70, "{} heaps for 64 threads", during.heaps);
    clear(&slots);
    // A scope does not wait for what its threads free after their closures.
    let mut after = stats();
    for _ in 0..100 {
        if after.live_bytes == before.live_bytes {
            break;
        }
        thread::sleep(Duration::from_millis(50));
        after = stats();
    }
    assert_eq!(after.live_bytes, before.live_bytes, "{after:?}");
    assert_eq!(after.large_live, before.large_live);
    hakmem_alloc::trim();
    let trimmed = stats();
    assert_eq!(trimmed.dirty_bytes, 0);
    assert_eq!(trimmed.retained_bytes, 0);
    // A few slabs hold what the test itself keeps, beside the heaps.
    let heaps = trimmed.heaps * (128 << 10);
    assert!(trimmed.committed_bytes <= heaps + (12 << 20), "{trimmed:?}");
}
