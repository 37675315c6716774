//! Entries of a stack are popped once each, with what their pusher wrote, even
//! where a popper is overtaken by pops and pushes that put the entry it saw back
//! on top of another one (ABA).
//!
//! What rules ABA out is the tag: it shares the word with the index, changes with
//! every operation, and is 32 bits wide, so a popper would have to sleep through
//! exactly 2^32 operations on the stack, or a multiple, to be deceived.
//!
//! mutation: stack_without_tag
//! mutation: stack_push_relaxed
//! mutation: stack_pop_relaxed
//! mutation: stack_peek_relaxed
#![allow(clippy::doc_markdown, reason = "the names are for xtask to read")]
#![cfg(loom)]

mod support;

use hakmem_remote_free::TaggedStack;
use loom::sync::Arc;
use support::{Held, Links, Turns, beside, explore};

struct Entries {
    stack: TaggedStack,
    links: Links,
    /// What belongs to whoever holds the entry.
    contents: Vec<Held<u32>>,
    turns: Turns,
}

impl Entries {
    fn new(count: usize) -> Arc<Self> {
        Arc::new(Self {
            stack: TaggedStack::new(),
            links: Links::new(count),
            contents: (0..count).map(|_| Held::new(0)).collect(),
            turns: Turns::new(),
        })
    }

    fn write(&self, entry: u32) {
        self.contents[entry as usize].with_mut(|contents| *contents += 1);
    }

    fn push(&self, entry: u32) {
        self.write(entry);
        self.turns.step(|| self.stack.push(&self.links, entry));
    }

    fn pop(&self) -> Option<u32> {
        let entry = self.turns.step(|| self.stack.pop(&self.links))?;
        self.write(entry);
        Some(entry)
    }

    /// Pops until nothing is left.
    fn rest(&self, held: &mut Vec<u32>) {
        while let Some(entry) = self.pop() {
            held.push(entry);
            assert!(held.len() < 8, "the stack has become a ring");
        }
    }
}

#[test]
fn a_popper_is_not_deceived_by_an_entry_that_has_come_back() {
    explore(|| {
        let entries = Entries::new(2);
        entries.push(1);
        entries.push(0);
        let other = beside(&entries, |entries| {
            let first = entries.pop();
            let second = entries.pop();
            if let Some(first) = first {
                entries.push(first);
            }
            second
        });
        let mut held: Vec<u32> = entries.pop().into_iter().collect();
        held.extend(other.join().unwrap());
        entries.rest(&mut held);
        held.sort_unstable();
        assert_eq!(held, [0, 1]);
    });
}

#[test]
fn pops_and_pushes_of_three_threads_lose_nothing_and_double_nothing() {
    explore(|| {
        let entries = Entries::new(3);
        entries.push(0);
        let pusher = beside(&entries, |entries| {
            entries.push(1);
            entries.pop()
        });
        let popper = beside(&entries, |entries| {
            let popped = entries.pop();
            entries.push(2);
            popped
        });
        let mut held: Vec<u32> = entries.pop().into_iter().collect();
        held.extend(pusher.join().unwrap());
        held.extend(popper.join().unwrap());
        entries.rest(&mut held);
        held.sort_unstable();
        assert_eq!(held, [0, 1, 2]);
    });
}

#[test]
fn who_takes_all_gets_what_nobody_else_pops() {
    explore(|| {
        let entries = Entries::new(3);
        entries.push(0);
        entries.push(1);
        let pusher = beside(&entries, |entries| entries.push(2));
        let popper = beside(&entries, |entries| entries.pop());
        let mut held = Vec::new();
        let mut next = entries.turns.step(|| entries.stack.take_all());
        while let Some(entry) = next {
            next = TaggedStack::next(&entries.links, entry);
            entries.write(entry);
            held.push(entry);
        }
        pusher.join().unwrap();
        held.extend(popper.join().unwrap());
        entries.rest(&mut held);
        held.sort_unstable();
        assert_eq!(held, [0, 1, 2]);
    });
}

#[test]
fn who_looks_at_the_top_sees_what_its_pusher_wrote() {
    explore(|| {
        let entries = Entries::new(2);
        entries.push(0);
        let pusher = beside(&entries, |entries| entries.push(1));
        let top = entries.turns.step(|| entries.stack.peek()).unwrap();
        entries.contents[top as usize].with(|contents| assert_eq!(*contents, 1));
        pusher.join().unwrap();
    });
}
