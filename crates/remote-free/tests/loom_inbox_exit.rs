//! A slab stands in the inbox of the heap that owns it and in no other, at most
//! once, also when that heap's thread ends while somebody is about to put it
//! there: until it has been taken out again, the slab cannot be given up. Who takes
//! the inbox has read the slab's link before the slab is put there again.
//!
//! mutation: disown_in_inbox
//! mutation: inbox_mark_kept
//! mutation: push_notifies_always
//! mutation: remote_push_without_acquire
//! mutation: remote_take_without_release
#![allow(clippy::doc_markdown, reason = "the names are for xtask to read")]
#![cfg(loom)]

mod support;

use loom::sync::Arc;
use loom::thread::JoinHandle;
use support::{World, beside, explore};

/// What a heap does when its thread ends, or when another tends it.
fn abandon(world: &World) {
    world.drain();
    world.take_inbox(0);
    world.give_to_pool();
}

/// Frees blocks one by one, for heap `me`.
fn free(
    world: &Arc<World>,
    me: u32,
    blocks: impl IntoIterator<Item = usize> + Send + 'static,
) -> JoinHandle<()> {
    beside(world, move |world| {
        let mut mine = false;
        for block in blocks {
            if mine {
                // What the heap owns it frees into without a push.
                world.free_own(block);
            } else {
                mine = world.deliver(me, &[block]);
            }
        }
    })
}

fn check(world: &World, blocks: usize) {
    world.settle();
    assert_eq!(world.free_blocks(), vec![true; blocks]);
    assert_eq!(world.times_listed(), 1);
}

#[test]
fn a_thread_that_ends_leaves_no_slab_in_its_inbox_that_is_not_its_own() {
    explore(|| {
        let world = Arc::new(World::new(2, 3));
        let other = free(&world, 1, [0, 1]);
        world.free_own(2);
        abandon(&world);
        other.join().unwrap();
        check(&world, 3);
    });
}

#[test]
fn a_slab_that_two_free_into_while_its_thread_ends_stands_in_one_inbox() {
    explore(|| {
        let world = Arc::new(World::new(3, 3));
        let others = [free(&world, 1, [0]), free(&world, 2, [1])];
        world.free_own(2);
        abandon(&world);
        for other in others {
            other.join().unwrap();
        }
        check(&world, 3);
    });
}

#[test]
fn every_push_after_the_inbox_was_taken_is_told_of() {
    explore(|| {
        let world = Arc::new(World::new(2, 2));
        let pusher = beside(&world, |world| {
            world.deliver(1, &[0]);
            world.deliver(1, &[1]);
        });
        world.take_inbox(0);
        world.take_inbox(0);
        pusher.join().unwrap();
        world.take_inbox(0);
        assert_eq!(world.free_blocks(), [true; 2]);
    });
}
