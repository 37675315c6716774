//! Allocation: the fast path, and where it leads.

use crate::heap::Heap;
use crate::source::HeapSource;
use crate::state::{ARENA, LARGE, RUNS};
use crate::thread::{self, Current, slot};
use crate::upkeep::{self, Caller};
use core::ptr;
use hakmem_large::Large;
use hakmem_mid_pool::{MAX_RETAINED, MAX_RETAINED_REGIONS, MAX_RUN_REGIONS};
use hakmem_page_arena::{Shape, large_regions};
use hakmem_region_id::size_class::{TINY_BY_STEP, TINY_BY_STEP_16, TINY_STEPS};
use hakmem_region_id::{
    ClassIndex, MAX_CACHED, MAX_CACHED_ALIGN, MAX_FINE, MAX_TINY, MID_ALIGN, REGION_BYTES,
    RegionIndex,
};
use hakmem_thread_cache::{Source, ThreadCache};

/// A block fresh from the slow path.
#[derive(Clone, Copy)]
pub(crate) struct Fresh {
    pub block: *mut u8,
    /// How many of its bytes, from the first on, are not known to read as zero; or more.
    pub soiled: usize,
}

impl Fresh {
    const NULL: Self = Self::unknown(ptr::null_mut());

    /// A block of which it is not known what it reads as.
    const fn unknown(block: *mut u8) -> Self {
        Self {
            block,
            soiled: usize::MAX,
        }
    }
}

/// Where a fast path leads that finds its bin empty. A type, so that the call is
/// a jump and the fast path keeps no frame.
pub trait Slow {
    /// `size` bytes from behind the bins; null if there is no memory.
    fn malloc(size: usize) -> *mut u8;
}

/// `malloc`'s own slow path, and nothing else.
pub(crate) struct Plain;

impl Slow for Plain {
    #[cold]
    #[inline(never)]
    fn malloc(size: usize) -> *mut u8 {
        // Also for up to 8 bytes: what another class lends is aligned so in any case.
        fresh_in(&TINY_BY_STEP_16, size, 16)
    }
}

/// The slow path for alignment 8.
struct Plain8;

impl Slow for Plain8 {
    #[cold]
    #[inline(never)]
    fn malloc(size: usize) -> *mut u8 {
        fresh_in(&TINY_BY_STEP, size, 8)
    }
}

/// The block that a bin gave, or where it was empty one of so many bytes from the slow path.
#[inline(always)]
fn or_slow<S: Slow>(block: *mut u8, size: usize) -> *mut u8 {
    if block.is_null() {
        S::malloc(size)
    } else {
        block
    }
}

/// `malloc`: any size, alignment 16 (8 for up to 8 bytes).
#[inline(always)]
pub(crate) fn malloc<S: Slow>(size: usize) -> *mut u8 {
    let cache: *const ThreadCache = slot::get().cast();
    // SAFETY: the slot always points to a front; the size fits the table.
    unsafe {
        if size > MAX_TINY {
            return malloc_mid::<S>(size, cache);
        }
        let block = ThreadCache::pop(cache, ThreadCache::tiny_bin_16(cache, size));
        or_slow::<S>(block, size)
    }
}

/// As [`malloc`], with no more than 8-byte alignment.
#[inline(always)]
pub(crate) fn malloc_8(size: usize) -> *mut u8 {
    let cache: *const ThreadCache = slot::get().cast();
    // SAFETY: as above.
    unsafe {
        if size > MAX_TINY {
            return malloc_mid::<Plain8>(size, cache);
        }
        let block = ThreadCache::pop(cache, ThreadCache::tiny_bin(cache, size));
        or_slow::<Plain8>(block, size)
    }
}

/// The fast path above 1 KiB: a function of its own, because merged with the
/// other it costs both of them four instructions.
///
/// # Safety
///
/// `cache` is the calling thread's, and `size` not zero.
#[inline(never)]
unsafe fn malloc_mid<S: Slow>(size: usize, cache: *const ThreadCache) -> *mut u8 {
    if size > MAX_FINE {
        // SAFETY: passed on.
        return unsafe { malloc_coarse::<S>(size, cache) };
    }
    // SAFETY: passed on; the size fits the table.
    let block = unsafe { ThreadCache::pop(cache, ThreadCache::mid_bin(cache, size)) };
    or_slow::<S>(block, size)
}

/// The same above 32 KiB.
///
/// # Safety
///
/// As for [`malloc_mid`]; the size is above [`MAX_FINE`].
#[inline(never)]
unsafe fn malloc_coarse<S: Slow>(size: usize, cache: *const ThreadCache) -> *mut u8 {
    if size > MAX_CACHED {
        return malloc_run::<S>(size);
    }
    // SAFETY: passed on; the size fits the table.
    let block = unsafe { ThreadCache::pop_coarse(cache, ThreadCache::coarse_bin(cache, size)) };
    or_slow::<S>(block, size)
}

