//! Tests that must not run at the same time.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// One test of a binary at a time, for those that look at counters.
pub fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}
