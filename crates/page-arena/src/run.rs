//! Runs of regions: their shapes, their labels, and the lengths of those of large blocks.

use crate::free_runs::INSIDE;
use hakmem_region_id::{ClassIndex, Kind, Part, REGION_BYTES, RegionIndex, RegionWord};

/// The runs of large blocks are multiples of so many bytes, or a region longer. With more lengths fewer free runs
/// would fit, and blocks would have less room to grow where they are.
pub const LARGE_STEP: usize = 64 << 10;
/// The same in regions.
pub(crate) const STEP_REGIONS: usize = LARGE_STEP / REGION_BYTES;

/// Bytes within which large blocks start at different places of their runs, so that programs that go through
/// several side by side do not have all their places in one set of the processor's caches. More
/// would not reach more sets of the first cache.
const SPREAD_SPAN: usize = 4096;
/// What the starts of large blocks are multiples of, in bytes: a cache line.
pub const SPREAD_STEP: usize = 64;
/// From this size on, every block's start may cost a page (192 KiB: two per cent).
const MAY_COST_A_PAGE: usize = 192 << 10;
/// A block that leaves less than so many bytes of its last page has too few places there, and may cost another
/// one; and one that would leave no more of its run has too few at all.
const LEAST_SLACK: usize = 1024;
/// From this size on, such a block's run is a region longer: from 64 KiB, or from 1 MiB where a region has as much
/// as that, and so may a page.
const MAY_COST_A_REGION: usize = if STEP_REGIONS > 1 { 1 } else { 16 } * LARGE_STEP - LEAST_SLACK;

/// Whether a large block of `size` bytes fills a run of whole [steps](LARGE_STEP), as those do whose length is a
/// power of two.
#[inline]
pub const fn fills_steps(size: usize) -> bool {
    size.wrapping_neg() % LARGE_STEP < LEAST_SLACK
}

/// Whether a large block at a multiple of `align` bytes may start after its run does.
#[inline]
const fn is_spread(align: usize) -> bool {
    align <= SPREAD_STEP
}

/// How many regions the run of a new large block has, of `size` bytes at a multiple of `align` bytes.
#[inline]
pub const fn large_regions(size: usize, align: usize) -> usize {
    let more = is_spread(align) && fills_steps(size) && size >= MAY_COST_A_REGION;
    whole_steps(size) + if more { 1 } else { 0 }
}

/// How many regions the run of a large block needs that reaches so many bytes from its first one on, some of them
/// before the block.
pub const fn run_regions(bytes: usize) -> usize {
    match bytes % LARGE_STEP {
        1..SPREAD_SPAN if bytes > MAY_COST_A_REGION => bytes / LARGE_STEP * STEP_REGIONS + 1,
        _ => whole_steps(bytes),
    }
}

#[inline]
const fn whole_steps(bytes: usize) -> usize {
    let steps = bytes.div_ceil(LARGE_STEP);
    (if steps == 0 { 1 } else { steps }) * STEP_REGIONS
}

/// How many bytes after the start of its run, of so many bytes, a large block of `size` at a multiple of `align`
/// may start at most: a multiple of [`SPREAD_STEP`].
#[inline]
pub const fn spread_room(size: usize, align: usize, run_bytes: usize) -> usize {
    if !is_spread(align) {
        return 0;
    }
    let slack = run_bytes.saturating_sub(size);
    let last_page = size.wrapping_neg() % SPREAD_SPAN;
    let most = if size >= MAY_COST_A_PAGE || last_page < LEAST_SLACK {
        SPREAD_SPAN - SPREAD_STEP
    } else {
        last_page
    };
    (if slack < most { slack } else { most }) / SPREAD_STEP * SPREAD_STEP
}

/// The words a run gets when it is handed out.
#[derive(Clone, Copy, Debug)]
pub struct Label(Words);

#[derive(Clone, Copy, Debug)]
enum Words {
    /// Two only are written, however long the run is: between the ends of a free one all say
    /// [`Inside`](Kind::Inside) already.
    Large,
    /// The same for every region.
    Taken,
    /// Each says which part of the run it is.
    Parts { class: ClassIndex, tag: u8 },
}

impl Label {
    /// One allocation that is the whole run.
    pub const LARGE: Self = Self(Words::Large);
    /// Regions of which nobody frees a block.
    pub const TAKEN: Self = Self(Words::Taken);

    /// Regions of blocks of this class that belong to no heap, in a run of up to [`Part::MOST`]. The tag says
    /// what its maker wants to know of it.
    pub const fn shared(class: ClassIndex, tag: u8) -> Self {
        Self(Words::Parts { class, tag })
    }

    /// Whether a run so labelled may have so many regions.
    pub const fn may_have(self, regions: usize) -> bool {
        regions <= Part::MOST || !matches!(self.0, Words::Parts { .. })
    }

    /// Whether all words but those at the ends of a free run are as they are to be.
    pub(crate) const fn is_inside(self) -> bool {
        matches!(self.0, Words::Large)
    }

    /// The word of the region with this number in a run.
    #[inline]
    pub const fn word(self, place: usize) -> RegionWord {
        debug_assert!(self.may_have(place + 1), "a place that no word can say");
        match self.0 {
            Words::Large if place == 0 => RegionWord::of_kind(Kind::LargeStart),
            Words::Large => INSIDE,
            Words::Taken => RegionWord::of_kind(Kind::Taken),
            Words::Parts { class, tag } => {
                let place = place as u8;
                RegionWord::shared(class, Part { tag, place })
            }
        }
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
    /// The shape of the run of a new large block of `size` bytes at a multiple of `align` bytes, a power of two.
    #[inline]
    pub const fn large(size: usize, align: usize) -> Self {
        Self {
            regions: large_regions(size, align),
            align: if align > REGION_BYTES {
                align / REGION_BYTES
            } else {
                1
            },
        }
    }

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
