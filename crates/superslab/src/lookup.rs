//! Many slabs of one class, looked up by their blocks' addresses.

use crate::geometry::{CAPACITY, GEOMETRIES, Geometry, has_inline_bits};
use crate::record::SlabRecord;
use crate::slab::Slab;
use hakmem_page_arena::{Arena, BITS_BYTES};
use hakmem_region_id::{ClassIndex, MapView, RegionIndex, RegionWord};
use hakmem_sys::prefetch::prefetch;

/// Where the slabs of a class and their records are, looked up once for many blocks.
pub(crate) struct Lookup<'a> {
    arena: &'a Arena,
    map: MapView<'a>,
    records: usize,
    /// Where the bits of region 0 would be, and how far apart those of two neighbours are.
    bits: usize,
    bits_step: usize,
    geometry: Geometry,
}

impl<'a> Lookup<'a> {
    /// Knows all regions that the arena has by now.
    #[inline(always)]
    pub fn of(arena: &'a Arena, class: ClassIndex) -> Self {
        let number = class.number();
        // First: it says that the others are there.
        let map = arena.map().view();
        let records = arena.side_record(RegionIndex(0)).addr();
        let (bits, bits_step) = if has_inline_bits(CAPACITY[number]) {
            let inline = core::mem::offset_of!(SlabRecord, inline_bits);
            (records + inline, size_of::<SlabRecord>())
        } else {
            (arena.bit_space(RegionIndex(0)).addr(), BITS_BYTES)
        };
        Self {
            arena,
            map,
            records,
            bits,
            bits_step,
            geometry: GEOMETRIES[number],
        }
    }

    /// Has the processor bring the record of the slab that this address lies in, both lines of it,
    /// into its first-level cache. Any address will do.
    #[inline(always)]
    pub fn prefetch(&self, address: usize) {
        let record = self.record(self.map.number_of(address)).cast_const();
        prefetch(record);
        prefetch(record.wrapping_add(64));
    }

    /// The region that holds an address, if the arena has it.
    #[inline(always)]
    pub fn region_of(&self, address: usize) -> Option<RegionIndex> {
        self.map.region_of(address)
    }

    /// The word of a region, as it is now.
    ///
    /// # Safety
    ///
    /// [`region_of`](Self::region_of) has found the region.
    #[inline(always)]
    pub unsafe fn word_of(&self, region: RegionIndex) -> RegionWord {
        // SAFETY: the region is in the map.
        unsafe { self.map.get(region) }
    }

    /// A view of a slab.
    ///
    /// # Safety
    ///
    /// As for [`Slab::new`].
    #[inline(always)]
    pub unsafe fn slab(&self, region: RegionIndex) -> Slab<'a> {
        // SAFETY: passed on.
        unsafe { Slab::with_record(self.arena, region, self.record(region.index()).cast()) }
    }

    /// Of the class.
    #[inline(always)]
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// The words with a bit for each free block of a slab of the class.
    #[inline(always)]
    pub fn bits(&self, region: RegionIndex) -> *mut u64 {
        core::ptr::with_exposed_provenance_mut(self.bits + region.index() * self.bits_step)
    }

    #[inline(always)]
    fn record(&self, region: usize) -> *mut u8 {
        let record = region.wrapping_mul(size_of::<SlabRecord>());
        core::ptr::with_exposed_provenance_mut(self.records.wrapping_add(record))
    }
}
