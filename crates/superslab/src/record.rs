//! The record of a slab.

use crate::bits::{ones, row_of_ones};
use core::cell::Cell;
use core::sync::atomic::{AtomicU16, Ordering};
use hakmem_page_arena::{Arena, BITS_BYTES, RUN_SIDE, SLAB_SIDE};
use hakmem_region_id::{
    ClassIndex, REGION_BYTES, REGION_SHIFT, RegionIndex, RegionWord, TINY_CLASSES,
    size_class::SIZES,
};
use hakmem_remote_free::{RemoteList, StackLinks};
use hakmem_sys::prefetch::prefetch;
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
    /// In the list of those of which three quarters are free.
    Sparse,
    /// In the list of slabs without.
    Full,
}

/// What is kept of a slab: in the side record of its region.
#[repr(C, align(128))]
pub(crate) struct SlabRecord {
    shared: SharedPart,
    own: OwnPart,
    _run: [u64; 2],
    inline_bits: [u64; INLINE_BITS / 64],
}

/// What anybody may read at any time.
#[repr(C)]
pub(crate) struct SharedPart {
    pub remote: RemoteList,
    /// Of the superslab that starts here; see [`crate::superslab`].
    pub superslab: AtomicU64,
    /// Link in the class's pool.
    pub pool_link: AtomicU32,
    /// Link in the owner's inbox.
    pub inbox_link: AtomicU32,
    /// Link in the list of superslabs, of the superslab that starts here.
    pub superslab_link: AtomicU32,
    /// Free blocks among the carved ones: how many bits are set. Like the next one,
    /// written by the owner only, under its lock, and read by others for statistics.
    free: AtomicU16,
    /// Blocks carved so far, from the slab's start.
    carved: AtomicU16,
}

/// The memory behind a slab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct Backing(u8);

impl Backing {
    /// None.
    pub const NONE: Self = Self(0);
    /// All of it, as far as is known.
    pub const ALL: Self = Self(u8::MAX);

    /// Some, of which so many pages in front were put there before their time.
    fn pages(pages: usize) -> Self {
        Self(1 + pages as u8)
    }

    /// Whether there may be any.
    pub fn is_some(self) -> bool {
        self != Self::NONE
    }

    /// How many pages in front need not be asked for.
    fn front(self) -> usize {
        usize::from(self.0).saturating_sub(1)
    }
}

