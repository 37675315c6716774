//! Of several threads that free into a slab nobody owns, exactly one becomes the
//! owner, and it finds the slab's records as the last owner left them; what the
//! others free waits for it.
//!
//! mutation: claim_relaxed
//! mutation: disown_relaxed
//! mutation: claim_without_test
#![allow(clippy::doc_markdown, reason = "the names are for xtask to read")]
#![cfg(loom)]

mod support;

use loom::sync::Arc;
use support::{World, beside, explore};

#[test]
fn one_of_two_claims_and_the_other_leaves_its_block_with_it() {
    explore(|| {
        let world = Arc::new(World::new(3, 3));
        let free = |me: u32| beside(&world, move |world| world.deliver(me, &[me as usize]));
        let others = [free(1), free(2)];
        // The owner's last deed: it frees a block of its own, then goes.
        world.free_own(0);
        let gone = world.give_to_pool();
        let claims = others
            .into_iter()
            .map(|other| other.join().unwrap())
            .filter(|&claimed| claimed)
            .count();
        assert_eq!(claims, usize::from(gone), "one owner at a time");
        world.settle();
        assert_eq!(world.free_blocks(), [true; 3]);
        assert_eq!(world.times_listed(), 1);
    });
}
