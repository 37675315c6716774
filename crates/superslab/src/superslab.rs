//! Superslabs: which of a superslab's slabs are empty.
//!
//! It has 32, or where dirty memory lies about in pieces that are too short for that, 16, 8, 4, 2 or 1,
//! and is aligned to its length.
//!
//! One word, as [`ListedWord`] has it: a bit for each empty slab, and a mark that
//! says whether the superslab stands in the list of those with empty slabs. Taking
//! a slab clears its bit, giving one back sets it; whoever sets the mark puts the
//! superslab into the list.

use hakmem_remote_free::{ListedWord, MAX_PARTS, TakenOut};
use hakmem_sys::sync::AtomicU64;
use static_assertions::const_assert;

/// The most slabs in a superslab, and as many as there are as a rule.
pub const SLABS: usize = 32;

const_assert!(SLABS <= MAX_PARTS && SLABS.is_power_of_two());

/// How many slabs there may be, the most first.
pub const LENGTHS: [usize; 6] = [SLABS, 16, 8, 4, 2, 1];

/// The tag of the word of a superslab of so many slabs. Nothing else has such a word there, and none is 0.
const fn tag_of(length: usize) -> u8 {
    1 + length.ilog2() as u8
}

/// The length of a superslab with this tag; none for 0.
const fn length_of(tag: u8) -> usize {
    (1 << tag) >> 1
}

/// A bit for each slab.
const fn all_of(tag: u8) -> u64 {
    (1 << length_of(tag)) - 1
}

/// What came of asking a superslab for a slab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// The slab with this number is the caller's.
    Slab {
        /// Below the superslab's length.
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

    /// Starts a superslab of `length` slabs, of which slab 0 is the caller's, and all others are empty.
    /// The caller has to put it into the list.
    pub fn start(&self, length: usize) {
        let tag = tag_of(length);
        self.word().start(tag, all_of(tag) & !1);
    }

    /// How many slabs the superslab has that starts here, or 0 if none does (relaxed). As long as the caller
    /// holds a slab of it, or has popped it, it stays that.
    pub fn length(&self) -> usize {
        length_of(self.word().tag())
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
            first: taken.before == all_of(taken.tag),
        }
    }

    /// Takes all empty slabs at once: a bit for each.
    ///
    /// Ordering: acquire.
    pub fn take_all(&self) -> u32 {
        self.take_of(|empty| empty).parts as u32
    }

    fn take_of(&self, choose: impl Fn(u64) -> u64) -> TakenOut {
        self.word().take(|tag| tag != 0, |_, empty| choose(empty))
    }

    /// Gives slabs back, a bit for each. Returns whether all are empty now. The superslab must be in
    /// the list, or the caller about to put it there.
    ///
    /// Ordering: release.
    pub fn give_all(&self, slabs: u32) -> bool {
        let given = self.word().give(u64::from(slabs));
        given.before | u64::from(slabs) == all_of(given.tag)
    }

    /// Gives a slab back.
    ///
    /// Ordering: release; acquire, before the caller lists the superslab.
    pub fn give(&self, number: usize) -> Given {
        let given = self.word().give(1 << number);
        Given {
            list: given.list,
            whole: given.before | 1 << number == all_of(given.tag),
        }
    }

    /// Whether all slabs are empty (relaxed).
    pub fn is_whole(&self) -> bool {
        self.is_all(self.word().free())
    }

    /// Whether these are all of its slabs (relaxed).
    pub fn is_all(&self, slabs: u64) -> bool {
        slabs == all_of(self.word().tag())
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
        let tag = self.word().tag();
        self.word().end(tag, all_of(tag))
    }
}
