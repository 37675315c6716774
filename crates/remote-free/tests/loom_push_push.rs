//! Chains that two threads push to a slab at the same time all wait for its
//! owner, whole and once, and exactly one of the two is asked to notify it.
//!
//! mutation: push_without_link
//! mutation: push_notifies_always
#![allow(clippy::doc_markdown, reason = "the names are for xtask to read")]
#![cfg(loom)]

mod support;

use hakmem_remote_free::{OwnerNumber, Pushed, RemoteList};
use loom::sync::Arc;
use support::{Blocks, beside, explore};

#[test]
fn chains_pushed_at_once_all_reach_the_owner() {
    explore(|| {
        let slab = Arc::new((RemoteList::new(), Blocks::new(5)));
        slab.0.adopt(OwnerNumber(0));
        let push = |blocks: &'static [usize], me| {
            beside(&slab, move |slab| {
                let (head, tail, count) = slab.1.chain(blocks);
                match slab
                    .0
                    .push_chain(&slab.1, head, tail, count, OwnerNumber(me))
                {
                    Pushed::Waiting { owner, notify, .. } => {
                        assert_eq!(owner, OwnerNumber(0));
                        notify
                    }
                    Pushed::Claimed => panic!("the slab has an owner"),
                }
            })
        };
        let pushers = [push(&[0, 1], 1), push(&[2], 2), push(&[3, 4], 3)];
        let notified = pushers
            .into_iter()
            .map(|pusher| pusher.join().unwrap())
            .filter(|&notify| notify)
            .count();
        assert_eq!(notified, 1, "the slab goes into the inbox once");
        let chain = slab.0.take_all();
        assert_eq!(chain.count, 5);
        let mut blocks = slab.1.walk(chain);
        blocks.sort_unstable();
        assert_eq!(blocks, [0, 1, 2, 3, 4]);
        assert_eq!(slab.0.waiting(), 0);
    });
}
