//! Size classes.
//!
//! 8-byte steps to 128 bytes, then eight classes per doubling to 32 KiB, so a
//! request above 128 bytes is rounded up by less than a seventh. Classes up to 1 KiB are *tiny* (slabs
//! owned by one thread), those above are *mid* (runs shared by all threads);
//! both go through the same bins. Of the mid classes those above 32 KiB are the *coarse* ones, four per doubling to
//! 128 KiB: what a request is rounded up by there is whole pages, mostly, which nobody touches.
//!
//! From 2 KiB on each class is 128 bytes larger than that, an odd multiple of 128. Blocks of a power of two
//! would lie at addresses that agree in their lowest bits: a program that goes through several of them side by
//! side, as down a column of a matrix by rows, would have all its places in one set of the processor's caches.
//!
//! Up to 1920 bytes a block's address is a multiple of the largest power of two that divides its
//! class's size, because slabs start on region borders, and the first block of a run at such a multiple: this is
//! how alignments are served. From 2 KiB on it is one of 64, a line of the processor's caches, so that runs can start on
//! each, and not on every other one. For what needs more there are mid classes besides, four per doubling from 2 KiB
//! on, which serve nothing else: the *aligned* classes.

use core::ops::Range;
use static_assertions::const_assert;

/// How many size classes have bins: first the plain ones, smallest first, then those for aligned blocks.
pub const CLASSES: usize = PLAIN_CLASSES + ALIGNED_SIZES.len();
/// How many of them are plain.
pub const PLAIN_CLASSES: usize = FINE_CLASSES + 8;
/// How many of them are tiny.
pub const TINY_CLASSES: usize = 40;
/// How many of the plain ones are no coarse ones.
const FINE_CLASSES: usize = 80;
/// The numbers of the coarse ones.
pub const COARSE_CLASSES: Range<usize> = FINE_CLASSES..PLAIN_CLASSES;
/// The sizes of the aligned classes.
const ALIGNED_SIZES: [u32; 17] = [
    2048, 2560, 3072, 3584, 4096, 5120, 6144, 7168, 8192, 10240, 12288, 14336, 16384, 20480, 24576,
    28672, 32768,
];
/// The first plain class that is larger than its place among the eighths says, by so many bytes.
const FIRST_ODD: usize = 47;
const ODD_BY: usize = 128;
/// The largest tiny size in bytes.
pub const MAX_TINY: usize = 1024;
/// The largest size in bytes whose class is no coarse one.
pub const MAX_FINE: usize = 32 * 1024 + ODD_BY;
/// The largest size in bytes that has a bin.
pub const MAX_CACHED: usize = 128 * 1024 + ODD_BY;
/// The largest alignment that has bins.
pub const MAX_CACHED_ALIGN: usize = 32 * 1024;
/// Blocks of all mid classes are at multiples of this.
pub const MID_ALIGN: usize = 64;

/// The number of a size class, below [`CLASSES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClassIndex(u8);

impl ClassIndex {
    /// The class with this number, if there is one.
    pub const fn new(number: usize) -> Option<Self> {
        if number < CLASSES {
            Some(Self(number as u8))
        } else {
            None
        }
    }

    /// The class with this number.
    ///
    /// # Safety
    ///
    /// `number` is below [`CLASSES`].
    #[inline(always)]
    pub const unsafe fn new_unchecked(number: usize) -> Self {
        Self(number as u8)
    }

    /// The smallest plain class whose blocks hold `size` bytes, or `None` above
    /// [`MAX_CACHED`]. Size 0 is served by the smallest class.
    #[inline]
    pub const fn for_size(size: usize) -> Option<Self> {
        if size <= MAX_TINY {
            Some(Self(TINY_BY_STEP[size.div_ceil(8)]))
        } else if size <= MAX_FINE {
            Some(Self(MID_BY_STEP[mid_step(size)]))
        } else if size <= MAX_CACHED {
            Some(Self(COARSE_BY_STEP[coarse_step(size)]))
        } else {
            None
        }
    }

