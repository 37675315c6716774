//! The depot: full magazines behind the bins.

use crate::held::Held;
use crate::magazine::{Magazine, capacity};
use crate::source::{Source, give_back};
use core::sync::atomic::Ordering;
use hakmem_region_id::{CLASSES, ClassIndex};
use static_assertions::const_assert;

/// Full magazines that the depot keeps of a class at most, for which a heap has memory,
const DEPOT_MAX: usize = 160;
/// the most bytes of blocks in them,
const CLASS_BYTES: usize = 128 * 1024;
/// and the most bytes of blocks in the whole depot; the coarse classes have a depot of their own.
const DEPOT_BYTES: usize = 512 * 1024;

/// The most bytes of blocks in the whole depot where there are classes that come and go in bursts, and of one of
/// those,
const BURST_DEPOT_BYTES: usize = 1024 * 1024;
/// and the same of coarse classes.
const BURST_COARSE_BYTES: usize = 2 * 1024 * 1024;
/// A burst is so many flushes of a class in a row, and later as many refills,
const BURST: i16 = 6;
/// or so many of a coarse one: each is of as many bytes as six or more of any other.
const BURST_COARSE: i16 = 3;
/// A burst of more than so many times what is kept of one is none: too much of it is flushed in any case.
const BURST_MOST: usize = 2;

/// After so many refills of a class in a row, or flushes, a thread is taken to allocate only, or to
/// free: it moves seven eighths of a magazine at a time, not half.
const IN_A_ROW: u16 = 4;

/// How many full magazines of each class the depot may keep.
static LIMITS: [u8; CLASSES] = limits(false);
/// The same of a class that comes and goes in bursts.
static BURST_LIMITS: [u8; CLASSES] = limits(true);

const fn limits(in_bursts: bool) -> [u8; CLASSES] {
    let mut limits = [0; CLASSES];
    let mut number = 0;
    while let Some(class) = ClassIndex::new(number) {
        let bytes = if in_bursts {
            burst_bytes(class)
        } else {
            CLASS_BYTES
        };
        let by_bytes = bytes / magazine_bytes(class);
        limits[number] = if by_bytes < DEPOT_MAX {
            by_bytes as u8
        } else {
            DEPOT_MAX as u8
        };
        number += 1;
    }
    limits
}

/// Bytes of the blocks in a full magazine.
const fn magazine_bytes(class: ClassIndex) -> usize {
    capacity(class) * class.size()
}

/// The most bytes of blocks that are kept of a class that comes and goes in bursts, and of its like.
const fn burst_bytes(class: ClassIndex) -> usize {
    if class.is_coarse() {
        BURST_COARSE_BYTES
    } else {
        BURST_DEPOT_BYTES
    }
}

/// How much is in full magazines.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fill {
    /// Bytes of blocks,
    pub bytes: usize,
    /// and how many there may be.
    pub most: usize,
}

impl Fill {
    pub const EMPTY: Self = Self {
        bytes: 0,
        most: DEPOT_BYTES,
    };
}

/// What the depot has of a class. How many magazines that are stands in
/// [`ThreadCache::kept`](crate::ThreadCache::kept).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Depot {
    pub full: Option<Magazine>,
    /// How many it may keep: grows where a refill shows that what was flushed before
    /// should have been kept.
    limit: u8,
    /// Flushes since then,
    missed: u8,
    /// and those of them that were part of a burst, if the refills are another.
    missed_in_bursts: u8,
    /// How many blocks the class may still take from larger classes.
    pub loans: u8,
    /// Flushes since the last refill from the source, or less than zero: refills since the last
    /// flush.
    drift: i16,
    /// Frees that have gone home while the bin had no magazine.
    pub homed: u8,
}

const_assert!(size_of::<Depot>() <= 16);

impl Depot {
    pub const EMPTY: Self = Self {
        full: None,
        limit: 1,
        missed: 0,
        missed_in_bursts: 0,
        loans: 0,
        drift: 0,
        homed: 0,
    };

    /// Forgets what may be a thread's own way, as the next one has another; not how much is to be kept.
    pub fn forget_thread(&mut self) {
        (self.drift, self.missed_in_bursts, self.homed) = (0, 0, 0);
    }

    /// How many flushes or refills in a row are a burst.
    #[inline(always)]
    fn burst(&self, class: ClassIndex) -> i16 {
        if self.limit > LIMITS[class.number()].max(1) {
            // The class has had some: this is what was too much in the last one.
            0
        } else if class.is_coarse() {
            BURST_COARSE
        } else {
            BURST
        }
    }

    /// Notes a flush. Returns how many blocks it is to be of, from a bin with so many slots.
    pub fn note_flush(&mut self, class: ClassIndex, slots: usize) -> usize {
        self.missed = self.missed.saturating_add(1);
        let before = self.drift.max(0);
        self.drift = before.saturating_add(1);
        if before == 0 {
            // What was left of another burst.
            self.missed_in_bursts = 0;
        }
        if before >= self.burst(class) {
            self.missed_in_bursts = self.missed_in_bursts.saturating_add(1);
        }
        batch_of(slots, before)
    }

