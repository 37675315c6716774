//! A superslab with empty slabs stands in the list exactly once; each slab is
//! held by one thread at a time, which finds it as the last one left it; and a
//! superslab whose slabs are all empty ends once, while nobody holds any of it,
//! so that its memory can be a superslab again at once. All of this whatever
//! order slabs are taken and given back in, exhausted superslabs are dropped from
//! the list, and empty slabs are taken all at once to purge them. Who takes the
//! list apart has read the superslab's link before the superslab is in the list
//! again.
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
//! mutation: listed_take_unlists
#![allow(clippy::doc_markdown, reason = "the names are for xtask to read")]
#![cfg(loom)]

use hakmem_remote_free::{StackLinks, TaggedStack};
use hakmem_superslab::superslab::{SLABS, SuperslabWord, Taken};
use hakmem_sys::model::{Held, Turns, Walk, beside, explore};
use hakmem_sys::sync::{AtomicU32, AtomicU64};
use loom::sync::Arc;

/// One superslab, and the list of those with empty slabs. The steps are those of
/// the slab pool.
struct Pool {
    word: AtomicU64,
    link: AtomicU32,
    walk: Walk,
    list: TaggedStack,
    slabs: Vec<Held<u32>>,
    turns: Turns,
}

impl StackLinks for Pool {
    fn link(&self, _: u32) -> &AtomicU32 {
        &self.link
    }
}

impl Pool {
    /// A superslab in which only these slabs are in use.
    fn new(in_use: u32) -> Arc<Self> {
        let pool = Self {
            word: AtomicU64::new(0),
            link: AtomicU32::new(0),
            walk: Walk::new(),
            list: TaggedStack::new(),
            slabs: (0..SLABS).map(|_| Held::new(0)).collect(),
            turns: Turns::new(),
        };
        pool.word().start(SLABS);
        pool.word().take_all();
        pool.word().give_all(!in_use);
        pool.list.push(&pool, 0);
        Arc::new(pool)
    }

    fn word(&self) -> SuperslabWord<'_> {
        SuperslabWord(&self.word)
    }

    fn use_slab(&self, number: usize) {
        self.slabs[number].with_mut(|slab| *slab += 1);
    }

    /// Puts the superslab into the list.
    fn list(&self) {
        self.walk.write();
        self.turns.step(|| self.list.push(self, 0));
    }

    /// Takes an empty slab, if there is one.
    fn take(&self) -> Option<usize> {
        while self.turns.step(|| self.list.peek()).is_some() {
            if let Taken::Slab { number, .. } = self.turns.step(|| self.word().take()) {
                self.use_slab(number);
                return Some(number);
            }
            if self.turns.step(|| self.list.pop(self)).is_some()
                && self.turns.step(|| self.word().unlist())
            {
                self.list();
            }
        }
        None
    }

    /// Gives a slab back. Returns whether all are empty now.
    fn give(&self, number: usize) -> bool {
        self.use_slab(number);
        let given = self.turns.step(|| self.word().give(number));
        if given.list {
            self.list();
        }
        given.whole
    }

    /// Ends the superslab, if it is in the list and all its slabs are empty.
    fn end(&self) -> bool {
        if self.turns.step(|| self.list.take_all()).is_none() {
            return false;
        }
        assert_eq!(TaggedStack::next(self, 0), None, "in the list once");
        self.walk.read();
        if self.turns.step(|| self.word().end()) {
            for number in 0..SLABS {
                self.use_slab(number);
            }
            return true;
        }
        if self.turns.step(|| self.word().unlist()) {
            self.list();
        }
        false
    }

    /// Uses the memory of an ended superslab as another one. Slab 0 is the
    /// caller's.
    fn start_again(&self) {
        self.turns.step(|| self.word().start(SLABS));
        self.list();
    }

    /// Touches all empty slabs.
    fn purge(&self) {
        if self.turns.step(|| self.list.take_all()).is_none() {
            return;
        }
        assert_eq!(TaggedStack::next(self, 0), None, "in the list once");
        self.walk.read();
        let taken = self.turns.step(|| self.word().take_all());
        for number in (0..SLABS).filter(|number| taken & 1 << number != 0) {
            self.use_slab(number);
        }
        self.turns.step(|| self.word().give_all(taken));
        self.list();
    }

    /// Checks that these slabs and those that are empty make up the superslab,
    /// and that all the empty ones can be found.
    fn check(&self, held: impl IntoIterator<Item = usize>) {
        let mut seen = 0u32;
        for number in held {
            assert_eq!(seen & 1 << number, 0, "slab {number} has two holders");
            seen |= 1 << number;
        }
        if seen != !0 {
            assert!(self.list.pop(self).is_some(), "it is in the list");
        }
        assert!(self.list.pop(self).is_none_or(|_| seen == !0), "only once");
        let empty = self.word().take_all();
        assert_eq!(empty & seen, 0, "a slab is held and empty");
        assert_eq!(empty | seen, !0, "a slab is lost");
        for number in 0..SLABS {
            self.use_slab(number);
        }
    }
}

