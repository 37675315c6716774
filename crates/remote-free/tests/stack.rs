//! The tagged stack against a `Vec`, and under threads.
#![cfg(not(loom))]

use hakmem_remote_free::{StackLinks, TaggedStack};
use hakmem_sys::sync::AtomicU32;
use proptest::prelude::*;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

struct Links(Vec<AtomicU32>);

impl Links {
    fn new(entries: usize) -> Self {
        Self((0..entries).map(|_| AtomicU32::new(0)).collect())
    }
}

impl StackLinks for Links {
    fn link(&self, index: u32) -> &AtomicU32 {
        &self.0[index as usize]
    }
}

const ENTRIES: u32 = 16;

#[derive(Clone, Copy, Debug)]
enum Step {
    Push(u32),
    Pop,
    Peek,
    TakeAll,
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..ENTRIES).prop_map(Step::Push),
        3 => Just(Step::Pop),
        1 => Just(Step::Peek),
        1 => Just(Step::TakeAll),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn the_stack_does_what_a_vec_does(steps in prop::collection::vec(any_step(), 1..100)) {
        let links = Links::new(ENTRIES as usize);
        let stack = TaggedStack::new();
        let mut model = Vec::new();
        for step in steps {
            match step {
                Step::Push(entry) if !model.contains(&entry) => {
                    stack.push(&links, entry);
                    model.push(entry);
                }
                Step::Push(_) => {}
                Step::Pop => prop_assert_eq!(stack.pop(&links), model.pop()),
                Step::Peek => prop_assert_eq!(stack.peek(), model.last().copied()),
                Step::TakeAll => {
                    let mut next = stack.take_all();
                    while let Some(entry) = next {
                        prop_assert_eq!(model.pop(), Some(entry));
                        next = TaggedStack::next(&links, entry);
                    }
                    prop_assert!(model.is_empty());
                }
            }
            prop_assert_eq!(stack.is_empty(), model.is_empty());
        }
    }
}

#[test]
fn entries_that_threads_pass_around_are_each_held_by_one() {
    const THREADS: u64 = 4;
    const ROUNDS: u64 = 30_000;
    let links = Links::new(ENTRIES as usize);
    let stacks = [TaggedStack::new(), TaggedStack::new()];
    // Who holds each entry; zero is nobody.
    let holders: Vec<AtomicU64> = (0..ENTRIES).map(|_| AtomicU64::new(0)).collect();
    for entry in 0..ENTRIES {
        stacks[0].push(&links, entry);
    }
    thread::scope(|scope| {
        for me in 1..=THREADS {
            let (links, stacks, holders) = (&links, &stacks, &holders);
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    let (from, to) = if (round + me) % 2 == 0 {
                        (0, 1)
                    } else {
                        (1, 0)
                    };
                    if let Some(entry) = stacks[from].pop(links) {
                        let holder = &holders[entry as usize];
                        assert_eq!(holder.swap(me, Ordering::Relaxed), 0);
                        assert_eq!(holder.swap(0, Ordering::Relaxed), me);
                        stacks[to].push(links, entry);
                    }
                }
            });
        }
    });
    let mut left: Vec<u32> = stacks
        .iter()
        .flat_map(|stack| std::iter::from_fn(|| stack.pop(&links)))
        .collect();
    left.sort_unstable();
    assert_eq!(left, (0..ENTRIES).collect::<Vec<_>>());
}

#[test]
fn an_index_can_be_the_largest_a_region_has() {
    // One less than all bits: the word holds the index plus one.
    struct One(AtomicU32);
    impl StackLinks for One {
        fn link(&self, _: u32) -> &AtomicU32 {
            &self.0
        }
    }
    let links = One(AtomicU32::new(0));
    let stack = TaggedStack::default();
    stack.push(&links, u32::MAX - 1);
    assert_eq!(stack.peek(), Some(u32::MAX - 1));
    assert_eq!(stack.pop(&links), Some(u32::MAX - 1));
    assert_eq!(stack.pop(&links), None);
}
