//! Which block of which run an address is: the words of a run's regions say how far they are from the first one,
//! and how the run is cut.

use crate::record::run_record_at;
use crate::run_form::{MID_CLASSES, RunForm, mid_size, usual_regions};
use hakmem_page_arena::Arena;
use hakmem_region_id::{
    ClassIndex, MapView, Part, REGION_BYTES, REGION_SHIFT, RegionIndex, TINY_CLASSES,
};
use hakmem_sys::prefetch::prefetch;
use hakmem_sys::report::{BadFree, bad_free};
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
        let regions = usual_regions(mid_size(number));
        good &= regions <= Part::MOST;
        let bytes = regions as u64 * REGION_BYTES as u64;
        good &= bytes * hakmem_region_id::MAX_CACHED as u64 <= 1 << 40;
        number += 1;
    }
    good
});

/// What the first region of a run is aligned to, in regions, for blocks to be aligned as their class is.
pub(crate) fn run_align(class: ClassIndex) -> usize {
    (class.align() >> REGION_SHIFT).max(1)
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
    used: usize,
}

/// Where the blocks of a class start: looked up once for many of them.
pub(crate) struct Cut<'a> {
    arena: &'a Arena,
    map: MapView<'a>,
    class: ClassIndex,
    /// Bytes of a block.
    size: usize,
    reciprocal: u64,
}

impl<'a> Cut<'a> {
    #[inline]
    pub fn of(arena: &'a Arena, class: ClassIndex) -> Self {
        Self {
            arena,
            map: arena.map().view(),
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

    /// Has the processor bring the record of a block's run into its first-level cache. Any address will do.
    #[inline]
    pub fn prefetch(&self, block: *mut u8) {
        if let Some(region) = self.map.region_of(block.addr()) {
            // SAFETY: the region is in the map.
            let place = unsafe { self.map.get(region) }.place();
            prefetch(run_record_at(self.arena, region.back(place)).cast());
        }
    }

    /// The run of a block. What is no block may be found out here, or when it is gathered.
    #[inline]
    pub fn run_of(&self, block: *mut u8) -> Around {
        let address = block.expose_provenance();
        let Some(region) = self.map.region_of(address) else {
            bad_free(address, BadFree::NotOurs);
        };
        // SAFETY: the region is in the map.
        let word = unsafe { self.map.get(region) };
        let Some(part) = word.part_of(self.class) else {
            bad_free(address, BadFree::Gone);
        };
        let first = region.back(part.place);
        let form = RunForm::from_tag(part.tag);
        let start = self.map.address_of(first) + form.lead(first);
        let used = form.blocks() * self.size;
        if address.wrapping_sub(start) >= used {
            // Before the first block, or behind the last.
            bad_free(address, BadFree::NoBlock { size: self.size });
        }
        Around { first, start, used }
    }

    /// The bits of the first blocks, as far as they lie in this run, and the others. As long as one of them is in
    /// use, all regions of the run name it: there is no need to ask each.
    #[inline]
    pub fn gather<'b>(&self, run: &Around, mut blocks: &'b [*mut u8]) -> (u64, &'b [*mut u8]) {
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
