//! Marking blocks of a slab as free.
//!
//! An address that is no block which can be freed ends the program with a message, at once: what
//! its bit says of others cannot be trusted any more.

use crate::bits::ones;
use crate::record::{Geometry, Slab};
use hakmem_region_id::REGION_BYTES;
use hakmem_sys::report::{self, BadFree, bad_free};

/// What is the same for all blocks of a slab that are being marked, and how many have been.
pub(crate) struct Marks<'a> {
    slab: Slab<'a>,
    size: usize,
    reciprocal: u64,
    carved: usize,
    bits: *mut u64,
    hint: usize,
    count: usize,
}

impl<'a> Marks<'a> {
    /// None yet. What is marked counts at [`end`](Self::end).
    #[inline(always)]
    pub fn of(slab: Slab<'a>) -> Self {
        let (own, shared) = (slab.own(), slab.shared());
        let Geometry {
            reciprocal, size, ..
        } = slab.geometry();
        Self {
            slab,
            size: size.into(),
            reciprocal: reciprocal.into(),
            carved: shared.carved() as usize,
            bits: slab.bits(),
            hint: usize::from(own.hint.get()),
            count: 0,
        }
    }

    /// Marks the block that starts at this address, in the slab's region.
    #[inline(always)]
    pub fn mark(&mut self, address: usize) {
        let block = self.block_at(address);
        self.count += 1;
        self.mark_in_word(block, 1);
    }

    /// Marks blocks in the slab's region, those together that are neighbours in the order of
    /// their addresses, or in the reverse order.
    pub fn mark_all(&mut self, blocks: &[*mut u8]) {
        let mut rest = blocks;
        while let Some(first) = rest.first() {
            let address = first.expose_provenance();
            let block = self.block_at(address);
            let step = rest
                .get(1)
                .map_or(0, |next| next.addr().wrapping_sub(address));
            if step == self.size || step == self.size.wrapping_neg() {
                let row = row_of_blocks(rest, address, step);
                let lowest = if step == self.size {
                    block
                } else {
                    block + 1 - row
                };
                self.mark_row(lowest, row);
                rest = &rest[row..];
            } else {
                self.count += 1;
                self.mark_in_word(block, 1);
                rest = &rest[1..];
            }
        }
    }

    /// The number of the block that starts at this address in the slab's region.
    #[inline(always)]
    fn block_at(&self, address: usize) -> usize {
        let offset = address & (REGION_BYTES - 1);
        let block = ((offset as u64 * self.reciprocal) >> 32) as usize;
        // Apart: where they are joined, each block takes two instructions more.
        if block * self.size != offset {
            bad_block(self.slab, address);
        }
        if block >= self.carved {
            bad_block(self.slab, address);
        }
        block
    }

    /// Marks so many blocks, the first of which has been carved.
    #[inline(always)]
    fn mark_row(&mut self, first: usize, count: usize) {
        let end = first + count;
        if end > self.carved {
            bad_block(self.slab, self.address_of(self.carved));
        }
        self.count += count;
        let mut block = first;
        while block < end {
            let here = (end - block).min(64 - block % 64);
            self.mark_in_word(block, ones(here));
            block += here;
        }
    }

    /// Sets these bits in the word of a block that has been carved, from its own on.
    #[inline(always)]
    fn mark_in_word(&mut self, block: usize, bits: u64) {
        let index = block / 64;
        let bits = bits << (block % 64);
        // SAFETY: the block has been carved, so the word exists, and it is the slab's owner's.
        let word = unsafe { &mut *self.bits.add(index) };
        let twice = *word & bits;
        if twice != 0 {
            let block = index * 64 + twice.trailing_zeros() as usize;
            bad_block(self.slab, self.address_of(block));
        }
        *word |= bits;
        self.hint = self.hint.min(index);
    }

    fn address_of(&self, block: usize) -> usize {
        self.slab.base() + block * self.size
    }

    /// Writes down how many there were.
    #[inline(always)]
    pub fn end(self) {
        let shared = self.slab.shared();
        shared.set_free(shared.free() + self.count as u16);
        self.slab.own().hint.set(self.hint as u8);
    }
}

/// How many of the blocks, from the first on, which lies at `address`, lie each a step further
/// than the one before.
#[inline(always)]
fn row_of_blocks(blocks: &[*mut u8], address: usize, step: usize) -> usize {
    let mut row = 1;
    let mut expected = address.wrapping_add(step);
    while blocks
        .get(row)
        .is_some_and(|block| block.expose_provenance() == expected)
    {
        row += 1;
        expected = expected.wrapping_add(step);
    }
    row
}

/// Ends the program because of a freed address in a slab that is no block in use.
#[cold]
#[inline(never)]
fn bad_block(slab: Slab<'_>, address: usize) -> ! {
    let size = slab.class().size();
    let offset = address - slab.base();
    if offset >= slab.shared().carved() as usize * size {
        report::fatal(format_args!(
            "free({address:#x}): never allocated (in a slab of {size}-byte blocks)"
        ));
    }
    let inside = offset % size;
    if inside != 0 {
        bad_free(address, BadFree::Interior { inside, size });
    }
    bad_free(address, BadFree::AlreadyFree { size })
}
