//! A pool of runs to test with.

use hakmem_mid_pool::RunPool;

/// A pool for one arena.
pub fn run_pool() -> RunPool {
    // SAFETY: no test uses a pool with two arenas.
    unsafe { RunPool::new() }
}