/// What belongs to the owner, under its lock. In cells, because several views of a slab may be
/// at hand at once.
#[repr(C)]
pub(crate) struct OwnPart {
    /// Neighbours in the owner's list, as region + 1.
    pub prev: Cell<u32>,
    pub next: Cell<u32>,
    class: Cell<u8>,
    pub place: Cell<Place>,
    /// No bit is set in words before this one.
    pub hint: Cell<u8>,
    /// Whether the bit space may hold bits of an earlier life.
    stale_bits: Cell<bool>,
    /// What memory there is behind the slab.
    pub memory: Cell<Backing>,
    /// The pool's epoch when the slab became empty.
    pub emptied: Cell<u8>,
    /// How many blocks were free when the purge last looked, and `PURGED`; [`TAKEN`] when some were taken since.
    holes: Cell<u16>,
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

/// What is the same for all slabs of a class, side by side, because a free needs all of it.
#[derive(Clone, Copy)]
pub(crate) struct Geometry {
    /// `ceil(2^32 / size)`: `offset * reciprocal >> 32` is `offset / size` for all offsets in a
    /// region, because the product's error stays below one block.
    pub reciprocal: u32,
    /// Bytes of a block.
    pub size: u16,
    /// With so many free blocks a slab is sparse: three quarters.
    pub sparse_from: u16,
}

/// Of each tiny class.
static GEOMETRIES: [Geometry; TINY_CLASSES] = {
    let none = Geometry {
        reciprocal: 0,
        size: 0,
        sparse_from: 0,
    };
    let mut table = [none; TINY_CLASSES];
    let mut number = 0;
    while number < TINY_CLASSES {
        let size = SIZES[number];
        table[number] = Geometry {
            reciprocal: (1_u64 << 32).div_ceil(size as u64) as u32,
            size,
            sparse_from: CAPACITY[number] - CAPACITY[number] / 4,
        };
        number += 1;
    }
    table
};

/// So many free blocks in a row or more are handed out together.
const LONG_ROW: u32 = 8;

/// A record's `holes` after blocks were taken: more than there are.
const TAKEN: u16 = 1 << 14;
/// Marks in a record's `holes` that its free pages are given back already.
const PURGED: u16 = 1 << 15;

/// The record of the slab in this region.
fn record_of(arena: &Arena, region: RegionIndex) -> *mut SlabRecord {
    arena.side_record(region).cast()
}

/// Where the slabs of a class and their records are, looked up once for many blocks.
pub(crate) struct Lookup<'a> {
    arena: &'a Arena,
    base: usize,
    regions: usize,
    words: *const AtomicU32,
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
        let map = arena.map();
        let number = class.number();
        // First: it says that the others are there.
        let regions = map.len();
        let records = arena.side_record(RegionIndex(0)).addr();
        let (bits, bits_step) = if has_inline_bits(CAPACITY[number]) {
            let inline = core::mem::offset_of!(SlabRecord, inline_bits);
            (records + inline, size_of::<SlabRecord>())
        } else {
            (arena.bit_space(RegionIndex(0)).addr(), BITS_BYTES)
        };
        Self {
            arena,
            base: map.base(),
            regions,
            words: map.words(),
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
        let region = address.wrapping_sub(self.base) >> REGION_SHIFT;
        let record = self.record(region).cast_const();
        prefetch(record);
        prefetch(record.wrapping_add(64));
    }

    /// The region that holds an address, if the arena has it.
    #[inline(always)]
    pub fn region_of(&self, address: usize) -> Option<RegionIndex> {
        let region = address.wrapping_sub(self.base) >> REGION_SHIFT;
        (region < self.regions).then_some(RegionIndex(region as u32))
    }

    /// The word of a region, as it is now.
    ///
    /// # Safety
    ///
    /// [`region_of`](Self::region_of) has found the region.
    #[inline(always)]
    pub unsafe fn word_of(&self, region: RegionIndex) -> RegionWord {
        // SAFETY: the region is in the map, whose words are there for ever.
        let word = unsafe { &*self.words.add(region.index()) };
        RegionWord::from_bits(word.load(Ordering::Relaxed))
    }

    /// A view of a slab.
    ///
    /// # Safety
    ///
    /// As for [`Slab::new`].
    #[inline(always)]
    pub unsafe fn slab(&self, region: RegionIndex) -> Slab<'a> {
        Slab {
            region,
            arena: self.arena,
            record: self.record(region.index()).cast(),
        }
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

/// Whether the bits of slabs of so many blocks are in their records.
const fn has_inline_bits(capacity: u16) -> bool {
    capacity as usize <= INLINE_BITS
}

/// The part of a record that anybody may use at any time.
pub(crate) fn shared_of(arena: &Arena, region: RegionIndex) -> &SharedPart {
    // SAFETY: side records stay mapped for ever, zero bytes are valid atomics, and
    // nobody else than slabs uses this part of them.
    unsafe { &(*record_of(arena, region)).shared }
}

/// The owner's part of a record.
///
/// # Safety
///
/// The caller holds the slab, as for [`Slab::new`], for as long as it uses the reference.
pub(crate) unsafe fn own_of(arena: &Arena, region: RegionIndex) -> &OwnPart {
    // SAFETY: side records stay mapped for ever, and zero bytes are valid here. The slab is the
    // caller's, and so is this part of the record: other threads use the rest of it only.
    unsafe { &(*record_of(arena, region)).own }
}

impl SharedPart {
    /// Free blocks among the carved ones.
    pub fn free(&self) -> u16 {
        self.free.load(Ordering::Relaxed)
    }