    /// The smallest class whose blocks hold `size` bytes at addresses that are
    /// multiples of `align`, or `None` where there is none, as if `align` is no power of two.
    pub const fn for_layout(size: usize, align: usize) -> Option<Self> {
        if !align.is_power_of_two() || align > MAX_CACHED_ALIGN || size > MAX_CACHED {
            return None;
        }
        let needed = if size == 0 {
            align
        } else {
            (size + align - 1) & !(align - 1)
        };
        // What is a multiple of the alignment has a class of just that size, or one whose step is a multiple, too.
        if align <= MID_ALIGN {
            return Self::for_size(needed);
        }
        if needed > MAX_CACHED_ALIGN {
            return None;
        }
        Some(Self(ALIGNED_BY_STEP[(needed - 1) / ALIGNED_STEP]))
    }

    /// The class's number.
    #[inline(always)]
    pub const fn number(self) -> usize {
        self.0 as usize
    }

    /// The size of the class's blocks in bytes.
    #[inline(always)]
    pub const fn size(self) -> usize {
        // SAFETY: every way to make one looks at the number, or has its caller do so.
        unsafe { core::hint::assert_unchecked((self.0 as usize) < CLASSES) };
        SIZES[self.0 as usize] as usize
    }

    /// What the addresses of the class's blocks are multiples of.
    #[inline]
    pub const fn align(self) -> usize {
        if self.is_odd() {
            MID_ALIGN
        } else {
            1 << self.size().trailing_zeros()
        }
    }

    /// Whether the class is one whose size is an odd multiple of 128 for the sake of its blocks' places.
    const fn is_odd(self) -> bool {
        FIRST_ODD <= self.0 as usize && self.is_plain()
    }

    /// Whether the class is none of the aligned ones: of two plain classes the one with the larger number has the
    /// larger blocks.
    #[inline(always)]
    pub const fn is_plain(self) -> bool {
        (self.0 as usize) < PLAIN_CLASSES
    }

    /// Whether the class is one of the coarse ones.
    #[inline(always)]
    pub const fn is_coarse(self) -> bool {
        FINE_CLASSES <= self.0 as usize && self.is_plain()
    }

    /// Whether blocks of the class live in slabs owned by a thread.
    #[inline(always)]
    pub const fn is_tiny(self) -> bool {
        (self.0 as usize) < TINY_CLASSES
    }

    /// All classes, by number.
    pub fn all() -> impl DoubleEndedIterator<Item = Self> + ExactSizeIterator {
        (0..CLASSES as u8).map(Self)
    }
}

/// Block sizes in bytes by class number.
pub static SIZES: [u32; CLASSES] = SIZES_CONST;

const SIZES_CONST: [u32; CLASSES] = {
    let mut sizes = [0; CLASSES];
    let mut number = 0;
    while number < CLASSES {
        sizes[number] = if number < 16 {
            8 * (number as u32 + 1)
        } else if number < FINE_CLASSES {
            let base = 128usize << ((number - 16) / 8);
            let more = if number < FIRST_ODD { 0 } else { ODD_BY };
            (base + ((number - 16) % 8 + 1) * (base / 8) + more) as u32
        } else if number < PLAIN_CLASSES {
            let base = (MAX_FINE - ODD_BY) << ((number - FINE_CLASSES) / 4);
            (base + ((number - FINE_CLASSES) % 4 + 1) * (base / 4) + ODD_BY) as u32
        } else {
            ALIGNED_SIZES[number - PLAIN_CLASSES]
        };
        number += 1;
    }
    sizes
};

/// Steps of the table for sizes up to [`MAX_TINY`]: entry `i` serves sizes up to
/// `8 * i` bytes.
pub const TINY_STEPS: usize = MAX_TINY / 8 + 1;
/// Steps of the table for sizes up to [`MAX_FINE`].
pub const MID_STEPS: usize = mid_step(MAX_FINE) + 1;
/// Steps of the table for sizes above, up to [`MAX_CACHED`].
pub const COARSE_STEPS: usize = coarse_step(MAX_CACHED) + 1;

/// The step of a size up to [`MAX_FINE`], not zero: of up to 128 bytes the first, then one for each 128.
#[inline(always)]
pub const fn mid_step(size: usize) -> usize {
    (size - 1) / 128
}

