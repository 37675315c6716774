//! The region map: one word for each region of the arena's address range.

use crate::word::RegionWord;
use core::marker::PhantomData;
use hakmem_sys::sync::{AtomicU32, AtomicUsize, Ordering};

/// `log2` of [`REGION_BYTES`].
pub const REGION_SHIFT: u32 = if cfg!(target_arch = "x86_64") && !cfg!(hakmem_wide_regions) {
    14
} else {
    16
};
/// The size of a region in bytes: 16 KiB on x86-64, where a page always has 4 KiB, and 64 KiB
/// elsewhere, where a page may have as much. (`--cfg hakmem_wide_regions` has 64 KiB everywhere,
/// for the tests.)
pub const REGION_BYTES: usize = 1 << REGION_SHIFT;

/// The number of a region within the arena's range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RegionIndex(pub u32);

impl RegionIndex {
    /// The region `count` regions on.
    #[inline]
    #[must_use]
    pub const fn plus(self, count: usize) -> Self {
        Self(self.0 + count as u32)
    }

    /// The region `count` regions before; one that there may not be, if there are not as many.
    #[inline]
    #[must_use]
    pub const fn back(self, count: u8) -> Self {
        Self(self.0.wrapping_sub(count as u32))
    }

    /// The number as an array index.
    #[inline(always)]
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// One of so many numbers from 0 on. Regions at equal distances, as runs of one length are, get each about
    /// as often: the numbers are the first bits of multiples of the golden ratio (Fibonacci hashing, Knuth,
    /// "The Art of Computer Programming", volume 3, section 6.4).
    #[inline]
    pub const fn spread(self, count: u32) -> u32 {
        self.spread_twice(count, 1).0
    }

    /// Such a number, and another one of so many more: regions get each pair of them about as often.
    #[inline]
    pub const fn spread_twice(self, count: u32, more: u32) -> (u32, u32) {
        let hash = self.0.wrapping_mul(0x9e37_79b9);
        let first = hash as u64 * count as u64;
        let second = first as u32 as u64 * more as u64;
        ((first >> 32) as u32, (second >> 32) as u32)
    }
}

/// Makes the base, the words and their contents visible to who finds an address
/// inside. Pairs with `SET_LEN`.
const LEN: Ordering = if cfg!(hakmem_mutation = "map_len_relaxed") {
    Ordering::Relaxed
} else {
    Ordering::Acquire
};
/// Publishes them.
const SET_LEN: Ordering = if cfg!(hakmem_mutation = "map_set_len_relaxed") {
    Ordering::Relaxed
} else {
    Ordering::Release
};

/// A flat array of [`RegionWord`]s and the range it describes.
///
/// Starts empty (nothing is inside). [`place`](Self::place) says once where the
/// range and the array are; [`set_len`](Self::set_len) moves the end as the
/// arena grows, and never back.
#[derive(Debug)]
#[repr(C)]
pub struct RegionMap {
    base: AtomicUsize,
    len: AtomicUsize,
    words: AtomicUsize,
}

impl Default for RegionMap {
    fn default() -> Self {
        Self::new()
    }
}

impl RegionMap {
    hakmem_sys::const_new! {
        /// An empty map.
        pub fn new() -> Self {
            Self {
                base: AtomicUsize::new(0),
                len: AtomicUsize::new(0),
                words: AtomicUsize::new(0),
            }
        }
    }

    /// Says where the range begins and where the words are (both exposed
    /// addresses). The map stays empty until [`set_len`](Self::set_len).
    ///
    /// # Safety
    ///
    /// The map is empty.
    pub unsafe fn place(&self, base: usize, words: usize) {
        self.base.store(base, Ordering::Relaxed);
        self.words.store(words, Ordering::Relaxed);
    }

    /// Makes the first `regions` regions part of the map.
    ///
    /// Ordering: release, so that a thread that finds an address inside also
    /// finds the base, the words and their contents.
    ///
    /// # Safety
    ///
    /// [`place`](Self::place) was called, `regions` words are readable and
    /// writable at the given address from now on and for ever, and `regions` is
    /// not below an earlier value.
    pub unsafe fn set_len(&self, regions: usize) {
        self.len.store(regions, SET_LEN);
    }

    /// The words, of which [`len`](Self::len) may be read.
    #[inline]
    pub fn words(&self) -> *const AtomicU32 {
        core::ptr::with_exposed_provenance(self.words.load(Ordering::Relaxed))
    }

    /// The address of the first region.
    #[inline(always)]
    pub fn base(&self) -> usize {
        self.base.load(Ordering::Relaxed)
    }

    /// How many regions the map describes.
    ///
    /// Ordering: acquire; what [`base`](Self::base) and [`words`](Self::words) tell after this holds
    /// for all of them.
    #[inline(always)]
    pub fn len(&self) -> usize {
        self.len.load(LEN)
    }

