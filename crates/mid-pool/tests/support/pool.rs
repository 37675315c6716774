//! A pool of blocks to test with.

use hakmem_mid_pool::MidPool;

/// A pool for one arena.
pub fn mid_pool() -> MidPool {
    // SAFETY: no test uses a pool with two arenas.
    unsafe { MidPool::new() }
}
