//! A run with free blocks stands in the list of its class exactly once; each
//! block is held by one thread at a time, which finds it as the last one left it;
//! and a run whose blocks are all free ends once, while nobody holds any of it,
//! so that its memory can be a run of another class at once. All of this whatever
//! order blocks are taken and given back in, exhausted runs are dropped from the
//! list, and free blocks are taken all at once to purge them. Who takes the list
//! apart has read the run's link before the run is in the list again.
//!
//! mutation: listed_take_relaxed
//! mutation: listed_give_relaxed
//! mutation: listed_give_without_acquire
//! mutation: listed_unlist_relaxed
//! mutation: listed_end_relaxed
//! mutation: listed_start_relaxed
//! mutation: listed_unlist_blindly
//! mutation: listed_lists_twice
//! mutation: listed_end_blindly
//! mutation: listed_take_without_tag
//! mutation: listed_take_unlists
#![allow(clippy::doc_markdown, reason = "the names are for xtask to read")]
#![cfg(loom)]

use hakmem_mid_pool::run_form::RunForm;
use hakmem_mid_pool::run_word::{Given, RunWord, Taken};
use hakmem_region_id::{ClassIndex, TINY_CLASSES};
use hakmem_remote_free::{StackLinks, TaggedStack};
use hakmem_sys::model::{Held, Turns, Walk, beside, explore};
use hakmem_sys::sync::{AtomicU32, AtomicU64};
use loom::sync::Arc;

/// Blocks in the run.
const BLOCKS: usize = 3;
const ALL: u64 = (1 << BLOCKS) - 1;

/// The class of a list, and a form of it that has so many blocks.
fn cut(list: usize) -> (ClassIndex, RunForm) {
    ClassIndex::all()
        .skip(TINY_CLASSES)
        .flat_map(|class| RunForm::all(class).map(move |form| (class, form)))
        .filter(|(_, form)| form.blocks() == BLOCKS)
        .nth(list)
        .expect("a short run of three blocks")
}

fn class(list: usize) -> ClassIndex {
    cut(list).0
}

fn form(list: usize) -> RunForm {
    cut(list).1
}

/// One run, and the lists of the two classes that it may be of. The steps are
/// those of the mid pool.
struct Pool {
    word: AtomicU64,
    link: AtomicU32,
    walk: Walk,
    lists: [TaggedStack; 2],
    /// The memory of each block, and which class its holder takes it to be of.
    blocks: Vec<Held<usize>>,
    turns: Turns,
}

impl StackLinks for Pool {
    fn link(&self, _: u32) -> &AtomicU32 {
        &self.link
    }
}

impl Pool {
    /// A run of class 0 in which only these blocks are in use.
    fn new(in_use: u64) -> Arc<Self> {
        let pool = Self {
            word: AtomicU64::new(0),
            link: AtomicU32::new(0),
            walk: Walk::new(),
            lists: [TaggedStack::new(), TaggedStack::new()],
            blocks: (0..BLOCKS).map(|_| Held::new(0)).collect(),
            turns: Turns::new(),
        };
        pool.word().start(form(0), BLOCKS);
        pool.lists[0].push(&pool, 0);
        if in_use != ALL {
            pool.word().give(ALL & !in_use);
        }
        Arc::new(pool)
    }

