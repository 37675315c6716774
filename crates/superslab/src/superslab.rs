//! Superslabs: which of a superslab's 32 slabs are empty.
//!
//! One word, as [`ListedWord`] has it: a bit for each empty slab, and a mark that
//! says whether the superslab stands in the list of those with empty slabs. Taking
//! a slab clears its bit, giving one back sets it; whoever sets the mark puts the
//! superslab into the list.

use hakmem_remote_free::{ListedWord, MAX_PARTS, TakenOut};
use hakmem_sys::sync::AtomicU64;
use static_assertions::const_assert;

/// Slabs in a superslab.
pub const SLABS: usize = 32;

const ALL: u64 = (1 << SLABS) - 1;
/// Nothing else has such a word there.
const TAG: u8 = 0;

const_assert!(SLABS <= MAX_PARTS);

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
    fn word(&self) -> ListedWord<'_> {
        ListedWord(self.0)
    }

    /// Starts a superslab whose slab 0 is the caller's, and all others empty.
    /// The caller has to put it into the list.
    pub fn start(&self) {
        self.word().start(TAG, ALL & !1);
    }

    /// Takes the lowest empty slab.
    ///
    /// Ordering: acquire.
    pub fn take(&self) -> Taken {
        let taken = self.take_of(|empty| empty & empty.wrapping_neg());
        if taken.parts == 0 {
            return Taken::Exhausted;
        }
        Taken::Slab {
            number: taken.parts.trailing_zeros() as usize,
            first: taken.before == ALL,
        }
    }

    /// Takes all empty slabs at once: a bit for each.
    ///
    /// Ordering: acquire.
    pub fn take_all(&self) -> u32 {
        self.take_of(|empty| empty).parts as u32
    }

    fn take_of(&self, choose: impl Fn(u64) -> u64) -> TakenOut {
        self.word().take(|tag| tag == TAG, |_, empty| choose(empty))
    }

    /// Gives slabs back, a bit for each. Returns whether all are empty now. The superslab must be in
    /// the list, or the caller about to put it there.
    ///
    /// Ordering: release.
    pub fn give_all(&self, slabs: u32) -> bool {
        self.word().give(u64::from(slabs)).before | u64::from(slabs) == ALL
    }

    /// Gives a slab back.
    ///
    /// Ordering: release; acquire, before the caller lists the superslab.
    pub fn give(&self, number: usize) -> Given {
        let given = self.word().give(1 << number);
        Given {
            list: given.list,
            whole: given.before | 1 << number == ALL,
        }
    }

    /// Whether all slabs are empty (relaxed).
    pub fn is_whole(&self) -> bool {
        self.word().free() == ALL
    }

    /// Settles a superslab that the caller has just popped from the list.
    /// Returns whether it has empty slabs and the caller has to put it back (it
    /// is marked as listed then).
    ///
    /// Ordering: release, where it clears the mark.
    pub fn unlist(&self) -> bool {
        self.word().unlist()
    }

    /// Ends a superslab that the caller has just popped from the list, if all
    /// its slabs are empty. Returns whether it did.
    ///
    /// Ordering: acquire, so that nothing of its last users comes later.
    pub fn end(&self) -> bool {
        self.word().end(TAG, ALL)
    }
}
