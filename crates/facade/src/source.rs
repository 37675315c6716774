//! Where the bins of a heap get blocks from: slabs and mid runs.

use crate::heap::Heap;
use crate::state::{ARENA, MID, shared};
use crate::upkeep;
use core::sync::atomic::Ordering;
use hakmem_region_id::{ClassIndex, REGION_BYTES};
use hakmem_superslab::OwnedSlabs;
use hakmem_thread_cache::Source;

/// So many heaps of a program take their first blocks of each class from slabs that they keep,
/// so that each class a thread uses has a page of its own. Later heaps share the slabs of these
/// blocks (decision 19),
const HEAPS_WITH_PAGES: u32 = 16;
/// and take so many bytes of a class.
const FIRST_BYTES: usize = 512;

/// Regions of empty slabs and of new runs of mid blocks that a heap takes between two looks for sleepers
/// (128 KiB).
pub(crate) const REGIONS_PER_LOOK: u64 = (128 << 10) / REGION_BYTES as u64;

/// Where the bins of a heap get blocks from.
pub(crate) struct HeapSource {
    slabs: &'static OwnedSlabs,
    /// Whether a refill has taken so much new memory that it is time to look for sleepers.
    is_look_due: bool,
    /// For its counters and its number: a pointer to all of them, as a source is made on each slow
    /// call.
    heap: *const Heap,
}

impl HeapSource {
    /// # Safety
    ///
    /// `heap` is a valid heap.
    pub unsafe fn of(heap: *mut Heap) -> Self {
        // SAFETY: heaps are valid for ever; the slabs have their own lock.
        unsafe { Self::with_slabs(heap, &(*heap).slabs) }
    }

    /// The same with the slabs of another heap.
    ///
    /// # Safety
    ///
    /// As for [`of`](Self::of).
    pub unsafe fn with_slabs(heap: *mut Heap, slabs: &'static OwnedSlabs) -> Self {
        Self {
            slabs,
            is_look_due: false,
            heap,
        }
    }

    fn shard(&self) -> usize {
        // SAFETY: heaps are valid for ever.
        unsafe { (*self.heap).shard() }
    }

    /// Looks for sleepers if a refill has made that due. Not in the refill, under the cache's
    /// lock: the look takes the registry's, which comes before it, and other caches'.
    #[inline(always)]
    pub fn look_if_due(&self) {
        if self.is_look_due {
            upkeep::look_for_sleepers();
        }
    }

    /// Refills from the slabs, and notes when a look for sleepers is due.
    fn refill_tiny(
        &mut self,
        class: ClassIndex,
        refill: impl FnOnce(&OwnedSlabs) -> usize,
    ) -> usize {
        let filled = refill(self.slabs);
        self.note_taken();
        self.count(class, filled)
    }

    /// The same from runs of mid blocks.
    fn refill_mid(&mut self, class: ClassIndex, out: &mut [*mut u8]) -> usize {
        let mut filled = MID.refill_free(&ARENA, class, self.shard(), out);
        if filled == 0 {
            let regions;
            (filled, regions) = MID.refill_new(&ARENA, class, self.shard(), out);
            if filled > 0 {
                // SAFETY: heaps are valid for ever.
                unsafe { (*self.heap).mid_regions.add(regions as u64) };
                self.note_taken();
            }
        }
        self.count(class, filled)
    }

    /// Notes when a look for sleepers is due: the heap may have taken new memory.
    fn note_taken(&mut self) {
        // SAFETY: heaps are valid for ever.
        let heap = unsafe { &*self.heap };
        let taken = self.slabs.counts().slabs_started() + heap.mid_regions.get();
        if taken >= heap.next_look.load(Ordering::Relaxed) {
            let next = (taken / REGIONS_PER_LOOK + 1) * REGIONS_PER_LOOK;
            heap.next_look.store(next, Ordering::Relaxed);
            self.is_look_due = true;
        }
    }

    /// Counts the blocks of a refill.
    fn count(&self, class: ClassIndex, filled: usize) -> usize {
        // SAFETY: heaps are valid for ever.
        unsafe { (*self.heap).came.add((filled * class.size()) as u64) };
        filled
    }
}

impl Source for HeapSource {
    // A free takes the class from the region word.
    const LENDS: bool = true;

    fn refill(&mut self, class: ClassIndex, out: &mut [*mut u8]) -> usize {
        if class.is_tiny() {
            self.refill_tiny(class, |slabs| slabs.refill(shared(), class, out))
        } else {
            self.refill_mid(class, out)
        }
    }

    fn refill_free(&mut self, class: ClassIndex, out: &mut [*mut u8]) -> usize {
        if class.is_tiny() {
            // New memory for these comes by the page, which costs less than blocks one by one.
            self.refill(class, out)
        } else {
            self.count(class, MID.refill_free(&ARENA, class, self.shard(), out))
        }
    }

    fn first_refill(&mut self, class: ClassIndex, out: &mut [*mut u8]) -> usize {
        if !class.is_tiny() || self.slabs.number().0 < HEAPS_WITH_PAGES {
            return self.refill(class, out);
        }
        let few = (FIRST_BYTES / class.size()).clamp(1, out.len());
        self.refill_tiny(class, |slabs| {
            slabs.refill_once(shared(), class, &mut out[..few])
        })
    }

    fn flush(&mut self, class: ClassIndex, blocks: &[*mut u8]) {
        // SAFETY: heaps are valid for ever. What is in a bin is free, and of the bin's class.
        unsafe {
            (*self.heap).left.add((blocks.len() * class.size()) as u64);
            if class.is_tiny() {
                self.slabs.flush(shared(), class, blocks);
            } else {
                MID.flush(&ARENA, class, blocks);
            }
        }
    }
}
