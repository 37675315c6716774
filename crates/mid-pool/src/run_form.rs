//! How runs are cut into blocks.
//!
//! A run does not begin with its first block, but with some of what is left over, by its place: of the whole pages,
//! and of the last one's rest. If all did, the first blocks of runs, which start on region borders, would lie in every
//! fourth page, and the others as far apart from them in each run: what a program has at the beginnings of many blocks
//! would share a few sets of the processor's caches, that of addresses and those of memory.
//!
//! Each class has runs of one length, as a rule. Where dirty memory lies about in pieces that are too
//! short for that, which other classes have left, shorter ones will do: so a program whose sizes
//! change takes no new memory while it has some.

use hakmem_region_id::size_class::SIZES;
use hakmem_region_id::{CLASSES, ClassIndex, REGION_BYTES, RegionIndex, TINY_CLASSES};
use hakmem_remote_free::MAX_PARTS;
use static_assertions::const_assert;

/// The most blocks a run has.
pub const MAX_BLOCKS: usize = MAX_PARTS;
/// Classes that come in runs.
pub(crate) const MID_CLASSES: usize = CLASSES - TINY_CLASSES;

/// The fewest blocks in a run, where that is not wasteful: what is free of a run serves one class only,
/// until all of it is;
const MIN_BLOCKS: usize = 4;
/// and twice as many up to so many bytes, which are what a bin has of a class: a refill is to find its
/// blocks in one run.
const ENOUGH: usize = 32 << 10;
/// At most one byte in so many of a run is left over.
const WASTE_SHARE: usize = 8;
/// The fewest in a run that is shorter than the usual one,
const MIN_SHORT: usize = 2;
/// of which at most one byte in so many is left over.
const SHORT_WASTE_SHARE: usize = 5;

/// What pages are here; where they are larger, so are the steps.
const PAGE: usize = 4096;

/// Forms of a class at most: the usual one, and the longest and the shortest of those that are shorter.
const FORMS: usize = 3;

/// The size of the mid class with this number among them.
pub(crate) const fn mid_size(number: usize) -> usize {
    SIZES[TINY_CLASSES + number] as usize
}

/// How many blocks of so many bytes a run has.
const fn blocks_in(regions: usize, size: usize) -> usize {
    let blocks = regions * REGION_BYTES / size;
    if blocks > MAX_BLOCKS {
        MAX_BLOCKS
    } else {
        blocks
    }
}

const fn waste_of(regions: usize, size: usize) -> usize {
    regions * REGION_BYTES - blocks_in(regions, size) * size
}

/// Regions of a run of the usual form.
pub(crate) const fn usual_regions(size: usize) -> usize {
    let least = if 2 * MIN_BLOCKS * size <= ENOUGH {
        2 * MIN_BLOCKS * size
    } else if MIN_BLOCKS * size <= ENOUGH {
        ENOUGH
    } else {
        MIN_BLOCKS * size
    };
    let mut regions = least.div_ceil(REGION_BYTES);
    // Compare waste per region without division.
    if waste_of(regions + 1, size) * regions < waste_of(regions, size) * (regions + 1) {
        regions += 1;
    }
    while waste_of(regions, size) * WASTE_SHARE > regions * REGION_BYTES {
        regions += 1;
    }
    regions
}

const fn is_worth_it(regions: usize, size: usize) -> bool {
    let bytes = regions * REGION_BYTES;
    blocks_in(regions, size) >= MIN_SHORT && waste_of(regions, size) * SHORT_WASTE_SHARE <= bytes
}

/// Regions of the runs of each form of the mid class with this number among them, or zero where there is none. The
/// aligned classes, of which a program uses a few, and the coarse ones, which gain nothing by it, have the usual one
/// only.
const fn regions_of_forms(number: usize) -> [usize; FORMS] {
    let size = mid_size(number);
    let usual = usual_regions(size);
    let mut forms = [usual, 0, 0];
    let Some(class) = ClassIndex::new(TINY_CLASSES + number) else {
        return forms;
    };
    let has_shorter = class.is_plain() && !class.is_coarse();
    let mut regions = if has_shorter { usual } else { 1 };
    while regions > 1 {
        regions -= 1;
        if is_worth_it(regions, size) {
            let shorter = if forms[1] == 0 { 1 } else { 2 };
            forms[shorter] = regions;
        }
    }
    forms
}

/// How a run of some class is cut. A number from 1 on for each form of each mid class, or 0 for what is
/// no run; below 128, so that it is the tag of a run's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunForm(u8);

/// What a tag is below.
const TAGS: usize = 1 << 7;

/// The number of the first form of each mid class, and how many it has.
const NUMBERS: [(u8, u8); MID_CLASSES] = {
    let mut numbers = [(0, 0); MID_CLASSES];
    let (mut number, mut next) = (0, 1);
    while number < MID_CLASSES {
        let regions = regions_of_forms(number);
        let mut count = 0;
        while count < FORMS && regions[count] > 0 {
            count += 1;
        }
        numbers[number] = (next as u8, count as u8);
        next += count;
        number += 1;
    }
    assert!(next <= TAGS, "a form's number is a tag");
    numbers
};

