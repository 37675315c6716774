//! Marking blocks of a slab as free.
//!
//! An address that is no block which can be freed ends the program with a message, at once: what
//! its bit says of others cannot be trusted any more.

use crate::bits::ones;
use crate::geometry::Geometry;
use crate::slab::Slab;
use hakmem_region_id::REGION_BYTES;
use hakmem_sys::report::{self, BadFree, bad_free};

/// So many neighbours are looked for, and marked, together.
pub(crate) const LONG_ROW: usize = 8;

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
        Self::with(slab, slab.geometry(), slab.bits())
    }

    /// The same, where the geometry of the slab's class and the place of its bits are known already.
    #[inline(always)]
    pub fn with(slab: Slab<'a>, geometry: Geometry, bits: *mut u64) -> Self {
        let (own, shared) = (slab.own(), slab.shared());
        Self {
            slab,
            size: geometry.size.into(),
            reciprocal: geometry.reciprocal.into(),
            carved: shared.carved() as usize,
            bits,
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

    /// Marks blocks in the slab's region, in any order. Those together that are many neighbours in the
    /// order of their addresses, or in the reverse order.
    pub fn mark_all(&mut self, blocks: &[*mut u8]) {
        let mut rest = blocks;
        while !rest.is_empty() {
            let marked = self.mark_long_row(rest);
            rest = &rest[marked..];
            if marked == 0 {
                let (few, others) = rest.split_at(rest.len().min(LONG_ROW));
                self.mark_few(few);
                rest = others;
            }
        }
    }

    /// Marks the neighbours that these begin with, if they are many. Returns how many it has marked.
    #[inline(always)]
    fn mark_long_row(&mut self, blocks: &[*mut u8]) -> usize {
        let Some([first, .., last]) = blocks.get(..LONG_ROW) else {
            return 0;
        };
        let address = first.expose_provenance();
        let distance = last.addr().wrapping_sub(address);
        let upwards = (LONG_ROW - 1) * self.size;
        let step = if distance == upwards {
            self.size
        } else if distance == upwards.wrapping_neg() {
            self.size.wrapping_neg()
        } else {
            return 0;
        };
        let row = row_of_blocks(blocks, address, step);
        if row < LONG_ROW {
            return 0;
        }
        let block = self.block_at(address);
        let lowest = if step == self.size {
            block
        } else {
            block + 1 - row
        };
        self.mark_row(lowest, row);
        row
    }

    /// Marks blocks, those together that follow each other and have their bits in one word.
    #[inline(always)]
    fn mark_few(&mut self, blocks: &[*mut u8]) {
        // The bits of which word, by the block of its first.
        let (mut first, mut bits) = (0, 0_u64);
        for block in blocks {
            let address = block.expose_provenance();
            let block = self.block_at(address);
            if block / 64 != first / 64 {
                if bits != 0 {
                    self.mark_in_word(first, bits);
                }
                (first, bits) = (block / 64 * 64, 0);
            }
            let bit = 1 << (block % 64);
            if bits & bit != 0 {
                bad_block(self.slab, address);
            }
            bits |= bit;
        }
        self.count += blocks.len();
        self.mark_in_word(first, bits);
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

    /// Sets these bits in the word of a block, from its own on, all of which have been carved. (The first
    /// word is there always.)
    #[inline(always)]
    fn mark_in_word(&mut self, block: usize, bits: u64) {
        let index = block / 64;
        let bits = bits << (block % 64);
        // SAFETY: a block of it has been carved, or it is the first, so the word exists; and it is
        // the slab's owner's.
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

    /// Writes down how many there were. Returns how many blocks of the slab are free now, and how many
    /// have been carved.
    #[inline(always)]
    pub fn end(self) -> (u16, u16) {
        let shared = self.slab.shared();
        let free = shared.free() + self.count as u16;
        shared.set_free(free);
        self.slab.own().hint.set(self.hint as u8);
        (free, self.carved as u16)
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
