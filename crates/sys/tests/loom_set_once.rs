//! Of several threads that set a pointer one does, the others learn of it, and whoever finds it set
//! sees what was written behind it before.
//!
//! mutation: set_once_get_relaxed
//! mutation: set_once_set_relaxed
//! mutation: set_once_blindly
#![allow(clippy::doc_markdown, reason = "the names are for xtask to read")]
#![cfg(loom)]

use hakmem_sys::model::{Held, beside, explore};
use hakmem_sys::set_once::SetOnce;
use loom::sync::Arc;
use std::ptr;

/// The pointer is the number of a place, plus one.
struct World {
    pointer: SetOnce<u8>,
    places: [Held<usize>; 2],
}

impl World {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            pointer: SetOnce::new(),
            places: [Held::new(0), Held::new(0)],
        })
    }

    /// Writes to a place and sets the pointer to it, if it is not set. Returns which place it is set to.
    fn set(&self, mine: usize) -> usize {
        self.places[mine].with_mut(|place| *place = mine + 1);
        let pointer = ptr::without_provenance_mut(mine + 1);
        match self.pointer.set(pointer) {
            Ok(()) => mine,
            Err(theirs) => self.look(theirs),
        }
    }

    /// Which place a pointer leads to.
    fn look(&self, pointer: *mut u8) -> usize {
        let place = pointer.addr() - 1;
        self.places[place].with(|written| assert_eq!(*written, pointer.addr()));
        place
    }
}

#[test]
fn two_that_set_it_agree() {
    explore(|| {
        let world = World::new();
        let other = beside(&world, |world| world.set(1));
        let mine = world.set(0);
        assert_eq!(mine, other.join().unwrap());
        assert_eq!(mine, world.look(world.pointer.get()));
    });
}

#[test]
fn who_finds_it_set_sees_what_is_behind_it() {
    explore(|| {
        let world = World::new();
        let setter = beside(&world, |world| world.set(0));
        let pointer = world.pointer.get();
        if !pointer.is_null() {
            assert_eq!(world.look(pointer), 0);
        }
        setter.join().unwrap();
    });
}