    fn word(&self) -> RunWord<'_> {
        RunWord(&self.word)
    }

    /// What a holder does with blocks of the run while it is of a class.
    fn use_blocks(&self, bits: u64, list: usize) {
        for block in (0..BLOCKS).filter(|block| bits & 1 << block != 0) {
            self.blocks[block].with_mut(|of| assert_eq!(*of, list, "it is of another class"));
        }
    }

    /// Puts the run into a list.
    fn list(&self, list: usize) {
        self.walk.write();
        self.turns.step(|| self.lists[list].push(self, 0));
    }

    /// Takes up to `wanted` blocks.
    fn take(&self, list: usize, wanted: usize) -> u64 {
        while self.turns.step(|| self.lists[list].peek()).is_some() {
            let taken = self.turns.step(|| self.word().take(class(list), wanted));
            if let Taken::Blocks { bits, .. } = taken {
                self.use_blocks(bits, list);
                return bits;
            }
            if self.turns.step(|| self.lists[list].pop(self)).is_some()
                && self.turns.step(|| self.word().unlist())
            {
                self.list(list);
            }
        }
        0
    }

    /// Gives blocks back. Returns whether all are free now.
    fn give(&self, list: usize, bits: u64) -> bool {
        self.use_blocks(bits, list);
        match self.turns.step(|| self.word().give(bits)) {
            Given::Done { list: must, whole } => {
                if must {
                    self.list(list);
                }
                whole
            }
            Given::AlreadyFree(bits) => panic!("blocks {bits:b} were given back twice"),
        }
    }

    /// Ends the run, if it is in the list and all its blocks are free.
    fn end(&self, list: usize) -> bool {
        if self.turns.step(|| self.lists[list].take_all()).is_none() {
            return false;
        }
        assert_eq!(TaggedStack::next(self, 0), None, "in the list once");
        self.walk.read();
        if self.turns.step(|| self.word().end()) {
            self.use_blocks(ALL, list);
            return true;
        }
        if self.turns.step(|| self.word().unlist()) {
            self.list(list);
        }
        false
    }

    /// Uses the memory of an ended run as one of class 1. Block 0 is the
    /// caller's.
    fn start_again(&self) {
        for block in &self.blocks {
            block.with_mut(|of| *of = 1);
        }
        self.turns.step(|| self.word().start(form(1), 1));
        self.list(1);
    }

    /// Touches all free blocks.
    fn purge(&self) {
        if self.turns.step(|| self.lists[0].take_all()).is_none() {
            return;
        }
        assert_eq!(TaggedStack::next(self, 0), None, "in the list once");
        self.walk.read();
        let taken = self.turns.step(|| self.word().take(class(0), BLOCKS));
        if let Taken::Blocks { bits, .. } = taken {
            self.use_blocks(bits, 0);
            let given = self.turns.step(|| self.word().give(bits));
            assert!(
                matches!(given, Given::Done { list: false, .. }),
                "the purger has taken it out of the list, and is to put it back"
            );
        }
        if self.turns.step(|| self.word().unlist()) {
            self.list(0);
        }
    }

    /// Checks that these blocks and those that are free make up the run, and that
    /// all the free ones can be found.
    fn check(&self, list: usize, held: &[u64]) {
        let mut seen = 0;
        for bits in held {
            assert_eq!(seen & bits, 0, "a block has two holders");
            seen |= bits;
        }
        assert_eq!(self.word().free_bits(), ALL & !seen);
        if seen != ALL {
            assert!(self.lists[list].pop(self).is_some(), "it is in the list");
        }
        assert!(
            self.lists[list].pop(self).is_none_or(|_| seen == ALL),
            "only once"
        );
        self.use_blocks(ALL, list);
    }
}

#[test]
fn blocks_given_back_while_the_last_free_one_is_taken_are_found() {
    explore(|| {
        let pool = Pool::new(0b110);
        let giver = beside(&pool, |pool| pool.give(0, 0b010));
        let taker = beside(&pool, |pool| pool.take(0, 1));
        let mine = pool.take(0, 2);
        giver.join().unwrap();
        let theirs = taker.join().unwrap();
        pool.check(0, &[0b100, mine, theirs]);
    });
}

#[test]
fn blocks_given_back_to_a_used_up_run_by_two_list_it_once() {
    explore(|| {
        let pool = Pool::new(ALL);
        assert_eq!(pool.take(0, 1), 0);
        let giver = beside(&pool, |pool| pool.give(0, 0b010));
        pool.give(0, 0b001);
        let mine = pool.take(0, 1);
        giver.join().unwrap();
        pool.check(0, &[0b100, mine]);
    });
}

