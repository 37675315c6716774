//! Which block of which run an address is.

use crate::record::run_record;
use crate::run_form::{MID_CLASSES, RunForm, align_of, mid_size, usual_regions};
use crate::run_word::RunWord;
use hakmem_page_arena::Arena;
use hakmem_region_id::{ClassIndex, REGION_BYTES, REGION_SHIFT, RegionIndex, TINY_CLASSES};
use hakmem_sys::report::{BadFree, bad_free};
use hakmem_sys::sync::Ordering;
use static_assertions::const_assert;

/// `ceil(2^40 / size)`: `offset * RECIPROCAL >> 40` is `offset / size` for all offsets in a
/// run, because the product's error stays below one block.
const RECIPROCAL: [u32; MID_CLASSES] = {
    let mut table = [0; MID_CLASSES];
    let mut number = 0;
    while number < MID_CLASSES {
        table[number] = (1u64 << 40).div_ceil(mid_size(number) as u64) as u32;
        number += 1;
    }
    table
};

const_assert!({
    // What the reciprocal is too large by is less than one, so the quotient is too large by less
    // than `offset / 2^40`, which must not reach the next multiple: `1 / size`.
    let mut good = true;
    let mut number = 0;
    while number < MID_CLASSES {
        let bytes = usual_regions(mid_size(number)) as u64 * REGION_BYTES as u64;
        good &= bytes * hakmem_region_id::MAX_CACHED as u64 <= 1 << 40;
        number += 1;
    }
    good
});

/// What the first region of a run is aligned to, in regions, for blocks to be at multiples of the
/// largest power of two in their size.
pub(crate) fn run_align(class: ClassIndex) -> usize {
    (align_of(class.size()) >> REGION_SHIFT).max(1)
}

/// Where the first block of a run starts.
#[inline]
pub(crate) fn start_of(arena: &Arena, first: RegionIndex, form: RunForm) -> usize {
    arena.map().address_of(first) + form.lead(first)
}

/// A run that a block lies in.
pub(crate) struct Around {
    pub first: RegionIndex,
    /// Where its first block starts,
    pub start: usize,
    /// and how many bytes its blocks have together.
    pub used: usize,
}

/// Where the blocks of a class start: looked up once for many of them.
pub(crate) struct Cut {
    class: ClassIndex,
    /// Bytes of a block.
    size: usize,
    reciprocal: u64,
}

impl Cut {
    #[inline]
    pub fn of(class: ClassIndex) -> Self {
        Self {
            class,
            size: class.size(),
            reciprocal: u64::from(RECIPROCAL[class.number() - TINY_CLASSES]),
        }
    }

    /// The number of the block at an offset in a run, and how far it is inside.
    #[inline]
    fn divide(&self, offset: usize) -> (usize, usize) {
        let number = ((offset as u64 * self.reciprocal) >> 40) as usize;
        (number, offset - number * self.size)
    }

    /// The bits of the first blocks, as far as they lie in this run, and the others. As long as one of them is in
    /// use, all regions of the run name it: there is no need to ask each.
    #[inline]
    pub fn gather<'a>(&self, run: &Around, mut blocks: &'a [*mut u8]) -> (u64, &'a [*mut u8]) {
        let size = self.size;
        let mut bits = 0;
        while let [block, rest @ ..] = blocks {
            let address = block.expose_provenance();
            let offset = address.wrapping_sub(run.start);
            if offset >= run.used {
                break;
            }
            let (number, inside) = self.divide(offset);
            if inside != 0 {
                bad_free(address, BadFree::Interior { inside, size });
            }
            let bit = 1 << number;
            if bits & bit != 0 {
                bad_free(address, BadFree::AlreadyFree { size });
            }
            bits |= bit;
            blocks = rest;
        }
        (bits, blocks)
    }

    /// The run of a block. What is no block may be found out here, or when it is gathered.
    #[inline]
    pub fn run_of(&self, arena: &Arena, block: *mut u8) -> Around {
        let address = block.expose_provenance();
        let map = arena.map();
        let Some(region) = map.region_of(address) else {
            bad_free(address, BadFree::NotOurs);
        };
        let first = RegionIndex(run_record(arena, region).first.load(Ordering::Relaxed));
        let form = RunWord(&run_record(arena, first).word).form();
        let start = start_of(arena, first, form);
        let used = form.blocks() * self.size;
        if address.wrapping_sub(start) >= used || !form.is_of(self.class) {
            self.refuse(address, map.address_of(first), form);
        }
        Around { first, start, used }
    }

    /// Ends the program because of what is no block of the run that begins at `base`.
    #[cold]
    fn refuse(&self, address: usize, base: usize, form: RunForm) -> ! {
        let offset = address.wrapping_sub(base);
        if !form.is_of(self.class) || offset >= form.bytes() {
            bad_free(address, BadFree::Gone);
        }
        // Before the first block, or behind the last.
        bad_free(address, BadFree::NoBlock { size: self.size });
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::RECIPROCAL;
    use crate::run_form::RunForm;
    use hakmem_region_id::{ClassIndex, TINY_CLASSES};

    #[test]
    fn reciprocals_divide_every_offset_of_a_run() {
        for class in ClassIndex::all().skip(TINY_CLASSES) {
            let reciprocal = u64::from(RECIPROCAL[class.number() - TINY_CLASSES]);
            for offset in 0..RunForm::usual(class).bytes() {
                let quotient = ((offset as u64 * reciprocal) >> 40) as usize;
                assert_eq!(quotient, offset / class.size(), "{offset} of {class:?}");
            }
        }
    }
}
