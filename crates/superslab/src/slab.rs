//! A slab, as its owner sees it: taking blocks.

use crate::bits::{ones, row_of_ones};
use crate::geometry::{CAPACITY, GEOMETRIES, Geometry, INLINE_BITS, has_inline_bits};
use crate::holes::TAKEN;
use crate::record::{Backing, OwnPart, Place, SharedPart, SlabRecord, record_of};
use hakmem_page_arena::{Arena, BITS_BYTES};
use hakmem_region_id::{ClassIndex, REGION_BYTES, RegionIndex, TINY_CLASSES};
use hakmem_remote_free::RemoteList;
use hakmem_sys::vm;

/// So many free blocks in a row or more are handed out together.
const LONG_ROW: u32 = 8;

/// The owner's view of a slab.
#[derive(Clone, Copy)]
pub(crate) struct Slab<'a> {
    pub region: RegionIndex,
    arena: &'a Arena,
    /// Where the region's record is, found once for all that is asked of the slab.
    record: *mut SlabRecord,
}

impl<'a> Slab<'a> {
    /// # Safety
    ///
    /// For as long as the view is used, the caller owns the slab in this region and holds the
    /// owner's lock, or nobody else can know the slab.
    pub unsafe fn new(arena: &'a Arena, region: RegionIndex) -> Self {
        Self {
            region,
            arena,
            record: record_of(arena, region),
        }
    }

    /// The same, where the record has been looked up.
    ///
    /// # Safety
    ///
    /// As for [`new`](Self::new); and the record is that of the region.
    #[inline(always)]
    pub unsafe fn with_record(
        arena: &'a Arena,
        region: RegionIndex,
        record: *mut SlabRecord,
    ) -> Self {
        Self {
            region,
            arena,
            record,
        }
    }

