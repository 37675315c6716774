//! Runs that a thread keeps for its own next request.

mod support {
    pub mod asleep;
    pub mod block;
    pub mod direct;
    pub mod forked;
    pub mod runs;
}

use hakmem_alloc::{c, stats};
use hakmem_test_support::turn;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};
use support::asleep::beside_a_sleeper;
use support::block::Block;
use support::direct::layout;
use support::forked::in_child;
use support::runs::{KEPT, keep_runs};

/// Bytes of the run of a block that is [`KEPT`].
const KEPT_RUN: u64 = 256 << 10;

fn block() -> Block {
    Block::new(layout(KEPT, 8), false, 3).expect("memory")
}

#[test]
fn a_kept_run_is_no_block_and_serves_the_next_request() {
    let _turn = turn();
    hakmem_alloc::trim();
    let before = stats();
    keep_runs();
    let live = block();
    let address = live.address;
    assert_eq!(stats().large_live, before.large_live + 1);
    let retained = stats().retained_bytes;
    live.free();
    assert!(!c::owns(address));
    assert_eq!(stats().large_live, before.large_live);
    assert_eq!(stats().live_bytes, before.live_bytes);
    assert_eq!(stats().retained_bytes, retained + KEPT_RUN);

    // Not for a thread that is not its own.
    let other = thread::scope(|scope| scope.spawn(block).join().unwrap());
    assert_ne!(other.address, address);
    let again = block();
    assert_eq!(again.address, address);
    assert!(c::owns(address));
    assert!(stats().runs_reused > before.runs_reused);
    // Zeroed memory is, whatever was there.
    again.free();
    let zeroed = Block::new(layout(KEPT, 8), true, 4).expect("memory");
    assert_eq!(zeroed.address, address);
    zeroed.free();
    other.free();
    hakmem_alloc::trim();
    assert_eq!(stats().retained_bytes, 0);
}

#[test]
fn what_a_sleeping_thread_keeps_goes_back() {
    let _turn = turn();
    hakmem_alloc::trim();
    let work = || {
        keep_runs();
        block().free();
    };
    let (kept, trimmed) = beside_a_sleeper(work, || {
        let kept = stats();
        hakmem_alloc::trim();
        (kept, stats())
    });
    assert!(kept.retained_bytes >= KEPT_RUN);
    assert_eq!(trimmed.retained_bytes, 0);
    assert_eq!(trimmed.dirty_bytes, 0);
}

#[test]
fn what_a_thread_keeps_goes_with_its_heap() {
    let _turn = turn();
    hakmem_alloc::trim();
    // Many more threads than heaps wait for the next one as they are (8), each with two runs.
    let all = Arc::new(Barrier::new(40));
    let threads: Vec<_> = (0..40)
        .map(|_| {
            let all = all.clone();
            thread::spawn(move || {
                for _ in 0..8 {
                    let two = [block(), block()];
                    two.into_iter().for_each(Block::free);
                    all.wait();
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    // What all threads may keep is 4 MiB; what they share, 1 MiB.
    let waiting = 8 * 2 * KEPT_RUN;
    let retained = stats().retained_bytes;
    assert!(retained <= waiting + (1 << 20), "{retained}");
    hakmem_alloc::trim();
    assert_eq!(stats().retained_bytes, 0);
    assert_eq!(stats().live_bytes, 0);
}

#[test]
fn what_a_thread_has_no_use_for_goes_back_while_it_works() {
    let _turn = turn();
    hakmem_alloc::trim();
    keep_runs();
    block().free();
    assert!(stats().retained_bytes >= KEPT_RUN);
    let begin = Instant::now();
    while stats().retained_bytes > 0 {
        assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", stats());
        let blocks: Vec<_> = (0..10_000)
            .map(|_| Block::new(layout(64, 8), false, 1).expect("memory"))
            .collect();
        blocks.into_iter().for_each(Block::free);
    }
}

/// What a thread kept is lost to the child, whatever it was about to do with it.
///
/// A thread that sleeps may lose what it keeps at any time, and then the child may have it; so this
/// goes on until it was kept all the while.
#[test]
fn a_child_does_not_use_the_runs_that_other_threads_kept() {
    let _turn = turn();
    let begin = Instant::now();
    loop {
        let (was_kept, outcome) = fork_beside_a_thread_that_keeps_a_run();
        if was_kept {
            assert!(outcome.is_ok(), "see above");
            return;
        }
        assert!(begin.elapsed() < Duration::from_secs(60), "never kept");
    }
}

/// Whether the run was kept from before the fork until after the child's end, and what became of
/// the child, which fails if it gets the run.
fn fork_beside_a_thread_that_keeps_a_run() -> (bool, thread::Result<()>) {
    let (filled, done) = (Barrier::new(2), Barrier::new(2));
    let kept = AtomicUsize::new(0);
    thread::scope(|scope| {
        let keeper = scope.spawn(|| {
            keep_runs();
            let live = block();
            let address = live.address;
            kept.store(address.addr(), Ordering::Relaxed);
            live.free();
            filled.wait();
            done.wait();
            let reused = stats().runs_reused;
            let again = block();
            let was_kept = again.address == address && stats().runs_reused > reused;
            again.free();
            was_kept
        });
        filled.wait();
        let kept = kept.load(Ordering::Relaxed);
        let outcome = std::panic::catch_unwind(|| {
            in_child(|| {
                hakmem_alloc::trim();
                let blocks: Vec<Block> = (0..100).map(|_| block()).collect();
                assert!(blocks.iter().all(|block| block.address.addr() != kept));
                blocks.into_iter().for_each(Block::free);
            });
        });
        done.wait();
        (keeper.join().unwrap(), outcome)
    })
}