    /// Notes a refill from the source, and with it that what was flushed before should have been kept, if
    /// some was. Returns how many refills in a row there were before it, as a number that is not
    /// above zero, and how many bytes more than [`CLASS_BYTES`] the depot is to keep of the class from
    /// now on.
    #[inline(always)]
    pub fn note_refill(&mut self, class: ClassIndex) -> (i16, usize) {
        let before = self.drift;
        let in_a_row = before.min(0);
        self.drift = in_a_row.saturating_sub(1);
        if self.missed > 0 {
            self.missed -= 1;
            self.limit = self.limit.max((self.limit + 1).min(LIMITS[class.number()]));
        }
        if self.missed_in_bursts == 0 {
            return (in_a_row, 0);
        }
        (in_a_row, self.note_burst(class, before))
    }

    /// Notes a refill that may be part of a burst, `before` which there was this drift. Returns how many bytes more
    /// the depot is to keep.
    #[cold]
    fn note_burst(&mut self, class: ClassIndex, before: i16) -> usize {
        if before > 0 && before as usize * magazine_bytes(class) > BURST_MOST * burst_bytes(class) {
            self.missed_in_bursts = 0;
        }
        let limit = self.limit + 1;
        if before.min(0) > -self.burst(class)
            || self.missed_in_bursts == 0
            || limit > BURST_LIMITS[class.number()]
        {
            return 0;
        }
        self.missed_in_bursts -= 1;
        self.limit = limit;
        if limit > LIMITS[class.number()] {
            magazine_bytes(class)
        } else {
            0
        }
    }
}

/// The blocks of a refill or a flush of which there were so many in a row.
pub(crate) fn batch_of(slots: usize, in_a_row: i16) -> usize {
    if in_a_row.unsigned_abs() < IN_A_ROW {
        slots / 2
    } else {
        slots - slots / 8
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
        let bytes = magazine_bytes(class);
        let may_keep = kept < self.depot(class).limit
            && self.fill(class).bytes + bytes <= self.fill(class).most;
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
        self.fill(class).bytes += bytes;
        // SAFETY: passed on.
        unsafe { self.install(class, spare, capacity, 0) };
    }

    /// How much is in the magazines of this class and its like.
    fn fill(&mut self, class: ClassIndex) -> &mut Fill {
        &mut self.behind().fills[usize::from(class.is_coarse())]
    }

    /// Notes a refill from the source. Returns how many in a row there were before it, as a number that is not above
    /// zero.
    #[inline(always)]
    pub(crate) fn note_refill(&mut self, class: ClassIndex) -> i16 {
        let (in_a_row, more) = self.depot(class).note_refill(class);
        if more > 0 {
            let most = &mut self.fill(class).most;
            *most = (*most + more).min(burst_bytes(class));
        }
        in_a_row
    }

    /// Returns what is in the depot to the source. Returns how many bytes that were.
    pub(crate) fn drain_depot(&mut self, source: &mut impl Source) -> usize {
        let before = self.behind().fills.iter().map(|fill| fill.bytes).sum();
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
        self.fill(class).bytes -= magazine_bytes(class);
        Some(full)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether the depot keeps more of a class than of any, where so many flushes and so many refills in a row
    /// take turns.
    fn keeps_bursts(size: usize, flushes: usize, refills: usize) -> bool {
        let class = ClassIndex::for_size(size).expect("a cached size");
        let mut depot = Depot::EMPTY;
        let mut more = 0;
        for _ in 0..1000 {
            for _ in 0..flushes {
                depot.note_flush(class, capacity(class));
            }
            for _ in 0..refills {
                more += depot.note_refill(class).1;
            }
        }
        let beyond = depot.limit - LIMITS[class.number()].max(1);
        let beyond = usize::from(beyond);
        assert_eq!(more, beyond * magazine_bytes(class));
        more > 0
    }

    #[test]
    fn a_burst_is_several_flushes_in_a_row_and_then_several_refills() {
        let few = usize::from(BURST.unsigned_abs());
        assert!(keeps_bursts(1024, 2 * few, 2 * few));
        assert!(!keeps_bursts(1024, few, few));
        assert!(!keeps_bursts(1024, 100, few));
        assert!(!keeps_bursts(1024, few, 100));
    }

    #[test]
    fn a_few_magazines_of_a_coarse_class_are_a_burst() {
        let few = usize::from(BURST_COARSE.unsigned_abs());
        assert!(keeps_bursts(64 << 10, few + 1, few + 1));
        assert!(!keeps_bursts(64 << 10, few, few));
        assert!(!keeps_bursts(32 << 10, few + 1, few + 1));
    }

    #[test]
    fn what_is_left_of_bursts_is_kept_as_well() {
        let class = ClassIndex::for_size(1024).expect("a cached size");
        let mut depot = Depot::EMPTY;
        let mut turn = |flushes, refills| {
            for _ in 0..flushes {
                depot.note_flush(class, capacity(class));
            }
            (0..refills)
                .map(|_| depot.note_refill(class).1)
                .sum::<usize>()
        };
        let few = usize::from(BURST.unsigned_abs());
        for _ in 0..20 {
            turn(2, 2);
        }
        assert_eq!(turn(2, 2), 0);
        assert!(turn(2 * few, 2 * few) > 0);
        assert!(turn(1, 1) > 0);
        assert!(turn(2, 2) > 0);
    }

    #[test]
    fn a_burst_of_which_little_would_be_kept_is_none() {
        assert!(keeps_bursts(1024, 100, 100));
        assert!(!keeps_bursts(1024, 1000, 1000));
    }
}
