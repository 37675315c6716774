//! The remote list against a model of it: a plain list, an owner and two marks.
#![cfg(not(loom))]

use hakmem_region_id::REGION_BYTES;
use hakmem_remote_free::{
    BlockLinks, BlockSlot, Chain, Disowned, OwnerNumber, Pushed, RegionBlocks, RemoteList, Unlisted,
};
use proptest::prelude::*;
use std::cell::RefCell;

/// Links of the blocks of one slab.
struct Links(RefCell<Vec<u16>>);

impl Links {
    fn new(blocks: usize) -> Self {
        Self(RefCell::new(vec![0; blocks + 1]))
    }

    /// Links blocks, the last of them first. Returns head and tail.
    fn chain(&self, blocks: &[u16]) -> (BlockSlot, BlockSlot) {
        for pair in blocks.windows(2) {
            self.set_next(slot(pair[1]), slot(pair[0]));
        }
        (slot(blocks[blocks.len() - 1]), slot(blocks[0]))
    }

    fn walk(&self, chain: Chain) -> Vec<u16> {
        let mut blocks = Vec::new();
        let mut block = chain.head;
        for _ in 0..chain.count {
            blocks.push(block.get());
            block = self.next(block);
        }
        assert!(block.is_none(), "the chain ends where its count does");
        blocks
    }
}

impl BlockLinks for Links {
    fn next(&self, block: BlockSlot) -> BlockSlot {
        slot(self.0.borrow()[usize::from(block.get())])
    }

    fn set_next(&self, block: BlockSlot, next: BlockSlot) {
        self.0.borrow_mut()[usize::from(block.get())] = next.get();
    }
}

fn slot(number: u16) -> BlockSlot {
    BlockSlot::from_number(number)
}

#[test]
fn a_slot_tells_where_in_its_region_a_block_lies() {
    for offset in (0..REGION_BYTES).step_by(8) {
        let slot = BlockSlot::of_address(7 * REGION_BYTES + offset);
        assert_eq!(slot.offset(), offset);
        assert!(!slot.is_none());
        assert_eq!(BlockSlot::from_number(slot.get()), slot);
    }
    assert!(BlockSlot::NONE.is_none());
    assert_eq!(BlockSlot::NONE.get(), 0);
    assert!(BlockSlot::NONE.offset() >= REGION_BYTES);
}

#[test]
fn links_in_the_blocks_of_a_region_are_read_back() {
    let mut memory = vec![0u64; 2 * REGION_BYTES / 8];
    let start = memory.as_mut_ptr().expose_provenance();
    let base = start.next_multiple_of(REGION_BYTES);
    // SAFETY: the blocks are this test's.
    let links = unsafe { RegionBlocks::new(base) };
    let first = BlockSlot::of_address(base);
    let last = BlockSlot::of_address(base + REGION_BYTES - 8);
    links.set_next(first, last);
    links.set_next(last, BlockSlot::NONE);
    assert_eq!(links.next(first), last);
    assert!(links.next(last).is_none());
}

#[test]
fn a_list_of_a_slab_not_in_use_has_nobody_and_nothing() {
    let list = RemoteList::default();
    assert_eq!(list.owner(), None);
    assert_eq!(list.waiting(), 0);
    assert!(!list.is_listed());
}

#[test]
fn the_most_blocks_a_slab_has_can_all_wait() {
    const BLOCKS: u16 = (REGION_BYTES / 8) as u16;
    let links = Links::new(usize::from(BLOCKS));
    let list = RemoteList::new();
    list.adopt(OwnerNumber(0));
    for block in 1..=BLOCKS {
        list.push_chain(&links, slot(block), slot(block), 1, OwnerNumber(1));
    }
    assert_eq!(list.waiting(), u32::from(BLOCKS));
    assert_eq!(links.walk(list.take_all()).len(), usize::from(BLOCKS));
}

#[test]
fn the_last_owner_number_is_kept_apart_from_the_marks() {
    let links = Links::new(2);
    let list = RemoteList::new();
    let owner = OwnerNumber(hakmem_region_id::word::OWNERS - 1);
    list.adopt(owner);
    assert_eq!(list.owner(), Some(owner));
    let pushed = list.push_chain(&links, slot(1), slot(1), 1, OwnerNumber(0));
    let expected = Pushed::Waiting {
        owner,
        notify: true,
    };
    assert_eq!(pushed, expected);
    list.take_from_inbox();
    assert_eq!(list.disown(true), Disowned::List);
    assert!(list.is_listed());
    assert_eq!(list.owner(), None);
}

