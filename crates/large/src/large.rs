//! Large allocations.

use crate::offset;
use crate::outside::{Found, Outside};
use core::sync::atomic::{AtomicUsize, Ordering};
use hakmem_page_arena::{Arena, Label, Shape, run_regions};
use hakmem_region_id::{REGION_BYTES, RegionIndex};
use hakmem_sys::lock::{Lock, RawLock};
use hakmem_sys::vm;

/// From this size on, a block that cannot grow where it is moves its pages out of the arena
/// instead of being copied (decision 22).
const MOVE_BYTES: usize = 32 << 20;
/// A block outside the arena that becomes smaller than this many bytes is better copied to a new
/// one: a process may have some 65 000 mappings.
pub const LEAST_OUTSIDE: usize = MOVE_BYTES / 2;

/// A block handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// Its first byte.
    pub address: *mut u8,
    /// Whether all of it is known to read as zero.
    pub zeroed: bool,
}

/// Large allocations over an arena.
pub struct Large {
    outside: Lock<Outside>,
    /// How many mappings the registry holds: zero saves looking.
    outside_live: AtomicUsize,
}

impl Default for Large {
    fn default() -> Self {
        Self::new()
    }
}

impl core::fmt::Debug for Large {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Large")
            .field("outside_live", &self.outside_live)
            .finish_non_exhaustive()
    }
}

/// The whole pages that hold `size` bytes, or `None` if that is beyond any address space.
fn pages_for(size: usize) -> Option<usize> {
    size.max(1)
        .checked_next_multiple_of(vm::page_size())
        .filter(|&bytes| isize::try_from(bytes).is_ok())
}

/// The block that starts so many bytes into a run.
#[inline]
fn block_at(arena: &Arena, first: RegionIndex, offset: usize) -> *mut u8 {
    core::ptr::with_exposed_provenance_mut(arena.map().address_of(first) + offset)
}

impl Large {
    /// No allocations.
    pub const fn new() -> Self {
        Self {
            outside: Lock::new(Outside::new()),
            outside_live: AtomicUsize::new(0),
        }
    }

    /// Hands out `size` bytes at a multiple of `align`, or `None` if there is no memory, or
    /// `align` is no power of two.
    pub fn allocate(&self, arena: &Arena, size: usize, align: usize) -> Option<Block> {
        if !align.is_power_of_two() || isize::try_from(size).is_err() {
            return None;
        }
        let shape = Shape::large(size, align);
        if let Some(run) = arena.allocate(shape.regions, shape.align, Label::LARGE) {
            // SAFETY: the run was just handed out.
            let address = unsafe { Self::place(arena, run.first, run.regions, size, align) };
            return Some(Block {
                address,
                zeroed: run.zeroed(),
            });
        }
        self.allocate_outside(size, align)
    }

    /// As [`allocate`](Self::allocate), as a mapping of its own, where the arena has no memory.
    #[cold]
    pub fn allocate_outside(&self, size: usize, align: usize) -> Option<Block> {
        if !align.is_power_of_two() {
            return None;
        }
        let page = vm::page_size();
        let length = pages_for(size)?;
        let slack = if align > page { align } else { 0 };
        let mapped = length.checked_add(slack)?;
        if mapped > isize::MAX as usize {
            return None;
        }
        let mapping = vm::map(mapped)?;
        let address = mapping.next_multiple_of(align);
        let found = Found {
            length,
            mapping,
            mapped,
        };
        if !self.outside.lock().insert(address, found) {
            // SAFETY: mapped above and known to nobody.
            unsafe { vm::unmap(mapping, mapped) };
            return None;
        }
        self.outside_live.fetch_add(1, Ordering::Relaxed);
        Some(Block {
            address: core::ptr::with_exposed_provenance_mut(address),
            zeroed: true,
        })
    }

    /// Places a block of `size` bytes at a multiple of `align` in a run of `regions` regions
    /// just handed out, whose start is aligned to that. Returns its address.
    ///
    /// # Safety
    ///
    /// The run is the caller's, has so many regions, and is labelled as a large block's. The block fits
    /// into it.
    #[inline]
    pub unsafe fn place(
        arena: &Arena,
        first: RegionIndex,
        regions: usize,
        size: usize,
        align: usize,
    ) -> *mut u8 {
        let offset = offset::choose(first, regions, size, align);
        // SAFETY: passed on.
        unsafe { Self::place_at(arena, first, offset) }
    }

    /// As [`place`](Self::place), in a run that has come back with its block [marked as free](Self::mark_free): where
    /// that was, if it can be.
    ///
    /// # Safety
    ///
    /// As there.
    #[inline(always)]
    pub unsafe fn place_again(
        arena: &Arena,
        first: RegionIndex,
        regions: usize,
        size: usize,
    ) -> *mut u8 {
        // SAFETY: passed on.
        unsafe {
            match offset::again(arena, first, regions, size) {
                Some(offset) => Self::place_at(arena, first, offset),
                None => Self::place_elsewhere(arena, first, regions, size),
            }
        }
    }

