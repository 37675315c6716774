//! Runs that a thread keeps for itself.

use super::block::Block;
use super::direct::layout;
use std::thread;

/// Bytes of a block whose run a thread keeps after [`keep_runs`].
pub const KEPT: usize = 100_000;

/// Has the calling thread meet another where runs are shared, until it keeps some.
pub fn keep_runs() {
    let turn = || {
        Block::new(layout(KEPT, 8), false, 1)
            .expect("memory")
            .free();
    };
    for _ in 0..4 {
        thread::scope(|scope| scope.spawn(turn).join().expect("it only allocates"));
        turn();
    }
}
