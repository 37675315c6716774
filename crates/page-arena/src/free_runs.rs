//! Lists of free runs by length and state, in the run records.
//!
//! The words of a free run's first and last region say its state, and those of all between them that
//! they lie inside: as those of a large block's do, so that what a run of any length takes to be
//! handed out for one, and to come back, are a few words.

use crate::run::{Label, STEP_REGIONS, Shape};
use crate::space::{MAX_REGIONS, RECORD_BYTES};
use core::cell::Cell;
use core::ops::Range;
use core::sync::atomic::{AtomicU32, Ordering};
use hakmem_region_id::{Kind, REGION_BYTES, RegionIndex, RegionMap, RegionWord};
use static_assertions::{const_assert, const_assert_eq};

/// What is behind a free run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Memory with old contents.
    Dirty = 0,
    /// Memory that reads as zero.
    Clean = 1,
    /// Nothing.
    Hole = 2,
}

impl State {
    pub const ALL: [Self; 3] = [Self::Dirty, Self::Clean, Self::Hole];

    pub const fn word(self) -> RegionWord {
        RegionWord::of_kind(match self {
            Self::Dirty => Kind::FreeDirty,
            Self::Clean => Kind::FreeClean,
            Self::Hole => Kind::FreeHole,
        })
    }

    pub fn of_word(word: RegionWord) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.word() == word)
    }
}

/// The word of a region between the ends of a free run.
pub(crate) const INSIDE: RegionWord = RegionWord::of_kind(Kind::Inside);

/// What the arena keeps for a region. Of a run, only the records of its first
/// and last region mean anything. But for the length, they are used under the arena's lock.
#[repr(C)]
pub(crate) struct Record {
    /// Length of the run in regions (first and last region). Atomic, because of a run
    /// in use it is read without the lock.
    pub len: AtomicU32,
    /// Neighbours in the list of free runs, as region + 1 (first region).
    prev: Cell<u32>,
    next: Cell<u32>,
    /// When the run became dirty, in milliseconds (first region).
    pub stamp: Cell<u32>,
}

const_assert_eq!(core::mem::size_of::<Record>(), RECORD_BYTES);

impl Record {
    /// Length of the run in regions.
    pub fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed) as usize
    }

    pub fn set_len(&self, len: usize) {
        self.len.store(len as u32, Ordering::Relaxed);
    }
}

/// Lengths below this (256 KiB) have a list of their own,
const EXACT: usize = 4 * STEP_REGIONS;
/// and below this (2 MiB) those that serve large blocks of one length: of whole steps, or a region more.
const EXACT_LARGE: usize = 32 * STEP_REGIONS;
const LISTS_PER_STEP: usize = if STEP_REGIONS > 1 { 2 } else { 1 };
/// Longer ones share two lists per doubling, to as many regions as there can be.
const BUCKETS: usize = bucket_of(MAX_REGIONS) + 1;

// A bit for each.
const_assert!(BUCKETS <= u128::BITS as usize);

const fn bucket_of(len: usize) -> usize {
    if len < EXACT {
        len - 1
    } else if len < EXACT_LARGE {
        let more = if len.is_multiple_of(STEP_REGIONS) {
            0
        } else {
            1
        };
        EXACT - 1 + (len - EXACT) / STEP_REGIONS * LISTS_PER_STEP + more
    } else {
        let first = EXACT - 1 + (EXACT_LARGE - EXACT) / STEP_REGIONS * LISTS_PER_STEP;
        let doubling = len.ilog2() - EXACT_LARGE.ilog2();
        let half = len >> (len.ilog2() - 1) & 1;
        first + doubling as usize * 2 + half
    }
}

/// How many runs of a bucket are looked at for a good fit, or for one that is old.
const SCAN: usize = 24;

/// Requests up to this length (512 KiB) are not to split a long run where a snug one is there.
const SHORT: usize = (512 << 10) / REGION_BYTES;
/// A run is snug for a request if it is at most so many times as long.
const SNUG: usize = 2;

