//! The front: what the fast paths see.

use crate::state::ARENA;
use core::cell::Cell;
use core::mem::offset_of;
use core::ptr;
use core::sync::atomic::{AtomicU32, Ordering};
use hakmem_region_id::{REGION_SHIFT, RegionIndex, RegionWord};
use hakmem_thread_cache::ThreadCache;
use static_assertions::const_assert_eq;

/// What the fast paths see of a heap.
#[repr(C)]
pub(crate) struct Front {
    pub cache: ThreadCache,
    /// A copy of where the region map is and how long it was when the heap last
    /// looked. The copy is the thread's own, so `free` can use its fields as
    /// operands where it would have to load the map's atomics first; a region
    /// that is not in it yet takes the slow path, which looks again.
    ///
    /// Cells, because others have references to the heap meanwhile, though not to these.
    base: Cell<usize>,
    len: Cell<usize>,
    words: Cell<*const AtomicU32>,
}

// SAFETY: a front is used by the one thread whose slot points to it, except for
// the two closed ones, which nobody ever writes: their bins have no slots.
unsafe impl Sync for Front {}

impl Front {
    /// A front whose every call takes the slow path.
    #[expect(
        clippy::declare_interior_mutable_const,
        reason = "each use is to be a front of its own"
    )]
    pub const CLOSED: Self = Self {
        cache: ThreadCache::CLOSED,
        base: Cell::new(0),
        len: Cell::new(0),
        words: Cell::new(ptr::null()),
    };

    /// The gate: the offset of the bin that takes the block at this address, or
    /// a number that is not below `BIN_LIMIT`.
    ///
    /// # Safety
    ///
    /// `this` is the calling thread's front.
    #[inline(always)]
    pub unsafe fn gate(this: *const Self, address: usize) -> u32 {
        // SAFETY: the front is valid, and the map has `len` words for ever.
        unsafe { Self::find(this, address).map_or(u32::MAX, |(_, word)| word.gate()) }
    }

    /// The region that this address is in, and its word; or none, where the front does not know it yet.
    ///
    /// # Safety
    ///
    /// As for [`gate`](Self::gate).
    #[inline(always)]
    pub unsafe fn find(this: *const Self, address: usize) -> Option<(RegionIndex, RegionWord)> {
        // SAFETY: as there.
        unsafe {
            let region = address.wrapping_sub((*this).base.get()) >> REGION_SHIFT;
            if region >= (*this).len.get() {
                return None;
            }
            let word = (*(*this).words.get().add(region)).load(Ordering::Relaxed);
            Some((RegionIndex(region as u32), RegionWord::from_bits(word)))
        }
    }

    /// Whether this is a heap's front, and not one of those that are closed for ever.
    ///
    /// # Safety
    ///
    /// As for [`gate`](Self::gate).
    #[inline(always)]
    pub unsafe fn is_heap(this: *const Self) -> bool {
        // SAFETY: the front is valid. A heap lies in a region of the map.
        unsafe { (*this).len.get() != 0 }
    }

    /// Looks again where the region map is and how long.
    pub fn refresh(&self) {
        let map = ARENA.map();
        // The length first: its acquire covers the others.
        self.len.set(map.len());
        self.base.set(map.base());
        self.words.set(map.words());
    }
}

const_assert_eq!(offset_of!(Front, cache), 0);
