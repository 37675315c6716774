//! The arena's address range and the arrays that describe it.
//!
//! ```text
//! | region map | run records | side records | bit space |  regions ...        |
//! ```
//!
//! Each part is used from its low end up, in step.

use hakmem_region_id::{REGION_BYTES, REGION_SHIFT, RegionIndex};
use hakmem_sys::vm::{self, MapError};
use static_assertions::const_assert;

/// Bytes of side record for each region.
pub const SIDE_BYTES: usize = 128;
/// Bytes of bit space for each region: one bit for each 8-byte block.
pub const BITS_BYTES: usize = REGION_BYTES / 64;

/// Where in a side record the slab's part is.
pub const SLAB_SIDE: core::ops::Range<usize> = 0..48;
/// Where in a side record the mid run's part is.
pub const RUN_SIDE: core::ops::Range<usize> = 48..64;

const WORD_BYTES: usize = 4;
pub(crate) const RECORD_BYTES: usize = 16;

/// Arrays of metadata.
const PARTS: usize = 4;

/// `log2` of the largest range's length in bytes: 1 TiB. (4 GiB under thread sanitizer, which
/// keeps a shadow of what is reserved.)
const MAX_SHIFT: u32 = if cfg!(hakmem_tsan) { 32 } else { 40 };
/// The largest range, in regions.
pub(crate) const MAX_REGIONS: usize = 1 << (MAX_SHIFT - REGION_SHIFT);
/// The smallest range worth having, in regions: 64 MiB.
const MIN_REGIONS: usize = (64 << 20) / REGION_BYTES;
/// Metadata is committed for this many regions at a time (64 MiB of range, 1.6 MiB of metadata,
/// most of which is never touched), or more where pages are larger than 4 KiB.
const META_STEP: usize = (64 << 20) / REGION_BYTES;

/// Regions whose metadata is committed at a time: each part of it whole pages.
fn meta_step() -> usize {
    META_STEP.max(vm::page_size() / WORD_BYTES)
}
/// The base of the regions is a multiple of this where the range is claimed.
const CLAIM_ALIGN: usize = 1 << 30;
/// The base of the regions is a multiple of this where the range is reserved.
const RESERVE_ALIGN: usize = 2 << 20;

/// Where claimed ranges lie: above everything the kernel places from below and
/// far under what it places from above (the mapping base, on every layout), and
/// inside what address sanitizers leave to the program. Each arena of the process, which may have
/// libraries with one of their own, takes one place; the last ends below `0x5000_0000_0000`, where
/// address sanitizers begin to allocate, and the kernel, a little further up, places programs.
const CLAIM_FIRST: usize = 0x1100_0000_0000;
const CLAIM_STRIDE: usize = 0x0200_0000_0000;
const CLAIM_TRIES: usize = 31;
const CLAIM_OFFSETS: usize = 512;
const_assert!(CLAIM_FIRST + CLAIM_TRIES * CLAIM_STRIDE <= 0x5000_0000_0000);
const_assert!(
    CLAIM_OFFSETS * CLAIM_ALIGN
        + CLAIM_SKEW
        + meta_bytes(MAX_REGIONS)
        + CLAIM_ALIGN
        + MAX_REGIONS * REGION_BYTES
        <= CLAIM_STRIDE
);
/// How far into its gibibyte the metadata begins, so that the words and the starts of the
/// first regions are not a power of two apart.
///
/// A free reads a region's word and a heap's bin, and the first heaps come first in the range.
/// The first-level cache of AMD's processors keeps one line of those whose addresses agree in
/// bits 6 to 11 and in a hash of bits 12 to 27: M. Lipp et al., "Take A Way: Exploring the
/// Security Implications of AMD's Cache Way Predictors" (2020); see
/// `docs/decisions/0020-metadata-off-the-power-of-two.md`.
const CLAIM_SKEW: usize = 0x19_0000;

/// Where all places are taken and the process has a limit, an arena that is one of so many reserves this
/// part of what would fit.
const RESERVE_SHARE: usize = 8;

/// How the range is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holding {
    /// Nothing is mapped until it is committed.
    Claimed,
    /// The whole range is mapped without access.
    Reserved,
}