    /// [`place`](Self::place), where it seldom comes to that.
    ///
    /// # Safety
    ///
    /// As there.
    #[cold]
    unsafe fn place_elsewhere(
        arena: &Arena,
        first: RegionIndex,
        regions: usize,
        size: usize,
    ) -> *mut u8 {
        // SAFETY: passed on.
        unsafe { Self::place(arena, first, regions, size, 1) }
    }

    /// Places a block so many bytes into its run.
    ///
    /// # Safety
    ///
    /// As there; the offset is one for the block.
    #[inline]
    unsafe fn place_at(arena: &Arena, first: RegionIndex, offset: usize) -> *mut u8 {
        // SAFETY: passed on.
        unsafe { offset::set(arena, first, offset) };
        // Made of the offset itself, which would else be read again just after it was written.
        block_at(arena, first, offset)
    }

    /// The block in a run. If it is freed meanwhile, some address in the run's first region
    /// or a little behind.
    ///
    /// # Safety
    ///
    /// `first` is in the arena's map, and the first region of a large block.
    #[inline]
    pub unsafe fn block_of(arena: &Arena, first: RegionIndex) -> *mut u8 {
        // SAFETY: passed on.
        block_at(arena, first, unsafe { offset::get(arena, first) })
    }

    /// Marks a block as freed whose run stays labelled as it is, for the caller's next request:
    /// until it is [placed](Self::place) anew, no address is the block.
    ///
    /// # Safety
    ///
    /// `first` is the first region of a live large block, not used any more, and the run the
    /// caller's.
    #[inline]
    pub unsafe fn mark_free(arena: &Arena, first: RegionIndex) {
        // SAFETY: passed on.
        unsafe { offset::mark_free(arena, first) }
    }

    /// The block that was in a run, if it is marked as freed.
    ///
    /// # Safety
    ///
    /// As for [`block_of`](Self::block_of).
    pub unsafe fn freed_block_of(arena: &Arena, first: RegionIndex) -> Option<*mut u8> {
        // SAFETY: passed on.
        let offset = unsafe { offset::of_free(arena, first) }?;
        Some(block_at(arena, first, offset))
    }

    /// Fills the first `size` bytes of a block just handed out with zeros, and remembers that: what it reads
    /// as says no more what its program has written to.
    ///
    /// # Safety
    ///
    /// `block` is the caller's, and has so many bytes.
    pub unsafe fn clear(arena: &Arena, block: *mut u8, size: usize) {
        // SAFETY: passed on.
        unsafe { block.write_bytes(0, size) };
        if let Some(region) = arena.map().region_of(block.addr()) {
            // SAFETY: passed on.
            unsafe { offset::mark_cleared(arena, region) };
        }
    }

    /// Whether a block, live or freed, was [cleared](Self::clear) when it was handed out.
    ///
    /// # Safety
    ///
    /// As for [`block_of`](Self::block_of).
    pub unsafe fn is_cleared(arena: &Arena, first: RegionIndex) -> bool {
        // SAFETY: passed on.
        unsafe { offset::is_cleared(arena, first) }
    }

    /// The usable size in bytes of a block that is a run of the arena.
    ///
    /// # Safety
    ///
    /// `first` is the first region of a live large block.
    pub unsafe fn run_bytes(arena: &Arena, first: RegionIndex) -> usize {
        // SAFETY: passed on.
        unsafe { arena.run_len(first) * REGION_BYTES - offset::get(arena, first) }
    }

    /// Frees a block that is a run of the arena.
    ///
    /// # Safety
    ///
    /// `first` is the first region of a live large block, not used any more.
    pub unsafe fn free_run(arena: &Arena, first: RegionIndex) {
        // SAFETY: passed on.
        unsafe { arena.free(first, arena.run_len(first)) }
    }

    /// The usable size in bytes of the block outside the arena that starts at
    /// this address, if there is one.
    pub fn outside_bytes(&self, address: *mut u8) -> Option<usize> {
        if self.outside_live.load(Ordering::Relaxed) == 0 {
            return None;
        }
        self.outside
            .lock()
            .get(address.addr())
            .map(|found| found.length)
    }

    /// The start and the usable bytes of the block outside the arena that a pointer points into,
    /// if there is one. Takes a step for each there is.
    pub fn outside_around(&self, pointer: *const u8) -> Option<(usize, usize)> {
        if self.outside_live.load(Ordering::Relaxed) == 0 {
            return None;
        }
        self.outside.lock().around(pointer.addr())
    }

