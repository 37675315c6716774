//! The depot: magazines behind the bins.
//!
//! All of a class are full but the first, which may be half full, so that a bin gives and takes half a magazine at a
//! time. It is half full itself afterwards, and any exchange is far away; with whole magazines it would be full or
//! empty, and the next one two frees or two allocs away. Where several of one kind come in a row, whole magazines are
//! moved: that takes half as many steps, and copies nothing.

use crate::held::Held;
use crate::magazine::{Magazine, capacity};
use crate::source::{Source, give_back};
use core::sync::atomic::{AtomicU64, Ordering};
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

/// Magazines with fewer slots than this go to the depot and come from there as a whole: by halves there would be as many
/// exchanges.
const LEAST_SPLIT: usize = 8;
/// After so many exchanges with the depot of one kind in a row, puts or takes, the next one is expected to be another,
const STEADY: i8 = 2;
/// and after so many, or more, the first of the other kind to be one of several.
const LONG: i8 = 4;
// Else whole magazines for the one reason would make each change of direction a long row, and be the other.
const_assert!(LONG > STEADY + 1);

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

/// Some of the classes, in few bytes: a heap has two pages, with the first magazines. Written by one thread at a time.
#[derive(Debug)]
pub(crate) struct ClassSet([AtomicU64; CLASSES.div_ceil(64)]);

impl ClassSet {
    #[expect(
        clippy::declare_interior_mutable_const,
        reason = "each use is to be a set of its own"
    )]
    pub const EMPTY: Self = Self([const { AtomicU64::new(0) }; CLASSES.div_ceil(64)]);

    fn place(class: ClassIndex) -> (usize, u64) {
        (class.number() / 64, 1 << (class.number() % 64))
    }

    /// Whether a class is one of them (relaxed).
    pub fn has(&self, class: ClassIndex) -> bool {
        let (word, bit) = Self::place(class);
        self.0[word].load(Ordering::Relaxed) & bit != 0
    }

    /// Puts a class in that is none of them, or takes one out that is (relaxed).
    fn flip(&self, class: ClassIndex) {
        let (word, bit) = Self::place(class);
        let word = &self.0[word];
        word.store(word.load(Ordering::Relaxed) ^ bit, Ordering::Relaxed);
    }
}

/// What the depot has of a class. How many magazines that are stands in
/// [`ThreadCache::kept`](crate::ThreadCache::kept), and whether the first one is half full in
/// [`ThreadCache::halves`](crate::ThreadCache::halves).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Depot {
    /// The magazines, all of them full, or all but the first.
    first: Option<Magazine>,
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
    /// Times in a row that the bin has put blocks into the depot, or less than zero: that it has taken some.
    exchanges: i8,
}

const_assert!(size_of::<Depot>() <= 16);

impl Depot {
    pub const EMPTY: Self = Self {
        first: None,
        limit: 1,
        missed: 0,
        missed_in_bursts: 0,
        loans: 0,
        drift: 0,
        homed: 0,
        exchanges: 0,
    };

    /// Notes that the bin puts blocks here. Returns how many times in a row it had done so before.
    fn note_put(&mut self) -> i8 {
        let before = in_a_row(self.exchanges);
        self.exchanges = before.saturating_add(1);
        before
    }

    /// Notes that the bin takes blocks from here. Returns how many times in a row it had done so before.
    fn note_take(&mut self) -> i8 {
        let before = in_a_row(-self.exchanges);
        self.exchanges = -(before.saturating_add(1));
        before
    }

