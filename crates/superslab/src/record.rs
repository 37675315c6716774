//! The record of a slab.

use hakmem_page_arena::{Arena, RUN_SIDE, SLAB_SIDE};
use hakmem_region_id::{ClassIndex, REGION_BYTES, RegionIndex, TINY_CLASSES, size_class::SIZES};
use hakmem_remote_free::{RemoteList, StackLinks};
use hakmem_sys::sync::{AtomicU32, AtomicU64};
use hakmem_sys::vm;
use static_assertions::const_assert;

/// Bits that fit into the record; slabs with more blocks use the region's bit
/// space.
const INLINE_BITS: usize = 512;

/// Where among its owner's lists a slab stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Place {
    /// In none.
    Nowhere,
    /// It is the one that refills come from.
    Current,
    /// In the list of slabs with free blocks.
    Partial,
    /// In the list of slabs without.
    Full,
}

/// What is kept of a slab: in the side record of its region.
///
/// The first five fields are atomics that anybody may read at any time. All
/// others belong to the owner, under its lock.
#[repr(C, align(128))]
pub struct SlabRecord {
    pub(crate) remote: RemoteList,
    /// Of the superslab that starts here; see [`crate::superslab`].
    pub(crate) superslab: AtomicU64,
    /// Link in the class's pool.
    pub(crate) pool_link: AtomicU32,
    /// Link in the owner's inbox.
    pub(crate) inbox_link: AtomicU32,
    /// Link in the list of superslabs, of the superslab that starts here.
    pub(crate) superslab_link: AtomicU32,
    /// Neighbours in the owner's list, as region + 1.
    pub(crate) prev: u32,
    pub(crate) next: u32,
    /// Free blocks among the carved ones: how many bits are set.
    pub(crate) free: u16,
    /// Blocks carved so far, from the slab's start.
    pub(crate) carved: u16,
    pub(crate) class: u8,
    pub(crate) place: Place,
    /// No bit is set in words before this one.
    hint: u8,
    /// Whether the bit space may hold bits of an earlier life.
    stale_bits: bool,
    /// Whether the blocks may have been touched since the memory was last given
    /// back to the system.
    pub(crate) dirty: bool,
    /// The pool's epoch when the slab became empty.
    pub(crate) emptied: u8,
    /// How many blocks were free when the purge last looked, and `PURGED`.
    holes: u16,
    _run: [u64; 2],
    inline_bits: [u64; INLINE_BITS / 64],
}

const_assert!(SLAB_SIDE.end == RUN_SIDE.start);
// Loom's atomics have sizes of their own; the layout is that of the real ones.
#[cfg(not(loom))]
const_assert!(core::mem::offset_of!(SlabRecord, _run) == RUN_SIDE.start);
#[cfg(not(loom))]
const_assert!(core::mem::offset_of!(SlabRecord, inline_bits) == RUN_SIDE.end);
#[cfg(not(loom))]
const_assert!(core::mem::size_of::<SlabRecord>() == hakmem_page_arena::SIDE_BYTES);

/// Blocks in a slab of each tiny class.
pub(crate) const CAPACITY: [u16; TINY_CLASSES] = {
    let mut table = [0; TINY_CLASSES];
    let mut number = 0;
    while number < TINY_CLASSES {
        let size = match ClassIndex::new(number) {
            Some(class) => class.size(),
            None => REGION_BYTES,
        };
        table[number] = (REGION_BYTES / size) as u16;
        number += 1;
    }
    table
};

/// `ceil(2^32 / size)`: `offset * RECIPROCAL >> 32` is `offset / size` for all
/// offsets in a region, because the product's error stays below one block.
const RECIPROCAL: [u32; TINY_CLASSES] = {
    let mut table = [0; TINY_CLASSES];
    let mut number = 0;
    while number < TINY_CLASSES {
        let size = match ClassIndex::new(number) {
            Some(class) => class.size() as u64,
            None => 1,
        };
        table[number] = ((1u64 << 32).div_ceil(size)) as u32;
        number += 1;
    }
    table
};

/// Marks in a record's `holes` that its free pages are given back already.
const PURGED: u16 = 1 << 15;

/// Why an address is not a block that can be freed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadBlock {
    /// It is not the start of a block; this many bytes into one.
    Interior(usize),
    /// The block was never handed out.
    NeverAllocated,
    /// The block is free already.
    AlreadyFree,
}

impl BadBlock {
    /// Of an address that is past what was carved, or else so far into a block.
    #[cold]
    fn of(inside: usize, past: bool) -> Self {
        if past {
            Self::NeverAllocated
        } else {
            Self::Interior(inside)
        }
    }
}

/// The record of the slab in this region.
pub(crate) fn record_of(arena: &Arena, region: RegionIndex) -> *mut SlabRecord {
    arena.side_record(region).cast()
}

