//! While a thread pops from its bin and pushes to it, another lifts what lies in it, and
//! settles. Then each block is in one place: with the thread, with the reaper, or in the
//! bin; and whoever has it sees what was last written to it. With and without announced pops.
//!
//! mutation: bin_without_barrier
//! mutation: bin_takes_topmost
//! mutation: bin_without_second_look
//! mutation: bin_without_return
//! mutation: bin_top_relaxed
//! mutation: announcement_left_out
//! mutation: announcement_end_relaxed
//! mutation: announcement_seen_relaxed
#![allow(clippy::doc_markdown, reason = "the names are for xtask to read")]
#![cfg(loom)]

use hakmem_sys::barrier;
use hakmem_sys::model::{Held, beside, explore};
use hakmem_thread_cache::bin::{Bin, Popping, Slot};
use loom::sync::Arc;
use std::ptr;

const CAPACITY: usize = 4;
const BLOCKS: usize = 4;

/// A bin over a magazine, and the blocks, which are named by their number plus one.
struct World {
    /// The null below the lowest slot, and the slots.
    slots: Vec<Slot>,
    bin: Bin,
    /// Where pops are announced, if they are.
    popping: Option<Popping>,
    blocks: Vec<Held<u32>>,
}

// SAFETY: the pointers in the bin are into the slots, which live as long.
unsafe impl Send for World {}
// SAFETY: as above; the bin's contract is what the model checks.
unsafe impl Sync for World {}

fn name(block: usize) -> *mut u8 {
    ptr::without_provenance_mut(block + 1)
}

fn number(block: *mut u8) -> Option<usize> {
    block.addr().checked_sub(1)
}

impl World {
    /// A bin with the first `count` blocks in it.
    fn new(count: usize, are_announced: bool) -> Arc<Self> {
        let slots: Vec<Slot> = (0..=CAPACITY)
            .map(|slot| {
                Slot::new(if (1..=count).contains(&slot) {
                    name(slot - 1)
                } else {
                    ptr::null_mut()
                })
            })
            .collect();
        let lowest = slots.as_ptr().cast_mut().wrapping_add(1);
        Arc::new(Self {
            bin: Bin::new(lowest.wrapping_add(count), lowest.wrapping_add(CAPACITY)),
            slots,
            popping: are_announced.then(Popping::new),
            blocks: (0..BLOCKS).map(|_| Held::new(0)).collect(),
        })
    }

    fn pop(&self) -> Option<usize> {
        // SAFETY: the calling thread is the only one that pops and pushes.
        let block = number(unsafe {
            match &self.popping {
                Some(popping) => self.bin.pop_announced(popping),
                None => self.bin.pop(),
            }
        })?;
        self.blocks[block].with_mut(|uses| *uses += 1);
        Some(block)
    }

    fn push(&self, block: usize) {
        self.blocks[block].with_mut(|uses| *uses += 1);
        // SAFETY: as above; the block is the thread's.
        assert!(unsafe { self.bin.push(name(block)) });
    }

    /// What a reaper does.
    fn reap(&self) -> Vec<usize> {
        let mut lifted = [ptr::null_mut(); CAPACITY];
        // SAFETY: nobody else lifts, and the owner does nothing but push and pop.
        unsafe {
            let count = self.bin.lift(CAPACITY, self.popping.is_some(), &mut lifted);
            let lifted = &mut lifted[..count];
            let passed = barrier::all_threads();
            let taken = self
                .bin
                .settle(CAPACITY, self.popping.as_ref(), lifted, passed);
            let taken: Vec<usize> = lifted[..taken]
                .iter()
                .filter_map(|&block| number(block))
                .collect();
            for &block in &taken {
                self.blocks[block].with_mut(|uses| *uses += 1);
            }
            taken
        }
    }

    /// What is in the bin at the end.
    fn rest(&self) -> Vec<usize> {
        // SAFETY: nobody is at work any more.
        let count = unsafe { self.bin.close_holes(CAPACITY) };
        self.slots[1..=count]
            .iter()
            .filter_map(|slot| number(slot.load(loom::sync::atomic::Ordering::Relaxed)))
            .collect()
    }
}

/// Runs `owner` on a full world of three blocks against a reaper, and checks that no block
/// is lost or in two places.
fn check(owner: impl Fn(&World) -> Vec<usize> + Clone + Send + Sync + 'static) {
    for are_announced in [false, true] {
        let owner = owner.clone();
        explore(move || {
            let world = World::new(3, are_announced);
            let thread = beside(&world, owner.clone());
            let reaped = world.reap();
            let owned = thread.join().unwrap();
            let mut all = [reaped, owned, world.rest()].concat();
            all.sort_unstable();
            assert_eq!(all, [0, 1, 2], "blocks lost or in two places");
        });
    }
}

#[test]
fn pops_and_a_reaper_share_the_blocks() {
    check(|world| (0..3).map_while(|_| world.pop()).collect());
}

#[test]
fn what_is_popped_and_pushed_again_is_in_one_place() {
    check(|world| {
        let Some(first) = world.pop() else {
            return vec![];
        };
        let Some(second) = world.pop() else {
            return vec![first];
        };
        world.push(first);
        world.push(second);
        vec![]
    });
}

#[test]
fn what_is_pushed_where_another_was_popped_is_in_one_place() {
    check(|world| {
        let popped: Vec<usize> = (0..3).map_while(|_| world.pop()).collect();
        let Some((&last, others)) = popped.split_last() else {
            return vec![];
        };
        // The one that was lowest goes in first, into a slot that had another.
        world.push(popped[0]);
        if popped.len() == 1 {
            return vec![];
        }
        world.push(last);
        let again = world.pop();
        others[1..].iter().copied().chain(again).collect()
    });
}

#[test]
fn a_sleeper_that_announces_its_pops_keeps_nothing() {
    explore(|| {
        let world = World::new(3, true);
        let thread = beside(&world, |_| ());
        assert_eq!(world.reap(), [0, 1, 2]);
        thread.join().unwrap();
    });
}
