//! Runs that a thread keeps for itself.

use super::block::Block;
use super::direct::layout;

/// Bytes of a block whose run a thread keeps after [`keep_runs`].
pub const KEPT: usize = 200_000;

/// Has the calling thread take and free runs until it keeps some.
pub fn keep_runs() {
    for _ in 0..4 {
        Block::new(layout(KEPT, 8), false, 1)
            .expect("memory")
            .free();
    }
}