/// All slabs but these two, which the tests go by.
const OTHERS: u32 = !(1 << 5 | 1 << 7);

fn others() -> impl Iterator<Item = usize> {
    (0..SLABS).filter(|number| OTHERS & 1 << number != 0)
}

#[test]
fn a_slab_given_back_while_the_last_empty_one_is_taken_is_found() {
    explore(|| {
        let pool = Pool::new(OTHERS | 1 << 7);
        let giver = beside(&pool, |pool| pool.give(7));
        let taker = beside(&pool, |pool| pool.take());
        let mine = pool.take();
        giver.join().unwrap();
        let theirs = taker.join().unwrap();
        pool.check(others().chain(mine).chain(theirs));
    });
}

#[test]
fn two_slabs_given_back_to_a_used_up_superslab_list_it_once() {
    explore(|| {
        let pool = Pool::new(!0);
        assert_eq!(pool.take(), None);
        let giver = beside(&pool, |pool| pool.give(7));
        pool.give(5);
        let mine = pool.take();
        giver.join().unwrap();
        pool.check(others().chain(mine));
    });
}

#[test]
fn a_used_up_superslab_is_listed_again_behind_who_takes_the_list_apart() {
    explore(|| {
        let pool = Pool::new(!0);
        let giver = beside(&pool, |pool| pool.give(7));
        pool.end();
        giver.join().unwrap();
        pool.check(others().chain([5]));
    });
}

#[test]
fn a_superslab_ends_once_and_only_while_nobody_holds_a_slab() {
    explore(|| {
        let pool = Pool::new(1 << 5 | 1 << 7);
        let give = |number| beside(&pool, move |pool| pool.give(number) && pool.end());
        let givers = [give(5), give(7)];
        let mine = pool.take();
        let ended = givers.map(|giver| giver.join().unwrap());
        assert!(ended != [true, true], "it ended twice");
        if ended == [false, false] {
            pool.check(mine);
        } else {
            assert_eq!(mine, None);
            assert!(pool.list.is_empty());
        }
    });
}

#[test]
fn who_ends_what_another_has_emptied_finds_its_slabs_as_that_one_left_them() {
    explore(|| {
        let pool = Pool::new(1 << 5);
        let giver = beside(&pool, |pool| pool.give(5));
        let ended = pool.end();
        assert!(giver.join().unwrap(), "it was the last");
        if !ended {
            pool.check([]);
        }
    });
}

#[test]
fn a_look_at_the_list_from_before_does_no_harm_to_the_next_superslab_there() {
    explore(|| {
        let pool = Pool::new(1 << 5);
        let taker = beside(&pool, |pool| pool.take());
        let mut mine = None;
        if pool.give(5) && pool.end() {
            pool.start_again();
            mine = Some(0);
        }
        let theirs = taker.join().unwrap();
        pool.check(mine.into_iter().chain(theirs));
    });
}

#[test]
fn a_look_from_before_takes_a_slab_that_the_next_superslab_has() {
    explore(|| {
        let pool = Pool::new(1 << 5);
        let taker = beside(&pool, |pool| {
            pool.turns.step(|| pool.list.peek())?;
            Some(pool.turns.step(|| pool.word().take()))
        });
        let is_short = pool.give(5) && pool.end();
        if is_short {
            pool.turns.step(|| pool.word().start(2));
        }
        let taken = taker.join().unwrap();
        if is_short {
            assert_eq!(pool.word().length(), 2);
            // Whoever had taken one before would have kept the other from its end.
            if let Some(Taken::Slab { number, first }) = taken {
                assert_eq!((number, first), (1, false));
            }
        }
    });
}

#[test]
fn slabs_taken_to_be_purged_come_back() {
    explore(|| {
        let pool = Pool::new(OTHERS | 1 << 7);
        let purger = beside(&pool, |pool| pool.purge());
        let giver = beside(&pool, |pool| pool.give(7));
        let mine = pool.take();
        purger.join().unwrap();
        giver.join().unwrap();
        pool.check(others().chain(mine));
    });
}
