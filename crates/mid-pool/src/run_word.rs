//! The word of a run: which of its blocks are free.
//!
//! A [`ListedWord`] with a part for each block and the class, plus one, for a tag. *Listed* says
//! that the run stands in the list of its class; whoever sets it puts the run there.

use hakmem_region_id::{CLASSES, ClassIndex};
use hakmem_remote_free::{ListedWord, MAX_PARTS};
use hakmem_sys::sync::AtomicU64;
use static_assertions::const_assert;

/// The most blocks a run has.
pub const MAX_BLOCKS: usize = MAX_PARTS;

const_assert!(CLASSES < 1 << 7);

/// Not zero, which is the tag of what has ended.
const fn tag(class: ClassIndex) -> u8 {
    class.number() as u8 + 1
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
    #[inline]
    fn word(&self) -> ListedWord<'_> {
        ListedWord(self.0)
    }

    /// Starts a run of `blocks` blocks of which the lowest `taken` are the
    /// caller's. The caller has to put it into its list.
    pub fn start(&self, class: ClassIndex, blocks: usize, taken: usize) {
        self.word().start(tag(class), full(blocks) & !full(taken));
    }

    /// Takes up to `wanted` blocks, which are not none, the lowest first.
    ///
    /// Ordering: acquire.
    pub fn take(&self, class: ClassIndex, blocks: usize, wanted: usize) -> Taken {
        let (bits, free) = self.word().take(tag(class), |free| {
            // All of them, mostly: then there is nothing to count.
            let mut rest = 0;
            if wanted < blocks {
                rest = free;
                for _ in 0..wanted {
                    rest &= rest.wrapping_sub(1);
                }
            }
            free & !rest
        });
        if bits == 0 {
            return Taken::Exhausted;
        }
        Taken::Blocks {
            bits,
            first: free == full(blocks),
        }
    }

    /// Gives blocks back.
    ///
    /// Ordering: release; acquire, before the caller lists the run.
    pub fn give(&self, blocks: usize, bits: u64) -> Given {
        let given = self.word().give(bits);
        if given.before & bits != 0 {
            return Given::AlreadyFree(given.before & bits);
        }
        if given.tag == 0 {
            return Given::AlreadyFree(bits);
        }
        Given::Done {
            list: given.list,
            whole: given.before | bits == full(blocks),
        }
    }

    /// Which blocks are free (relaxed).
    pub fn free_bits(&self) -> u64 {
        self.word().free()
    }

    /// Settles a run that the caller has just popped from its list. Returns
    /// whether it has free blocks and the caller has to put it back (it is marked
    /// as listed then).
    ///
    /// Ordering: release, where it clears the mark.
    pub fn unlist(&self) -> bool {
        self.word().unlist()
    }

    /// Ends a run that the caller has just popped from its list, if all its
    /// blocks are free. Returns whether it did.
    ///
    /// Ordering: acquire, so that nothing of its last users comes later.
    pub fn end(&self, class: ClassIndex, blocks: usize) -> bool {
        self.word().end(tag(class), full(blocks))
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
