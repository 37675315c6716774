//! A run from a pool.

use hakmem_mid_pool::{PooledRun, RunPool};
use hakmem_page_arena::{Arena, Shape};

/// A run for a block of so many bytes that may start at any region.
pub fn allocate_run(pool: &RunPool, arena: &Arena, size: usize, shard: usize) -> Option<PooledRun> {
    pool.allocate(arena, size, Shape::large(size, 1), shard)
}