/// The atomics of a record, which anybody may use at any time.
pub(crate) struct Atomics<'a> {
    pub remote: &'a RemoteList,
    pub superslab: &'a AtomicU64,
    pub pool_link: &'a AtomicU32,
    pub inbox_link: &'a AtomicU32,
    pub superslab_link: &'a AtomicU32,
}

/// The atomics of the record of this region.
pub(crate) fn atomics_of(arena: &Arena, region: RegionIndex) -> Atomics<'_> {
    let record = record_of(arena, region);
    // SAFETY: side records stay mapped for ever, zero bytes are valid atomics,
    // and nobody else than slabs uses this part of them. Only the atomic fields
    // are borrowed, so the owner's access to the others does not conflict.
    unsafe {
        Atomics {
            remote: &(*record).remote,
            superslab: &(*record).superslab,
            pool_link: &(*record).pool_link,
            inbox_link: &(*record).inbox_link,
            superslab_link: &(*record).superslab_link,
        }
    }
}

/// Carved less free blocks of the slab in this region, for statistics.
pub(crate) fn carved_and_free(arena: &Arena, region: RegionIndex) -> usize {
    let record = record_of(arena, region);
    // SAFETY: side records stay mapped for ever; a value read while the owner
    // changes it is old, not invalid.
    let (carved, free) = unsafe {
        (
            (&raw const (*record).carved).read_volatile(),
            (&raw const (*record).free).read_volatile(),
        )
    };
    carved.saturating_sub(free) as usize
}

/// Links of a class's pool.
pub(crate) struct PoolLinks<'a>(pub &'a Arena);
/// Links of an inbox.
pub(crate) struct InboxLinks<'a>(pub &'a Arena);
/// Links of the list of superslabs.
pub(crate) struct SuperslabLinks<'a>(pub &'a Arena);

impl StackLinks for PoolLinks<'_> {
    fn link(&self, index: u32) -> &AtomicU32 {
        atomics_of(self.0, RegionIndex(index)).pool_link
    }
}

impl StackLinks for InboxLinks<'_> {
    fn link(&self, index: u32) -> &AtomicU32 {
        atomics_of(self.0, RegionIndex(index)).inbox_link
    }
}

impl StackLinks for SuperslabLinks<'_> {
    fn link(&self, index: u32) -> &AtomicU32 {
        atomics_of(self.0, RegionIndex(index)).superslab_link
    }
}

/// The owner's view of a slab.
#[derive(Clone, Copy)]
pub(crate) struct Slab<'a> {
    pub region: RegionIndex,
    record: *mut SlabRecord,
    arena: &'a Arena,
}

impl<'a> Slab<'a> {
    /// # Safety
    ///
    /// The caller owns the slab in this region and holds the owner's lock (or
    /// nobody else can know the slab), and uses no two views' references at once.
    pub unsafe fn new(arena: &'a Arena, region: RegionIndex) -> Self {
        Self {
            region,
            record: record_of(arena, region),
            arena,
        }
    }

    #[expect(clippy::mut_from_ref, reason = "the view stands for exclusive access")]
    pub fn record(&self) -> &mut SlabRecord {
        // SAFETY: by the contract of `new`; the borrow is not kept across uses of
        // another view. The atomics inside may be used by others meanwhile, which
        // interior mutability allows.
        unsafe { &mut *self.record }
    }

