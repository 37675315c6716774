//! Large allocations.

use crate::offset;
use crate::outside::{Found, Outside};
use core::sync::atomic::{AtomicUsize, Ordering};
use hakmem_page_arena::{Arena, Label};
use hakmem_region_id::{Kind, REGION_BYTES, RegionIndex, RegionWord};
use hakmem_sys::lock::{Lock, RawLock};
use hakmem_sys::vm;

/// From this size on, a block that cannot grow where it is moves its pages
/// instead of being copied (256 KiB: below, setting up the pages again costs
/// more than copying them).
const MOVE_PAGES: usize = 256 * 1024;

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

/// How many regions hold `size` bytes, or `None` if that is beyond any address
/// space.
fn regions_for(size: usize) -> Option<usize> {
    if size > isize::MAX as usize {
        None
    } else {
        Some(size.max(1).div_ceil(REGION_BYTES))
    }
}

impl Large {
    /// No allocations.
    pub const fn new() -> Self {
        Self {
            outside: Lock::new(Outside::new()),
            outside_live: AtomicUsize::new(0),
        }
    }

    /// Hands out `size` bytes at a multiple of `align` (a power of two), or
    /// `None` if there is no memory.
    pub fn allocate(&self, arena: &Arena, size: usize, align: usize) -> Option<Block> {
        let regions = regions_for(size)?;
        let align_regions = (align / REGION_BYTES).max(1);
        if let Some(run) = arena.allocate(regions, align_regions, Label::LARGE) {
            // SAFETY: the run was just handed out.
            let address = unsafe { Self::place(arena, run.first, regions, size, align) };
            return Some(Block {
                address,
                zeroed: run.zeroed,
            });
        }
        self.allocate_outside(size, align)
    }

    #[cold]
    fn allocate_outside(&self, size: usize, align: usize) -> Option<Block> {
        let page = vm::page_size();
        let length = size.checked_next_multiple_of(page)?;
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
    /// The run is the caller's, and labelled as a large block's.
    pub unsafe fn place(
        arena: &Arena,
        first: RegionIndex,
        regions: usize,
        size: usize,
        align: usize,
    ) -> *mut u8 {
        let offset = if align <= offset::STEP {
            offset::choose(first, regions, size)
        } else {
            0
        };
        // SAFETY: passed on.
        unsafe {
            offset::set(arena, first, offset);
            Self::block_of(arena, first)
        }
    }

    /// The block in a run. If it is freed meanwhile, some address in the run's first region
    /// or a little behind.
    ///
    /// # Safety
    ///
    /// `first` is in the arena's map, and the first region of a large block.
    pub unsafe fn block_of(arena: &Arena, first: RegionIndex) -> *mut u8 {
        // SAFETY: passed on.
        let start = arena.map().address_of(first) + unsafe { offset::get(arena, first) };
        core::ptr::with_exposed_provenance_mut(start)
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
        unsafe { vm::unmap(found.mapping, found.mapped) };
        true
    }

    /// Changes the size of a block outside the arena, moving it where it cannot
    /// stay. `None` if there is no memory; the block is unchanged then.
    ///
    /// # Safety
    ///
    /// `address` is the start of a live block outside the arena.
    pub unsafe fn resize_outside(&self, address: *mut u8, size: usize) -> Option<*mut u8> {
        let length = size.max(1).checked_next_multiple_of(vm::page_size())?;
        if length > isize::MAX as usize {
            return None;
        }
        let mut outside = self.outside.lock();
        let found = outside.get(address.addr())?;
        if !outside.make_room() {
            return None;
        }
        // SAFETY: the mapping is the block's, from its start to the usable end;
        // what alignment left before and behind it stays where it is.
        let moved = unsafe { vm::resize(address.expose_provenance(), found.length, length) }?;
        outside.remove(address.addr());
        let start = address.expose_provenance();
        let (before, after) = (
            start - found.mapping,
            found.mapping + found.mapped - (start + found.length),
        );
        if before > 0 {
            // SAFETY: the alignment's slack, used by nobody.
            unsafe { vm::unmap(found.mapping, before) };
        }
        if after > 0 {
            // SAFETY: as above.
            unsafe { vm::unmap(start + found.length, after) };
        }
        let resized = Found {
            length,
            mapping: moved,
            mapped: length,
        };
        // There is room: it was made above, and nothing was entered since.
        let entered = outside.insert(moved, resized);
        debug_assert!(entered);
        Some(core::ptr::with_exposed_provenance_mut(moved))
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
        let Some(new) = regions_for(size.saturating_add(offset)) else {
            return false;
        };
        // SAFETY: the block is live.
        let old = unsafe { arena.run_len(first) };
        if new < old {
            // SAFETY: the block is the caller's, and its tail not needed.
            unsafe { arena.shrink(first, old, new) };
        } else if new > old {
            let rest = RegionWord::of_kind(Kind::LargeInside);
            // SAFETY: the block is the caller's.
            return unsafe { arena.extend(first, old, new, rest) }.is_some();
        }
        true
    }

    /// Moves a block that is a run to a run that holds `size` bytes, by moving
    /// its pages. `None` if that does not pay or there is no memory; the block is
    /// unchanged then.
    ///
    /// # Safety
    ///
    /// `first` is the first region of a live large block, and the caller its
    /// only user.
    pub unsafe fn move_run(
        &self,
        arena: &Arena,
        first: RegionIndex,
        size: usize,
    ) -> Option<*mut u8> {
        // SAFETY: the block is live.
        let old = unsafe { arena.run_len(first) };
        // SAFETY: as above. The pages bring their offset.
        let offset = unsafe { offset::get(arena, first) };
        let new = regions_for(size.saturating_add(offset))?;
        if old * REGION_BYTES < MOVE_PAGES || new < old {
            return None;
        }
        let to = arena.allocate(new, 1, Label::LARGE)?;
        // SAFETY: both runs are the caller's.
        unsafe {
            arena.move_run(first, old, to.first, new).then(|| {
                offset::set(arena, to.first, offset);
                Self::block_of(arena, to.first)
            })
        }
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
