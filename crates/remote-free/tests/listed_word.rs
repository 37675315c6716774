//! The word of what is listed while parts of it are free, on one thread.
#![cfg(not(loom))]

use hakmem_remote_free::{GivenBack, ListedWord, MAX_PARTS, TakenOut};
use std::sync::atomic::AtomicU64;

const ALL: u64 = (1 << MAX_PARTS) - 1;
const TAG: u8 = 127;

/// What is taken of a word with this tag, and what was free.
fn take(word: ListedWord<'_>, tag: u8, choose: impl Fn(u64) -> u64) -> (u64, u64) {
    let taken = word.take(|found| found == tag, |_, free| choose(free));
    (taken.parts, taken.before)
}

fn lowest(free: u64) -> u64 {
    free & free.wrapping_neg()
}

#[test]
fn parts_are_taken_as_chosen_and_come_back() {
    let word = AtomicU64::new(0);
    let word = ListedWord(&word);
    word.start(TAG, ALL & !1);
    assert_eq!(take(word, TAG, lowest), (2, ALL & !1));
    assert_eq!(take(word, TAG, |free| free), (ALL & !3, ALL & !3));
    assert_eq!(take(word, TAG, lowest), (0, 0));
    let given = word.give(1);
    let expected = GivenBack {
        list: false,
        before: 0,
        tag: TAG,
    };
    assert_eq!(given, expected);
    // More than there are cannot be chosen.
    assert_eq!(take(word, TAG, |_| ALL), (1, 1));
}

#[test]
fn whoever_frees_a_part_of_what_was_used_up_lists_it() {
    let word = AtomicU64::new(0);
    let word = ListedWord(&word);
    word.start(TAG, 1);
    assert!(word.unlist(), "a part is free");
    take(word, TAG, lowest);
    assert!(!word.unlist());
    assert!(word.give(2).list);
    assert!(!word.give(1).list);
}

#[test]
fn it_ends_when_all_is_free_and_then_has_no_tag_and_nothing_to_take() {
    let word = AtomicU64::new(0);
    let word = ListedWord(&word);
    word.start(TAG, ALL & !1);
    assert!(!word.end(TAG, ALL));
    word.give(1);
    assert!(!word.end(TAG - 1, ALL));
    assert!(word.end(TAG, ALL));
    assert_eq!(take(word, TAG, |free| free), (0, 0));
    assert_eq!(word.give(1).tag, 0);
}

#[test]
fn nothing_is_taken_of_what_has_another_tag_by_now() {
    let word = AtomicU64::new(0);
    let word = ListedWord(&word);
    word.start(TAG, ALL);
    assert_eq!(take(word, 0, lowest), (0, ALL));
    assert_eq!(word.free(), ALL);
}

#[test]
fn who_takes_parts_is_told_the_tag_that_they_were_found_with() {
    let word = AtomicU64::new(0);
    let word = ListedWord(&word);
    assert_eq!(word.tag(), 0);
    word.start(TAG, 0b1110);
    assert_eq!(word.tag(), TAG);
    let taken = word.take(
        |tag| tag > 100,
        |tag, free| {
            assert_eq!(tag, TAG);
            lowest(free)
        },
    );
    let expected = TakenOut {
        parts: 0b10,
        before: 0b1110,
        tag: TAG,
    };
    assert_eq!(taken, expected);
    word.give(0b11);
    assert_eq!(word.tag(), TAG);
    assert!(word.end(TAG, 0b1111));
    assert_eq!(word.tag(), 0);
}
