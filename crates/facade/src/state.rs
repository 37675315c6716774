//! The allocator's shared state: one of each box.

use hakmem_large::Large;
use hakmem_mid_pool::{MidPool, RunPool};
use hakmem_page_arena::Arena;
use hakmem_superslab::{Shared, SlabPool};

/// Address space.
pub(crate) static ARENA: Arena = Arena::new().with_reclaim(reclaim);
/// Slabs of tiny blocks that no heap owns.
pub(crate) static SLABS: SlabPool = SlabPool::new();
/// Runs of mid blocks.
// SAFETY: it is used with this arena only.
pub(crate) static MID: MidPool = unsafe { MidPool::new() };
/// Runs up to 8 MiB, and those up to 1 MiB that are retained.
// SAFETY: it is used with this arena only.
pub(crate) static RUNS: RunPool = unsafe { RunPool::new() };
/// Everything above.
pub(crate) static LARGE: Large = Large::new();

/// What operations on slabs need.
pub(crate) const fn shared() -> Shared<'static> {
    // SAFETY: nobody else uses either, nor makes owners of slabs.
    unsafe { Shared::new(&ARENA, &SLABS) }
}

/// Frees what the pools offer to the arena.
fn reclaim() {
    MID.reclaim(&ARENA);
    RUNS.trim(&ARENA);
    shared().reclaim();
}