/// What there is to a form.
#[derive(Clone, Copy)]
struct Cutting {
    regions: u8,
    blocks: u8,
    /// In how many pages the first block can start, from the run's first one on,
    pages: u8,
    /// and at how many places of a page, from its start on, without another page being touched;
    places: u8,
    /// how many bytes apart.
    step: u16,
}

impl Cutting {
    const NONE: Self = Self {
        regions: 0,
        blocks: 0,
        pages: 0,
        places: 0,
        step: 0,
    };

    const fn of(regions: usize, class: ClassIndex) -> Self {
        let (size, align) = (class.size(), class.align());
        let waste = waste_of(regions, size);
        // More than a page comes from the run.
        let (pages, step) = if align > PAGE {
            (0, PAGE)
        } else {
            (waste / PAGE, align)
        };
        let places = waste % PAGE / step;
        assert!(places < 1 << 8, "steps are not that small");
        Self {
            regions: regions as u8,
            blocks: blocks_in(regions, size) as u8,
            pages: (pages + 1) as u8,
            places: (places + 1) as u8,
            step: step as u16,
        }
    }
}

/// That of each.
static CUTS: [Cutting; TAGS] = {
    let mut cuts = [Cutting::NONE; TAGS];
    let mut number = 0;
    while let Some(class) = ClassIndex::new(TINY_CLASSES + number) {
        let regions = regions_of_forms(number);
        let (first, count) = NUMBERS[number];
        let mut form = 0;
        while form < count as usize {
            cuts[first as usize + form] = Cutting::of(regions[form], class);
            form += 1;
        }
        number += 1;
    }
    cuts
};

const_assert!({
    // Usual runs have enough blocks, at most 56, and at most an eighth is wasted.
    let mut good = true;
    let mut number = 0;
    while number < MID_CLASSES {
        let size = mid_size(number);
        let regions = usual_regions(size);
        good &= blocks_in(regions, size) >= MIN_BLOCKS;
        good &= waste_of(regions, size) * WASTE_SHARE <= regions * REGION_BYTES;
        number += 1;
    }
    good
});

impl RunForm {
    /// The usual form of a mid class.
    ///
    /// # Panics
    ///
    /// If the class is none.
    #[inline]
    pub fn usual(class: ClassIndex) -> Self {
        assert!(!class.is_tiny(), "no mid class");
        Self(NUMBERS[class.number() - TINY_CLASSES].0)
    }

    /// The forms of a mid class, longest runs first.
    pub fn all(class: ClassIndex) -> impl Iterator<Item = Self> {
        let forms = Self::numbers(class).into_iter();
        forms.filter(|form| form.regions() > 0)
    }

    /// The forms of a mid class; where it has fewer, runs of the last ones have no regions.
    pub(crate) fn numbers(class: ClassIndex) -> [Self; FORMS] {
        let (first, count) = NUMBERS[class.number() - TINY_CLASSES];
        core::array::from_fn(|form| {
            let form = form as u8;
            Self(if form < count { first + form } else { 0 })
        })
    }

    /// The form with this number.
    pub(crate) const fn from_tag(tag: u8) -> Self {
        Self(tag)
    }

    /// Its number.
    pub(crate) const fn tag(self) -> u8 {
        self.0
    }

    /// Whether it is one of a mid class.
    #[inline]
    pub fn is_of(self, class: ClassIndex) -> bool {
        let (first, count) = NUMBERS[class.number() - TINY_CLASSES];
        self.0.wrapping_sub(first) < count
    }

    #[inline]
    fn cut(self) -> &'static Cutting {
        &CUTS[usize::from(self.0) % TAGS]
    }

    /// Regions of such a run.
    #[inline]
    pub fn regions(self) -> usize {
        self.cut().regions.into()
    }

    /// Bytes of such a run.
    #[inline]
    pub fn bytes(self) -> usize {
        self.regions() * REGION_BYTES
    }

    /// Blocks of such a run.
    #[inline]
    pub fn blocks(self) -> usize {
        self.cut().blocks.into()
    }

    /// How many bytes before its first block such a run has that begins with this region.
    #[inline]
    pub fn lead(self, first: RegionIndex) -> usize {
        let cut = self.cut();
        let (page, place) = first.spread_twice(cut.pages.into(), cut.places.into());
        page as usize * PAGE + place as usize * usize::from(cut.step)
    }

    /// A bit for each block.
    #[inline]
    pub fn all_blocks(self) -> u64 {
        first_blocks(self.blocks())
    }
}

/// A bit for each of the first `count` blocks.
#[inline]
pub(crate) const fn first_blocks(count: usize) -> u64 {
    (1 << count) - 1
}