    pub fn own(&self) -> &'a OwnPart {
        // SAFETY: as in `own_of`, by the contract of `new`.
        unsafe { &(*self.record).own }
    }

    pub fn shared(&self) -> &'a SharedPart {
        // SAFETY: as in `shared_of`.
        unsafe { &(*self.record).shared }
    }

    pub fn remote(&self) -> &'a RemoteList {
        &self.shared().remote
    }

    pub fn base(&self) -> usize {
        self.arena.map().address_of(self.region)
    }

    pub fn class(&self) -> ClassIndex {
        // SAFETY: `start` wrote a class's number.
        unsafe { ClassIndex::new_unchecked(self.class_number()) }
    }

    /// The class's number, where it is an index into a table of tiny classes.
    #[inline(always)]
    pub fn class_number(&self) -> usize {
        let number = usize::from(self.own().class.get());
        // SAFETY: `start` wrote a tiny class's number.
        unsafe { core::hint::assert_unchecked(number < TINY_CLASSES) };
        number
    }

    /// Of the slab's class.
    #[inline(always)]
    pub fn geometry(&self) -> Geometry {
        GEOMETRIES[self.class_number()]
    }

    /// Bytes of a block.
    #[inline(always)]
    pub fn block_size(&self) -> usize {
        self.geometry().size.into()
    }

    pub fn capacity(&self) -> u16 {
        CAPACITY[self.class_number()]
    }

    /// Whether no block is in use.
    pub fn is_all_free(&self) -> bool {
        self.shared().free() == self.shared().carved()
    }

    /// The place of a slab that has free blocks and is not the current one.
    pub fn place_with_room(&self) -> Place {
        if self.shared().free() < self.geometry().sparse_from {
            Place::Partial
        } else {
            Place::Sparse
        }
    }

    /// Whether a slab into which its own heap has freed stays where it is, as far as can be told
    /// at once.
    #[inline(always)]
    pub fn may_stay(&self) -> bool {
        let (shared, sparse_from) = (self.shared(), self.geometry().sparse_from);
        self.may_stay_with(shared.free(), shared.carved(), sparse_from)
    }

    /// The same, where it is known already how many blocks are free and carved, and from how many on
    /// the slab is sparse.
    #[inline(always)]
    pub fn may_stay_with(&self, free: u16, carved: u16, sparse_from: u16) -> bool {
        let place = self.own().place.get();
        // All of a slab that has not been carved to its end may be fewer than mostly.
        place == Place::Current
            || (free < carved
                && (place == Place::Sparse || (place == Place::Partial && free < sparse_from)))
    }

    /// Blocks that a refill can take.
    pub fn available(&self) -> u16 {
        let shared = self.shared();
        shared.free() + (self.capacity() - shared.carved())
    }

    /// The words with a bit for each free block.
    pub fn bits(&self) -> *mut u64 {
        if has_inline_bits(self.capacity()) {
            // SAFETY: the record is there, and no borrow is made.
            unsafe { (&raw mut (*self.record).inline_bits).cast() }
        } else {
            self.arena.bit_space(self.region)
        }
    }

    /// Has the system put memory behind the next untouched blocks, if so many are about to
    /// be taken and there may be none, for at least `least` bytes.
    pub fn populate(&self, blocks: usize, least: usize) {
        let (own, shared) = (self.own(), self.shared());
        let carved = shared.carved() as usize;
        let uncarved = self.capacity() as usize - carved;
        let fresh = blocks.saturating_sub(shared.free() as usize).min(uncarved);
        if fresh == 0 {
            return;
        }
        let (page, size) = (vm::page_size(), self.block_size());
        let front = own.memory.get().front();
        let end = (carved + fresh) * size;
        // Nearly always, and a page's size is no constant to divide by.
        if end <= front * page {
            return;
        }
        let pages = REGION_BYTES / page;
        let needed = end.div_ceil(page);
        // The page that the last block lies in has been touched.
        let from = front.max((carved * size).div_ceil(page));
        if needed <= from {
            return;
        }
        let to = needed.max(from + least / page).min(pages);
        // SAFETY: the region is the caller's. Where this fails, nothing is lost: the memory
        // comes as the blocks are touched.
        let _ = unsafe { vm::populate(self.base() + from * page, (to - from) * page) };
        own.memory.set(Backing::pages(to));
    }

    /// Makes an empty region a slab of `class` with nothing carved.
    pub fn start(&self, class: ClassIndex) {
        let own = self.own();
        own.class.set(class.number() as u8);
        own.hint.set(0);
        own.place.set(Place::Nowhere);
        own.memory.set(if own.memory.get().is_some() {
            Backing::ALL
        } else {
            Backing::pages(0)
        });
        own.seen.set(TAKEN);
        self.shared().set_free(0);
        self.shared().set_carved(0);
        if has_inline_bits(self.capacity()) {
            // SAFETY: so many words are the record's, and the owner's.
            unsafe { self.bits().write_bytes(0, INLINE_BITS / 64) };
        } else if own.stale_bits.replace(true) {
            // SAFETY: the region's bit space is the owner's, and long enough
            // for one bit for each block.
            unsafe { self.bits().write_bytes(0, BITS_BYTES / size_of::<u64>()) };
        }
    }

    /// Takes up to `out.len()` free blocks in ascending order, those freed
    /// before first, then untouched ones.
    pub fn take(&self, out: &mut [*mut u8]) -> usize {
        let (own, shared) = (self.own(), self.shared());
        // What is freed from here on has been used, though there be as much of it as before.
        own.seen.set(TAKEN);
        let class = self.class_number();
        let size = self.block_size();
        let base = self.base();
        let mut taken = 0;
        let free = shared.free();
        if free > 0 {
            let bits = self.bits();
            let wanted = out.len().min(free as usize);
            let mut word_index = usize::from(own.hint.get());
            loop {
                // SAFETY: as long as fewer blocks were taken than bits are set,
                // there is a set bit in this word or one after it.
                let word = unsafe { &mut *bits.add(word_index) };
                let mut set = *word;
                // What was freed in a row, as a burst leaves it, comes in a row.
                let start = set.trailing_zeros();
                let row = row_of_ones(set, start).min((wanted - taken) as u32);
                if row >= LONG_ROW {
                    let first = base + (word_index * 64 + start as usize) * size;
                    write_row(&mut out[taken..taken + row as usize], first, size);
                    taken += row as usize;
                    set &= !(ones(row as usize) << start);
                }
                while set != 0 && taken < wanted {
                    let block = word_index * 64 + set.trailing_zeros() as usize;
                    set &= set - 1;
                    out[taken] = core::ptr::with_exposed_provenance_mut(base + block * size);
                    taken += 1;
                }
                *word = set;
                if taken == wanted {
                    break;
                }
                word_index += 1;
            }
            own.hint.set(word_index as u8);
            shared.set_free(free - taken as u16);
        }
        let carved = shared.carved();
        let fresh = (out.len() - taken).min((CAPACITY[class] - carved) as usize);
        let first = base + carved as usize * size;
        write_row(&mut out[taken..taken + fresh], first, size);
        shared.set_carved(carved + fresh as u16);
        taken + fresh
    }
}

/// Writes the addresses of blocks in a row.
#[inline]
fn write_row(out: &mut [*mut u8], first: usize, size: usize) {
    let mut address = first;
    for slot in out {
        *slot = core::ptr::with_exposed_provenance_mut(address);
        address += size;
    }
}