    /// Blocks carved so far.
    pub fn carved(&self) -> u16 {
        self.carved.load(Ordering::Relaxed)
    }

    pub fn set_free(&self, free: u16) {
        self.free.store(free, Ordering::Relaxed);
    }

    fn set_carved(&self, carved: u16) {
        self.carved.store(carved, Ordering::Relaxed);
    }

    /// Carved less free blocks: exact for the owner, else as of some time.
    pub fn used(&self) -> usize {
        self.carved().saturating_sub(self.free()) as usize
    }
}

/// How many blocks of the slab in this region are in use or in a cache,
/// whoever owns it: exact when nobody uses it meanwhile.
///
/// # Safety
///
/// The region is in the arena's map.
pub unsafe fn used_blocks(arena: &Arena, region: RegionIndex) -> usize {
    let waiting = shared_of(arena, region).remote.waiting() as usize;
    shared_of(arena, region).used().saturating_sub(waiting)
}

/// Links of a class's pool.
pub(crate) struct PoolLinks<'a>(pub &'a Arena);
/// Links of an inbox.
pub(crate) struct InboxLinks<'a>(pub &'a Arena);
/// Links of the list of superslabs.
pub(crate) struct SuperslabLinks<'a>(pub &'a Arena);

impl StackLinks for PoolLinks<'_> {
    fn link(&self, index: u32) -> &AtomicU32 {
        &shared_of(self.0, RegionIndex(index)).pool_link
    }
}

impl StackLinks for InboxLinks<'_> {
    fn link(&self, index: u32) -> &AtomicU32 {
        &shared_of(self.0, RegionIndex(index)).inbox_link
    }
}

impl StackLinks for SuperslabLinks<'_> {
    fn link(&self, index: u32) -> &AtomicU32 {
        &shared_of(self.0, RegionIndex(index)).superslab_link
    }
}

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
    fn block_size(&self) -> usize {
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
        own.holes.set(TAKEN);
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
        own.holes.set(TAKEN);
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

    /// Gives whole pages without a block in use back to the system, if the slab is
    /// as it was at the last call and that has not been done yet. Returns how many
    /// bytes it was.
    ///
    /// With `now`, does not wait for a second call.
    #[inline(never)]
    pub fn purge_holes(&self, now: bool) -> usize {
        let own = self.own();
        let free = self.shared().free();
        let before = own.holes.replace(free);
        let is_quiet = before & !PURGED == free;
        if !(is_quiet || now) {
            return 0;
        }
        // A slab that was started on memory that is there has more than its carved blocks.
        let has_tail = own.memory.get() == Backing::ALL;
        if is_quiet && before & PURGED != 0 || free == 0 && !has_tail {
            own.holes.set(free | PURGED);
            return 0;
        }
        let size = self.block_size();
        let page = vm::page_size();
        let bits = self.bits();
        // SAFETY: the word of every carved block exists.
        let is_free = |block: usize| unsafe { *bits.add(block / 64) } >> (block % 64) & 1 != 0;
        let carved = self.shared().carved() as usize;
        let (mut given, mut refused) = (0, false);
        let mut block = 0;
        while block <= carved {
            let start = block;
            while block < carved && is_free(block) {
                block += 1;
            }
            let is_tail = has_tail && block == carved;
            let from = (start * size).next_multiple_of(page);
            let to = if is_tail {
                REGION_BYTES
            } else {
                block * size / page * page
            };
            if to > from {
                // SAFETY: all blocks that touch these pages are free, and nobody
                // takes one while the owner's lock is held.
                if unsafe { vm::purge(self.base() + from, to - from) } {
                    given += to - from;
                    if is_tail {
                        own.memory.set(Backing::pages(from / page));
                    }
                } else {
                    // Locked by the program, perhaps: to be tried again.
                    refused = true;
                }
            }
            block += 1;
        }
        if !refused {
            own.holes.set(free | PURGED);
        }
        given
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
