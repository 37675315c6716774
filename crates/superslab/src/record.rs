//! The record of a slab.

use crate::geometry::INLINE_BITS;
use core::cell::Cell;
use core::sync::atomic::{AtomicU16, Ordering};
use hakmem_page_arena::{Arena, RUN_SIDE, SLAB_SIDE};
use hakmem_region_id::RegionIndex;
use hakmem_remote_free::{RemoteList, StackLinks};
use hakmem_sys::sync::{AtomicU32, AtomicU64};
use static_assertions::const_assert;

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
    pub shared: SharedPart,
    pub own: OwnPart,
    _run: [u64; 2],
    pub inline_bits: [u64; INLINE_BITS / 64],
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
    pub fn pages(pages: usize) -> Self {
        Self(1 + pages as u8)
    }

    /// Whether there may be any.
    pub fn is_some(self) -> bool {
        self != Self::NONE
    }

    /// How many pages in front need not be asked for.
    pub fn front(self) -> usize {
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
    pub class: Cell<u8>,
    pub place: Cell<Place>,
    /// No bit is set in words before this one.
    pub hint: Cell<u8>,
    /// Whether the bit space may hold bits of an earlier life.
    pub stale_bits: Cell<bool>,
    /// What memory there is behind the slab.
    pub memory: Cell<Backing>,
    /// The pool's epoch when the slab became empty.
    pub emptied: Cell<u8>,
    /// How many blocks were free when the purge last looked, and `PURGED`; [`TAKEN`] when some were taken since.
    pub seen: Cell<u16>,
}

const_assert!(SLAB_SIDE.end == RUN_SIDE.start);
// Loom's atomics have sizes of their own; the layout is that of the real ones.
#[cfg(not(loom))]
const_assert!(core::mem::offset_of!(SlabRecord, _run) == RUN_SIDE.start);
#[cfg(not(loom))]
const_assert!(core::mem::offset_of!(SlabRecord, inline_bits) == RUN_SIDE.end);
#[cfg(not(loom))]
const_assert!(core::mem::size_of::<SlabRecord>() == hakmem_page_arena::SIDE_BYTES);

/// The record of the slab in this region.
pub(crate) fn record_of(arena: &Arena, region: RegionIndex) -> *mut SlabRecord {
    arena.side_record(region).cast()
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
/// The caller holds the slab, as for [`Slab::new`](crate::slab::Slab::new), for as long as it uses the reference.
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

    pub fn set_carved(&self, carved: u16) {
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
