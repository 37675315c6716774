//! Threads end; what they had is there for others.

mod support {
    pub mod block;
    pub mod direct;
    pub mod resize;
}

use hakmem_alloc::{Hakmem, stats};
use hakmem_test_support::{HARNESS_BYTES, turn};
use std::cell::{Cell, RefCell};
use std::ffi::c_void;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant};
use support::block::Block;
use support::direct::layout;

#[global_allocator]
static ALLOCATOR: Hakmem = Hakmem::new();

fn blocks(count: usize, size: usize, seed: u64) -> Vec<Block> {
    (0..count)
        .map(|_| Block::new(layout(size, 8), false, seed).expect("memory"))
        .collect()
}

#[test]
fn a_thousand_threads_one_after_the_other_need_one_heap() {
    let _turn = turn();
    thread::spawn(|| ()).join().unwrap();
    let before = stats();
    for seed in 0..1000 {
        thread::spawn(move || {
            for block in blocks(50, 100, seed) {
                block.free();
            }
        })
        .join()
        .unwrap();
    }
    let after = stats();
    // The harness may start a thread of its own meanwhile.
    assert!(
        after.heaps <= before.heaps + 2,
        "{} heaps before, {} after",
        before.heaps,
        after.heaps
    );
    assert!(after.mapped_bytes <= before.mapped_bytes + (8 << 20));
}

#[test]
fn what_finished_threads_leave_in_their_heaps_goes_to_those_who_need_memory() {
    const THREADS: usize = 24;
    let _turn = turn();
    hakmem_alloc::trim();
    let (attached, before) = (stats().heaps_attached, stats().cached_bytes);
    let all_there = Barrier::new(THREADS);
    thread::scope(|scope| {
        for seed in 0..THREADS {
            let all_there = &all_there;
            scope.spawn(move || {
                let mine: Vec<Block> = [64, 300, 1000, 5000]
                    .into_iter()
                    .flat_map(|size| blocks(100, size, seed as u64))
                    .collect();
                // So many heaps are in use at once.
                all_there.wait();
                for block in mine {
                    block.free();
                }
            });
        }
    });
    // A scope ends when its threads' work has, which is before they have gone.
    let last = Instant::now() + Duration::from_secs(60);
    while stats().heaps_attached > attached && Instant::now() < last {
        thread::sleep(Duration::from_millis(1));
    }
    let left = stats().cached_bytes.saturating_sub(before);
    // Eight heaps, each with a magazine or two of each size.
    assert!(
        left <= 8 * (400 << 10),
        "{THREADS} finished threads left {left} bytes in their caches"
    );
    // Somebody needs slabs, for longer than a thread is taken to be busy.
    let mut kept = Vec::new();
    while stats().cached_bytes > before + (256 << 10) && kept.len() < 40_000 {
        kept.extend(blocks(200, 1024, 1));
        thread::sleep(Duration::from_millis(1));
    }
    let still = stats().cached_bytes.saturating_sub(before);
    assert!(
        still <= 256 << 10,
        "of {left} bytes in the caches of finished threads {still} stay there"
    );
    for block in kept {
        block.free();
    }
}

#[test]
fn what_a_finished_thread_has_freed_is_used_by_the_next() {
    let _turn = turn();
    let life = |seed| {
        thread::spawn(move || {
            for size in [48, 700, 6000, 50_000] {
                for block in blocks((2 << 20) / size, size, seed) {
                    block.free();
                }
            }
        })
        .join()
        .unwrap();
    };
    life(0);
    let before = stats();
    for seed in 1..6 {
        life(seed);
    }
    let after = stats();
    assert!(
        after.mapped_bytes <= before.mapped_bytes + (6 << 20),
        "{} bytes mapped after one life, {} after six",
        before.mapped_bytes,
        after.mapped_bytes
    );
}