/// The same above 128 KiB, for the run that the thread has freed last of all. Calls nothing that comes back, and so
/// has no frame.
#[inline(never)]
fn malloc_run<S: Slow>(size: usize) -> *mut u8 {
    if size <= MAX_RETAINED
        && let Some(heap) = thread::open_heap()
    {
        let regions = large_regions(size, 1);
        // SAFETY: the heap is the calling thread's, and what it keeps is its alone.
        unsafe {
            return match (*heap).runs.take_at_hand(regions) {
                Some(run) => Large::place_again(&ARENA, run.first, run.regions, size),
                None => malloc_kept::<S>(size, regions, heap),
            };
        }
    }
    S::malloc(size)
}

/// The same for what it has kept besides.
///
/// # Safety
///
/// The heap is the calling thread's.
#[inline(never)]
unsafe fn malloc_kept<S: Slow>(size: usize, regions: usize, heap: *mut Heap) -> *mut u8 {
    // SAFETY: what the heap keeps is the thread's alone.
    unsafe {
        match (*heap).runs.take_just(regions) {
            Some(run) => Large::place_again(&ARENA, run.first, run.regions, size),
            None => S::malloc(size),
        }
    }
}

/// `size` bytes at a multiple of `align`, a power of two, by the shortest way
/// that has such blocks.
///
/// # Safety
///
/// `align` is a power of two.
#[inline(always)]
pub(crate) unsafe fn layout(size: usize, align: usize) -> *mut u8 {
    // SAFETY: passed on. `malloc`'s alignment is 16 from 9 bytes on, and that of
    // mid blocks 64.
    unsafe {
        if align <= 8 {
            malloc_8(size)
        } else if align <= 16 {
            if size <= 8 {
                return small_but_aligned(size, align);
            }
            malloc::<Plain>(size)
        } else if align <= MID_ALIGN && size > MAX_TINY && size <= MAX_CACHED {
            malloc_mid::<Plain>(size, slot::get().cast())
        } else {
            aligned(size, align)
        }
    }
}

/// [`aligned`], marked as rare: a type is not smaller than its alignment.
///
/// # Safety
///
/// As there.
#[cold]
unsafe fn small_but_aligned(size: usize, align: usize) -> *mut u8 {
    // SAFETY: passed on.
    unsafe { aligned(size, align) }
}

/// `size` bytes at a multiple of `align`, a power of two. A function of its own,
/// because it needs a frame, which the fast paths beside it would have as well.
///
/// # Safety
///
/// `align` is a power of two.
#[inline(never)]
pub(crate) unsafe fn aligned(size: usize, align: usize) -> *mut u8 {
    if let Some(class) = ClassIndex::for_layout(size, align) {
        // SAFETY: the slot always points to a front.
        let block = unsafe { ThreadCache::pop_class(slot::get().cast(), class) };
        if !block.is_null() {
            return block;
        }
    }
    aligned_slow(size, align)
}

/// The alignment that `malloc` promises for a size.
pub(crate) const fn malloc_align(size: usize) -> usize {
    if size <= 8 { 8 } else { 16 }
}

#[cold]
#[inline(never)]
fn aligned_slow(size: usize, align: usize) -> *mut u8 {
    match ClassIndex::for_layout(size, align) {
        Some(class) => fresh_of(class, align),
        None => run(size, align),
    }
}

/// `size` bytes at a multiple of `align`, a power of two, as a run of their own: null if there is no memory.
pub(crate) fn run(size: usize, align: usize) -> *mut u8 {
    fresh_large(size, align).block
}

/// A block from behind the bins for a fast path, whose table this is: the class is in it.
#[inline(always)]
fn fresh_in(tiny: &[u8; TINY_STEPS], size: usize, align: usize) -> *mut u8 {
    let class = if size <= MAX_TINY {
        // SAFETY: the table holds numbers of classes.
        Some(unsafe { ClassIndex::new_unchecked(tiny[size.div_ceil(8)].into()) })
    } else {
        ClassIndex::for_size(size)
    };
    match class {
        Some(class) => fresh_of(class, align),
        None => run(size, align),
    }
}

/// A block of a class, or of a larger one.
#[inline]
fn fresh_of(class: ClassIndex, align: usize) -> *mut u8 {
    let block = try_class(class, align);
    if !block.is_null() {
        return block;
    }
    again(|| Fresh::unknown(try_class(class, align))).block
}

/// A block that is a run of its own.
fn fresh_large(size: usize, align: usize) -> Fresh {
    let fresh = try_large(size, align);
    if !fresh.block.is_null() || size > isize::MAX as usize {
        return fresh;
    }
    again(|| try_large(size, align))
}

/// Tries once more, where there was no memory: what is free but kept is collected first.
#[cold]
fn again(try_once: impl FnOnce() -> Fresh) -> Fresh {
    if !upkeep::collect_if_it_may_help() {
        return Fresh::NULL;
    }
    let fresh = try_once();
    if fresh.block.is_null() {
        upkeep::note_collecting_was_vain();
    }
    fresh
}