/// The free runs of an arena.
pub(crate) struct FreeRuns {
    heads: [[u32; BUCKETS]; 3],
    /// The ends of the lists of dirty runs, of which the first freed is the last one.
    dirty_tails: [u32; BUCKETS],
    occupied: [u128; 3],
    regions: [usize; 3],
}

/// A free run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FreeRun {
    pub first: RegionIndex,
    pub len: usize,
}

impl FreeRun {
    pub fn last(self) -> RegionIndex {
        self.first.plus(self.len - 1)
    }
}

/// Where a request fits: a free run, and where in it the aligned part starts.
pub(crate) type Place = (FreeRun, RegionIndex);

/// Where the records are and which regions exist.
#[derive(Clone, Copy)]
pub(crate) struct Records<'a> {
    pub map: &'a RegionMap,
    pub start: usize,
    /// Regions in use by the arena.
    pub top: usize,
}

impl Records<'_> {
    pub fn record(&self, region: RegionIndex) -> &Record {
        debug_assert!(region.index() < self.top);
        let records: *const Record = core::ptr::with_exposed_provenance(self.start);
        // SAFETY: records of all regions below `top` are committed, zeroed at first, and
        // mapped for ever. Their cells are reached under the arena's lock only.
        unsafe { &*records.add(region.index()) }
    }

    pub fn word(&self, region: RegionIndex) -> RegionWord {
        debug_assert!(region.index() < self.top);
        // SAFETY: the words of all regions below `top` are committed.
        unsafe { self.map.get(region) }
    }

    pub fn label(&self, first: RegionIndex, count: usize, word: RegionWord) {
        for offset in 0..count {
            // SAFETY: as in `word`; the run is the arena's to label.
            unsafe { self.map.set(first.plus(offset), word) };
        }
    }

    pub fn label_ends(&self, run: FreeRun, word: RegionWord) {
        self.label(run.first, 1, word);
        self.label(run.last(), 1, word);
    }

    /// Puts a run that is in no list into a chain, which begins with `head`.
    pub fn set_aside(&self, run: FreeRun, head: &mut u32) {
        let record = self.record(run.first);
        record.set_len(run.len);
        record.next.set(*head);
        *head = run.first.0 + 1;
    }

    /// Takes the first run out of such a chain.
    pub fn next_aside(&self, head: &mut u32) -> Option<FreeRun> {
        let first = RegionIndex(head.checked_sub(1)?);
        let record = self.record(first);
        *head = record.next.get();
        let len = record.len();
        Some(FreeRun { first, len })
    }

    /// Whether a free run of this state ends where this run begins, or begins where it ends.
    pub fn is_beside(&self, run: FreeRun, state: State) -> bool {
        let (first, end) = (run.first.index(), run.first.index() + run.len);
        first > 0 && self.word(RegionIndex(first as u32 - 1)) == state.word()
            || end < self.top && self.word(RegionIndex(end as u32)) == state.word()
    }

    /// How many regions the free run of this state has that ends just before this region.
    pub fn free_before(&self, region: RegionIndex, state: State) -> usize {
        if region.0 == 0 {
            return 0;
        }
        let last = RegionIndex(region.0 - 1);
        if self.word(last) == state.word() {
            self.record(last).len()
        } else {
            0
        }
    }

    /// Labels regions in a row, which were a free run or a part of it until now, of the run that begins with
    /// `first`: those with these numbers in it, of which there are some.
    pub fn label_run(&self, first: RegionIndex, places: Range<usize>, label: Label) {
        let set = |place| self.label(first.plus(place), 1, label.word(place));
        if label.is_inside() {
            set(places.start);
            set(places.end - 1);
        } else {
            places.for_each(set);
        }
    }
}

impl FreeRuns {
    pub const fn new() -> Self {
        Self {
            heads: [[0; BUCKETS]; 3],
            dirty_tails: [0; BUCKETS],
            occupied: [0; 3],
            regions: [0; 3],
        }
    }

