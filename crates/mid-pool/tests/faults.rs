//! The system refuses to map memory. One test only: what is injected concerns
//! the whole process.

mod support {
    pub mod arena;
    pub mod class;
    pub mod pool;
    pub mod run;
    pub mod runs;
}

use hakmem_mid_pool::{MAX_RETAINED_REGIONS, MidPool, RunPool};
use hakmem_page_arena::Arena;
use hakmem_sys::vm::fault;
use hakmem_test_support::{check, fill};
use support::arena::arena;
use support::class::class;
use support::pool::mid_pool;
use support::run::allocate_run;
use support::runs::run_pool;

/// Takes and frees blocks and runs; returns whether any was refused.
fn work(arena: &Arena, pool: &MidPool, runs: &RunPool) -> bool {
    let mut refused = false;
    let mut blocks = Vec::new();
    let mut taken = Vec::new();
    for _ in 0..80 {
        let mut out = [std::ptr::null_mut(); 8];
        let got = pool.refill(arena, class(32768), 0, &mut out);
        refused |= got == 0;
        for &block in &out[..got] {
            // SAFETY: the block is ours, and of the class.
            unsafe { fill(block, 32768) };
            blocks.push(block);
        }
        match allocate_run(runs, arena, 1 << 20, 0) {
            Some(run) => taken.push(run.first),
            None => refused = true,
        }
    }
    for &block in &blocks {
        // SAFETY: the block is ours, and filled above.
        unsafe { check(block, 32768) };
    }
    // SAFETY: the blocks are ours.
    unsafe { pool.flush(arena, class(32768), &blocks) };
    for run in taken {
        // SAFETY: the run is ours.
        unsafe { runs.free(arena, run, MAX_RETAINED_REGIONS, 0) };
    }
    refused
}

#[test]
fn a_request_without_memory_is_refused_and_works_again_when_there_is_some() {
    let (arena, pool, runs) = (arena(), mid_pool(), run_pool());
    let mut points = 0;
    for calls in 0.. {
        fault::fail_after(calls);
        let refused = work(arena, &pool, &runs);
        fault::off();
        assert!(
            !work(arena, &pool, &runs),
            "there is memory again (after {calls} calls)"
        );
        pool.trim(arena);
        runs.trim(arena);
        assert_eq!(arena.stats().used_bytes, 0, "after {calls} calls");
        if !refused {
            break;
        }
        points += 1;
    }
    assert!(points > 0);
}
