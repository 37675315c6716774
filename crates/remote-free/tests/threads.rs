//! Ownership of one slab, passed around by real threads.
#![cfg(not(loom))]

use hakmem_remote_free::{BlockLinks, BlockSlot, Chain, Disowned, OwnerNumber, Pushed, RemoteList};
use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering};
use std::thread;

const THREADS: u32 = 4;
const BLOCKS: u16 = 64;

struct Slab {
    remote: RemoteList,
    links: Vec<AtomicU16>,
    /// Blocks that have come back: the owner's alone.
    back: UnsafeCell<Vec<u16>>,
    /// Catches two owners at once.
    owned: AtomicBool,
}

// SAFETY: `back` is used by the slab's owner alone, which is what is tested.
unsafe impl Sync for Slab {}

impl BlockLinks for Slab {
    fn next(&self, block: BlockSlot) -> BlockSlot {
        BlockSlot::from_number(self.links[usize::from(block.get())].load(Ordering::Relaxed))
    }

    fn set_next(&self, block: BlockSlot, next: BlockSlot) {
        self.links[usize::from(block.get())].store(next.get(), Ordering::Relaxed);
    }
}

impl Slab {
    fn put(&self, chain: Chain) {
        // SAFETY: the caller owns the slab.
        let back = unsafe { &mut *self.back.get() };
        let mut block = chain.head;
        for left in (0..chain.count).rev() {
            back.push(block.get());
            if left > 0 {
                block = self.next(block);
            }
        }
    }

    /// What an owner does: takes what is there, and gives the slab up.
    fn give_up(&self) {
        loop {
            self.put(self.remote.take_from_inbox());
            assert!(self.owned.swap(false, Ordering::Relaxed));
            match self.remote.disown(false) {
                Disowned::Done => return,
                Disowned::Refused => assert!(!self.owned.swap(true, Ordering::Relaxed)),
                Disowned::List => panic!("nobody asked for a list"),
            }
        }
    }
}

#[test]
fn blocks_freed_by_all_while_ownership_goes_around_all_come_back() {
    for _ in 0..200 {
        let slab = Slab {
            remote: RemoteList::new(),
            links: (0..=BLOCKS).map(|_| AtomicU16::new(0)).collect(),
            back: UnsafeCell::new(Vec::new()),
            owned: AtomicBool::new(false),
        };
        let claims = AtomicUsize::new(0);
        thread::scope(|scope| {
            for me in 0..THREADS {
                let (slab, claims) = (&slab, &claims);
                scope.spawn(move || {
                    for block in (1..=BLOCKS).filter(|block| u32::from(*block) % THREADS == me) {
                        let slot = BlockSlot::from_number(block);
                        let pushed = slab.remote.push_chain(slab, slot, slot, 1, OwnerNumber(me));
                        if pushed == Pushed::Claimed {
                            assert!(!slab.owned.swap(true, Ordering::Relaxed), "two owners");
                            claims.fetch_add(1, Ordering::Relaxed);
                            slab.put(Chain {
                                head: slot,
                                count: 1,
                            });
                            slab.give_up();
                        }
                    }
                });
            }
        });
        assert!(claims.into_inner() > 0);
        assert_eq!(slab.remote.owner(), None);
        assert_eq!(slab.remote.waiting(), 0, "nothing is stranded");
        let mut back = slab.back.into_inner();
        back.sort_unstable();
        assert_eq!(back, (1..=BLOCKS).collect::<Vec<_>>());
    }
}