    /// How many regions are free in this state.
    pub fn regions(&self, state: State) -> usize {
        self.regions[state as usize]
    }

    /// Adds a run, of which all words between the ends say [`INSIDE`]; labels the ends, and merges
    /// it with neighbours of its state. Returns where what it is part of now begins.
    pub fn insert(
        &mut self,
        at: Records<'_>,
        run: FreeRun,
        state: State,
        stamp: u32,
    ) -> RegionIndex {
        at.label_ends(run, INSIDE);
        let (mut first, mut len, mut stamp) = (run.first, run.len, stamp);
        let mut longest = len;
        let before = at.free_before(first, state);
        if before > 0 {
            first = RegionIndex(first.0 - before as u32);
            if before > longest {
                (longest, stamp) = (before, at.record(first).stamp.get());
            }
            let run = FreeRun { first, len: before };
            self.remove(at, run, state);
            at.label_ends(run, INSIDE);
            len += before;
        }
        let end = first.plus(len);
        if end.index() < at.top && at.word(end) == state.word() {
            let after = at.record(end).len();
            if after > longest {
                stamp = at.record(end).stamp.get();
            }
            let run = FreeRun {
                first: end,
                len: after,
            };
            self.remove(at, run, state);
            at.label_ends(run, INSIDE);
            len += after;
        }
        let merged = FreeRun { first, len };
        at.label_ends(merged, state.word());
        self.link(at, merged, state, stamp);
        first
    }

    fn link(&mut self, at: Records<'_>, run: FreeRun, state: State, stamp: u32) {
        let bucket = bucket_of(run.len);
        let head = &mut self.heads[state as usize][bucket];
        at.record(run.last()).set_len(run.len);
        let record = at.record(run.first);
        record.set_len(run.len);
        record.prev.set(0);
        record.next.set(*head);
        record.stamp.set(stamp);
        if *head != 0 {
            at.record(RegionIndex(*head - 1)).prev.set(run.first.0 + 1);
        } else if state == State::Dirty {
            self.dirty_tails[bucket] = run.first.0 + 1;
        }
        *head = run.first.0 + 1;
        self.occupied[state as usize] |= 1 << bucket;
        self.regions[state as usize] += run.len;
    }

    /// Takes a run out of its list. The words of its ends still say free.
    pub fn remove(&mut self, at: Records<'_>, run: FreeRun, state: State) {
        let bucket = bucket_of(run.len);
        let (prev, next) = {
            let record = at.record(run.first);
            (record.prev.get(), record.next.get())
        };
        if next != 0 {
            at.record(RegionIndex(next - 1)).prev.set(prev);
        } else if state == State::Dirty {
            self.dirty_tails[bucket] = prev;
        }
        if prev != 0 {
            at.record(RegionIndex(prev - 1)).next.set(next);
        } else {
            self.heads[state as usize][bucket] = next;
            if next == 0 {
                self.occupied[state as usize] &= !(1 << bucket);
            }
        }
        self.regions[state as usize] -= run.len;
    }

    /// Finds a run of this state with room for one of this shape.
    pub fn find(&self, at: Records<'_>, state: State, shape: Shape) -> Option<Place> {
        let (len, align) = (shape.regions, shape.align);
        let base = at.map.base();
        let mut buckets = self.occupied[state as usize] & (!0 << bucket_of(len));
        while buckets != 0 {
            let bucket = buckets.trailing_zeros() as usize;
            buckets &= buckets - 1;
            let mut best: Option<Place> = None;
            let mut cursor = self.heads[state as usize][bucket];
            let mut seen = 0;
            while cursor != 0 && seen < SCAN {
                let first = RegionIndex(cursor - 1);
                let record = at.record(first);
                let run = FreeRun {
                    first,
                    len: record.len(),
                };
                let start = align_region(base, first, align);
                let skipped = start.index() - first.index();
                if skipped + len <= run.len
                    && best.is_none_or(|(found, _)| (run.len, run.first) < (found.len, found.first))
                {
                    best = Some((run, start));
                }
                cursor = record.next.get();
                seen += 1;
            }
            if best.is_some() {
                return best;
            }
        }
        None
    }