/// Addresses of the parts and how much of them is in use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Space {
    holding: Holding,
    /// Length of the range in regions.
    pub regions: usize,
    pub map: usize,
    pub records: usize,
    pub side: usize,
    pub bits: usize,
    pub base: usize,
    /// Regions whose metadata is committed, of each array.
    meta: [usize; PARTS],
    /// Where a run behind the arena's regions ends that is committed all the same: the system
    /// has refused to take it back.
    ahead: usize,
    /// Whether the system is kept from making huge pages by itself.
    is_small: bool,
}

const fn meta_bytes(regions: usize) -> usize {
    regions * (WORD_BYTES + RECORD_BYTES + SIDE_BYTES + BITS_BYTES)
}

impl Space {
    /// Finds a range and commits the metadata of its first regions, or says that
    /// there is no memory (it may be tried again).
    pub fn open() -> Option<Self> {
        match Self::claim() {
            Ok(space) => Some(space),
            Err(MapError::Occupied) if vm::has_address_limit() => Self::reserve(RESERVE_SHARE),
            Err(_) => Self::reserve(1),
        }
    }

    fn laid_out(holding: Holding, start: usize, regions: usize, align: usize) -> Self {
        let map = start;
        let records = map + regions * WORD_BYTES;
        let side = records + regions * RECORD_BYTES;
        let bits = side + regions * SIDE_BYTES;
        let base = (bits + regions * BITS_BYTES).next_multiple_of(align);
        Self {
            holding,
            regions,
            map,
            records,
            side,
            bits,
            base,
            meta: [0; PARTS],
            ahead: 0,
            is_small: false,
        }
    }

    /// Takes addresses in the middle of the address space without reserving
    /// them. See `docs/decisions/0001-claim-instead-of-reserve.md`.
    fn claim() -> Result<Self, MapError> {
        if cfg!(any(miri, hakmem_tsan)) || usize::BITS < 64 {
            return Err(MapError::Unsupported);
        }
        // Far apart for two arenas in one process (the stride), unpredictable
        // between processes (the offset).
        let offset = (vm::start_entropy() as usize % CLAIM_OFFSETS) * CLAIM_ALIGN;
        for attempt in 0..CLAIM_TRIES {
            let start = CLAIM_FIRST + attempt * CLAIM_STRIDE + offset + CLAIM_SKEW;
            let mut space = Self::laid_out(Holding::Claimed, start, MAX_REGIONS, CLAIM_ALIGN);
            match space.commit_meta(1) {
                Ok(()) => return Ok(space),
                Err(MapError::Occupied) => {}
                Err(error) => return Err(error),
            }
        }
        Err(MapError::Occupied)
    }

    /// Sets a whole range aside, as long as the system allows, or one by `share` shorter.
    fn reserve(share: usize) -> Option<Self> {
        let length_of = |regions| meta_bytes(regions) + RESERVE_ALIGN + regions * REGION_BYTES;
        let mut regions = MAX_REGIONS;
        while regions >= MIN_REGIONS {
            let fitting = length_of(regions);
            if let Some(start) = vm::reserve(fitting) {
                regions = (regions / share).max(MIN_REGIONS);
                let length = length_of(regions);
                if length < fitting {
                    // SAFETY: the range was reserved just now and nobody knows it.
                    unsafe { vm::unmap(start + length, fitting - length) };
                }
                let mut space = Self::laid_out(Holding::Reserved, start, regions, RESERVE_ALIGN);
                let is_usable = space.commit_meta(1).is_ok();
                // What cannot be given back is kept: metadata comes as the arena grows.
                // SAFETY: the range was reserved just now and nobody knows it.
                let is_kept = is_usable || !unsafe { vm::unmap(start, length) };
                return is_kept.then_some(space);
            }
            regions /= 2;
        }
        None
    }

    /// Makes sure that the first `regions` regions have metadata: all of them, or no more than had.
    pub fn commit_meta(&mut self, regions: usize) -> Result<(), MapError> {
        let had = self.meta;
        let end = regions.next_multiple_of(meta_step());
        for (part, (start, unit)) in self.parts().into_iter().enumerate() {
            let from = self.meta[part];
            if from >= end {
                continue;
            }
            if let Err(error) = self.commit_range(start + from * unit, (end - from) * unit) {
                self.undo_meta(had);
                return Err(error);
            }
            self.meta[part] = end;
        }
        Ok(())
    }

