//! What the models share: a small world of slabs and heaps over the real lists,
//! with everything that ownership protects in loom's cells, so that a missing
//! acquire or release shows as a data race.
//!
//! The steps are those of the superslab box (`deliver`, `take_inbox`,
//! `give_to_pool`, `claim_listed`, `release`), without blocks to hand out.

#![allow(
    dead_code,
    missing_docs,
    clippy::new_without_default,
    reason = "each model uses a part of this"
)]

use hakmem_remote_free::{
    BlockLinks, BlockSlot, Chain, Disowned, OwnerNumber, Pushed, RemoteList, StackLinks,
    TaggedStack, Unlisted,
};
pub use hakmem_sys::model::{Held, Turns, Walk, beside, explore};
use loom::sync::Arc;
use loom::sync::atomic::AtomicU32;
use loom::thread::JoinHandle;

/// The links of a slab's blocks, and what the program last wrote to each.
pub struct Blocks(Vec<(Held<u16>, Held<u32>)>);

impl Blocks {
    pub fn new(count: usize) -> Self {
        Self((0..count).map(|_| (Held::new(0), Held::new(0))).collect())
    }

    pub fn slot(block: usize) -> BlockSlot {
        BlockSlot::from_number(block as u16 + 1)
    }

    /// What the program does with a block that is its own.
    pub fn use_block(&self, block: usize) {
        self.0[block].1.with_mut(|contents| *contents += 1);
    }

    /// Links freed blocks, the last of them first. Returns head, tail and count.
    pub fn chain(&self, blocks: &[usize]) -> (BlockSlot, BlockSlot, u32) {
        for pair in blocks.windows(2) {
            self.set_next(Self::slot(pair[1]), Self::slot(pair[0]));
        }
        let tail = Self::slot(blocks[0]);
        let head = Self::slot(blocks[blocks.len() - 1]);
        (head, tail, blocks.len() as u32)
    }

    /// The blocks of a chain that was taken.
    pub fn walk(&self, chain: Chain) -> Vec<usize> {
        let mut blocks = Vec::new();
        let mut block = chain.head;
        for _ in 0..chain.count {
            assert!(!block.is_none(), "the chain is shorter than its count");
            blocks.push(block.get() as usize - 1);
            block = self.next(block);
        }
        blocks
    }
}

impl BlockLinks for Blocks {
    fn next(&self, block: BlockSlot) -> BlockSlot {
        self.0[block.get() as usize - 1]
            .0
            .with(|link| BlockSlot::from_number(*link))
    }

    fn set_next(&self, block: BlockSlot, next: BlockSlot) {
        self.0[block.get() as usize - 1]
            .0
            .with_mut(|link| *link = next.get());
    }
}

/// Links of stacks over a handful of entries.
pub struct Links(Vec<AtomicU32>);

impl Links {
    pub fn new(count: usize) -> Self {
        Self((0..count).map(|_| AtomicU32::new(0)).collect())
    }
}

impl StackLinks for Links {
    fn link(&self, index: u32) -> &AtomicU32 {
        &self.0[index as usize]
    }
}

/// One slab: its remote list, and what belongs to its owner.
pub struct Slab {
    pub remote: RemoteList,
    pub blocks: Blocks,
    /// Which blocks are free: the owner's alone.
    pub free: Held<Vec<bool>>,
}

/// One slab, the list of its class, and the inboxes of a few heaps.
pub struct World {
    pub slab: Slab,
    pub list: TaggedStack,
    pub list_links: Links,
    pub list_walk: Walk,
    pub inboxes: Vec<TaggedStack>,
    pub inbox_links: Links,
    pub inbox_walk: Walk,
    pub turns: Turns,
}

/// The only slab's number.
pub const SLAB: u32 = 0;

impl World {
    /// A slab of `blocks` blocks, all in use, that heap 0 of `heaps` owns.
    pub fn new(heaps: usize, blocks: usize) -> Self {
        let world = Self {
            slab: Slab {
                remote: RemoteList::new(),
                blocks: Blocks::new(blocks),
                free: Held::new(vec![false; blocks]),
            },
            list: TaggedStack::new(),
            list_links: Links::new(1),
            list_walk: Walk::new(),
            inboxes: (0..heaps).map(|_| TaggedStack::new()).collect(),
            inbox_links: Links::new(1),
            inbox_walk: Walk::new(),
            turns: Turns::new(),
        };
        world.slab.remote.adopt(OwnerNumber(0));
        world
    }

    /// A slab of two blocks that nobody owns, in its class's list: block 0 is free,
    /// block 1 in use.
    pub fn listed(heaps: usize) -> Arc<Self> {
        let world = Arc::new(Self::new(heaps, 2));
        world.free_own(0);
        assert!(world.give_to_pool());
        world
    }

    /// Frees a block of a slab that is the heap's own.
    pub fn free_own(&self, block: usize) {
        self.slab.free.with_mut(|free| free[block] = true);
    }