#[test]
fn a_used_up_run_is_listed_again_behind_who_takes_the_list_apart() {
    explore(|| {
        let pool = Pool::new(ALL);
        let giver = beside(&pool, |pool| pool.give(0, 0b001));
        pool.purge();
        giver.join().unwrap();
        pool.check(0, &[0b110]);
    });
}

#[test]
fn a_run_ends_once_and_only_while_nobody_holds_a_block() {
    explore(|| {
        let pool = Pool::new(0b110);
        let give = |bits| beside(&pool, move |pool| pool.give(0, bits) && pool.end(0));
        let givers = [give(0b010), give(0b100)];
        let mine = pool.take(0, 1);
        let ended = givers.map(|giver| giver.join().unwrap());
        assert!(ended != [true, true], "it ended twice");
        if ended == [false, false] {
            pool.check(0, &[mine]);
        } else {
            assert_eq!(mine, 0);
            assert!(pool.lists[0].is_empty());
        }
    });
}

#[test]
fn who_ends_what_another_has_emptied_finds_its_blocks_as_that_one_left_them() {
    explore(|| {
        let pool = Pool::new(0b010);
        let giver = beside(&pool, |pool| pool.give(0, 0b010));
        let ended = pool.end(0);
        assert!(giver.join().unwrap(), "it was the last");
        if !ended {
            pool.check(0, &[]);
        }
    });
}

#[test]
fn a_look_at_the_list_from_before_does_no_harm_to_the_next_run_there() {
    explore(|| {
        let pool = Pool::new(0b010);
        let taker = beside(&pool, |pool| (pool.take(0, 1), pool.take(1, 1)));
        let mut ended = false;
        if pool.give(0, 0b010) && pool.end(0) {
            pool.start_again();
            ended = true;
        }
        let (of_first, of_second) = taker.join().unwrap();
        if ended {
            assert_eq!(of_first, 0);
            pool.check(1, &[0b001, of_second]);
        } else {
            assert_eq!(of_second, 0);
            pool.check(0, &[of_first]);
        }
    });
}

#[test]
fn a_look_from_before_serves_the_next_run_of_the_same_class() {
    explore(|| {
        let pool = Pool::new(0b010);
        let taker = beside(&pool, |pool| pool.take(0, 1));
        let mut mine = 0;
        if pool.give(0, 0b010) && pool.end(0) {
            pool.turns.step(|| pool.word().start(form(0), 1));
            pool.list(0);
            mine = 0b001;
        }
        let theirs = taker.join().unwrap();
        pool.check(0, &[mine, theirs]);
    });
}

#[test]
fn a_look_from_before_takes_what_the_next_run_of_the_class_has_and_no_more() {
    let long = RunForm::usual(class(0));
    assert!(long.blocks() > BLOCKS);
    explore(move || {
        let pool = Pool::new(0b010);
        let taker = beside(&pool, |pool| {
            pool.turns.step(|| pool.lists[0].peek())?;
            Some(pool.turns.step(|| pool.word().take(class(0), BLOCKS)))
        });
        let ended = pool.give(0, 0b010) && pool.end(0);
        if ended {
            // All of it is free, in a run that has more blocks than were looked for.
            pool.turns.step(|| pool.word().start(long, 0));
        }
        let taken = taker.join().unwrap();
        if let Some(Taken::Blocks { bits, first, .. }) = taken {
            assert!(bits.count_ones() as usize <= BLOCKS, "more than wanted");
            let free = pool.word().free_bits();
            if ended && free | bits == long.all_blocks() {
                assert!(first, "they were the first of the next run");
            } else {
                assert_eq!(bits & !ALL, 0);
            }
        }
    });
}

#[test]
fn blocks_taken_to_be_purged_come_back() {
    explore(|| {
        let pool = Pool::new(0b110);
        let purger = beside(&pool, |pool| pool.purge());
        let giver = beside(&pool, |pool| pool.give(0, 0b010));
        let mine = pool.take(0, 1);
        purger.join().unwrap();
        giver.join().unwrap();
        pool.check(0, &[0b100, mine]);
    });
}
