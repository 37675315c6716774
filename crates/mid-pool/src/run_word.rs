//! The word of a run: which of its blocks are free.
//!
//! ```text
//!  63     62      56 55                                   0
//! +------+----------+--------------------------------------+
//! |listed| class+1  |  free blocks                         |
//! +------+----------+--------------------------------------+
//! ```
//!
//! *Listed* says that the run stands in the list of its class; whoever sets it
//! puts the run there.

use hakmem_region_id::ClassIndex;
use hakmem_sys::sync::{AtomicU64, Ordering};

/// The most blocks a run has.
pub const MAX_BLOCKS: usize = 56;

const BITS: u64 = (1 << MAX_BLOCKS) - 1;
const LISTED: u64 = 1 << 63;

/// Makes what the last users left visible to the next.
const TAKE: Ordering = if cfg!(hakmem_mutation = "run_take_relaxed") {
    Ordering::Relaxed
} else {
    Ordering::Acquire
};
/// The same, where all blocks become memory of the arena's again.
const END: Ordering = if cfg!(hakmem_mutation = "run_end_relaxed") {
    Ordering::Relaxed
} else {
    Ordering::Acquire
};
/// Publishes it. Pairs with `TAKE` and `END`.
const GIVE: Ordering = if cfg!(hakmem_mutation = "run_give_relaxed") {
    Ordering::Relaxed
} else {
    Ordering::AcqRel
};
/// Publishes what the arena's earlier users left to one who takes blocks by a
/// look at the list from before the run was started.
const START: Ordering = if cfg!(hakmem_mutation = "run_start_relaxed") {
    Ordering::Relaxed
} else {
    Ordering::Release
};

const fn tag(class: ClassIndex) -> u64 {
    (class.number() as u64 + 1) << MAX_BLOCKS
}

const fn full(blocks: usize) -> u64 {
    (1 << blocks) - 1
}

/// What came of giving blocks back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Given {
    /// Done.
    Done {
        /// The caller has to put the run into its list.
        list: bool,
        /// All blocks of the run are free now.
        whole: bool,
    },
    /// Some of these blocks were free already, or all of them, because the run
    /// has ended. (The word is as if they had been freed once.)
    AlreadyFree(u64),
}

/// What came of taking blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// The blocks whose bits are set are the caller's.
    Blocks {
        /// At least one bit.
        bits: u64,
        /// All blocks of the run had been free.
        first: bool,
    },
    /// None is free, or this is no run of the class any more.
    Exhausted,
}

/// Operations on the word of a run, which lives in a side record.
#[derive(Debug)]
pub struct RunWord<'a>(pub &'a AtomicU64);

impl RunWord<'_> {
    /// Starts a run of `blocks` blocks of which the lowest `taken` are the
    /// caller's. The caller has to put it into its list.
    pub fn start(&self, class: ClassIndex, blocks: usize, taken: usize) {
        self.0
            .store(LISTED | tag(class) | full(blocks) & !full(taken), START);
    }

    /// Takes up to `wanted` blocks, the lowest first.
    ///
    /// Ordering: acquire.
    pub fn take(&self, class: ClassIndex, blocks: usize, wanted: usize) -> Taken {
        let mut word = self.0.load(Ordering::Relaxed);
        loop {
            let free = word & BITS;
            let other_class = word & !(BITS | LISTED) != tag(class)
                && !cfg!(hakmem_mutation = "run_take_without_class");
            if free == 0 || other_class {
                return Taken::Exhausted;
            }
            // All of them, mostly: then there is nothing to count.
            let mut rest = 0;
            if wanted < blocks {
                rest = free;
                for _ in 0..wanted {
                    rest &= rest.wrapping_sub(1);
                }
            }
            let bits = free & !rest;
            match self
                .0
                .compare_exchange_weak(word, word & !bits, TAKE, Ordering::Relaxed)
            {
                Ok(_) => {
                    return Taken::Blocks {
                        bits,
                        first: free == full(blocks),
                    };
                }
                Err(now) => word = now,
            }
        }
    }

    /// Gives blocks back.
    ///
    /// Ordering: release.
    pub fn give(&self, blocks: usize, bits: u64) -> Given {
        let before = self.0.fetch_or(bits | LISTED, GIVE);
        if before & bits != 0 {
            return Given::AlreadyFree(before & bits);
        }
        if before & !(BITS | LISTED) == 0 {
            return Given::AlreadyFree(bits);
        }
        Given::Done {
            list: before & LISTED == 0 || cfg!(hakmem_mutation = "run_lists_twice"),
            whole: (before | bits) & BITS == full(blocks),
        }
    }

    /// Which blocks are free (relaxed).
    pub fn free_bits(&self) -> u64 {
        self.0.load(Ordering::Relaxed) & BITS
    }

    /// Settles a run that the caller has just popped from its list. Returns
    /// whether it has free blocks and the caller has to put it back (it is marked
    /// as listed then).
    pub fn unlist(&self) -> bool {
        let mut word = self.0.load(Ordering::Relaxed);
        loop {
            if word & BITS != 0 && !cfg!(hakmem_mutation = "run_unlist_blindly") {
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

    /// Ends a run that the caller has just popped from its list, if all its
    /// blocks are free. Returns whether it did.
    ///
    /// Ordering: acquire, so that nothing of its last users comes later.
    pub fn end(&self, class: ClassIndex, blocks: usize) -> bool {
        if cfg!(hakmem_mutation = "run_end_blindly") {
            let whole = self.free_bits() == full(blocks);
            self.0.store(0, Ordering::Relaxed);
            return whole;
        }
        self.0
            .compare_exchange(
                LISTED | tag(class) | full(blocks),
                0,
                END,
                Ordering::Relaxed,
            )
            .is_ok()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::{AtomicU64, ClassIndex, Given, RunWord};

    #[test]
    fn a_block_given_back_to_a_run_that_has_ended_is_told_of() {
        let class = ClassIndex::for_size(2048).unwrap();
        let word = AtomicU64::new(0);
        let word = RunWord(&word);
        word.start(class, 2, 1);
        assert_eq!(
            word.give(2, 1),
            Given::Done {
                list: false,
                whole: true
            }
        );
        assert!(word.end(class, 2));
        assert_eq!(word.give(2, 1), Given::AlreadyFree(1));
    }
}
