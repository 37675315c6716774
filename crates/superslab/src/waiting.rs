//! Blocks of a flush that have not been freed yet.

use crate::bits::{numbers, ones};
use core::mem::MaybeUninit;
use hakmem_region_id::RegionIndex;

/// Blocks of one slab, in a row among the blocks of a flush.
#[derive(Clone, Copy, Debug)]
struct Row {
    region: RegionIndex,
    start: u16,
    end: u16,
}

/// Which of up to [`MOST`](Waiting::MOST) blocks wait to be freed.
pub(crate) struct Waiting<'a> {
    blocks: &'a [*mut u8],
    rows: [MaybeUninit<Row>; Waiting::MOST],
    /// How many rows have been added.
    added: usize,
    /// A bit for each row that waits, by its index.
    pub bits: u64,
}

impl<'a> Waiting<'a> {
    /// So many blocks at most.
    pub const MOST: usize = u64::BITS as usize;

    /// None of these blocks, of which there are [`MOST`](Self::MOST) at most.
    pub fn none(blocks: &'a [*mut u8]) -> Self {
        Self {
            blocks: &blocks[..blocks.len().min(Self::MOST)],
            rows: [const { MaybeUninit::uninit() }; Self::MOST],
            added: 0,
            bits: 0,
        }
    }

    /// All of the blocks.
    pub fn blocks(&self) -> &'a [*mut u8] {
        self.blocks
    }

    /// Those from `start` to `end`, of one slab, wait. There are no more rows than blocks.
    pub fn add(&mut self, region: RegionIndex, start: usize, end: usize) {
        self.rows[self.added].write(Row {
            region,
            start: start as u16,
            end: end as u16,
        });
        self.bits |= 1 << self.added;
        self.added += 1;
    }

    /// The rows with a bit in `among`: their indices, their regions, and their blocks.
    pub fn rows(&self, among: u64) -> impl Iterator<Item = (usize, RegionIndex, &'a [*mut u8])> {
        numbers(among & ones(self.added)).map(|index| {
            // SAFETY: so many rows have been added.
            let row = unsafe { self.rows[index].assume_init() };
            let blocks = &self.blocks[usize::from(row.start)..usize::from(row.end)];
            (index, row.region, blocks)
        })
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    extern crate std;

    use super::*;
    use core::ptr;
    use std::vec::Vec;

    #[test]
    fn rows_that_wait_are_those_added_and_not_done() {
        let block = |number| ptr::without_provenance_mut::<u8>(number * 64);
        let blocks: Vec<*mut u8> = (1..=Waiting::MOST).map(block).collect();
        let mut waiting = Waiting::none(&blocks);
        assert_eq!(waiting.bits, 0);
        waiting.add(RegionIndex(7), 3, 5);
        waiting.add(RegionIndex(8), 63, 64);
        let rows = |bits| {
            let rows = waiting.rows(bits);
            rows.map(|(index, region, blocks)| (index, region.0, blocks.to_vec()))
                .collect::<Vec<_>>()
        };
        let first = (0, 7, [block(4), block(5)].to_vec());
        let second = (1, 8, [block(64)].to_vec());
        assert_eq!(rows(u64::MAX), [first, second.clone()]);
        assert_eq!(rows(waiting.bits & !1), [second]);
    }

    #[test]
    fn each_block_can_be_a_row() {
        let blocks = [ptr::null_mut(); Waiting::MOST + 1];
        let mut waiting = Waiting::none(&blocks);
        assert_eq!(waiting.blocks().len(), Waiting::MOST);
        for index in 0..Waiting::MOST {
            waiting.add(RegionIndex(index as u32), index, index + 1);
        }
        assert_eq!(waiting.bits, u64::MAX);
        assert_eq!(waiting.rows(waiting.bits).count(), Waiting::MOST);
    }
}
