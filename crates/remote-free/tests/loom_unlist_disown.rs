//! A slab with room that nobody owns stands in its class's list, exactly once,
//! whatever order it is listed, claimed by a free, taken out of the list and
//! given up again in. Who takes the list apart has read the slab's link before the slab
//! is in the list again.
//!
//! mutation: unlist_keeps_mark
//! mutation: disown_lists_twice
//! mutation: unlist_takes_over
//! mutation: claim_relaxed
//! mutation: claim_without_release
//! mutation: disown_without_acquire
#![allow(clippy::doc_markdown, reason = "the names are for xtask to read")]
#![cfg(loom)]

mod support;

use loom::sync::Arc;
use support::{World, beside, explore, spawn_refill};

fn check(world: &World, blocks: usize) {
    world.settle();
    assert_eq!(world.free_blocks(), vec![true; blocks]);
    assert!(world.slab.remote.owner().is_none());
    assert!(world.slab.remote.is_listed());
    assert_eq!(world.times_listed(), 1, "in the list once");
}

#[test]
fn a_slab_given_up_and_refilled_from_at_once_is_listed_once() {
    explore(|| {
        let world = Arc::new(World::new(3, 2));
        let refiller = spawn_refill(&world, 1);
        let freer = beside(&world, |world| {
            if world.deliver(2, &[1]) {
                world.give_to_pool();
            }
        });
        world.free_own(0);
        world.give_to_pool();
        refiller.join().unwrap();
        freer.join().unwrap();
        check(&world, 2);
    });
}

#[test]
fn two_refills_and_a_free_leave_a_listed_slab_listed_once() {
    explore(|| {
        let world = World::listed(4);
        let refillers = [spawn_refill(&world, 1), spawn_refill(&world, 2)];
        if world.deliver(3, &[1]) {
            world.give_to_pool();
        }
        for refiller in refillers {
            refiller.join().unwrap();
        }
        check(&world, 2);
    });
}

#[test]
fn a_slab_claimed_by_a_free_while_its_list_is_taken_apart_is_listed_once() {
    explore(|| {
        let world = World::listed(3);
        let walker = beside(&world, |world| {
            if world.claim_all_listed(1) {
                world.give_to_pool();
            }
        });
        if world.deliver(2, &[1]) {
            world.give_to_pool();
        }
        walker.join().unwrap();
        check(&world, 2);
    });
}