    /// Forgets what may be a thread's own way, as the next one has another; not how much is to be kept.
    pub fn forget_thread(&mut self) {
        (self.drift, self.missed_in_bursts, self.homed) = (0, 0, 0);
        self.exchanges = 0;
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

/// How many exchanges of one kind are taken to have been the last ones, where so many were; or, below zero, so many of
/// the other kind.
const fn in_a_row(exchanges: i8) -> i8 {
    if exchanges > 0 {
        exchanges
    } else if exchanges <= -LONG {
        STEADY
    } else {
        0
    }
}

/// Whether magazines with so many slots are exchanged by halves, after so many exchanges of one kind in a row.
const fn is_split(capacity: usize, in_a_row: i8) -> bool {
    capacity >= LEAST_SPLIT && in_a_row < STEADY
}

/// The blocks of a magazine with so many slots that is half full.
const fn half_of(capacity: usize) -> usize {
    capacity / 2
}

/// How many blocks of a class so many magazines hold, the first of which may be half full. Of no magazines none, for
/// who sees that the last one has gone, and not yet that with it the half has.
pub(crate) fn blocks_in(class: ClassIndex, magazines: u8, has_half: bool) -> usize {
    let capacity = capacity(class);
    let missing = if has_half {
        capacity - half_of(capacity)
    } else {
        0
    };
    (usize::from(magazines) * capacity).saturating_sub(missing)
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
    /// Puts the older half of a bin into the depot, or all of it where that has been done several times in a row;
    /// or, where there is no room for it, flushes the older half or most of it.
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
        let in_a_row = self.depot(class).note_put();
        // SAFETY: passed on.
        let is_kept = unsafe {
            match self.half(class) {
                Some(half) => self.swap_with_half(class, capacity, half),
                None => self.put_into_depot(class, capacity, is_split(capacity, in_a_row)),
            }
        };
        if is_kept {
            self.counts().depot_stores.add(1);
        } else {
            // SAFETY: passed on.
            unsafe { self.flush_oldest(class, capacity, source) };
        }
    }

    /// The first magazine of the depot, if it is half full.
    fn half(&mut self, class: ClassIndex) -> Option<Magazine> {
        if self.halves().has(class) {
            self.depot(class).first
        } else {
            None
        }
    }

    /// Puts the bin's magazine into the depot, and the depot's half full one into the bin; `false` if that would be
    /// too much.
    ///
    /// # Safety
    ///
    /// As for [`empty_full`](Self::empty_full), and that is the depot's first magazine.
    unsafe fn swap_with_half(
        &mut self,
        class: ClassIndex,
        capacity: usize,
        half: Magazine,
    ) -> bool {
        if !self.try_keep(class, capacity - half_of(capacity)) {
            return false;
        }
        self.halves().flip(class);
        // SAFETY: passed on.
        unsafe {
            let full = self.magazine(class, capacity);
            full.set_next(half.next());
            self.depot(class).first = Some(full);
            self.install(class, half, capacity, half_of(capacity));
        }
        true
    }

    /// Puts the bin's magazine into the depot, with all of its blocks or with the older half of them; `false` if that
    /// would be too much.
    ///
    /// # Safety
    ///
    /// As for [`empty_full`](Self::empty_full), and the depot has none that is half full.
    unsafe fn put_into_depot(&mut self, class: ClassIndex, capacity: usize, by_half: bool) -> bool {
        let blocks = if by_half { half_of(capacity) } else { capacity };
        let kept = self.kept(class).load(Ordering::Relaxed);
        if kept >= self.depot(class).limit || !self.try_keep(class, blocks) {
            return false;
        }
        let Some(spare) = self.behind().store.take_for_depot(class) else {
            self.note_gone(class, blocks);
            return false;
        };
        self.kept(class).store(kept + 1, Ordering::Relaxed);
        if by_half {
            self.halves().flip(class);
        }
        // SAFETY: passed on. The bin's magazine has so many slots, all with blocks; the spare one is nobody's yet.
        unsafe {
            let magazine = self.magazine(class, capacity);
            magazine.set_next(self.depot(class).first);
            self.depot(class).first = Some(magazine);
            self.install(class, spare, capacity, 0);
            self.bin(class)
                .push_copies(magazine.lowest().add(blocks), capacity - blocks);
        }
        true
    }

    /// Fills a bin from the depot: half of it or, where that has been done several times in a row, as far as a magazine
    /// goes. `false` if there is nothing.
    ///
    /// # Safety
    ///
    /// The calling thread is the owner, and the bin is empty.
    pub(crate) unsafe fn take_from_depot(&mut self, class: ClassIndex) -> bool {
        let Some(first) = self.depot(class).first else {
            return false;
        };
        // The depot has none of a class that has not grown, so the bin's is full size, too.
        let capacity = capacity(class);
        let in_a_row = self.depot(class).note_take();
        // SAFETY: passed on. The first magazine has so many slots, and is full where it is not half full.
        unsafe {
            if !self.halves().has(class) && is_split(capacity, in_a_row) {
                let half = half_of(capacity);
                self.halves().flip(class);
                self.note_gone(class, capacity - half);
                self.bin(class)
                    .push_copies(first.lowest().add(half), capacity - half);
            } else {
                let empty = self.magazine(class, capacity);
                let blocks = self.unlink(class, first);
                self.behind().store.give(class, empty);
                self.install(class, first, capacity, blocks);
            }
        }
        true
    }

    /// Takes the first magazine, which is this one, out of the depot. Returns how many blocks it holds.
    fn unlink(&mut self, class: ClassIndex, first: Magazine) -> usize {
        self.depot(class).first = first.next();
        let kept = self.kept(class);
        kept.store(kept.load(Ordering::Relaxed) - 1, Ordering::Relaxed);
        let is_half = self.halves().has(class);
        if is_half {
            self.halves().flip(class);
        }
        let blocks = blocks_in(class, 1, is_half);
        self.note_gone(class, blocks);
        blocks
    }

    /// Notes that there are so many blocks more in the depots; `false` if that is too much.
    fn try_keep(&mut self, class: ClassIndex, blocks: usize) -> bool {
        let fill = self.fill(class);
        let bytes = fill.bytes + blocks * class.size();
        let has_room = bytes <= fill.most;
        if has_room {
            fill.bytes = bytes;
        }
        has_room
    }

    /// Notes that there are so many blocks less.
    fn note_gone(&mut self, class: ClassIndex, blocks: usize) {
        self.fill(class).bytes -= blocks * class.size();
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
            while let Some(first) = self.depot(class).first {
                let blocks = self.unlink(class, first);
                // SAFETY: it has so many blocks in its lowest slots.
                give_back(source, class, unsafe {
                    core::slice::from_raw_parts(first.lowest().cast(), blocks)
                });
                self.behind().store.give(class, first);
            }
        }
        before
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

    /// Whether magazines are split at each of these exchanges: puts, or takes where it says `false`.
    fn splits<const N: usize>(depot: &mut Depot, puts: [bool; N]) -> [bool; N] {
        puts.map(|is_put| {
            let in_a_row = if is_put {
                depot.note_put()
            } else {
                depot.note_take()
            };
            is_split(16, in_a_row)
        })
    }

    #[test]
    fn whole_magazines_are_for_several_exchanges_of_one_kind() {
        let mut depot = Depot::EMPTY;
        let puts = splits(&mut depot, [true; 5]);
        assert_eq!(puts, [true, true, false, false, false]);
        let takes = splits(&mut depot, [false; 5]);
        assert_eq!(takes, [false; 5], "as many are expected");
        // Who goes to and fro from then on is known for it soon.
        assert_eq!(splits(&mut depot, [true]), [false]);
        assert_eq!(splits(&mut depot, [false, true, false]), [true; 3]);
        depot.forget_thread();
        assert_eq!(splits(&mut depot, [false, true, true]), [true; 3]);
    }

    #[test]
    fn short_magazines_are_not_split() {
        assert!(!is_split(LEAST_SPLIT - 1, 0) && is_split(LEAST_SPLIT, 0));
    }

    #[test]
    fn half_of_no_magazine_is_nothing() {
        let class = ClassIndex::for_size(768).expect("a cached size");
        let capacity = capacity(class);
        assert_eq!(blocks_in(class, 0, true), 0);
        assert_eq!(blocks_in(class, 1, true), capacity / 2);
        assert_eq!(blocks_in(class, 3, true), 2 * capacity + capacity / 2);
        assert_eq!(blocks_in(class, 3, false), 3 * capacity);
    }

    #[test]
    fn a_class_set_has_what_was_put_in() {
        let set = ClassSet::EMPTY;
        let odd = || ClassIndex::all().filter(|class| class.number() % 2 == 1);
        odd().for_each(|class| set.flip(class));
        assert!(ClassIndex::all().all(|class| set.has(class) == (class.number() % 2 == 1)));
        odd().for_each(|class| set.flip(class));
        assert!(ClassIndex::all().all(|class| !set.has(class)));
    }

    #[test]
    fn a_burst_of_which_little_would_be_kept_is_none() {
        assert!(keeps_bursts(1024, 100, 100));
        assert!(!keeps_bursts(1024, 1000, 1000));
    }
}