    /// Frees the block outside the arena that starts at this address. Returns
    /// whether there was one.
    ///
    /// # Safety
    ///
    /// If there is one, it is not used any more.
    pub unsafe fn free_outside(&self, address: *mut u8) -> bool {
        if self.outside_live.load(Ordering::Relaxed) == 0 {
            return false;
        }
        let Some(found) = self.outside.lock().remove(address.addr()) else {
            return false;
        };
        self.outside_live.fetch_sub(1, Ordering::Relaxed);
        // SAFETY: the mapping was the block's alone.
        unsafe {
            if !vm::unmap(found.mapping, found.mapped) {
                // It is part of a larger one, to the system, and there are too many to cut that
                // in two: the addresses are lost, the memory is not.
                vm::purge(found.mapping, found.mapped);
            }
        }
        true
    }

    /// Changes the size of a block outside the arena, moving it where it cannot
    /// stay. `None` if there is no memory; the block is unchanged then.
    ///
    /// # Safety
    ///
    /// `address` is the start of a live block outside the arena.
    pub unsafe fn resize_outside(&self, address: *mut u8, size: usize) -> Option<*mut u8> {
        let mut outside = self.outside.lock();
        let found = outside.get(address.addr())?;
        // One that was moved out of the arena starts in one of its run's first pages. More is there
        // for the sake of alignment.
        let lead = address.expose_provenance() - found.mapping;
        let offset = if lead < REGION_BYTES {
            lead
        } else {
            lead % vm::page_size()
        };
        let pages = pages_for(size.checked_add(offset)?)?;
        if !outside.make_room() {
            return None;
        }
        let first = address.addr() - offset;
        let old = offset + found.length;
        // SAFETY: the mapping is the block's, from this page to the usable end; what alignment left
        // before and behind it stays where it is.
        let moved = unsafe { vm::resize(first, old, pages) }?;
        outside.remove(address.addr());
        let (before, after) = (
            first - found.mapping,
            found.mapping + found.mapped - (first + old),
        );
        if before > 0 {
            // SAFETY: the alignment's slack, used by nobody.
            unsafe { vm::unmap(found.mapping, before) };
        }
        if after > 0 {
            // SAFETY: as above.
            unsafe { vm::unmap(first + old, after) };
        }
        let resized = Found {
            length: pages - offset,
            mapping: moved,
            mapped: pages,
        };
        // There is room: it was made above, and nothing was entered since.
        let entered = outside.insert(moved + offset, resized);
        debug_assert!(entered);
        Some(core::ptr::with_exposed_provenance_mut(moved + offset))
    }

    /// Makes a block that is a run hold `size` bytes without moving it. Returns
    /// whether it does then.
    ///
    /// # Safety
    ///
    /// `first` is the first region of a live large block, and the caller its
    /// only user.
    pub unsafe fn resize_in_place(arena: &Arena, first: RegionIndex, size: usize) -> bool {
        // SAFETY: the block is live.
        let offset = unsafe { offset::get(arena, first) };
        if isize::try_from(size).is_err() {
            return false;
        }
        let new = run_regions(offset + size);
        // SAFETY: the block is live.
        let old = unsafe { arena.run_len(first) };
        if new < old {
            // SAFETY: the block is the caller's, and its tail not needed.
            unsafe { arena.shrink(first, old, new) };
        } else if new > old {
            // SAFETY: the block is the caller's.
            return unsafe { arena.extend(first, old, new, Label::LARGE) }.is_some();
        }
        true
    }

    /// Makes a block that is a run hold `size` bytes, more than now, by moving its pages out of the
    /// arena, to a mapping of its own. `None` if that does not pay or the system refuses; the block
    /// is unchanged then.
    ///
    /// A block that moves keeps no alignment above a page's.
    ///
    /// # Safety
    ///
    /// `first` is the first region of a live large block, and the caller its
    /// only user.
    pub unsafe fn move_out(
        &self,
        arena: &Arena,
        first: RegionIndex,
        size: usize,
    ) -> Option<*mut u8> {
        // SAFETY: the block is live.
        let (regions, offset) = unsafe { (arena.run_len(first), offset::get(arena, first)) };
        let run = regions * REGION_BYTES;
        let mapped = pages_for(size.checked_add(offset)?)?;
        if run < MOVE_BYTES || mapped < run {
            return None;
        }
        let mut outside = self.outside.lock();
        if !outside.make_room() {
            return None;
        }
        // SAFETY: the run is the block's, and the caller its only user.
        let mapping = unsafe { vm::move_out(arena.map().address_of(first), run, mapped) }?;
        let address = mapping + offset;
        let found = Found {
            length: mapped - offset,
            mapping,
            mapped,
        };
        // There is room: it was made above, and nothing was entered since.
        let entered = outside.insert(address, found);
        debug_assert!(entered);
        drop(outside);
        self.outside_live.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the block is elsewhere now, with its pages.
        unsafe { arena.free_clean(first, regions) };
        Some(core::ptr::with_exposed_provenance_mut(address))
    }

    /// Blocks outside the arena and their bytes.
    pub fn outside_totals(&self) -> (usize, usize) {
        self.outside.lock().totals()
    }

    /// The registry's lock, for the fork hooks.
    pub fn raw_lock(&self) -> &RawLock {
        self.outside.raw()
    }
}
