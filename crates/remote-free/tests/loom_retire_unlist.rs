//! A slab is retired only when nothing refers to it any more: not while it stands
//! in its class's list, or in an inbox, or on the way into or out of either. So
//! its memory can be used again at once, as another heap's slab.
//!
//! mutation: retire_listed
//! mutation: retire_in_inbox
#![allow(clippy::doc_markdown, reason = "the names are for xtask to read")]
#![cfg(loom)]

mod support;

use hakmem_remote_free::OwnerNumber;
use loom::sync::Arc;
use support::{World, beside, explore, spawn_refill};

/// What an owner does with a slab that may be all free. Returns whether it has
/// retired it; the memory is the caller's then.
fn release_or_give_up(world: &World, me: u32) -> bool {
    if world.retire(me) {
        return true;
    }
    world.give_to_pool();
    false
}

/// Uses the memory of a retired slab as another slab, and gives that up too.
fn next_life(world: &World, me: u32) {
    world.slab.free.with_mut(|free| free.fill(false));
    world.slab.remote.adopt(OwnerNumber(me));
    world.free_own(0);
    assert!(
        world.give_to_pool(),
        "nobody can know this slab, and yet it is busy"
    );
}

#[test]
fn a_slab_is_retired_by_one_and_never_while_it_is_listed() {
    explore(|| {
        let world = World::listed(4);
        let refiller = beside(&world, |world| {
            world.claim_listed(1) && release_or_give_up(&world, 1)
        });
        let freer = beside(&world, |world| {
            world.deliver(2, &[1]) && release_or_give_up(&world, 2)
        });
        let retired = [refiller.join().unwrap(), freer.join().unwrap()];
        assert!(retired != [true, true], "one memory, two holders");
        if retired == [false, false] {
            world.settle();
            assert_eq!(world.times_listed(), 1);
        } else {
            assert_eq!(world.times_listed(), 0, "a retired slab is in no list");
        }
        assert_eq!(world.free_blocks(), [true; 2]);
    });
}

#[test]
fn memory_of_a_retired_slab_can_be_a_slab_again_at_once() {
    explore(|| {
        let world = World::listed(4);
        let refiller = spawn_refill(&world, 1);
        if world.deliver(2, &[1]) && release_or_give_up(&world, 2) {
            next_life(&world, 3);
        }
        refiller.join().unwrap();
        world.settle();
        assert!(world.slab.remote.is_listed());
        assert_eq!(world.times_listed(), 1, "in the list once");
    });
}

#[test]
fn a_slab_on_its_way_into_an_inbox_is_not_retired() {
    explore(|| {
        let world = Arc::new(World::new(3, 1));
        let freer = beside(&world, |world| world.deliver(1, &[0]));
        world.drain();
        if world.retire(0) {
            next_life(&world, 2);
        }
        freer.join().unwrap();
        world.settle();
        assert_eq!(world.free_blocks(), [true]);
        assert_eq!(world.times_listed(), 1);
    });
}
