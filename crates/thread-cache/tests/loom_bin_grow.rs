//! Who counts the blocks of a bin that gets a larger magazine looks at no slot outside the magazines:
//! who sees that it has grown sees the end of the larger one.
//!
//! (What is counted may be neither's: the owner is at work.)
//!
//! mutation: bin_grow_relaxed
//! mutation: bin_grown_relaxed
#![allow(clippy::doc_markdown, reason = "the names are for xtask to read")]
#![cfg(loom)]

use hakmem_sys::model::{beside, explore};
use hakmem_thread_cache::bin::{Bin, Grown, Slot};
use loom::sync::Arc;
use std::ptr;

/// Slots of the first magazine, and of the larger one.
const FIRST: usize = 1;
const FULL: usize = 3;

struct World {
    first: Vec<Slot>,
    full: Vec<Slot>,
    bin: Bin,
    grown: Grown,
}

// SAFETY: the pointers in the bin are into the slots, which live as long.
unsafe impl Send for World {}
// SAFETY: as above; the bin's contract is what the model checks.
unsafe impl Sync for World {}

fn end_of(slots: &[Slot]) -> *mut Slot {
    slots.as_ptr_range().end.cast_mut()
}

impl World {
    /// A bin with one block, in a magazine that is full.
    fn new() -> Arc<Self> {
        let block = ptr::without_provenance_mut(1);
        let slots = |count| (0..count).map(|_| Slot::new(block)).collect();
        let (first, full): (Vec<Slot>, Vec<Slot>) = (slots(FIRST), slots(FULL));
        let end = end_of(&first);
        Arc::new(Self {
            bin: Bin::new(end, end),
            grown: Grown::new(),
            first,
            full,
        })
    }

    /// What the owner does.
    fn grow(&self) {
        // SAFETY: no other installs magazines; nobody reaps.
        unsafe { self.bin.install(end_of(&self.full), FULL, FIRST) };
        self.grown.set();
    }

    /// What one does who counts.
    fn count(&self) -> usize {
        let slots = if self.grown.get() { FULL } else { FIRST };
        let end = self.bin.end();
        if end == end_of(&self.first) {
            assert_eq!(slots, FIRST, "there are no more slots below this end");
        }
        // SAFETY: both magazines have so many slots below their ends, as was just checked.
        unsafe { self.bin.count(end, slots) }
    }
}

#[test]
fn who_counts_looks_at_the_slots_of_one_magazine() {
    explore(|| {
        let world = World::new();
        let owner = beside(&world, |world| world.grow());
        assert!(world.count() <= FIRST);
        owner.join().unwrap();
        assert_eq!(world.count(), FIRST);
    });
}
