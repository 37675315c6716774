//! Changing the size of a block.

use crate::c::Foreign;
use crate::free::{bad_pointer, caller, free, refuse_inside_outside};
use crate::heap;
use crate::malloc;
use crate::state::{ARENA, LARGE, RUNS};
use crate::{thread, upkeep};
use core::ptr;
use hakmem_large::{LEAST_OUTSIDE, Large};
use hakmem_page_arena::LARGE_STEP;
use hakmem_region_id::{ClassIndex, Kind, MAX_FINE, REGION_BYTES, RegionIndex};
use hakmem_sys::vm::page_size;

/// What lies at an address that is not in a region of a class.
enum Found {
    /// A block that is a run.
    Run(RegionIndex),
    /// A block outside the arena, of so many bytes.
    Outside(usize),
    /// Nothing of ours.
    Foreign,
}

/// The class of a block that has one.
#[inline(always)]
fn class_of(block: *mut u8) -> Option<ClassIndex> {
    ARENA.map().lookup(block.addr())?.class()
}

/// Finds out what a pointer is that should be a block, and not one of a class;
/// ends the program with a message if it points into the arena and is none.
fn find(function: &str, block: *mut u8) -> Found {
    let Some(region) = ARENA.map().region_of(block.addr()) else {
        if let Some(bytes) = LARGE.outside_bytes(block) {
            return Found::Outside(bytes);
        }
        refuse_inside_outside(function, block);
        return Found::Foreign;
    };
    // SAFETY: the region is in the map.
    match unsafe { ARENA.map().get(region) }.kind() {
        // SAFETY: the word says that a large block's run starts here.
        Some(Kind::LargeStart) if block == unsafe { Large::block_of(&ARENA, region) } => {
            Found::Run(region)
        }
        Some(Kind::Unmapped | Kind::Foreign) => Found::Foreign,
        kind => bad_pointer(function, block, region, kind),
    }
}

/// Whether a block stays where it is for a smaller size: not if that would waste
/// more than half of it.
const fn worth_keeping(usable: usize, size: usize) -> bool {
    size <= usable && size >= usable / 2
}

/// Whether what a smaller size would give back of a block is worth no call of the system's.
const fn is_near(usable: usize, size: usize) -> bool {
    usable - size < usable / 8 + LARGE_STEP
}

/// Changes the size of a block that is not null; null if there is no memory, and
/// the block is unchanged then.
///
/// # Safety
///
/// `block` is live, or what `F` can deal with; `align` is a power of two, of which the block is at a multiple.
#[inline]
pub(crate) unsafe fn realloc<F: Foreign>(block: *mut u8, size: usize, align: usize) -> *mut u8 {
    let Some(class) = class_of(block) else {
        // SAFETY: passed on.
        return unsafe { realloc_run::<F>(block, size, align) };
    };
    let usable = class.size();
    if worth_keeping(usable, size) {
        return block;
    }
    // SAFETY: passed on.
    unsafe { move_block::<F>(block, usable, size, align) }
}

/// [`realloc`] of what is not a block of a class.
///
/// # Safety
///
/// As there.
#[cold]
#[inline(never)]
unsafe fn realloc_run<F: Foreign>(block: *mut u8, size: usize, align: usize) -> *mut u8 {
    let usable = match find("realloc", block) {
        Found::Run(region) => {
            // SAFETY: the word says that a live block starts here.
            let usable = unsafe { Large::run_bytes(&ARENA, region) };
            if size > MAX_FINE {
                // SAFETY: the block is the caller's.
                let resized = unsafe { resize_run(region, usable, size, align) };
                if !resized.is_null() {
                    if size < usable {
                        // The rest may be much, and this the last call.
                        upkeep::count_freed_run(thread::heap(), caller::<F>());
                    }
                    return resized;
                }
                if size > usable && align <= REGION_BYTES {
                    let moved = malloc::with_room(size, align);
                    if !moved.is_null() {
                        // SAFETY: both blocks are live, distinct, and have so many bytes.
                        return unsafe { move_to::<F>(block, usable, moved) };
                    }
                }
            }
            usable
        }
        Found::Outside(usable) => {
            let is_kept = worth_keeping(usable, size);
            if is_kept && is_near(usable, size) {
                return block;
            }
            let stays_outside = is_kept || size > usable || size >= LEAST_OUTSIDE;
            if stays_outside && size > MAX_FINE && align <= page_size() {
                // SAFETY: the registry says that a live block starts here.
                if let Some(moved) = unsafe { LARGE.resize_outside(block, size) } {
                    return moved;
                }
            }
            if is_kept {
                return block;
            }
            usable
        }
        // SAFETY: passed on.
        Found::Foreign => return unsafe { F::realloc(block, size) },
    };
    // SAFETY: passed on.
    unsafe { move_block::<F>(block, usable, size, align) }
}

