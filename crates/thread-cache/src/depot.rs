//! The depot: full magazines behind the bins.

use crate::held::Held;
use crate::magazine::{Magazine, capacity};
use crate::source::{Source, give_back};
use core::sync::atomic::Ordering;
use hakmem_region_id::{CLASSES, ClassIndex};

/// Full magazines that the depot keeps of a class at most,
const DEPOT_MAX: usize = 128;
/// the most bytes of blocks in them,
const DEPOT_CLASS_BYTES: usize = 128 * 1024;
/// and the most bytes of blocks in the whole depot.
const DEPOT_BYTES: usize = 512 * 1024;

/// How many full magazines of each class the depot may keep.
static DEPOT_LIMITS: [u8; CLASSES] = {
    let mut limits = [0; CLASSES];
    let mut number = 0;
    while let Some(class) = ClassIndex::new(number) {
        let by_bytes = DEPOT_CLASS_BYTES / (capacity(class) * class.size());
        limits[number] = if by_bytes < DEPOT_MAX {
            by_bytes as u8
        } else {
            DEPOT_MAX as u8
        };
        number += 1;
    }
    limits
};

/// What the depot has of a class. How many magazines that are stands in
/// [`ThreadCache::kept`](crate::ThreadCache::kept).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Depot {
    pub full: Option<Magazine>,
    /// How many it may keep: grows where a refill shows that what was flushed before
    /// should have been kept.
    pub limit: u8,
    /// Magazines' worth of flushes since then.
    pub missed: u8,
    /// How many blocks the class may still take from larger classes.
    pub loans: u8,
    /// Flushes since the last refill from the source, or less than zero: refills since the last
    /// flush.
    pub drift: i8,
    /// Frees that have gone home while the bin had no magazine.
    pub homed: u8,
}

impl Depot {
    pub const EMPTY: Self = Self {
        full: None,
        limit: 1,
        missed: 0,
        loans: 0,
        drift: 0,
        homed: 0,
    };

    /// Notes that what was flushed before should have been kept, if some was.
    #[inline(always)]
    pub fn learn(&mut self, class: ClassIndex) {
        if self.missed > 0 {
            self.missed -= 1;
            self.limit = (self.limit + 1).min(DEPOT_LIMITS[class.number()]);
        }
    }
}

impl Held {
    /// Puts the bin's magazine into the depot, or, where there is no room for it, flushes the older
    /// half or most of it.
    ///
    /// # Safety
    ///
    /// The calling thread is the owner; the bin is full, and its magazine of the full capacity.
    pub(crate) unsafe fn empty_full(
        &mut self,
        class: ClassIndex,
        capacity: usize,
        source: &mut impl Source,
    ) {
        let kept = self.kept(class).load(Ordering::Relaxed);
        let bytes = capacity * class.size();
        let may_keep =
            kept < self.depot(class).limit && self.behind().depot_bytes + bytes <= DEPOT_BYTES;
        let spare = if may_keep {
            self.behind().store.take_for_depot(class)
        } else {
            None
        };
        let Some(spare) = spare else {
            // SAFETY: passed on.
            unsafe { self.flush_oldest(class, capacity, source) };
            return;
        };
        self.counts().depot_stores.add(1);
        // SAFETY: the bin's magazine has so many slots below the end.
        let full = unsafe { Magazine::from_lowest(self.bin(class).end().sub(capacity)) };
        full.set_next(self.depot(class).full);
        self.depot(class).full = Some(full);
        self.kept(class).store(kept + 1, Ordering::Relaxed);
        self.behind().depot_bytes += bytes;
        // SAFETY: passed on.
        unsafe { self.install(class, spare, capacity, 0) };
    }

    /// Returns what is in the depot to the source. Returns how many bytes that were.
    pub(crate) fn drain_depot(&mut self, source: &mut impl Source) -> usize {
        let before = self.behind().depot_bytes;
        for class in ClassIndex::all() {
            while let Some(full) = self.take_full(class) {
                // SAFETY: magazines in the depot are full.
                give_back(source, class, unsafe {
                    core::slice::from_raw_parts(full.lowest().cast(), capacity(class))
                });
                self.behind().store.give(class, full);
            }
        }
        before
    }

    pub(crate) fn take_full(&mut self, class: ClassIndex) -> Option<Magazine> {
        let depot = self.depot(class);
        let full = depot.full?;
        depot.full = full.next();
        let kept = self.kept(class);
        kept.store(kept.load(Ordering::Relaxed) - 1, Ordering::Relaxed);
        self.behind().depot_bytes -= capacity(class) * class.size();
        Some(full)
    }
}
