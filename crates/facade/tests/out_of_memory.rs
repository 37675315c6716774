//! The system refuses to map memory, at every point where it is asked. One test:
//! what is injected concerns the whole process, so the allocator under test is
//! not the program's own.

mod support {
    pub mod block;
    pub mod direct;
    pub mod resize;
}

use hakmem_alloc::stats;
use hakmem_sys::vm::fault;
use std::thread;
use support::block::Block;
use support::direct::layout;

/// Allocates blocks of all kinds; returns how many were refused. What was not
/// keeps its contents, whatever is refused around it.
fn work() -> usize {
    let mut refused = 0;
    let mut blocks = Vec::new();
    let mut seed = 0;
    for (size, align, count) in [
        (24, 8, 300),
        (1024, 16, 2100),
        (200, 64, 200),
        (5000, 8, 60),
        (32_768, 16, 20),
        (70_000, 8, 6),
        (2 << 20, 8, 2),
        (100_000, 1 << 21, 1),
        (50 << 20, 16, 1),
    ] {
        let mut refused_here = 0;
        for _ in 0..count {
            seed += 1;
            match Block::new(layout(size, align), seed % 4 == 0, seed) {
                Some(block) => blocks.push(block),
                // A few of each kind: before every null all memory is collected.
                None if refused_here == 3 => break,
                None => {
                    refused += 1;
                    refused_here += 1;
                }
            }
        }
    }
    for (index, block) in blocks.iter_mut().enumerate() {
        if index % 400 == 0 || block.layout.size() > 60_000 {
            let wanted = block.layout.size() * 2 + 70_000;
            if refused < 40 {
                refused += usize::from(!block.resize(wanted));
            }
        }
        if index % 100 == 1 {
            assert!(
                block.resize(1.max(block.layout.size() / 3)),
                "smaller always works"
            );
        }
    }
    for block in blocks {
        block.free();
    }
    refused
}

/// What it frees is not lost, and it gets what is free.
fn a_thread_without_memory_for_a_heap_uses_another() {
    let layouts = [24, 1000, 5000, 30_000].map(|size| layout(size, 8));
    let blocks: Vec<Block> = (0..1000)
        .filter_map(|seed| Block::new(layouts[seed % 4], false, seed as u64))
        .collect();
    assert_eq!(blocks.len(), 1000);
    fault::fail_after(0);
    // What is mapped already would do for a heap.
    let rest: Vec<Block> =
        core::iter::from_fn(|| Block::new(layout(100_000, 8), false, 1)).collect();
    thread::spawn(move || {
        let freed = blocks.into_iter().map(|block| {
            let layout = block.layout;
            block.free();
            layout
        });
        let again: Vec<Option<Block>> = freed.map(|layout| Block::new(layout, true, 1)).collect();
        fault::off();
        for block in again {
            block.expect("as much has just been freed").free();
        }
    })
    .join()
    .unwrap();
    rest.into_iter().for_each(Block::free);
    assert_eq!(stats().live_bytes, 0);
}

#[test]
fn a_refusal_is_null_and_is_over_when_there_is_memory() {
    // Not even a heap for the thread.
    fault::fail_after(0);
    assert!(Block::new(layout(100, 8), false, 1).is_none());
    assert!(Block::new(layout(100_000, 8), false, 1).is_none());
    fault::off();

    a_thread_without_memory_for_a_heap_uses_another();

    let mut points = 0;
    for calls in 0.. {
        // A thread that has no heap yet, so that making one is a point as well.
        let refused = thread::spawn(move || {
            fault::fail_after(calls);
            let refused = work();
            fault::off();
            refused
        })
        .join()
        .expect("the work itself does not fail");
        assert_eq!(stats().live_bytes, 0, "after {calls} calls");
        let again = thread::spawn(work).join().unwrap();
        assert_eq!(again, 0, "there is memory again (after {calls} calls)");
        assert_eq!(stats().live_bytes, 0, "after {calls} calls");
        hakmem_alloc::trim();
        if refused == 0 {
            break;
        }
        points += 1;
    }
    assert!(points >= 3, "only {points} points where a refusal shows");
}
