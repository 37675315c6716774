//! Event counters.

use core::sync::atomic::{AtomicU64, Ordering};

/// A count that one thread at a time adds to (the one that holds the lock of
/// what is counted), or several by [`add_shared`](Self::add_shared), and any thread may
/// read. All-zero bytes are zero.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Zero.
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Adds `events`: a load and a store, no locked instruction. Beyond the largest number it begins
    /// again, as [`add_shared`](Self::add_shared) does. Returns the sum.
    #[inline]
    pub fn add(&self, events: u64) -> u64 {
        let sum = self.0.load(Ordering::Relaxed).wrapping_add(events);
        self.0.store(sum, Ordering::Relaxed);
        sum
    }

    /// As [`add`](Self::add), where several threads add to the count, all of them by this: one
    /// locked instruction.
    #[inline]
    pub fn add_shared(&self, events: u64) {
        self.0.fetch_add(events, Ordering::Relaxed);
    }

    /// The count so far.
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
