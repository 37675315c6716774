//! One arena, many threads.

mod support {
    pub mod arena;
    pub mod contents;
    pub mod lengths;
}

use hakmem_page_arena::Label;
use hakmem_region_id::{REGION_BYTES, RegionIndex};
use hakmem_test_support::Numbers;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use support::arena::arena;
use support::contents::{assert_zero, check, fill};
use support::lengths::KIB64;

/// `first | count << 32`, or zero: runs on their way from thread to thread.
static SLOTS: [AtomicU64; 64] = [const { AtomicU64::new(0) }; 64];

#[test]
fn threads_that_hand_runs_on_never_share_one_and_purges_do_not_disturb_them() {
    let arena = arena();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..4_u64)
            .map(|thread| {
                scope.spawn(move || {
                    let mut numbers = Numbers(thread);
                    for _ in 0..1500 {
                        let count = 1 + numbers.below(40 * KIB64);
                        let align = 1 << numbers.below(6 + KIB64.ilog2() as usize);
                        let run = arena.allocate(count, align, Label::LARGE).expect("memory");
                        if run.zeroed() {
                            assert_zero(arena, run.first, count);
                        }
                        fill(arena, run.first, 0, count, u64::from(run.first.0));
                        let mine = (u64::from(run.first.0) + 1) | ((count as u64) << 32);
                        let theirs = SLOTS[numbers.below(64)].swap(mine, Ordering::AcqRel);
                        if theirs != 0 {
                            let first = RegionIndex(theirs as u32 - 1);
                            let count = (theirs >> 32) as usize;
                            check(arena, first, 0..count, u64::from(first.0));
                            // SAFETY: the swap made the run this thread's.
                            unsafe { arena.free(first, count) };
                        }
                    }
                })
            })
            .collect();
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                arena.purge(0, 50 * KIB64);
                thread::yield_now();
            }
        });
        let joined: Vec<_> = workers
            .into_iter()
            .map(thread::ScopedJoinHandle::join)
            .collect();
        done.store(true, Ordering::Relaxed);
        for outcome in joined {
            outcome.expect("a worker has failed");
        }
    });
    for slot in &SLOTS {
        let run = slot.load(Ordering::Acquire);
        if run != 0 {
            let first = RegionIndex(run as u32 - 1);
            let count = (run >> 32) as usize;
            check(arena, first, 0..count, u64::from(first.0));
            // SAFETY: nobody else is left.
            unsafe { arena.free(first, count) };
        }
    }
    assert_eq!(arena.stats().used_bytes, 0);
    arena.purge(0, usize::MAX);
    let stats = arena.stats();
    assert_eq!(stats.dirty_bytes, 0);
    // Merged again: all of it is one run, or a hole.
    let all = (stats.clean_bytes as usize) / REGION_BYTES;
    let run = arena.allocate(all, 1, Label::LARGE).expect("memory");
    assert_eq!(arena.stats().mapped_bytes, stats.mapped_bytes);
    assert_zero(arena, run.first, all);
}
