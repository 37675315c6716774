//! What is pushed while the owner takes reaches it in this take or a later one,
//! once, with everything the pusher wrote before.
//!
//! mutation: remote_push_relaxed
//! mutation: remote_take_relaxed
#![allow(clippy::doc_markdown, reason = "the names are for xtask to read")]
#![cfg(loom)]

mod support;

use hakmem_remote_free::{OwnerNumber, RemoteList};
use loom::sync::Arc;
use support::{Blocks, beside, explore};

#[test]
fn blocks_pushed_while_the_owner_takes_arrive_once() {
    explore(|| {
        let slab = Arc::new((RemoteList::new(), Blocks::new(4)));
        slab.0.adopt(OwnerNumber(0));
        let push = |chains: &'static [&'static [usize]], me| {
            beside(&slab, move |slab| {
                for blocks in chains {
                    for &block in *blocks {
                        slab.1.use_block(block);
                    }
                    let (head, tail, count) = slab.1.chain(blocks);
                    slab.0
                        .push_chain(&slab.1, head, tail, count, OwnerNumber(me));
                }
            })
        };
        let pushers = [push(&[&[0], &[1]], 1), push(&[&[2, 3]], 2)];
        let mut seen = Vec::new();
        let mut take = || {
            for block in slab.1.walk(slab.0.take_all()) {
                // The block's memory is the owner's now.
                slab.1.use_block(block);
                seen.push(block);
            }
        };
        take();
        take();
        for pusher in pushers {
            pusher.join().unwrap();
        }
        take();
        seen.sort_unstable();
        assert_eq!(seen, [0, 1, 2, 3]);
    });
}