    /// Frees a block from another heap. Returns whether `me` has claimed the slab.
    pub fn deliver(&self, me: u32, blocks: &[usize]) -> bool {
        for &block in blocks {
            self.slab.blocks.use_block(block);
        }
        let (head, tail, count) = self.slab.blocks.chain(blocks);
        let slab = &self.slab;
        let pushed = self.turns.step(|| {
            slab.remote
                .push_chain(&slab.blocks, head, tail, count, OwnerNumber(me))
        });
        match pushed {
            Pushed::Waiting { owner, notify, .. } => {
                assert_ne!(owner.0, me, "the owner does not push to itself");
                if notify {
                    let inbox = &self.inboxes[owner.0 as usize];
                    self.inbox_walk.write();
                    self.turns.step(|| inbox.push(&self.inbox_links, SLAB));
                }
                false
            }
            Pushed::Claimed => {
                self.put(Chain { head, count });
                true
            }
        }
    }

    /// Puts a chain into the slab's own records. Only for the owner.
    pub fn put(&self, chain: Chain) {
        let blocks = self.slab.blocks.walk(chain);
        for &block in &blocks {
            // The memory is the owner's again.
            self.slab.blocks.use_block(block);
        }
        self.slab.free.with_mut(|free| {
            for &block in &blocks {
                assert!(!free[block], "block {block} has come back twice");
                free[block] = true;
            }
        });
    }

    /// Takes in what is waiting in a heap's inbox.
    pub fn take_inbox(&self, me: u32) {
        let inbox = &self.inboxes[me as usize];
        let mut next = self.turns.step(|| inbox.take_all());
        while let Some(taken) = next {
            next = TaggedStack::next(&self.inbox_links, taken);
            self.inbox_walk.read();
            assert_eq!(
                self.slab.remote.owner(),
                Some(OwnerNumber(me)),
                "the slab stands in the inbox of a heap that does not own it"
            );
            let chain = self.turns.step(|| self.slab.remote.take_from_inbox());
            self.put(chain);
        }
    }

    /// Takes in what is waiting in an owned slab, as a refill does.
    pub fn drain(&self) {
        let chain = self.turns.step(|| self.slab.remote.take_all());
        self.put(chain);
    }

    /// Gives an owned slab up. Returns whether it worked.
    pub fn give_to_pool(&self) -> bool {
        let listable = self.slab.free.with(|free| free.contains(&true));
        match self.turns.step(|| self.slab.remote.disown(listable)) {
            Disowned::Refused => false,
            Disowned::Done => true,
            Disowned::List => {
                self.list_walk.write();
                self.turns.step(|| self.list.push(&self.list_links, SLAB));
                true
            }
        }
    }

    /// Takes the slab out of its list. Returns whether it is `me`'s now.
    pub fn claim_listed(&self, me: u32) -> bool {
        let popped = self.turns.step(|| self.list.pop(&self.list_links));
        popped.is_some()
            && self.turns.step(|| self.slab.remote.unlist(OwnerNumber(me))) == Unlisted::Claimed
    }

    /// Takes the whole list apart, as the upkeep does. Returns whether the slab is `me`'s now.
    pub fn claim_all_listed(&self, me: u32) -> bool {
        if self.turns.step(|| self.list.take_all()).is_none() {
            return false;
        }
        assert_eq!(TaggedStack::next(&self.list_links, SLAB), None);
        self.list_walk.read();
        self.turns.step(|| self.slab.remote.unlist(OwnerNumber(me))) == Unlisted::Claimed
    }

    /// Retires the slab, if all its blocks are free. Only for the owner.
    pub fn retire(&self, me: u32) -> bool {
        self.is_all_free() && self.turns.step(|| self.slab.remote.retire(OwnerNumber(me)))
    }

    /// Whether all blocks are free. Only for the owner.
    pub fn is_all_free(&self) -> bool {
        self.slab.free.with(|free| !free.contains(&false))
    }

    /// What every heap would come to do sooner or later: all inboxes are taken
    /// and the slab is given up. After it, nothing may be missing.
    pub fn settle(&self) {
        for me in 0..self.inboxes.len() as u32 {
            self.take_inbox(me);
        }
        if self.slab.remote.owner().is_some() {
            assert!(self.give_to_pool(), "blocks wait that nobody was told of");
        }
        assert_eq!(self.slab.remote.waiting(), 0);
    }

    /// Takes everything out of the list, and says how often the slab was there.
    pub fn times_listed(&self) -> usize {
        let mut times = 0;
        while self.list.pop(&self.list_links).is_some() {
            times += 1;
            assert!(times < 3, "the list has become a ring");
        }
        times
    }

    /// Which blocks are free.
    pub fn free_blocks(&self) -> Vec<bool> {
        self.slab.free.with(Vec::clone)
    }
}

/// A thread that refills heap `me` from the class's list: takes the slab out, looks
/// at its free block 0, and gives it up again.
pub fn spawn_refill(world: &Arc<World>, me: u32) -> JoinHandle<()> {
    beside(world, move |world| {
        if world.claim_listed(me) {
            world.slab.free.with_mut(|free| assert!(free[0]));
            world.give_to_pool();
        }
    })
}
