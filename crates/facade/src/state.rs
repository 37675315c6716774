//! The allocator's shared state: one of each box.

use hakmem_large::Large;
use hakmem_mid_pool::{MidPool, RunPool};
use hakmem_page_arena::Arena;
use hakmem_superslab::{Shared, SlabPool};

/// Address space.
pub(crate) static ARENA: Arena = Arena::new();
/// Slabs of tiny blocks that no heap owns.
pub(crate) static SLABS: SlabPool = SlabPool::new();
/// Runs of mid blocks.
pub(crate) static MID: MidPool = MidPool::new();
/// Retained runs up to 1 MiB.
pub(crate) static RUNS: RunPool = RunPool::new();
/// Everything above.
pub(crate) static LARGE: Large = Large::new();

/// What operations on slabs need.
pub(crate) const fn shared() -> Shared<'static> {
    Shared {
        arena: &ARENA,
        pool: &SLABS,
    }
}