    /// Whether the map describes no region yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where the map begins, and how many regions it describes.
    #[inline(always)]
    fn extent(&self) -> Extent {
        // The length first: its acquire, which on x86-64 costs nothing, covers the base and the
        // words. A base read before it may be that of a map not placed yet, and a length read
        // after that the first one of the map placed meanwhile.
        let early = cfg!(hakmem_mutation = "map_base_first").then(|| self.base());
        let len = self.len();
        let base = early.unwrap_or_else(|| self.base());
        Extent { base, len }
    }

    /// The region that holds `address`, if the map describes it.
    #[inline(always)]
    pub fn region_of(&self, address: usize) -> Option<RegionIndex> {
        self.extent().region_of(address)
    }

    /// What the map describes by now, read once for many lookups.
    ///
    /// Ordering: acquire, as for [`len`](Self::len).
    #[inline(always)]
    pub fn view(&self) -> MapView<'_> {
        let extent = self.extent();
        MapView {
            extent,
            words: self.words(),
            map: PhantomData,
        }
    }

    /// The word of the region that holds `address`, if the map describes it.
    ///
    /// Ordering: relaxed. To the owner its own words are exact; to others a word
    /// is a hint that the owned mark of the slab confirms.
    #[inline(always)]
    pub fn lookup(&self, address: usize) -> Option<RegionWord> {
        let region = self.region_of(address)?;
        // SAFETY: `region` is below the length.
        Some(unsafe { self.get(region) })
    }

    #[inline(always)]
    fn slot(&self, region: RegionIndex) -> &AtomicU32 {
        // SAFETY: by the contract of `set_len` the word exists for ever; callers
        // pass regions below the length.
        unsafe { &*self.words().add(region.index()) }
    }

    /// The word of a region.
    ///
    /// # Safety
    ///
    /// `region` is below [`len`](Self::len).
    #[inline(always)]
    pub unsafe fn get(&self, region: RegionIndex) -> RegionWord {
        RegionWord::from_bits(self.slot(region).load(Ordering::Relaxed))
    }

    /// Sets the word of a region.
    ///
    /// Ordering: relaxed; what hands the region to another thread orders it.
    ///
    /// # Safety
    ///
    /// `region` is below [`len`](Self::len) (or its word is about to come into
    /// it), and the calling thread is the one that may change it.
    #[inline]
    pub unsafe fn set(&self, region: RegionIndex, word: RegionWord) {
        self.slot(region).store(word.bits(), Ordering::Relaxed);
    }

    /// The address of a region's first byte.
    #[inline(always)]
    pub fn address_of(&self, region: RegionIndex) -> usize {
        address_in(self.base(), region)
    }
}

/// The address of a region's first byte, in a map that begins there.
#[inline(always)]
const fn address_in(base: usize, region: RegionIndex) -> usize {
    base + (region.index() << REGION_SHIFT)
}

/// Where a map begins, and how many regions it describes.
#[derive(Clone, Copy, Debug)]
struct Extent {
    base: usize,
    len: usize,
}

impl Extent {
    #[inline(always)]
    const fn number_of(self, address: usize) -> usize {
        address.wrapping_sub(self.base) >> REGION_SHIFT
    }

    #[inline(always)]
    const fn region_of(self, address: usize) -> Option<RegionIndex> {
        let number = self.number_of(address);
        if number < self.len {
            Some(RegionIndex(number as u32))
        } else {
            None
        }
    }
}

/// What a [`RegionMap`] described at some moment: all that it will say of these regions is true for ever, but for the
/// words, which are read when they are asked for.
#[derive(Clone, Copy, Debug)]
pub struct MapView<'a> {
    extent: Extent,
    words: *const AtomicU32,
    map: PhantomData<&'a RegionMap>,
}

impl MapView<'_> {
    /// The number of the region that holds `address`, whether there is one or not.
    #[inline(always)]
    pub const fn number_of(&self, address: usize) -> usize {
        self.extent.number_of(address)
    }

    /// The region that holds `address`, if the view describes it.
    #[inline(always)]
    pub const fn region_of(&self, address: usize) -> Option<RegionIndex> {
        self.extent.region_of(address)
    }

    /// The word of a region, as it is now (relaxed; see [`RegionMap::lookup`]).
    ///
    /// # Safety
    ///
    /// The view describes the region.
    #[inline(always)]
    pub unsafe fn get(&self, region: RegionIndex) -> RegionWord {
        // SAFETY: by the contract of `RegionMap::set_len` the word exists for ever.
        let word = unsafe { &*self.words.add(region.index()) };
        RegionWord::from_bits(word.load(Ordering::Relaxed))
    }

    /// The address of a region's first byte.
    #[inline(always)]
    pub const fn address_of(&self, region: RegionIndex) -> usize {
        address_in(self.extent.base, region)
    }
}