#[test]
fn blocks_outlive_their_thread_and_are_freed_by_another() {
    let _turn = turn();
    thread::spawn(|| ()).join().unwrap();
    let before = stats().live_bytes;
    for seed in 0..8 {
        let made = thread::spawn(move || {
            let mut made = blocks(3000, 64, seed);
            made.extend(blocks(300, 1024, seed));
            made.extend(blocks(50, 9000, seed));
            made
        })
        .join()
        .unwrap();
        for block in made {
            block.free();
        }
    }
    let after = stats();
    assert!(
        after.live_bytes <= before + HARNESS_BYTES,
        "{before} live before, {} after",
        after.live_bytes
    );
}

/// Frees and allocates when its thread ends.
struct Late(RefCell<Vec<Block>>);

static LATE_RUNS: AtomicU32 = AtomicU32::new(0);

impl Drop for Late {
    fn drop(&mut self) {
        for block in self.0.get_mut().drain(..) {
            block.free();
        }
        for block in blocks(500, 200, 3) {
            block.free();
        }
        LATE_RUNS.fetch_add(1, Ordering::Relaxed);
    }
}

thread_local! {
    static LATE: Late = const { Late(RefCell::new(Vec::new())) };
}

#[test]
fn destructors_of_thread_locals_may_allocate_and_free() {
    let _turn = turn();
    for seed in 0..20 {
        thread::spawn(move || {
            LATE.with(|late| late.0.borrow_mut().extend(blocks(300, 80, seed)));
            LATE.with(|late| late.0.borrow_mut().extend(blocks(5, 100_000, seed)));
        })
        .join()
        .unwrap();
    }
    assert_eq!(LATE_RUNS.load(Ordering::Relaxed), 20);
}

static KEY: Mutex<Option<libc::pthread_key_t>> = Mutex::new(None);
static KEY_RUNS: AtomicU32 = AtomicU32::new(0);

/// Blocks that rounds of destructors hand on, and which round it is.
struct Rounds {
    left: Cell<u32>,
    blocks: RefCell<Vec<Block>>,
}

/// Runs in each round of the thread's destructors: frees what the round before
/// has allocated, allocates again, and asks to be run once more.
unsafe extern "C" fn round(value: *mut c_void) {
    // SAFETY: the value was made by `Box::into_raw`.
    let rounds = unsafe { Box::from_raw(value.cast::<Rounds>()) };
    KEY_RUNS.fetch_add(1, Ordering::Relaxed);
    for mut block in rounds.blocks.borrow_mut().drain(..) {
        assert!(block.resize(block.layout.size() + 1000));
        block.free();
    }
    if rounds.left.get() > 0 {
        rounds.left.set(rounds.left.get() - 1);
        for size in [16, 500, 5000, 60_000] {
            rounds.blocks.borrow_mut().extend(blocks(40, size, 9));
        }
        let key = KEY.lock().unwrap().unwrap();
        // SAFETY: the key is valid.
        unsafe { libc::pthread_setspecific(key, Box::into_raw(rounds).cast()) };
    }
}

#[test]
fn destructors_that_run_after_the_allocators_own_may_allocate_and_free() {
    let _turn = turn();
    let mut key = 0;
    // SAFETY: `key` is a valid place; made after the allocator's own key, which
    // exists since the first allocation, so that its turn comes later.
    let made = unsafe { libc::pthread_key_create(&raw mut key, Some(round)) };
    assert_eq!(made, 0);
    *KEY.lock().unwrap() = Some(key);
    thread::spawn(|| ()).join().unwrap();
    let before = stats();
    for _ in 0..30 {
        thread::spawn(move || {
            let rounds = Box::new(Rounds {
                left: Cell::new(3),
                blocks: RefCell::new(blocks(100, 300, 1)),
            });
            // SAFETY: the key is valid.
            unsafe { libc::pthread_setspecific(key, Box::into_raw(rounds).cast()) };
        })
        .join()
        .unwrap();
    }
    assert_eq!(
        KEY_RUNS.load(Ordering::Relaxed),
        4 * 30,
        "the system runs destructors four times"
    );
    let after = stats();
    assert!(
        after.heaps <= before.heaps + 2,
        "heaps of such threads are lost"
    );
    assert!(
        after.live_bytes <= before.live_bytes + HARNESS_BYTES,
        "{} live before, {} after",
        before.live_bytes,
        after.live_bytes
    );
}
