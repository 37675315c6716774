//! The region word: owner and contents of a region in 32 bits, made so that
//! `free` tests both at once.
//!
//! ```text
//!  31                  11 10                    0
//! +----------------------+-----------------------+
//! |  owner code (21)     |  kind (11)            |
//! +----------------------+-----------------------+
//! ```
//!
//! For a region of blocks the kind is the **byte offset of the class's bin**, so
//! `free` needs no multiplication to find it. For anything else it is a value at
//! or past [`BIN_LIMIT`].
//!
//! The owner code is the number of the heap that owns a slab plus one; all bits set is
//! **nobody** (unowned slabs, large runs and free regions). Of a **shared** region, a part of a
//! run of blocks, it is which [part](Part), so that whoever brings blocks home looks nothing up to
//! find their run:
//!
//! ```text
//!  31      27 26        19 18        11 10             0
//! +----------+------------+------------+----------------+
//! |  11000   |  tag (8)   | place (8)  |  kind (11)     |
//! +----------+------------+------------+----------------+
//! ```
//!
//! `free` asks only what the region holds: one `and`, one compare. Whose the block is
//! matters when the bin is flushed.

use crate::size_class::{CLASSES, ClassIndex};
use static_assertions::const_assert;

/// Bytes of a bin descriptor; bin offsets are multiples of it.
pub const BIN_BYTES: usize = 16;
/// Kinds below this are bin offsets. Offset 0 is a bin that is empty and full
/// for ever, so the all-zero word of a region not used yet fails the gate too.
pub const BIN_LIMIT: u32 = ((CLASSES + 1) * BIN_BYTES) as u32;

const KIND_BITS: u32 = 11;
const KIND_MASK: u32 = (1 << KIND_BITS) - 1;

/// How many owners there can be.
pub const OWNERS: u32 = 1 << 20;

const PART_BITS: u32 = 8;
const PLACE_SHIFT: u32 = KIND_BITS;
const TAG_SHIFT: u32 = PLACE_SHIFT + PART_BITS;
const SHARED_SHIFT: u32 = TAG_SHIFT + PART_BITS;
/// The upper bits of the word of a shared region.
const SHARED: u32 = 0b11000 << SHARED_SHIFT;

const_assert!(BIN_LIMIT < KIND_MASK - 16);
const_assert!(SHARED_SHIFT == 27);
// The largest code is none of a shared region's, and so not that of nobody.
const_assert!(OWNERS < SHARED >> KIND_BITS);

/// The owner code of a thread heap: its number plus one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OwnerId(u32);

impl OwnerId {
    /// The code of the heap with this number, or `None` from [`OWNERS`] on.
    pub const fn from_number(number: u32) -> Option<Self> {
        if number < OWNERS {
            Some(Self(number + 1))
        } else {
            None
        }
    }

    /// The number of the heap with this code.
    pub const fn number(self) -> u32 {
        self.0 - 1
    }
}

/// Which part of a run of blocks a region is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Part {
    /// What the run's maker knows it by.
    pub tag: u8,
    /// How many regions of the run come before this one.
    pub place: u8,
}

impl Part {
    /// How many parts a run can have.
    pub const MOST: usize = 1 << PART_BITS;
}

/// What a region that holds no blocks of a class is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Kind {
    /// Not part of the arena (yet).
    Unmapped = 0,
    /// Free, committed, with old contents in it.
    FreeDirty = BIN_LIMIT,
    /// Free, committed, reads as zero.
    FreeClean,
    /// Free, nothing mapped.
    FreeHole,
    /// Inside the arena's range but mapped by somebody else.
    Foreign,
    /// Handed out by the arena, not labelled by its holder yet.
    Taken,
    /// First region of a run that is one allocation.
    LargeStart,
    /// A region inside such a run, or inside a free one: not its first, and of a free one not its
    /// last either. The first one says which it is.
    Inside,
    /// First region of a free run that the pool keeps for the next request.
    Retained,
}

const KINDS: [Kind; 8] = [
    Kind::FreeDirty,
    Kind::FreeClean,
    Kind::FreeHole,
    Kind::Foreign,
    Kind::Taken,
    Kind::LargeStart,
    Kind::Inside,
    Kind::Retained,
];

