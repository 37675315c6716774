//! The word of a run: which of its blocks are free.
//!
//! A [`ListedWord`] with a part for each block and the [form](RunForm) for a tag. *Listed* says
//! that the run stands in the list of its class; whoever sets it puts the run there.

use crate::run_form::{RunForm, first_blocks};
use hakmem_region_id::ClassIndex;
use hakmem_remote_free::ListedWord;
use hakmem_sys::sync::AtomicU64;

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
        /// How the run is cut.
        form: RunForm,
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

    /// Starts a run of which the lowest `taken` blocks are the caller's. The caller has to put it into
    /// its list.
    pub fn start(&self, form: RunForm, taken: usize) {
        self.word()
            .start(form.tag(), form.all_blocks() & !first_blocks(taken));
    }

    /// How the run is cut; no run has no blocks (relaxed). As long as the caller holds one of its blocks, or
    /// has popped it, it stays that.
    #[inline]
    pub fn form(&self) -> RunForm {
        RunForm::from_tag(self.word().tag())
    }

    /// Takes up to `wanted` blocks, which are not none, the lowest first, if it is a run of the class.
    ///
    /// Ordering: acquire.
    #[inline]
    pub fn take(&self, class: ClassIndex, wanted: usize) -> Taken {
        let taken = self.word().take(
            |tag| RunForm::from_tag(tag).is_of(class),
            |tag, free| {
                // All of them, mostly: then there is nothing to count.
                let mut rest = 0;
                if wanted < RunForm::from_tag(tag).blocks() {
                    rest = free;
                    for _ in 0..wanted {
                        rest &= rest.wrapping_sub(1);
                    }
                }
                free & !rest
            },
        );
        if taken.parts == 0 {
            return Taken::Exhausted;
        }
        let form = RunForm::from_tag(taken.tag);
        Taken::Blocks {
            bits: taken.parts,
            first: taken.before == form.all_blocks(),
            form,
        }
    }

    /// Gives blocks back.
    ///
    /// Ordering: release; acquire, before the caller lists the run.
    #[inline]
    pub fn give(&self, bits: u64) -> Given {
        let given = self.word().give(bits);
        if given.before & bits != 0 {
            return Given::AlreadyFree(given.before & bits);
        }
        if given.tag == 0 {
            return Given::AlreadyFree(bits);
        }
        Given::Done {
            list: given.list,
            whole: given.before | bits == RunForm::from_tag(given.tag).all_blocks(),
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
    pub fn end(&self) -> bool {
        let form = self.form();
        self.word().end(form.tag(), form.all_blocks())
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::{AtomicU64, ClassIndex, Given, RunForm, RunWord};

    #[test]
    fn a_block_given_back_to_a_run_that_has_ended_is_told_of() {
        let form = RunForm::usual(ClassIndex::for_size(2048).unwrap());
        let word = AtomicU64::new(0);
        let word = RunWord(&word);
        word.start(form, 1);
        assert_eq!(
            word.give(1),
            Given::Done {
                list: false,
                whole: true
            }
        );
        assert!(word.end());
        assert_eq!(word.give(1), Given::AlreadyFree(1));
    }
}