    /// Chooses a run for a request, and says its state, too; `dirty` is what [`find`](Self::find) says of
    /// that state.
    ///
    /// Dirty memory is there already, and a hole has to be mapped. But, where dirty memory is to be
    /// spared, a short request takes a run that it fills at least half of before it splits a longer one,
    /// wherever there is one: what is short stays for long, and where it lies in the middle of a long
    /// run, none of that length comes back.
    pub fn choose(
        &self,
        at: Records<'_>,
        shape: Shape,
        dirty: Option<Place>,
        spares_dirty: bool,
        with_holes: bool,
    ) -> Option<(State, FreeRun, RegionIndex)> {
        let find = |state| {
            let (run, start) = self.find(at, state, shape)?;
            Some((state, run, start))
        };
        let is_snug = |found: &(State, FreeRun, RegionIndex)| found.1.len <= SNUG * shape.regions;
        let is_short = shape.regions <= SHORT;
        let dirty = dirty.map(|(run, start)| (State::Dirty, run, start));
        let spares_dirty = spares_dirty && is_short;
        if dirty
            .as_ref()
            .is_some_and(|found| !spares_dirty || is_snug(found))
        {
            return dirty;
        }
        let clean = find(State::Clean);
        if clean.is_some() && !is_short {
            return clean;
        }
        let hole = if with_holes { find(State::Hole) } else { None };
        let snug = [clean, hole].into_iter().flatten().filter(is_snug);
        snug.min_by_key(|found| found.1.len)
            .or(dirty)
            .or(clean)
            .or(hole)
    }

    /// The buckets of a state that have runs now, those of the longest first.
    fn longest_first(&self, state: State) -> impl Iterator<Item = usize> + use<> {
        let mut buckets = self.occupied[state as usize];
        core::iter::from_fn(move || {
            let bucket = buckets.checked_ilog2()?;
            buckets &= !(1 << bucket);
            Some(bucket as usize)
        })
    }

    /// Calls `visit` with each run of a state, longest lists first, until it returns `false`. It may take
    /// that run out of the list, and insert it in another state.
    pub fn visit(
        &mut self,
        at: Records<'_>,
        state: State,
        mut visit: impl FnMut(&mut Self, FreeRun) -> bool,
    ) {
        for bucket in self.longest_first(state) {
            let mut cursor = self.heads[state as usize][bucket];
            while cursor != 0 {
                let first = RegionIndex(cursor - 1);
                let record = at.record(first);
                let len = record.len();
                cursor = record.next.get();
                if !visit(self, FreeRun { first, len }) {
                    return;
                }
            }
        }
    }

    /// A dirty run for which `wanted`, given its stamp, says yes: of the longest list that has one
    /// near its end, where those are that have been there longest. (What is left of a run that a
    /// request was cut from is in front again, though it is as old as before; it has to wait until
    /// few are behind it.)
    pub fn find_dirty(&self, at: Records<'_>, wanted: impl Fn(u32) -> bool) -> Option<FreeRun> {
        for bucket in self.longest_first(State::Dirty) {
            let mut cursor = self.dirty_tails[bucket];
            let mut seen = 0;
            while cursor != 0 && seen < SCAN {
                let first = RegionIndex(cursor - 1);
                let record = at.record(first);
                if wanted(record.stamp.get()) {
                    let len = record.len();
                    return Some(FreeRun { first, len });
                }
                cursor = record.prev.get();
                seen += 1;
            }
        }
        None
    }
}

/// The first region from `first` on whose address is a multiple of `align`
/// regions.
pub(crate) fn align_region(base: usize, first: RegionIndex, align: usize) -> RegionIndex {
    let unit = hakmem_region_id::REGION_BYTES;
    let address = base + first.index() * unit;
    RegionIndex(((address.next_multiple_of(align * unit) - base) / unit) as u32)
}
