//! One pool, many threads.

mod support {
    pub mod arena;
    pub mod class;
    pub mod pool;
    pub mod run;
    pub mod runs;
}

use hakmem_region_id::{REGION_BYTES, RegionIndex};
use hakmem_test_support::{Numbers, check, fill};
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
use std::thread;
use support::arena::arena;
use support::class::class;
use support::pool::mid_pool;
use support::run::allocate_run;
use support::runs::run_pool;

const SIZES: [usize; 3] = [1280, 8192, 32768];

#[test]
fn threads_that_free_each_others_blocks_lose_none_and_share_none() {
    let arena = arena();
    let pool = mid_pool();
    let slots: Vec<AtomicPtr<u8>> = (0..3 * 96).map(|_| AtomicPtr::default()).collect();
    thread::scope(|scope| {
        for thread in 0..5 {
            let (pool, slots) = (&pool, &slots);
            scope.spawn(move || {
                let mut numbers = Numbers(thread);
                for step in 0..8000 {
                    let which = numbers.below(3);
                    let size = SIZES[which];
                    let mut out = [std::ptr::null_mut(); 16];
                    let wanted = 1 + numbers.below(16);
                    let got = pool.refill(arena, class(size), thread as usize, &mut out[..wanted]);
                    assert!(got > 0);
                    let mut freed = Vec::new();
                    for &block in &out[..got] {
                        // SAFETY: the refill made the block this thread's.
                        unsafe { fill(block, size) };
                        let slot = &slots[which * 96 + numbers.below(96)];
                        let old = slot.swap(block, Ordering::AcqRel);
                        if !old.is_null() {
                            // SAFETY: the swap made the block this thread's; it was
                            // filled before.
                            unsafe { check(old, size) };
                            freed.push(old);
                        }
                    }
                    // SAFETY: the swaps made the blocks this thread's.
                    unsafe { pool.flush(arena, class(size), &freed) };
                    if step % 100 == 99 {
                        pool.trim(arena);
                    }
                    if step % 10 == 9 {
                        pool.reclaim(arena);
                    }
                    if step % 60 == 59 {
                        pool.purge_holes(arena, step % 120 == 59, usize::MAX);
                    }
                    if step % 37 == 0 {
                        // Everything of one size at once: runs become whole.
                        for slot in &slots[which * 96..][..96] {
                            let block = slot.swap(std::ptr::null_mut(), Ordering::AcqRel);
                            if !block.is_null() {
                                // SAFETY: as above.
                                unsafe {
                                    check(block, size);
                                    pool.flush(arena, class(size), &[block]);
                                }
                            }
                        }
                    }
                }
            });
        }
    });
    for (index, slot) in slots.iter().enumerate() {
        let block = slot.load(Ordering::Acquire);
        if !block.is_null() {
            // SAFETY: nobody else is left; what is in a slot was filled.
            unsafe {
                check(block, SIZES[index / 96]);
                pool.flush(arena, class(SIZES[index / 96]), &[block]);
            }
        }
    }
    pool.trim(arena);
    let counts = pool.counts();
    assert!(counts.runs_ended > 0);
    assert_eq!(counts.runs_made, counts.runs_ended);
    assert_eq!(arena.stats().used_bytes, 0);
}

#[test]
fn threads_that_hand_runs_on_lose_none_and_share_none() {
    let arena = arena();
    let pool = run_pool();
    // `first + 1 | regions << 32`, or zero.
    let slots: Vec<AtomicU64> = (0..48).map(|_| AtomicU64::new(0)).collect();
    let start = |first: RegionIndex| -> *mut u8 {
        std::ptr::with_exposed_provenance_mut(arena.map().address_of(first))
    };
    let take_back = |run: u64, shard: usize| {
        if run != 0 {
            let (first, regions) = (RegionIndex(run as u32 - 1), (run >> 32) as usize);
            // SAFETY: what is taken out of a slot is the taker's, and was filled.
            unsafe {
                check(start(first), regions * REGION_BYTES);
                pool.free(arena, first, regions, shard);
            }
        }
    };
    thread::scope(|scope| {
        for thread in 0..4_usize {
            let (pool, slots) = (&pool, &slots);
            scope.spawn(move || {
                let mut numbers = Numbers(thread as u64);
                for step in 0..20000 {
                    // Some with a region more, and some without.
                    let size = (1 + numbers.below(16)) * (64 << 10) - numbers.below(2) * 5000;
                    let run = allocate_run(pool, arena, size, thread).expect("memory");
                    // SAFETY: the run is this thread's.
                    let regions = unsafe { arena.run_len(run.first) };
                    // SAFETY: as above, with so many regions.
                    unsafe { fill(start(run.first), regions * REGION_BYTES) };
                    let mine = (u64::from(run.first.0) + 1) | ((regions as u64) << 32);
                    take_back(
                        slots[numbers.below(48)].swap(mine, Ordering::AcqRel),
                        thread,
                    );
                    if step % 200 == 0 {
                        pool.trim(arena);
                    }
                }
            });
        }
    });
    for slot in &slots {
        take_back(slot.load(Ordering::Acquire), 0);
    }
    assert!(pool.retained_bytes() <= 8 << 20);
    pool.trim(arena);
    assert_eq!(pool.retained_bytes(), 0);
    assert_eq!(arena.stats().used_bytes, 0);
}