    /// Gives metadata back that was committed a moment ago, but for what there was before, and what the
    /// system refuses to take: that is for the next time.
    fn undo_meta(&mut self, had: [usize; PARTS]) {
        for (part, (start, unit)) in self.parts().into_iter().enumerate() {
            let (from, end) = (had[part], self.meta[part]);
            if from == end {
                continue;
            }
            let (address, length) = (start + from * unit, (end - from) * unit);
            // SAFETY: committed a moment ago, and used by nobody.
            if unsafe { self.decommit_range(address, length) } {
                self.meta[part] = from;
            }
        }
    }

    /// The arrays of metadata: where each starts, and its bytes for each region.
    const fn parts(&self) -> [(usize, usize); PARTS] {
        [
            (self.map, WORD_BYTES),
            (self.records, RECORD_BYTES),
            (self.side, SIDE_BYTES),
            (self.bits, BITS_BYTES),
        ]
    }

    /// Puts zeroed memory behind a run of regions that has none.
    pub fn commit(&self, first: RegionIndex, count: usize) -> Result<(), MapError> {
        let (address, length) = (
            self.base + first.index() * REGION_BYTES,
            count * REGION_BYTES,
        );
        self.commit_range(address, length)?;
        if self.is_small {
            // SAFETY: committed a moment ago.
            unsafe { vm::let_be_huge(address, length, false) };
        }
        Ok(())
    }

    /// As [`commit`](Self::commit), behind the arena's regions, which end with the `top`.
    pub fn commit_more(&self, top: usize, count: usize) -> Result<(), MapError> {
        let end = top + count;
        let first = self.ahead.clamp(top, end);
        if first == end {
            return Ok(());
        }
        self.commit(RegionIndex(first as u32), end - first)
    }

    /// Undoes [`commit_more`](Self::commit_more), or remembers it.
    ///
    /// # Safety
    ///
    /// The regions are committed, and nobody knows them yet.
    pub unsafe fn undo_more(&mut self, top: usize, count: usize) {
        let end = self.ahead.max(top + count);
        // SAFETY: passed on; what lies beyond them is left of earlier such runs.
        let is_undone = unsafe { self.decommit(RegionIndex(top as u32), end - top) };
        self.ahead = if is_undone { 0 } else { end };
    }

    /// Whether the system is to be kept from making huge pages by itself in what is committed from
    /// now on; if so, in the first `regions` regions, too, of which none is known to be somebody
    /// else's.
    pub fn set_small(&mut self, is_small: bool, regions: usize) {
        if is_small && !self.is_small {
            // SAFETY: the range is the arena's. Holes in it are passed over; if somebody has
            // mapped something into one meanwhile, that gets no huge pages and is unharmed.
            unsafe { vm::let_be_huge(self.base, regions * REGION_BYTES, false) };
        }
        self.is_small = is_small;
    }

    fn commit_range(&self, address: usize, length: usize) -> Result<(), MapError> {
        match self.holding {
            Holding::Claimed => vm::map_at(address, length),
            // SAFETY: the range lies inside the reservation.
            Holding::Reserved => unsafe { vm::commit(address, length) },
        }
    }

    /// Whether what becomes a hole now could be mapped again. Not where the process has more mappings
    /// than it may have: then the system unmaps, and maps nothing.
    pub fn can_fill_holes(&self) -> bool {
        !vm::has_too_many_mappings(self.map)
    }

    /// Gives the memory behind a run of regions back; they are holes then.
    ///
    /// # Safety
    ///
    /// The regions are committed, the caller's, and not in use.
    pub unsafe fn decommit(&self, first: RegionIndex, count: usize) -> bool {
        // SAFETY: passed on.
        unsafe {
            self.decommit_range(
                self.base + first.index() * REGION_BYTES,
                count * REGION_BYTES,
            )
        }
    }

    unsafe fn decommit_range(&self, address: usize, length: usize) -> bool {
        match self.holding {
            // SAFETY: passed on.
            Holding::Claimed => unsafe { vm::unmap(address, length) },
            // SAFETY: passed on.
            Holding::Reserved => unsafe { vm::decommit(address, length) },
        }
    }
}
