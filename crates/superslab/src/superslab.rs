//! Superslabs: which of a superslab's 32 slabs are empty.
//!
//! One word: a bit for each empty slab, and a mark that says whether the
//! superslab stands in the list of those with empty slabs. Taking a slab clears
//! its bit, giving one back sets it; whoever sets the mark puts the superslab
//! into the list. A word that a slow thread has read long ago does no harm: if
//! it still is what stands there, the bits mean what they meant.

use hakmem_sys::sync::{AtomicU64, Ordering};

/// Slabs in a superslab.
pub const SLABS: usize = 32;

const LISTED: u64 = 1 << SLABS;
const ALL: u64 = LISTED - 1;

/// Makes what the last owner left in the slab visible to the next.
const TAKE: Ordering = if cfg!(hakmem_mutation = "superslab_take_relaxed") {
    Ordering::Relaxed
} else {
    Ordering::Acquire
};
/// The same, where all slabs become memory of the arena's again.
const END: Ordering = if cfg!(hakmem_mutation = "superslab_end_relaxed") {
    Ordering::Relaxed
} else {
    Ordering::Acquire
};
/// Publishes it. Pairs with `TAKE` and `END`; and, as an acquire, with
/// [`unlist`](SuperslabWord::unlist): who sets the mark anew writes the link that
/// was read before the mark was cleared.
const GIVE: Ordering = if cfg!(hakmem_mutation = "superslab_give_relaxed") {
    Ordering::Relaxed
} else {
    Ordering::AcqRel
};
/// Publishes what the arena's earlier users left to one who takes a slab by a
/// look at the list from before the superslab was started.
const START: Ordering = if cfg!(hakmem_mutation = "superslab_start_relaxed") {
    Ordering::Relaxed
} else {
    Ordering::Release
};

/// What came of asking a superslab for a slab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// The slab with this number is the caller's.
    Slab {
        /// Below [`SLABS`].
        number: usize,
        /// No slab of the superslab had been in use.
        first: bool,
    },
    /// There is none left.
    Exhausted,
}

/// What came of giving a slab back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Given {
    /// The caller has to put the superslab into the list.
    pub list: bool,
    /// All its slabs are empty now.
    pub whole: bool,
}

/// Operations on the word of a superslab, which lives in a side record.
#[derive(Debug)]
pub struct SuperslabWord<'a>(pub &'a AtomicU64);

impl SuperslabWord<'_> {
    /// Starts a superslab whose slab 0 is the caller's, and all others empty.
    /// The caller has to put it into the list.
    pub fn start(&self) {
        self.0.store(ALL & !1 | LISTED, START);
    }

    /// Takes the lowest empty slab.
    ///
    /// Ordering: acquire.
    pub fn take(&self) -> Taken {
        let mut word = self.0.load(Ordering::Relaxed);
        loop {
            if word & ALL == 0 {
                return Taken::Exhausted;
            }
            match self
                .0
                .compare_exchange_weak(word, word & (word - 1), TAKE, Ordering::Relaxed)
            {
                Ok(_) => {
                    return Taken::Slab {
                        number: word.trailing_zeros() as usize,
                        first: word & ALL == ALL,
                    };
                }
                Err(now) => word = now,
            }
        }
    }

    /// Takes all empty slabs at once: a bit for each.
    ///
    /// Ordering: acquire.
    pub fn take_all(&self) -> u32 {
        let kept = if cfg!(hakmem_mutation = "superslab_take_all_unlists") {
            0
        } else {
            !ALL
        };
        (self.0.fetch_and(kept, TAKE) & ALL) as u32
    }

    /// Gives slabs back, a bit for each. Returns whether all are empty now. The
    /// superslab must be in the list, or the caller about to put it there.
    ///
    /// Ordering: release, and acquire.
    pub fn give_all(&self, slabs: u32) -> bool {
        (self.0.fetch_or(u64::from(slabs) | LISTED, GIVE) | u64::from(slabs)) & ALL == ALL
    }

    /// Gives a slab back.
    ///
    /// Ordering: release; acquire, before the caller lists the superslab.
    pub fn give(&self, number: usize) -> Given {
        let before = self.0.fetch_or(1 << number | LISTED, GIVE);
        Given {
            list: before & LISTED == 0 || cfg!(hakmem_mutation = "superslab_lists_twice"),
            whole: before & ALL | 1 << number == ALL,
        }
    }

    /// Whether all slabs are empty (relaxed).
    pub fn is_whole(&self) -> bool {
        self.0.load(Ordering::Relaxed) & ALL == ALL
    }

    /// Settles a superslab that the caller has just popped from the list.
    /// Returns whether it has empty slabs and the caller has to put it back (it
    /// is marked as listed again then).
    ///
    /// Ordering: release, where it clears the mark.
    pub fn unlist(&self) -> bool {
        let mut word = self.0.load(Ordering::Relaxed);
        loop {
            if word & ALL != 0 && !cfg!(hakmem_mutation = "superslab_unlist_blindly") {
                return true;
            }
            match self.0.compare_exchange_weak(
                word,
                word & !LISTED,
                // Who lists it again writes the link that was read before.
                Ordering::Release,
                Ordering::Relaxed,
            ) {
                Ok(_) => return false,
                Err(now) => word = now,
            }
        }
    }

    /// Ends a superslab that the caller has just popped from the list, if all
    /// its slabs are empty. Returns whether it did.
    ///
    /// Ordering: acquire, so that nothing of its last users comes later.
    pub fn end(&self) -> bool {
        if cfg!(hakmem_mutation = "superslab_end_blindly") {
            let whole = self.is_whole();
            self.0.store(0, Ordering::Relaxed);
            return whole;
        }
        self.0
            .compare_exchange(ALL | LISTED, 0, END, Ordering::Relaxed)
            .is_ok()
    }
}
