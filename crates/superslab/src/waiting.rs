//! Blocks of a flush that have not been freed yet.

/// Up to [`MOST`](Waiting::MOST) blocks to be freed, and which of them have not been yet.
pub(crate) struct Waiting<'a> {
    pub blocks: &'a [*mut u8],
    /// A bit for each block that waits, by its index.
    pub bits: u64,
}

impl<'a> Waiting<'a> {
    /// So many blocks at most.
    pub const MOST: usize = u64::BITS as usize;

    /// All of the blocks.
    pub fn all(blocks: &'a [*mut u8]) -> Self {
        Self {
            blocks,
            bits: low_ones(blocks.len()),
        }
    }

    /// The blocks that wait, those in a row together.
    pub fn runs(&self) -> impl Iterator<Item = &'a [*mut u8]> {
        let mut bits = self.bits;
        core::iter::from_fn(move || {
            let start = ones(bits).next()?;
            let run = self.from(start);
            bits &= !(low_ones(run.len()) << start);
            Some(run)
        })
    }

    /// The blocks from `index` on, up to the first that does not wait.
    pub fn from(&self, index: usize) -> &'a [*mut u8] {
        let count = (self.bits >> index).trailing_ones() as usize;
        &self.blocks[index..index + count]
    }

    /// Notes that so many blocks from `index` on have been freed.
    pub fn done(&mut self, index: usize, count: usize) {
        self.bits &= !(low_ones(count) << index);
    }
}

/// So many ones, at most 64.
fn low_ones(count: usize) -> u64 {
    u64::MAX.checked_shr(u64::BITS - count as u32).unwrap_or(0)
}

/// The numbers of the bits that are set, in ascending order.
pub(crate) fn ones(mut bits: u64) -> impl Iterator<Item = usize> {
    core::iter::from_fn(move || {
        let index = bits.trailing_zeros() as usize;
        let found = bits != 0;
        bits &= bits.wrapping_sub(1);
        found.then_some(index)
    })
}

#[cfg(all(test, not(loom)))]
mod tests {
    extern crate std;

    use super::*;
    use std::vec::Vec;

    #[test]
    fn what_waits_ends_where_something_is_done() {
        let blocks = [core::ptr::null_mut(); Waiting::MOST];
        for count in [1, 2, 63, 64] {
            let mut waiting = Waiting::all(&blocks[..count]);
            assert_eq!(waiting.from(0).len(), count);
            waiting.done(count - 1, 1);
            assert_eq!(waiting.from(0).len(), count - 1);
            assert_eq!(waiting.from(count - 1).len(), 0);
            waiting.done(0, count);
            assert_eq!(waiting.bits, 0);
        }
        assert_eq!(Waiting::all(&[]).bits, 0);
    }

    #[test]
    fn what_waits_comes_run_by_run() {
        let blocks = [core::ptr::null_mut(); Waiting::MOST];
        let mut waiting = Waiting::all(&blocks);
        let lengths = |waiting: &Waiting<'_>| waiting.runs().map(<[_]>::len).collect::<Vec<_>>();
        assert_eq!(lengths(&waiting), [64]);
        waiting.done(0, 3);
        waiting.done(10, 20);
        waiting.done(62, 1);
        assert_eq!(lengths(&waiting), [7, 32, 1]);
        waiting.done(0, 64);
        assert!(lengths(&waiting).is_empty());
    }

    #[test]
    fn the_bits_that_are_set_come_in_order() {
        let numbers: Vec<_> = ones(1 << 63 | 0b1010).collect();
        assert_eq!(numbers, [1, 3, 63]);
        assert_eq!(ones(0).next(), None);
    }
}