    pub fn remote(&self) -> &'a RemoteList {
        atomics_of(self.arena, self.region).remote
    }

    pub fn base(&self) -> usize {
        self.arena.map().address_of(self.region)
    }

    pub fn class(&self) -> ClassIndex {
        // SAFETY: `start` wrote a tiny class's number.
        unsafe { ClassIndex::new_unchecked(self.record().class as usize) }
    }

    pub fn capacity(&self) -> u16 {
        CAPACITY[self.record().class as usize]
    }

    /// Whether no block is in use.
    pub fn is_all_free(&self) -> bool {
        let record = self.record();
        record.free == record.carved
    }

    /// Whether at least three quarters of the slab's blocks are free.
    pub fn is_mostly_free(&self) -> bool {
        self.mostly_free_at(self.record().free)
    }

    /// Whether that is so with this many free blocks.
    pub fn mostly_free_at(&self, free: u16) -> bool {
        let capacity = self.capacity();
        free >= capacity - capacity / 4
    }

    /// Blocks that a refill can take.
    pub fn available(&self) -> u16 {
        let record = self.record();
        record.free + (CAPACITY[record.class as usize] - record.carved)
    }

    fn bits(&self) -> *mut u64 {
        let record = self.record();
        if CAPACITY[record.class as usize] as usize <= INLINE_BITS {
            record.inline_bits.as_mut_ptr()
        } else {
            self.arena.bit_space(self.region)
        }
    }

    /// Has the system put memory behind an empty slab, if there may be none.
    pub fn populate(&self) {
        if !self.record().dirty {
            // SAFETY: the region is the caller's. Where this fails, nothing is lost: the
            // memory comes as the blocks are touched.
            let _ = unsafe { vm::populate(self.base(), REGION_BYTES) };
        }
    }

    /// Makes an empty region a slab of `class` with nothing carved.
    pub fn start(&self, class: ClassIndex) {
        let record = self.record();
        let words = (CAPACITY[class.number()] as usize).div_ceil(64);
        record.class = class.number() as u8;
        record.free = 0;
        record.carved = 0;
        record.hint = 0;
        record.place = Place::Nowhere;
        record.dirty = true;
        record.holes = 0;
        record.inline_bits = [0; INLINE_BITS / 64];
        if words > INLINE_BITS / 64 {
            if record.stale_bits {
                // SAFETY: the region's bit space is the owner's, and long enough
                // for one bit for each block.
                unsafe { self.arena.bit_space(self.region).write_bytes(0, 128) };
            }
            record.stale_bits = true;
        }
    }

    /// Takes up to `out.len()` free blocks in ascending order, those freed
    /// before first, then untouched ones.
    pub fn take(&self, out: &mut [*mut u8]) -> usize {
        let record = self.record();
        let class = record.class as usize;
        let size = SIZES[class] as usize;
        let base = self.base();
        let mut taken = 0;
        if record.free > 0 {
            let bits = self.bits();
            let wanted = out.len().min(record.free as usize);
            let mut word_index = record.hint as usize;
            loop {
                // SAFETY: as long as fewer blocks were taken than bits are set,
                // there is a set bit in this word or one after it.
                let word = unsafe { &mut *bits.add(word_index) };
                let mut set = *word;
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
            record.hint = word_index as u8;
            record.free -= taken as u16;
        }
        let fresh = (out.len() - taken).min((CAPACITY[class] - record.carved) as usize);
        for block in record.carved as usize..record.carved as usize + fresh {
            out[taken] = core::ptr::with_exposed_provenance_mut(base + block * size);
            taken += 1;
        }
        record.carved += fresh as u16;
        taken
    }

    /// Marks blocks as free, given their addresses in the slab's region, as long
    /// as there are any; stops at the first that is not there to be freed.
    #[inline]
    pub fn put_all(
        &self,
        addresses: impl Iterator<Item = usize>,
    ) -> Result<usize, (usize, BadBlock)> {
        let record = self.record();
        let class = record.class as usize;
        let bits = self.bits();
        let reciprocal = u64::from(RECIPROCAL[class]);
        let size = SIZES[class] as usize;
        let carved = record.carved as usize;
        let mut hint = record.hint as usize;
        let mut count = 0;
        let mut outcome = Ok(());
        for address in addresses {
            let offset = address & (REGION_BYTES - 1);
            let block = ((offset as u64 * reciprocal) >> 32) as usize;
            let inside = offset - block * size;
            if inside != 0 || block >= carved {
                outcome = Err((address, BadBlock::of(inside, block >= carved)));
                break;
            }
            let index = block / 64;
            // SAFETY: `block` is below the capacity, so the word exists.
            let word = unsafe { &mut *bits.add(index) };
            let bit = 1 << (block % 64);
            if *word & bit != 0 {
                outcome = Err((address, BadBlock::AlreadyFree));
                break;
            }
            *word |= bit;
            hint = hint.min(index);
            count += 1;
        }
        record.free += count as u16;
        record.hint = hint as u8;
        outcome.map(|()| count)
    }

    /// Gives whole pages without a block in use back to the system, if the slab is
    /// as it was at the last call and that has not been done yet. Returns how many
    /// bytes it was.
    ///
    /// With `now`, does not wait for a second call.
    pub fn purge_holes(&self, now: bool) -> usize {
        let record = self.record();
        let before = core::mem::replace(&mut record.holes, record.free);
        let is_quiet = before & !PURGED == record.free;
        if record.free == 0 || !(is_quiet || now) {
            return 0;
        }
        record.holes |= PURGED;
        if is_quiet && before & PURGED != 0 {
            return 0;
        }
        let size = SIZES[record.class as usize] as usize;
        let page = vm::page_size();
        let bits = self.bits();
        // SAFETY: the word of every carved block exists.
        let is_free = |block: usize| unsafe { *bits.add(block / 64) } >> (block % 64) & 1 != 0;
        let carved = record.carved as usize;
        let mut given = 0;
        let mut block = 0;
        while block < carved {
            let start = block;
            while block < carved && is_free(block) {
                block += 1;
            }
            let from = (start * size).next_multiple_of(page);
            let to = block * size / page * page;
            if to > from
                // SAFETY: all blocks that touch these pages are free, and nobody
                // takes one while the owner's lock is held.
                && unsafe { vm::purge(self.base() + from, to - from) }
            {
                given += to - from;
            }
            block = block.max(start) + 1;
        }
        given
    }
}
