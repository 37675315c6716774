//! Runs of regions: their shapes, their labels, and the lengths of those of large blocks.

use crate::free_runs::INSIDE;
use hakmem_region_id::{ClassIndex, Kind, REGION_BYTES, RegionIndex, RegionWord};

/// Runs of large blocks are multiples of so many bytes. With more lengths fewer free runs would
/// fit, and blocks would have less room to grow where they are.
pub const LARGE_STEP: usize = 64 << 10;
/// The same in regions.
pub(crate) const STEP_REGIONS: usize = LARGE_STEP / REGION_BYTES;

/// How many regions the run of a large block of `size` bytes has.
pub const fn large_regions(size: usize) -> usize {
    let steps = size.div_ceil(LARGE_STEP);
    (if steps == 0 { 1 } else { steps }) * STEP_REGIONS
}

/// The words a run gets when it is handed out.
///
/// Two only are written, however long it is, where all but the first say
/// [`Inside`](Kind::Inside): between the ends of a free run they say so already.
#[derive(Clone, Copy, Debug)]
pub struct Label {
    first: RegionWord,
    rest: RegionWord,
}

impl Label {
    /// One allocation that is the whole run.
    pub const LARGE: Self = Self {
        first: RegionWord::of_kind(Kind::LargeStart),
        rest: INSIDE,
    };
    /// Regions of which nobody frees a block.
    pub const TAKEN: Self = Self::uniform(RegionWord::of_kind(Kind::Taken));

    /// Regions of blocks of this class that belong to no heap.
    pub const fn shared(class: ClassIndex) -> Self {
        Self::uniform(RegionWord::shared(class))
    }

    /// The same word for every region.
    const fn uniform(word: RegionWord) -> Self {
        Self {
            first: word,
            rest: word,
        }
    }

    /// The word of the first region.
    pub const fn first(self) -> RegionWord {
        self.first
    }

    /// The word of all others.
    pub const fn rest(self) -> RegionWord {
        self.rest
    }
}

/// What a run is to be like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// How many regions it has.
    pub regions: usize,
    /// What its first address is a multiple of, in regions: a power of two.
    pub align: usize,
}

impl Shape {
    pub(crate) fn is_possible(self) -> bool {
        self.regions > 0 && self.align.is_power_of_two()
    }
}

/// A run handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Its first region.
    pub first: RegionIndex,
    /// How many regions it has.
    pub regions: usize,
    /// How many of these, from the first on, are not known to read as zero: none, all, or as
    /// many as it has of dirty memory before it goes on in clean.
    pub soiled: usize,
    /// How many huge pages were put behind parts of it. What else it has of clean memory is not
    /// there yet; dirty memory is there as a rule.
    pub huge_pages: usize,
}

impl Run {
    /// Whether every byte of it is known to read as zero.
    pub const fn zeroed(self) -> bool {
        self.soiled == 0
    }
}
