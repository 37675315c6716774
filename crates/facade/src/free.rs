//! Freeing: the fast path, and where it leads.

use crate::c::Foreign;
use crate::front::Front;
use crate::heap::Heap;
use crate::source::HeapSource;
use crate::state::{ARENA, LARGE, RUNS};
use crate::thread::{self, Current, slot};
use crate::upkeep::{self, Caller};
use hakmem_large::Large;
use hakmem_mid_pool::{CachedRun, MAX_RETAINED_REGIONS, MAX_RUN_REGIONS};
use hakmem_region_id::word::BIN_LIMIT;
use hakmem_region_id::{ClassIndex, Kind, REGION_BYTES, RegionIndex, RegionWord};
use hakmem_sys::report;
use hakmem_thread_cache::{Source, ThreadCache};

/// Frees a block, a null, or (by way of `F`) what is not ours.
///
/// # Safety
///
/// `block` is null, a live block that is not used any more, or what `F` can deal with.
#[inline(always)]
pub(crate) unsafe fn free<F: Foreign>(block: *mut u8) {
    let front = slot::get();
    // SAFETY: the slot always points to a front. Below the limit, the gate's
    // value is the offset of the bin of the block's class.
    unsafe {
        let bin = Front::gate(front, block.addr());
        if bin < BIN_LIMIT && ThreadCache::push(front.cast(), bin, block) {
            return;
        }
    }
    // SAFETY: passed on.
    unsafe { free_slow::<F>(block) }
}

/// # Safety
///
/// As for [`free`].
#[cold]
#[inline(never)]
unsafe fn free_slow<F: Foreign>(block: *mut u8) {
    let front = slot::get();
    // SAFETY: the slot always points to a front; one that knows a region is a heap's, and the region's word says so.
    unsafe {
        if let Some((region, word)) = Front::find(front, block.expose_provenance()) {
            let heap: *mut Heap = front.cast();
            if word == RegionWord::of_kind(Kind::LargeStart)
                && block == Large::block_of(&ARENA, region)
            {
                return free_run(&*heap, region, caller::<F>());
            }
            if let Some(class) = word.class() {
                return free_into(heap, block, class, caller::<F>());
            }
        }
        free_slowly::<F>(block);
    }
}

/// # Safety
///
/// As for [`free`].
#[inline(never)]
unsafe fn free_slowly<F: Foreign>(block: *mut u8) {
    if block.is_null() {
        return;
    }
    // SAFETY: passed on.
    unsafe {
        if F::SERVES_LIBC && thread::frees_without_heap() {
            thread::without_heap(|| free_behind_the_bins::<F>(block));
        } else {
            free_behind_the_bins::<F>(block);
        }
    }
}

/// # Safety
///
/// As for [`free`], and the block is not null.
unsafe fn free_behind_the_bins<F: Foreign>(block: *mut u8) {
    let address = block.expose_provenance();
    let Some(region) = ARENA.map().region_of(address) else {
        // SAFETY: passed on.
        if !unsafe { LARGE.free_outside(block) } {
            refuse_inside_outside("free", block);
            // SAFETY: passed on.
            unsafe { F::free(block) };
        }
        return;
    };
    // SAFETY: the region is in the map.
    let word = unsafe { ARENA.map().get(region) };
    if let Some(class) = word.class() {
        free_block(block, class, caller::<F>());
        return;
    }
    match word.kind() {
        // SAFETY: the word says that a large block's run starts here.
        Some(Kind::LargeStart) if block == unsafe { Large::block_of(&ARENA, region) } => {
            // SAFETY: the word says that a live block starts here.
            unsafe { free_run_slow(region, caller::<F>()) };
        }
        Some(Kind::Unmapped | Kind::Foreign) => {
            // SAFETY: passed on.
            unsafe { F::free(block) };
        }
        kind => bad_pointer("free", block, region, kind),
    }
}

/// Where a free may come from.
pub(crate) const fn caller<F: Foreign>() -> Caller {
    if F::SERVES_LIBC {
        Caller::Anything
    } else {
        Caller::Program
    }
}

/// Frees a block of a class whose bin did not take it, because the thread has no heap or the front did
/// not know the region yet.
fn free_block(block: *mut u8, class: ClassIndex, caller: Caller) {
    match thread::heap() {
        // SAFETY: the heap is the calling thread's.
        Current::Own(heap) => unsafe {
            (*heap).front.refresh();
            free_into(heap, block, class, caller);
        },
        // SAFETY: the fallback heap is valid.
        Current::Fallback(heap) => unsafe {
            Heap::with_source(heap, |source| source.flush(class, &[block]));
        },
        // Without memory for a heap there is no way to take the block; it is
        // lost, the program is not.
        Current::None => {}
    }
}

/// Frees a block of a class into this heap, whose bin is full, as a rule.
///
/// # Safety
///
/// The heap is the calling thread's. The block is live, and not used any more.
#[inline(never)]
unsafe fn free_into(heap: *mut Heap, block: *mut u8, class: ClassIndex, caller: Caller) {
    // SAFETY: passed on.
    unsafe {
        let left_before = (*heap).left.get();
        let mut source = HeapSource::of(heap);
        ThreadCache::make_room_and_push(heap.cast(), class, block, &mut source);
        upkeep::count_flush(&*heap, left_before, caller);
    }
}