#[inline(never)]
fn try_class(class: ClassIndex, align: usize) -> *mut u8 {
    match thread::heap() {
        // SAFETY: the heap is the calling thread's, and its bin may be empty or
        // not (the first call of a thread), which `pop` tells.
        Current::Own(heap) => unsafe {
            open_allocs(heap);
            let block = ThreadCache::pop_class(heap.cast(), class);
            if block.is_null() {
                let came_before = (*heap).came.get();
                let mut source = HeapSource::of(heap);
                let block = ThreadCache::refill(heap.cast(), class, align, &mut source);
                source.look_if_due();
                // After the refill: what this starts may allocate on this thread.
                upkeep::count_refill(&*heap, class, came_before);
                block
            } else {
                block
            }
        },
        Current::Fallback(heap) => {
            let mut one = [ptr::null_mut()];
            // SAFETY: the fallback heap is valid.
            unsafe { Heap::with_source(heap, |source| source.refill(class, &mut one)) };
            one[0]
        }
        Current::None => ptr::null_mut(),
    }
}

/// Does what a free has left to this thread's next alloc, if one has.
///
/// # Safety
///
/// The heap is the calling thread's.
unsafe fn open_allocs(heap: *mut Heap) {
    // SAFETY: passed on.
    unsafe {
        if ThreadCache::are_allocs_closed(heap.cast()) {
            ThreadCache::open_allocs(heap.cast());
            upkeep::look(Caller::Program);
        }
    }
}

/// A block that is a run of its own.
#[inline(never)]
fn try_large(size: usize, align: usize) -> Fresh {
    if size > isize::MAX as usize {
        return Fresh::NULL;
    }
    let shape = Shape::large(size, align);
    let is_kept = shape.regions <= MAX_RETAINED_REGIONS && shape.align == 1;
    let mut shard = 0;
    if let Current::Own(heap) = thread::heap() {
        // SAFETY: the heap is the calling thread's.
        unsafe {
            open_allocs(heap);
            if is_kept && let Some(run) = (*heap).runs.take(shape.regions) {
                return placed(run.first, run.regions, run.regions, size, align);
            }
            upkeep::count_taken_run(&*heap);
            shard = (*heap).shard();
        }
    }
    let block = if shape.regions > MAX_RUN_REGIONS {
        LARGE.allocate(&ARENA, size, align)
    } else if let Some(run) = RUNS.allocate(&ARENA, size, shape, shard) {
        // SAFETY: the run was just handed out.
        return unsafe { placed(run.first, run.regions, run.soiled, size, align) };
    } else {
        LARGE.allocate_outside(size, align)
    };
    block.map_or(Fresh::NULL, |block| Fresh {
        block: block.address,
        soiled: if block.zeroed { 0 } else { usize::MAX },
    })
}

/// `size` bytes at a multiple of `align`, at most [`REGION_BYTES`], for a block that has grown out of its run,
/// with room behind them for more; null if there is none.
pub(crate) fn with_room(size: usize, align: usize) -> *mut u8 {
    debug_assert!(align <= REGION_BYTES);
    RUNS.allocate_with_room(&ARENA, size, align)
        .map_or(ptr::null_mut(), |run| {
            // SAFETY: the run was just handed out.
            unsafe { placed(run.first, run.regions, run.soiled, size, align).block }
        })
}

/// A block of `size` bytes in a run, of which so many regions are soiled.
///
/// # Safety
///
/// The run is the caller's, and labelled as a large block's.
unsafe fn placed(
    first: RegionIndex,
    regions: usize,
    soiled: usize,
    size: usize,
    align: usize,
) -> Fresh {
    // SAFETY: passed on.
    let block = unsafe { Large::place(&ARENA, first, regions, size, align) };
    Fresh {
        block,
        soiled: soiled * REGION_BYTES,
    }
}

/// `size` zeroed bytes at a multiple of `align`.
///
/// # Safety
///
/// As for [`layout`].
#[inline]
pub(crate) unsafe fn zeroed(size: usize, align: usize) -> *mut u8 {
    if size <= MAX_FINE && align <= MAX_CACHED_ALIGN {
        // SAFETY: passed on.
        let block = unsafe { layout(size, align) };
        if !block.is_null() {
            // SAFETY: the block has at least `size` bytes.
            unsafe { block.write_bytes(0, size) };
        }
        return block;
    }
    // A run of its own tells what of it reads as zero, which a block of a coarse class does not.
    let fresh = fresh_large(size, align);
    let soiled = fresh.soiled.min(size);
    if fresh.block.is_null() || soiled == 0 {
        return fresh.block;
    }
    // SAFETY: the block has at least `size` bytes.
    unsafe {
        if soiled >= size / 8 {
            Large::clear(&ARENA, fresh.block, soiled);
        } else {
            // What it reads as will still say what its program has written to.
            fresh.block.write_bytes(0, soiled);
        }
    }
    fresh.block
}
