//! Nothing is stranded: a push either leaves its blocks with an owner who is told
//! of them, or makes the pusher the owner; and a slab in which blocks are waiting
//! is not given up.
//!
//! mutation: disown_without_test
//! mutation: push_without_claim
//! mutation: disown_relaxed
#![allow(clippy::doc_markdown, reason = "the names are for xtask to read")]
#![cfg(loom)]

mod support;

use loom::sync::Arc;
use support::{World, beside, explore};

#[test]
fn a_block_freed_while_the_slab_is_given_up_is_not_lost() {
    explore(|| {
        let world = Arc::new(World::new(2, 4));
        let pusher = beside(&world, |world| {
            let claimed = world.deliver(1, &[0, 1]);
            if !claimed {
                world.deliver(1, &[2]);
            }
        });
        world.free_own(3);
        if !world.give_to_pool() {
            // Refused: then what has arrived can be taken, and the slab is still
            // this heap's.
            world.drain();
            world.take_inbox(0);
            world.give_to_pool();
        }
        pusher.join().unwrap();
        world.settle();
        let free = world.free_blocks();
        assert!(free[0] && free[1] && free[3]);
        assert_eq!(world.times_listed(), 1);
    });
}