/// Moves a block of `usable` bytes to one of `size`; null if there is no memory,
/// unless it is to become smaller, which it can where it is.
///
/// # Safety
///
/// The block is live and has so many bytes; `align` is a power of two.
#[inline(never)]
unsafe fn move_block<F: Foreign>(
    block: *mut u8,
    usable: usize,
    size: usize,
    align: usize,
) -> *mut u8 {
    let moved = if size > usable && size > MAX_FINE {
        // What has grown goes on growing, mostly, and a run does where it is.
        malloc::run(size, align)
    } else {
        // SAFETY: `align` is a power of two.
        unsafe { malloc::layout(size, align) }
    };
    if moved.is_null() {
        return if size <= usable { block } else { moved };
    }
    // SAFETY: both blocks are live, distinct, and have so many bytes.
    unsafe { move_to::<F>(block, usable.min(size), moved) }
}

/// Moves a block's first so many bytes to another block, and frees it. Returns the other.
///
/// # Safety
///
/// Both blocks are live, distinct, and have so many bytes.
#[inline(always)]
unsafe fn move_to<F: Foreign>(block: *mut u8, bytes: usize, moved: *mut u8) -> *mut u8 {
    // SAFETY: passed on.
    unsafe {
        ptr::copy_nonoverlapping(block, moved, bytes);
        free::<F>(block);
    }
    moved
}

/// Resizes a run without copying; null if that is not possible.
///
/// # Safety
///
/// The block that starts in this region is live, and has so many usable bytes.
unsafe fn resize_run(region: RegionIndex, usable: usize, size: usize, align: usize) -> *mut u8 {
    // SAFETY: the block is the caller's.
    let block = unsafe { Large::block_of(&ARENA, region) };
    if worth_keeping(usable, size) && is_near(usable, size) {
        return block;
    }
    // SAFETY: the block is the caller's, and the run as long as it is in use.
    unsafe {
        let regions = ARENA.run_len(region);
        if Large::resize_in_place(&ARENA, region, size) {
            RUNS.note_resized(regions, ARENA.run_len(region));
            return block;
        }
        if align <= page_size()
            && let Some(moved) = LARGE.move_out(&ARENA, region, size)
        {
            RUNS.note_resized(regions, 0);
            return moved;
        }
    }
    ptr::null_mut()
}

/// The usable size of a block that is not null.
///
/// # Safety
///
/// `block` is live, or what `F` can deal with.
pub(crate) unsafe fn usable_size<F: Foreign>(block: *mut u8) -> usize {
    if let Some(class) = class_of(block) {
        return class.size();
    }
    match find("malloc_usable_size", block) {
        // SAFETY: the word says that a live block starts here.
        Found::Run(region) => unsafe { Large::run_bytes(&ARENA, region) },
        Found::Outside(usable) => usable,
        // SAFETY: passed on.
        Found::Foreign => unsafe { F::usable_size(block) },
    }
}

/// Whether a pointer lies in memory of this allocator that is handed out.
pub(crate) fn owns(pointer: *const u8) -> bool {
    ARENA.map().region_of(pointer.addr()).is_some_and(|region| {
        // SAFETY: the region, and with it those before it, are in the map.
        let (first, word) = unsafe {
            let first = ARENA.first_of(region);
            (first, ARENA.map().get(first))
        };
        word.class().is_some()
            || (word.kind() == Some(Kind::LargeStart)
                && heap::kept_runs().all(|run| run.first != first))
    }) || LARGE.outside_around(pointer).is_some()
}
