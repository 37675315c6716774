//! A thread that has done something, and sleeps.

use std::sync::Barrier;
use std::thread;

/// What `look` finds while a thread sleeps that has done this work.
pub fn beside_a_sleeper<T>(work: impl FnOnce() + Send, look: impl FnOnce() -> T) -> T {
    let (worked, looked) = (Barrier::new(2), Barrier::new(2));
    thread::scope(|scope| {
        scope.spawn(|| {
            work();
            worked.wait();
            looked.wait();
        });
        worked.wait();
        let found = look();
        looked.wait();
        found
    })
}
