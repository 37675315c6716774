//! Any sequence of calls against a map of the live ranges.

use super::block::Block;
use super::direct::{HAKMEM, layout};
use proptest::prelude::*;
use std::collections::BTreeMap;

#[derive(Clone, Debug)]
pub enum Step {
    Alloc {
        size: usize,
        align: u32,
        zeroed: bool,
    },
    Free(usize),
    Realloc {
        block: usize,
        size: usize,
    },
    Trim,
}

fn size() -> impl Strategy<Value = usize> {
    prop_oneof![
        8 => 1..300_usize,
        4 => 1..2000_usize,
        4 => 1000..140_000_usize,
        3 => 30_000..600_000_usize,
        1 => 500_000..8_388_608_usize,
        // Around every border between classes and kinds of blocks.
        4 => (3..23_u32, 0..5_usize).prop_map(|(shift, off)| (1 << shift) + off - 2),
    ]
}

fn align(largest: u32) -> impl Strategy<Value = u32> {
    prop_oneof![
        12 => 0..5_u32,
        4 => 5..13_u32,
        2 => 13..18_u32,
        1 => 18..=largest,
    ]
}

pub fn steps(largest_align: u32) -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        10 => (size(), align(largest_align), any::<bool>())
            .prop_map(|(size, align, zeroed)| Step::Alloc { size, align, zeroed }),
        6 => any::<usize>().prop_map(Step::Free),
        6 => (any::<usize>(), size()).prop_map(|(block, size)| Step::Realloc { block, size }),
        1 => Just(Step::Trim),
    ];
    prop::collection::vec(step, 1..150)
}

impl Block {
    /// Bytes that may be used.
    pub fn usable(&self) -> usize {
        // SAFETY: the block is live.
        unsafe { HAKMEM.usable_size(self.address) }
    }
}

#[derive(Default)]
struct Model {
    blocks: Vec<Block>,
    /// Usable end by start.
    ranges: BTreeMap<usize, usize>,
}

impl Model {
    fn enter(&mut self, block: Block) {
        let (start, usable) = (block.address.addr(), block.usable());
        assert!(usable >= block.layout.size(), "{usable} for {block:?}");
        let end = start + usable;
        if let Some((&other, &other_end)) = self.ranges.range(..end).next_back() {
            assert!(
                other_end <= start,
                "{start:#x} to {end:#x} overlaps {other:#x} to {other_end:#x}"
            );
        }
        self.ranges.insert(start, end);
        // All of the usable bytes are the block's.
        // SAFETY: they are.
        unsafe { block.address.add(usable - 1).write(0xff) };
        block.fill(0);
        self.blocks.push(block);
    }

    fn leave(&mut self, index: usize) -> Block {
        let block = self.blocks.swap_remove(index);
        self.ranges.remove(&block.address.addr()).expect("entered");
        block
    }

    fn step(&mut self, seed: u64, step: &Step) {
        match *step {
            Step::Alloc {
                size,
                align,
                zeroed,
            } => {
                let block = Block::new(layout(size, 1 << align), zeroed, seed).expect("memory");
                self.enter(block);
            }
            Step::Free(pick) => {
                if let Some(index) = pick.checked_rem(self.blocks.len()) {
                    self.leave(index).free();
                }
            }
            Step::Realloc { block, size } => {
                if let Some(index) = block.checked_rem(self.blocks.len()) {
                    let mut block = self.leave(index);
                    assert!(block.resize(size), "no memory");
                    self.enter(block);
                }
            }
            Step::Trim => {
                hakmem_alloc::trim();
            }
        }
    }
}

pub fn run(steps: &[Step]) {
    let mut model = Model::default();
    for (seed, step) in (0_u64..).zip(steps) {
        model.step(seed, step);
    }
    for block in model.blocks {
        block.free();
    }
}