/// One thing that happens to a slab.
#[derive(Clone, Copy, Debug)]
enum Step {
    Push { me: u32, count: usize },
    TakeAll,
    TakeFromInbox,
    Disown { list: bool },
    Unlist { me: u32 },
    Retire,
    Adopt { me: u32 },
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0u32..4, 1usize..5).prop_map(|(me, count)| Step::Push { me, count }),
        2 => Just(Step::TakeAll),
        2 => Just(Step::TakeFromInbox),
        3 => any::<bool>().prop_map(|list| Step::Disown { list }),
        2 => (0u32..4).prop_map(|me| Step::Unlist { me }),
        2 => Just(Step::Retire),
        2 => (0u32..4).prop_map(|me| Step::Adopt { me }),
    ]
}

/// What the word stands for.
#[derive(Debug, Default)]
struct Model {
    owner: Option<u32>,
    /// The last pushed is the last here.
    waiting: Vec<u16>,
    listed: bool,
    inbox: bool,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn every_step_does_what_the_model_does(steps in prop::collection::vec(any_step(), 1..60)) {
        let list = RemoteList::new();
        let links = Links::new(256);
        let mut model = Model::default();
        let mut used = 0;
        // Whether the slab is in use at all.
        let mut live = false;
        for step in steps {
            match step {
                Step::Adopt { me } if !live => {
                    list.adopt(OwnerNumber(me));
                    model.owner = Some(me);
                    live = true;
                }
                Step::Push { me, count } if live && model.owner != Some(me) => {
                    let blocks: Vec<u16> = (1..=count as u16).map(|i| used + i).collect();
                    used += count as u16;
                    let (head, tail) = links.chain(&blocks);
                    let pushed = list.push_chain(&links, head, tail, count as u32, OwnerNumber(me));
                    if let Some(owner) = model.owner {
                        model.waiting.extend(&blocks);
                        let expected = Pushed::Waiting {
                            owner: OwnerNumber(owner),
                            notify: !model.inbox,
                        };
                        model.inbox = true;
                        prop_assert_eq!(pushed, expected);
                    } else {
                        model.owner = Some(me);
                        prop_assert_eq!(pushed, Pushed::Claimed);
                    }
                }
                Step::TakeAll | Step::TakeFromInbox if model.owner.is_some() => {
                    let chain = if matches!(step, Step::TakeAll) {
                        list.take_all()
                    } else {
                        model.inbox = false;
                        list.take_from_inbox()
                    };
                    let mut blocks = links.walk(chain);
                    blocks.reverse();
                    prop_assert_eq!(blocks, std::mem::take(&mut model.waiting));
                }
                Step::Disown { list: wanted } if model.owner.is_some() => {
                    let expected = if model.inbox || !model.waiting.is_empty() {
                        Disowned::Refused
                    } else {
                        model.owner = None;
                        let listed = model.listed;
                        model.listed |= wanted;
                        if wanted && !listed { Disowned::List } else { Disowned::Done }
                    };
                    prop_assert_eq!(list.disown(wanted), expected);
                }
                Step::Unlist { me } if model.listed && model.owner != Some(me) => {
                    model.listed = false;
                    let expected = if model.owner.is_none() {
                        model.owner = Some(me);
                        Unlisted::Claimed
                    } else {
                        Unlisted::HasOwner
                    };
                    prop_assert_eq!(list.unlist(OwnerNumber(me)), expected);
                }
                Step::Retire => {
                    if let Some(owner) = model.owner {
                        let idle = !model.listed && !model.inbox && model.waiting.is_empty();
                        prop_assert_eq!(list.retire(OwnerNumber(owner)), idle);
                        if idle {
                            model.owner = None;
                            live = false;
                        }
                    }
                }
                _ => {}
            }
            prop_assert_eq!(list.owner(), model.owner.map(OwnerNumber));
            prop_assert_eq!(list.waiting(), model.waiting.len() as u32);
            prop_assert_eq!(list.is_listed(), model.listed);
        }
    }
}