/// The step of a larger size, up to [`MAX_CACHED`]: one for each 8 KiB.
#[inline(always)]
pub const fn coarse_step(size: usize) -> usize {
    (size - ODD_BY - 1) / COARSE_STEP
}

const COARSE_STEP: usize = 8 * 1024;

const fn class_of_const(size: usize) -> usize {
    let mut number = 0;
    while (SIZES_CONST[number] as usize) < size {
        number += 1;
    }
    number
}

/// Class numbers for sizes in steps of 8 bytes, alignment 8 (a `GlobalAlloc`
/// request that asks for no more).
pub const TINY_BY_STEP: [u8; TINY_STEPS] = {
    let mut table = [0; TINY_STEPS];
    let mut step = 0;
    while step < TINY_STEPS {
        table[step] = class_of_const(step * 8) as u8;
        step += 1;
    }
    table
};

/// Class numbers for sizes in steps of 8 bytes as `malloc` has to serve them:
/// past 8 bytes, every block is 16-byte aligned.
pub const TINY_BY_STEP_16: [u8; TINY_STEPS] = {
    let mut table = [0; TINY_STEPS];
    let mut step = 0;
    while step < TINY_STEPS {
        let size = if step <= 1 {
            8
        } else {
            (step * 8).next_multiple_of(16)
        };
        table[step] = class_of_const(size) as u8;
        step += 1;
    }
    table
};

/// The least alignment that not all mid blocks have.
const ALIGNED_STEP: usize = 2 * MID_ALIGN;
/// Numbers of classes for sizes in such steps, all of them multiples of it. Where a size is a multiple of a power
/// of two, so is that of its class: there are at least four to a doubling.
const ALIGNED_BY_STEP: [u8; MAX_CACHED_ALIGN / ALIGNED_STEP] = {
    let mut table = [0; MAX_CACHED_ALIGN / ALIGNED_STEP];
    let mut step = 0;
    while step < table.len() {
        let needed = (step + 1) * ALIGNED_STEP;
        let mut number = 0;
        while (SIZES_CONST[number] as usize) < needed || ClassIndex(number as u8).is_odd() {
            number += 1;
        }
        table[step] = number as u8;
        step += 1;
    }
    table
};

/// Class numbers for sizes in steps of 128 bytes.
pub const MID_BY_STEP: [u8; MID_STEPS] = {
    let mut table = [0; MID_STEPS];
    let mut step = 0;
    while step < MID_STEPS {
        table[step] = class_of_const((step + 1) * 128) as u8;
        step += 1;
    }
    table
};

/// Class numbers for sizes in steps of 8 KiB. The first ones are not used.
pub const COARSE_BY_STEP: [u8; COARSE_STEPS] = {
    let mut table = [0; COARSE_STEPS];
    let mut step = 0;
    while step < COARSE_STEPS {
        table[step] = class_of_const((step + 1) * COARSE_STEP + ODD_BY) as u8;
        step += 1;
    }
    table
};

const_assert!(SIZES_CONST[TINY_CLASSES - 1] as usize == MAX_TINY);
const_assert!(SIZES_CONST[FINE_CLASSES - 1] as usize == MAX_FINE);
const_assert!(SIZES_CONST[PLAIN_CLASSES - 1] as usize == MAX_CACHED);
const_assert!({
    // Ascending, multiples of 8, and past 128 bytes never more than an eighth
    // above the class before, past 32 KiB a fourth.
    let mut number = 1;
    let mut good = SIZES_CONST[0] == 8;
    while number < PLAIN_CLASSES {
        let (before, size) = (SIZES_CONST[number - 1], SIZES_CONST[number]);
        let share = if number < FINE_CLASSES { 8 } else { 4 };
        good &= size > before && size % 8 == 0 && (size <= 128 || (size - before) * share <= size);
        number += 1;
    }
    good
});
const_assert!({
    // All mid blocks are aligned as they should be, and the odd ones no further.
    let mut number = TINY_CLASSES;
    let mut good = true;
    while number < CLASSES {
        let size = SIZES_CONST[number] as usize;
        let is_odd = ClassIndex(number as u8).is_odd();
        good &= size.is_multiple_of(MID_ALIGN) && (!is_odd || size % (2 * ODD_BY) == ODD_BY);
        number += 1;
    }
    good
});