const NOBODY: u32 = !0 << KIND_BITS;

/// The word of one region.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RegionWord(u32);

impl RegionWord {
    /// A region of blocks of `class` that belongs to `owner`.
    #[inline]
    pub const fn owned(owner: OwnerId, class: ClassIndex) -> Self {
        Self(owner.0 << KIND_BITS | bin_offset(class))
    }

    /// A region of blocks of `class` that belongs to all threads.
    #[inline]
    pub const fn shared(class: ClassIndex, part: Part) -> Self {
        let part = (part.tag as u32) << TAG_SHIFT | (part.place as u32) << PLACE_SHIFT;
        Self(SHARED | part | bin_offset(class))
    }

    /// A region of blocks of `class` that belongs to nobody.
    #[inline]
    pub const fn unowned(class: ClassIndex) -> Self {
        Self(NOBODY | bin_offset(class))
    }

    /// A region that holds no blocks of a class.
    #[inline]
    pub const fn of_kind(kind: Kind) -> Self {
        match kind {
            Kind::Unmapped => Self(0),
            kind => Self(NOBODY | kind as u32),
        }
    }

    /// The word as it stands in the map.
    #[inline(always)]
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// A word read from the map.
    #[inline(always)]
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// The gate: the bin's byte offset if the region holds blocks of a class (or 0,
    /// whose bin takes nothing), else a value at or past [`BIN_LIMIT`].
    #[inline(always)]
    pub const fn gate(self) -> u32 {
        self.0 & KIND_MASK
    }

    /// The class of the region's blocks, whoever owns them.
    #[inline]
    pub const fn class(self) -> Option<ClassIndex> {
        let kind = self.0 & KIND_MASK;
        if kind == 0 || kind >= BIN_LIMIT {
            None
        } else {
            ClassIndex::new(kind as usize / BIN_BYTES - 1)
        }
    }

    /// Whether the region's blocks belong to all threads.
    #[inline]
    pub const fn is_shared(self) -> bool {
        self.0 >> SHARED_SHIFT == SHARED >> SHARED_SHIFT
    }

    /// How many regions of its run come before this one; of a region that is not shared, some number.
    #[inline]
    pub const fn place(self) -> u8 {
        (self.0 >> PLACE_SHIFT) as u8
    }

    /// Which part of a run the region is, if its blocks are of `class` and belong to all threads.
    #[inline]
    pub const fn part_of(self, class: ClassIndex) -> Option<Part> {
        let part = Part {
            tag: (self.0 >> TAG_SHIFT) as u8,
            place: self.place(),
        };
        if self.0 == Self::shared(class, part).0 {
            Some(part)
        } else {
            None
        }
    }

    /// Whether the region's blocks belong to exactly this owner.
    #[inline]
    pub const fn is_owned_by(self, owner: OwnerId) -> bool {
        self.0 >> KIND_BITS == owner.0
    }

    /// The owner, if the region has one.
    pub const fn owner(self) -> Option<OwnerId> {
        let code = self.0 >> KIND_BITS;
        if code == 0 || self.0 >= SHARED {
            None
        } else {
            Some(OwnerId(code))
        }
    }

    /// What the region is, where it holds no blocks of a class.
    pub fn kind(self) -> Option<Kind> {
        if self.0 == 0 {
            return Some(Kind::Unmapped);
        }
        KINDS
            .into_iter()
            .find(|&kind| Self::of_kind(kind).0 == self.0)
    }
}

impl core::fmt::Debug for RegionWord {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match (self.class(), self.kind()) {
            (Some(class), _) => match (self.part_of(class), self.owner()) {
                (Some(Part { tag, place }), _) => {
                    write!(f, "shared({}, tag {tag}, place {place})", class.size())
                }
                (None, Some(owner)) => write!(f, "owned({}, {})", owner.number(), class.size()),
                (None, None) => write!(f, "unowned({})", class.size()),
            },
            (None, Some(kind)) => write!(f, "{kind:?}"),
            (None, None) => write!(f, "RegionWord({:#x})", self.0),
        }
    }
}

/// The byte offset of a class's bin among a heap's bins.
#[inline(always)]
pub const fn bin_offset(class: ClassIndex) -> u32 {
    ((class.number() + 1) * BIN_BYTES) as u32
}
