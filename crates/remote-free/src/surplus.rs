//! When to look for what is to leave a stack.

use hakmem_sys::sync::{AtomicU32, Ordering};

/// How many entries of a [`TaggedStack`](crate::TaggedStack) are to leave it, and whether that
/// is worth a walk. All-zero bytes are none.
///
/// An entry in the middle of a stack cannot be taken out: somebody takes all of them, and puts
/// the others back. A walk for every few such entries would visit N² of them while N leave in
/// random order. So the next walk waits until what is to leave is a share of what the last one
/// met: an entry that leaves pays for so many visits, and one that came for another.
///
/// All of it is a hint, and relaxed.
#[derive(Debug)]
pub struct Surplus {
    count: AtomicU32,
    patience: AtomicU32,
}

impl Default for Surplus {
    fn default() -> Self {
        Self::new()
    }
}

impl Surplus {
    hakmem_sys::const_new! {
        /// None.
        pub fn new() -> Self {
            Self { count: AtomicU32::new(0), patience: AtomicU32::new(0) }
        }
    }

    /// Counts one that is to leave.
    pub fn add(&self) {
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts one less: it has left by another way, or is to stay.
    pub fn remove(&self) {
        // Saturating: a walk may have set the count meanwhile.
        let _ = self
            .count
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| {
                count.checked_sub(1)
            });
    }

    /// How many there are.
    pub fn count(&self) -> u32 {
        self.count.load(Ordering::Relaxed)
    }

    /// Whether a walk is worth it: there are more than `kept`, by more than the last one said.
    pub fn is_due(&self, kept: u32) -> bool {
        let patience = self.patience.load(Ordering::Relaxed);
        self.count() > kept.saturating_add(patience)
    }

    /// Sets how many there are.
    pub fn set(&self, count: u32) {
        self.count.store(count, Ordering::Relaxed);
    }

    /// Notes that a walk has met so many entries: the next one is due when one in `share` of
    /// them is to leave, or all where that is zero.
    pub fn note_walk(&self, met: u32, share: u32) {
        self.patience.store(met / share.max(1), Ordering::Relaxed);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::Surplus;

    /// Of so many entries one after the other is to leave: how many all walks meet.
    fn met_by_walks(entries: u32, kept: u32, share: u32) -> u64 {
        let surplus = Surplus::new();
        let (mut there, mut met) = (entries, 0);
        for _ in 0..entries {
            surplus.add();
            if surplus.is_due(kept) {
                met += u64::from(there);
                surplus.note_walk(there, share);
                there -= surplus.count() - kept;
                surplus.set(kept);
            }
        }
        assert!(there - kept <= 1 + there / share, "{there} are left");
        met
    }

    #[test]
    fn each_that_leaves_pays_for_a_share_of_the_walks() {
        for (kept, share) in [(1, 8), (7, 8), (1, 32)] {
            for entries in [100, 1000, 100_000] {
                let met = met_by_walks(entries, kept, share);
                // And once for each when nothing was known.
                let most = u64::from(entries) * u64::from(share + 2);
                assert!(met <= most, "{met} for {entries}");
            }
        }
    }

    #[test]
    fn a_share_of_zero_is_all() {
        let surplus = Surplus::new();
        surplus.note_walk(2, 0);
        (0..3).for_each(|_| surplus.add());
        assert!(!surplus.is_due(1));
        surplus.add();
        assert!(surplus.is_due(1));
    }

    #[test]
    fn without_a_walk_before_one_is_due_when_more_than_the_kept_are_there() {
        let surplus = Surplus::new();
        surplus.add();
        assert!(!surplus.is_due(1));
        surplus.add();
        assert!(surplus.is_due(1));
        surplus.remove();
        assert!(!surplus.is_due(1));
        surplus.set(0);
        surplus.remove();
        assert_eq!(surplus.count(), 0);
    }
}