/// Frees a block that is a run, for which this heap, the thread's, has room as a rule.
///
/// # Safety
///
/// The block that starts in this region is live, and not used any more.
#[inline(always)]
unsafe fn free_run(heap: &Heap, region: RegionIndex, caller: Caller) {
    // SAFETY: passed on; the heap is the calling thread's.
    unsafe {
        let regions = ARENA.run_len(region);
        if heap.runs.has_room_at_hand(regions) && !RUNS.wants_kept_use(regions) {
            Large::mark_free(&ARENA, region);
            let first = region;
            if heap.runs.put_in_room(CachedRun { first, regions }) {
                return upkeep::look_after_puts(heap, caller);
            }
        }
        free_run_slow(region, caller);
    }
}

/// The same for what is not kept, or not just so.
///
/// # Safety
///
/// As there.
#[inline(never)]
unsafe fn free_run_slow(region: RegionIndex, caller: Caller) {
    let current = thread::heap();
    let (mut has_given, mut has_reached_arena) = (false, false);
    // SAFETY: passed on.
    unsafe {
        let regions = ARENA.run_len(region);
        let mut give_back = |run: CachedRun, shard| {
            has_given = true;
            has_reached_arena |= give_back_run(run, shard);
        };
        if regions > MAX_RUN_REGIONS {
            Large::free_run(&ARENA, region);
            has_reached_arena = true;
        } else {
            Large::mark_free(&ARENA, region);
            let run = CachedRun {
                first: region,
                regions,
            };
            if let Current::Own(heap) = current
                && regions <= MAX_RETAINED_REGIONS
            {
                let shard = (*heap).shard();
                if RUNS.wants_kept_use(regions) && RUNS.note_kept(regions) {
                    note_use(run);
                }
                (*heap).runs.put(&RUNS, run, |run| give_back(run, shard));
            } else {
                give_back(run, 0);
            }
        }
    }
    match current {
        // SAFETY: heaps are valid for ever.
        Current::Own(heap) if !has_reached_arena => unsafe {
            if has_given {
                upkeep::count_slow_call(&*heap, caller);
            } else {
                upkeep::look_after_puts(&*heap, caller);
            }
        },
        // What the pool retains is little; what the arena has got may be enough to start a purge thread
        // for. To know takes counters that all threads write to.
        _ => upkeep::count_freed_run(current, caller),
    }
}

/// Gives a run back to the pool that all threads share. Returns whether it went on to the arena.
///
/// # Safety
///
/// The run was a large block's, which is marked as free, and is the caller's.
pub(crate) unsafe fn give_back_run(run: CachedRun, shard: usize) -> bool {
    let CachedRun { first, regions } = run;
    // SAFETY: passed on.
    unsafe {
        if RUNS.wants_use(regions) {
            note_use(run);
        }
        RUNS.free(&ARENA, first, regions, shard)
    }
}

/// Has the pool know what was used of a block, unless it was filled for its program.
///
/// # Safety
///
/// As for [`give_back_run`].
#[cold]
unsafe fn note_use(CachedRun { first, regions }: CachedRun) {
    // SAFETY: passed on.
    unsafe {
        if let Some(block) = Large::freed_block_of(&ARENA, first)
            && !Large::is_cleared(&ARENA, first)
        {
            let offset = block.addr() - ARENA.map().address_of(first);
            RUNS.note_use(block, regions * REGION_BYTES - offset);
        }
    }
}

/// Ends the program if a pointer that is no block points into one outside the arena.
#[cold]
pub(crate) fn refuse_inside_outside(function: &str, pointer: *mut u8) {
    if let Some((start, bytes)) = LARGE.outside_around(pointer) {
        let distance = pointer.addr() - start;
        interior(function, pointer, distance, "into", start, bytes);
    }
}

/// Ends the program because of a pointer so far before, or into, a large block.
#[cold]
fn interior(
    function: &str,
    pointer: *mut u8,
    distance: usize,
    place: &str,
    start: usize,
    bytes: usize,
) -> ! {
    report::fatal(format_args!(
        "{function}({pointer:p}): not the start of a block, but {distance} bytes {place} one of {bytes} bytes at {start:#x}"
    ))
}

/// Ends the program because of a pointer into the arena that is no block.
#[cold]
pub(crate) fn bad_pointer(
    function: &str,
    block: *mut u8,
    region: RegionIndex,
    kind: Option<Kind>,
) -> ! {
    let address = block.addr();
    let (first, kind) = if kind == Some(Kind::Inside) {
        // SAFETY: the region, and with it those before it, are in the map.
        unsafe {
            let first = ARENA.first_of(region);
            (first, ARENA.map().get(first).kind())
        }
    } else {
        (region, kind)
    };
    match kind {
        // SAFETY: a large block's run starts here.
        Some(Kind::LargeStart) if unsafe { Large::freed_block_of(&ARENA, first) }.is_none() => {
            // SAFETY: as above.
            let (start, bytes) = unsafe {
                (
                    Large::block_of(&ARENA, first).addr(),
                    Large::run_bytes(&ARENA, first),
                )
            };
            let (distance, place) = if address < start {
                (start - address, "before")
            } else {
                (address - start, "into")
            };
            interior(function, block, distance, place, start, bytes)
        }
        Some(
            Kind::LargeStart | Kind::FreeDirty | Kind::FreeClean | Kind::FreeHole | Kind::Retained,
        ) => {
            // After one free, `realloc` and the question for the size are no second one.
            let what = if function == "free" {
                "double free: "
            } else {
                ""
            };
            report::fatal(format_args!(
                "{function}({block:p}): {what}the memory there is free already"
            ))
        }
        _ => report::fatal(format_args!(
            "{function}({block:p}): never allocated: the allocator uses that memory itself"
        )),
    }
}
