//! The arena: runs of regions in, runs of regions out.

use crate::free_runs::{FreeRun, INSIDE, Record, State, align_region};
use crate::huge::{HUGE_REGIONS, HugePages, HugeTaker, Use};
use crate::inner::{Huge, Inner, Request, STEP_MIN, TakenRun, purge};
use crate::space::{BITS_BYTES, SIDE_BYTES, Space};
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use hakmem_region_id::{ClassIndex, Kind, REGION_BYTES, RegionIndex, RegionMap, RegionWord};
use hakmem_sys::lock::{Lock, RawLock};
use hakmem_sys::vm::{self, HUGE_PAGE_BYTES, HugePageSetting, MapError};

/// Regions committed at a time at most where no more is asked for (64 MiB).
const STEP_MAX: usize = (64 << 20) / REGION_BYTES;
/// Free runs from this length on go back to the system at once and become holes
/// (256 MiB): so much is not worth keeping for a second.
const HOLE_REGIONS: usize = (256 << 20) / REGION_BYTES;
/// From this length on (1 MiB) what a run grows by, where nothing was in memory, makes up for as
/// much dirty memory.
const MAKE_UP_REGIONS: usize = (1 << 20) / REGION_BYTES;
/// The most the purge gives back between two looks at the lock, in regions
/// (4 MiB, about a millisecond of the system's time).
const PURGE_PART: usize = (4 << 20) / REGION_BYTES;
/// After so many parts of which the system has taken nothing, no more are tried: all memory may be locked.
const IN_VAIN: usize = 4;

/// From so many regions in use on (16 MiB), and as many times what is asked for, dense memory is
/// taken as huge pages: what is there too early is an eighth at most.
const HUGE_FROM: usize = HUGE_SHARE * HUGE_REGIONS;
const HUGE_SHARE: usize = 8;
/// In a smaller arena, from so many regions in use on by what comes in runs like the one that is
/// asked for: twice what a short run's chunk has (4 MiB), of which the rest is for the next ones,
const HUGE_FROM_LIKE: usize = 2 * HUGE_REGIONS;
/// and for a run of a chunk or more what it has itself.
const fn huge_from_like(count: usize) -> usize {
    if count < HUGE_REGIONS {
        HUGE_FROM_LIKE
    } else {
        count
    }
}

/// The longest run that comes as huge pages, in regions (8 MiB). What is touched at once is still in
/// the caches when it is used, and the call takes a millisecond at most where huge pages are at hand.
pub const MAX_HUGE_RUN: usize = 4 * HUGE_REGIONS;

/// Runs of large blocks are multiples of so many bytes. With more lengths fewer free runs would
/// fit, and blocks would have less room to grow where they are.
pub const LARGE_STEP: usize = 64 << 10;
/// The same in regions.
pub(crate) const STEP_REGIONS: usize = LARGE_STEP / REGION_BYTES;

/// How many regions the run of a large block of `size` bytes has.
pub const fn large_regions(size: usize) -> usize {
    let steps = size.div_ceil(LARGE_STEP);
    (if steps == 0 { 1 } else { steps }) * STEP_REGIONS
}

/// The words a run gets when it is handed out.
///
/// Two only are written, however long it is, where all but the first say
/// [`Inside`](Kind::Inside): between the ends of a free run they say so already.
#[derive(Clone, Copy, Debug)]
pub struct Label {
    first: RegionWord,
    rest: RegionWord,
}

impl Label {
    /// One allocation that is the whole run.
    pub const LARGE: Self = Self {
        first: RegionWord::of_kind(Kind::LargeStart),
        rest: INSIDE,
    };
    /// Regions of which nobody frees a block.
    pub const TAKEN: Self = Self::uniform(RegionWord::of_kind(Kind::Taken));

    /// Regions of blocks of this class that belong to no heap.
    pub const fn shared(class: ClassIndex) -> Self {
        Self::uniform(RegionWord::shared(class))
    }

    /// The same word for every region.
    const fn uniform(word: RegionWord) -> Self {
        Self {
            first: word,
            rest: word,
        }
    }

    /// The word of the first region.
    pub const fn first(self) -> RegionWord {
        self.first
    }

    /// The word of all others.
    pub const fn rest(self) -> RegionWord {
        self.rest
    }
}

/// What a run is to be like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// How many regions it has.
    pub regions: usize,
    /// What its first address is a multiple of, in regions: a power of two.
    pub align: usize,
}

impl Shape {
    fn is_possible(self) -> bool {
        self.regions > 0 && self.align.is_power_of_two()
    }
}

/// A run handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Its first region.
    pub first: RegionIndex,
    /// How many regions it has.
    pub regions: usize,
    /// How many of these, from the first on, are not known to read as zero: none, all, or as
    /// many as it has of dirty memory before it goes on in clean.
    pub soiled: usize,
    /// How many huge pages were put behind parts of it. What else it has of clean memory is not
    /// there yet; dirty memory is there as a rule.
    pub huge_pages: usize,
}

impl Run {
    /// Whether every byte of it is known to read as zero.
    pub const fn zeroed(self) -> bool {
        self.soiled == 0
    }
}

/// Counters of an arena. Bytes, except where said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ArenaStats {
    /// Mapped from the system for regions (metadata not counted).
    pub mapped_bytes: u64,
    /// Free and dirty: resident, but not in use.
    pub dirty_bytes: u64,
    /// Free and clean.
    pub clean_bytes: u64,
    /// Handed out.
    pub used_bytes: u64,
    /// Given back to the system so far.
    pub purged_bytes: u64,
    /// Taken as huge pages so far.
    pub huge_bytes: u64,
    /// Steps in which the arena grew (a count).
    pub growths: u64,
}

/// On cache lines of its own.
#[repr(align(128))]
struct Apart<T>(T);

/// What is written whenever runs come and go. Apart, because all slow paths read what is beside it.
struct Written {
    inner: Lock<Inner>,
    /// Held, before `inner`'s lock, by who has a run in hand that is in no list and nobody's, so that a fork
    /// waits for it.
    in_hand: Lock<()>,
    /// How many regions are free and dirty, as of the last change,
    dirty: AtomicUsize,
    /// and how many are handed out.
    used: AtomicUsize,
    growths: AtomicU64,
}

/// A range of addresses cut into regions, with runs of regions to hand
/// out. See the crate's text.
///
/// Lives in a `static`: nothing is mapped before the first request, and nothing
/// is ever unmapped as a whole.
pub struct Arena {
    map: RegionMap,
    side: AtomicUsize,
    bits: AtomicUsize,
    records: AtomicUsize,
    written: Apart<Written>,
    huge: HugeTaker,
    /// Whether a holder has said since it was asked last that it has runs to spare.
    is_offered: AtomicBool,
    reclaim: fn(),
}

impl Default for Arena {
    fn default() -> Self {
        Self::new()
    }
}

impl core::fmt::Debug for Arena {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Arena")
            .field("map", &self.map)
            .finish_non_exhaustive()
    }
}

impl Arena {
    hakmem_sys::const_new! {
        /// An arena that has nothing yet.
        pub fn new() -> Self {
            Self {
                map: RegionMap::new(),
                side: AtomicUsize::new(0),
                bits: AtomicUsize::new(0),
                records: AtomicUsize::new(0),
                written: Apart(Written {
                    inner: Lock::new(Inner::new()),
                    in_hand: Lock::new(()),
                    dirty: AtomicUsize::new(0),
                    used: AtomicUsize::new(0),
                    growths: AtomicU64::new(0),
                }),
                huge: HugeTaker::new(),
                is_offered: AtomicBool::new(false),
                reclaim: || (),
            }
        }
    }

    /// The same arena, which calls `reclaim` where it has no dirty memory for a request, if a holder has
    /// [offered](Self::offer) some since the last time: that is to free what holders keep and can do
    /// without.
    ///
    /// It is called inside [`allocate`](Self::allocate), with whatever the caller holds, so it must not
    /// wait for a lock but this arena's, which is free, nor allocate from it.
    #[must_use]
    pub const fn with_reclaim(mut self, reclaim: fn()) -> Self {
        self.reclaim = reclaim;
        self
    }

    /// To be told by a holder that keeps runs which it does not use, after it has put them where
    /// `reclaim` finds them. A hint: one that is lost is made up for by the next.
    pub fn offer(&self) {
        // Read first, because many may say so again and again.
        if !self.is_offered.load(Ordering::Relaxed) {
            self.is_offered.store(true, Ordering::Relaxed);
        }
    }

    /// Has holders free what they offer.
    #[cold]
    fn reclaim_offered(&self) {
        if self.is_offered.swap(false, Ordering::Relaxed) {
            (self.reclaim)();
        }
    }

    /// What is to be taken as huge pages from now on: at first what the system makes by itself.
    /// Up to four system calls, one of which reads the system's setting.
    pub fn set_huge_pages(&self, wanted: HugePages) {
        let takes = wanted > HugePages::Never;
        let setting = if takes {
            vm::huge_page_setting()
        } else {
            HugePageSetting::Never
        };
        let can_take = setting != HugePageSetting::Never && vm::has_usable_huge_pages();
        self.huge.set_wanted(if takes && !can_take {
            HugePages::Never
        } else {
            wanted
        });
        let is_small = wanted == HugePages::Never || setting == HugePageSetting::Always;
        let mut inner = self.written.0.inner.lock();
        inner.is_small = is_small;
        let top = inner.top;
        if let Some(space) = inner.space.as_mut() {
            space.set_small(is_small, top);
        }
    }

    /// The map of the arena's regions.
    #[inline(always)]
    pub fn map(&self) -> &RegionMap {
        &self.map
    }

    /// The address of a region's side record: [`SIDE_BYTES`] bytes, aligned to
    /// their size, zero when first handed out and otherwise as the last holder
    /// of the region left them; mapped for ever.
    #[inline]
    pub fn side_record(&self, region: RegionIndex) -> *mut u8 {
        core::ptr::with_exposed_provenance_mut(
            self.side.load(Ordering::Relaxed) + region.index() * SIDE_BYTES,
        )
    }

    /// The address of a region's bit space: [`BITS_BYTES`] bytes, otherwise like
    /// [`side_record`](Self::side_record).
    #[inline]
    pub fn bit_space(&self, region: RegionIndex) -> *mut u64 {
        core::ptr::with_exposed_provenance_mut(
            self.bits.load(Ordering::Relaxed) + region.index() * BITS_BYTES,
        )
    }

    /// Hands out `count` regions in a row whose first address is a multiple of
    /// `align` regions, labelled `label`; or `None` if the system has no memory, the range is
    /// used up, `count` is zero, or `align` is no power of two or more than the range.
    pub fn allocate(&self, count: usize, align: usize, label: Label) -> Option<Run> {
        let shape = Shape {
            regions: count,
            align,
        };
        self.allocate_from(&[shape], label, None)
            .map(|taken| taken.run)
    }

    /// As [`allocate`](Self::allocate) without alignment, for a run that will [grow](Self::extend): `count`
    /// regions with which a dirty free run of at least `room` begins, so that it can become so long where it
    /// is, in memory that is there. `None` if there is no such run, or no more dirty memory than its share of
    /// what is in use: then long runs are not split for this.
    pub fn allocate_with_room(&self, count: usize, room: usize, label: Label) -> Option<Run> {
        let shape = Shape {
            regions: count,
            align: 1,
        };
        if !shape.is_possible() || room < count {
            return None;
        }
        let mut inner = self.written.0.inner.lock();
        if room > inner.top || inner.surplus_dirty() == 0 {
            return None;
        }
        let roomy = Shape {
            regions: room,
            ..shape
        };
        let request = Request {
            shape,
            label,
            dirty: Some(inner.dirty_for(&self.map, roomy)?),
            takes_dirty: true,
        };
        let taken = inner.take(&self.map, request, None).ok()??;
        self.note_counts(&inner);
        Some(taken.run)
    }

    /// As [`allocate`](Self::allocate), of the first of these `shapes`, or of a later one (but those without
    /// regions) where dirty memory is there for that only, as it may be for a shorter run; for runs that may come as huge pages, of which they share the
    /// first and the last with others (runs up to [`MAX_HUGE_RUN`]; longer ones get none).
    /// Which of them get some is what [`set_huge_pages`](Self::set_huge_pages) says; `like` is how
    /// many regions are in use for runs of their kind, as far as the caller knows, which may be
    /// wrong.
    pub fn allocate_in_chunk(
        &self,
        shapes: &[Shape],
        label: Label,
        expected: Use,
        like: usize,
    ) -> Option<Run> {
        let Shape {
            regions: count,
            align,
        } = *shapes.first()?;
        let fits = count <= MAX_HUGE_RUN && align <= HUGE_REGIONS;
        let huge = (fits && self.huge.is_wanted(expected)).then_some(Huge {
            taker: &self.huge,
            least: if like >= huge_from_like(count) {
                0
            } else {
                HUGE_FROM.max(HUGE_SHARE * count)
            },
            may_begin_before: align == 1,
        });
        let TakenRun { run, chunks } = self.allocate_from(shapes, label, huge)?;
        let Some(chunks) = chunks.filter(|chunks| chunks.count > 0) else {
            return Some(run);
        };
        let first = self.map.address_of(chunks.first);
        // SAFETY: free chunks, of which the run has a part, were taken for this, and read as zero.
        let huge_pages = unsafe { self.huge.take(first, chunks.count) };
        let (behind, end) = (run.first.plus(run.regions), chunks.end(run.regions));
        if behind < end {
            let rest = FreeRun {
                first: behind,
                len: end.index() - behind.index(),
            };
            let (state, stamp) = if huge_pages == chunks.count {
                (State::Dirty, hakmem_sys::clock::now_ms())
            } else {
                (State::Clean, 0)
            };
            let mut inner = self.written.0.inner.lock();
            let at = inner.records(&self.map);
            inner.free.insert(at, rest, state, stamp);
            self.note_counts(&inner);
        }
        Some(Run { huge_pages, ..run })
    }

    fn allocate_from(
        &self,
        shapes: &[Shape],
        label: Label,
        huge: Option<Huge<'_>>,
    ) -> Option<TakenRun> {
        let (&usual, others) = shapes.split_first()?;
        if !usual.is_possible() {
            return None;
        }
        let mut inner = self.written.0.inner.lock();
        self.open(&mut inner)?;
        if usual.regions.max(usual.align) > inner.space.as_ref()?.regions {
            return None;
        }
        let mut dirty = inner.dirty_for(&self.map, usual);
        if dirty.is_none() && self.is_offered.load(Ordering::Relaxed) {
            drop(inner);
            self.reclaim_offered();
            inner = self.written.0.inner.lock();
            dirty = inner.dirty_for(&self.map, usual);
        }
        let scattered = if dirty.is_none() {
            inner.scattered_for(usual.regions)
        } else {
            0
        };
        if scattered > 0 {
            drop(inner);
            self.give_back_for_request(scattered);
            inner = self.written.0.inner.lock();
            dirty = inner.dirty_for(&self.map, usual);
        }
        let mut request = Request {
            shape: usual,
            label,
            dirty,
            takes_dirty: false,
        };
        if dirty.is_none() {
            let mut others = others.iter().filter(|shape| shape.is_possible());
            let found = others.find_map(|&shape| {
                let place = inner.dirty_for(&self.map, shape)?;
                Some(Request {
                    shape,
                    dirty: Some(place),
                    takes_dirty: true,
                    ..request
                })
            });
            request = found.unwrap_or(request);
        }
        let mut purged = false;
        loop {
            match inner.take(&self.map, request, huge) {
                Ok(Some(taken)) => {
                    self.note_counts(&inner);
                    return Some(taken);
                }
                // A hole turned out to be taken by somebody else; look again.
                Err(MapError::Occupied) => continue,
                Ok(None) => match self.grow(&mut inner, request.shape) {
                    // In the other case, the arena grew around somebody else's
                    // mapping.
                    Ok(()) | Err(MapError::Occupied) => continue,
                    Err(_) => {}
                },
                Err(_) => {}
            }
            // The system refuses. Dirty runs may be holding the memory that is
            // missing: give them back, merge, and look once more.
            if purged {
                return None;
            }
            purged = true;
            // So may somebody who has it in hand: wait until it is in the lists again.
            drop(inner);
            let in_hand = self.written.0.in_hand.lock();
            inner = self.written.0.inner.lock();
            inner.release_free(&self.map);
            drop(in_hand);
            // What could not be given back is dirty still.
            request.dirty = inner.dirty_for(&self.map, request.shape);
        }
    }

    /// The first region of the run that a region of the map lies inside of, by its word; of any
    /// other region, the region itself. It takes a step for each region between them.
    ///
    /// # Safety
    ///
    /// `region` is in the map.
    pub unsafe fn first_of(&self, mut region: RegionIndex) -> RegionIndex {
        // SAFETY: regions before one of the map are in the map.
        while region.0 > 0 && unsafe { self.map.get(region) } == INSIDE {
            region.0 -= 1;
        }
        region
    }

    /// Takes back a run, or a part of one, that was handed out.
    ///
    /// If it is the front of a run labelled [`Label::LARGE`], the caller labels what is left of that.
    ///
    /// # Safety
    ///
    /// The `count` regions from `first` on are the caller's, and nothing in them
    /// is used any more.
    pub unsafe fn free(&self, first: RegionIndex, count: usize) {
        // SAFETY: passed on.
        unsafe { self.take_back(first, count, State::Dirty, hakmem_sys::clock::now_ms()) }
    }

    /// As [`free`](Self::free), of a run of which nothing is in memory: it reads as zero.
    ///
    /// # Safety
    ///
    /// As there, and what is said of the run is true.
    pub unsafe fn free_clean(&self, first: RegionIndex, count: usize) {
        // SAFETY: passed on.
        unsafe { self.take_back(first, count, State::Clean, 0) }
    }

    /// # Safety
    ///
    /// As for [`free`](Self::free), and the run is in this state.
    unsafe fn take_back(&self, first: RegionIndex, count: usize, state: State, stamp: u32) {
        let is_long = count >= HOLE_REGIONS;
        let _in_hand = is_long.then(|| self.written.0.in_hand.lock());
        let mut inner = self.written.0.inner.lock();
        let at = inner.records(&self.map);
        let run = FreeRun { first, len: count };
        // The last region of a run is no holder's but a large block's.
        if at.word(run.last()) != INSIDE {
            at.label(first, count, INSIDE);
        }
        let (mut state, mut stamp) = (state, stamp);
        if is_long {
            // As many pages take the system long: others can use the arena meanwhile.
            at.label_ends(run, RegionWord::of_kind(Kind::Taken));
            let space = inner.space;
            drop(inner);
            let space = space.filter(Space::can_fill_holes);
            // SAFETY: the run is the caller's and unused.
            let is_hole = space.is_some_and(|space| unsafe { space.decommit(first, count) });
            inner = self.written.0.inner.lock();
            if is_hole {
                inner.purged += if state == State::Dirty {
                    count as u64
                } else {
                    0
                };
                (state, stamp) = (State::Hole, 0);
            }
        }
        let at = inner.records(&self.map);
        inner.free.insert(at, run, state, stamp);
        self.note_counts(&inner);
    }

    /// Makes a run of `old` regions `new` regions long where it is, if what
    /// follows it is free. Returns whether the added part reads as zero, or
    /// `None` if the run could not grow.
    ///
    /// # Safety
    ///
    /// The run is the caller's and was handed out with `old` regions, fewer than `new`.
    pub unsafe fn extend(
        &self,
        first: RegionIndex,
        old: usize,
        new: usize,
        rest: RegionWord,
    ) -> Option<bool> {
        debug_assert!(new > old);
        let mut inner = self.written.0.inner.lock();
        // Before the end becomes a region's number, which has 32 bits.
        if first.index() + new > inner.space.as_ref()?.regions {
            return None;
        }
        let end = first.plus(new);
        let reach = inner.reach(&self.map, first.plus(old), end)?;
        if reach.0 < end.0 {
            let missing = end.index() - reach.index();
            self.grow_by(&mut inner, missing).ok()?;
            // What was added may lie behind somebody else's mapping.
            let reach = inner.reach(&self.map, first.plus(old), end)?;
            if reach.0 < end.0 {
                return None;
            }
        }
        let (zeroed, fresh) = inner.take_behind(&self.map, first.plus(old), end, rest)?;
        inner.records(&self.map).record(first).set_len(new);
        if fresh >= MAKE_UP_REGIONS {
            if self.is_offered.load(Ordering::Relaxed) {
                drop(inner);
                self.reclaim_offered();
                inner = self.written.0.inner.lock();
            }
            let surplus = inner.surplus_dirty().min(fresh);
            self.note_counts(&inner);
            drop(inner);
            // Blocks that grow where they are would else leave ever more behind them.
            self.give_back_for_request(surplus);
            return Some(zeroed);
        }
        self.note_counts(&inner);
        Some(zeroed)
    }

    /// Length in regions of the run whose first region this is, if the run was handed
    /// out and is not freed meanwhile; some number otherwise.
    ///
    /// # Safety
    ///
    /// `first` is a region that was part of a run once.
    #[inline]
    pub unsafe fn run_len(&self, first: RegionIndex) -> usize {
        let records: *const Record =
            core::ptr::with_exposed_provenance(self.records.load(Ordering::Relaxed));
        // SAFETY: the record exists; only its length, an atomic, is borrowed.
        unsafe { (*records.add(first.index())).len.load(Ordering::Relaxed) as usize }
    }

    /// Gives the tail of a run back: it has `new` regions then instead of `old`.
    ///
    /// # Safety
    ///
    /// The run is the caller's and has `old` regions, more than `new`, which is
    /// not zero; nothing uses the tail.
    pub unsafe fn shrink(&self, first: RegionIndex, old: usize, new: usize) {
        let records: *mut Record =
            core::ptr::with_exposed_provenance_mut(self.records.load(Ordering::Relaxed));
        // SAFETY: the run's first record is its holder's while it is handed out.
        unsafe { (*records.add(first.index())).set_len(new) };
        // SAFETY: the tail is the caller's and unused.
        unsafe { self.free(first.plus(new), old - new) };
    }

    /// Gives memory back to the system that has been dirty for at least
    /// `age_ms` milliseconds, at most `limit` regions of it, in parts between
    /// which others can use the arena. Returns how many regions it was.
    pub fn purge(&self, age_ms: u32, limit: usize) -> usize {
        self.give_back(limit, |now, stamp| now.wrapping_sub(stamp) >= age_ms)
    }

    /// The same with what `is_meant`, by the time and by when it was freed. What the system refuses to take
    /// (locked pages, for example) is out of the lists until the end: it is neither tried again meanwhile nor
    /// in the way of the rest. Where it refuses again and again, that is the end.
    fn give_back(&self, limit: usize, is_meant: impl Fn(u32, u32) -> bool) -> usize {
        let (mut given, mut in_vain) = (0, 0);
        while given < limit && in_vain < IN_VAIN {
            let part = (limit - given).min(PURGE_PART);
            let in_hand = self.written.0.in_hand.lock();
            let mut inner = self.written.0.inner.lock();
            // Under the lock: nothing in the lists is younger than this.
            let now = hakmem_sys::clock::now_ms();
            let is_meant = |stamp| is_meant(now, stamp);
            let Some(run) = inner.detach_dirty(&self.map, part, is_meant) else {
                break;
            };
            drop(inner);
            // SAFETY: the run was detached: it is in no list, so nobody uses it.
            let done = unsafe { purge(&self.map, run) };
            let mut inner = self.written.0.inner.lock();
            // SAFETY: as above, and so the system has answered.
            let taken = unsafe { inner.note_purged(&self.map, run, done) };
            self.note_counts(&inner);
            drop(inner);
            drop(in_hand);
            given += taken;
            in_vain += usize::from(taken == 0);
        }
        let mut inner = self.written.0.inner.lock();
        inner.put_back(&self.map);
        self.note_counts(&inner);
        given
    }

    /// Gives back, for a request, what is meant by [`give_back`](Self::give_back), unless somebody is
    /// giving back already.
    fn give_back_for_request(&self, limit: usize) {
        if limit > 0 && self.written.0.in_hand.try_lock().is_some() {
            self.give_back(limit, |_, _| true);
        }
    }

    /// Gives all free memory back to the system at once, and its addresses too, so
    /// that it counts against no limit; but in a large arena not those of short runs, unless they lie beside
    /// others, because a process may have only so many mappings. Returns how many regions were dirty.
    pub fn trim(&self) -> usize {
        let given = self.give_back(usize::MAX, |_, _| true);
        let mut inner = self.written.0.inner.lock();
        let before = inner.purged;
        inner.release_free(&self.map);
        self.note_counts(&inner);
        given + (inner.purged - before) as usize
    }

    /// How many regions are free and dirty (relaxed).
    pub fn dirty_regions(&self) -> usize {
        self.written.0.dirty.load(Ordering::Relaxed)
    }

    /// How many regions are handed out (relaxed).
    pub fn used_regions(&self) -> usize {
        self.written.0.used.load(Ordering::Relaxed)
    }

    fn note_counts(&self, inner: &Inner) {
        let Written { dirty, used, .. } = &self.written.0;
        dirty.store(inner.free.regions(State::Dirty), Ordering::Relaxed);
        used.store(inner.used(), Ordering::Relaxed);
    }

    /// The arena's counters.
    pub fn stats(&self) -> ArenaStats {
        let inner = self.written.0.inner.lock();
        let bytes = |regions: usize| (regions * REGION_BYTES) as u64;
        let [dirty, clean, holes] = State::ALL.map(|state| inner.free.regions(state));
        ArenaStats {
            mapped_bytes: bytes(inner.top - inner.foreign - holes),
            dirty_bytes: bytes(dirty),
            clean_bytes: bytes(clean),
            used_bytes: bytes(inner.used()),
            purged_bytes: inner.purged * REGION_BYTES as u64,
            huge_bytes: self.huge.taken() * HUGE_PAGE_BYTES as u64,
            growths: self.written.0.growths.load(Ordering::Relaxed),
        }
    }

    /// The arena's locks in the order in which they nest, for the fork hooks.
    pub fn raw_locks(&self) -> [&RawLock; 2] {
        [self.written.0.in_hand.raw(), self.written.0.inner.raw()]
    }

    /// Finds the range at the first request.
    fn open(&self, inner: &mut Inner) -> Option<()> {
        if inner.space.is_none() {
            let mut space = Space::open()?;
            space.set_small(inner.is_small, 0);
            self.side.store(space.side, Ordering::Relaxed);
            self.bits.store(space.bits, Ordering::Relaxed);
            self.records.store(space.records, Ordering::Relaxed);
            // SAFETY: the range is opened once, and nothing is in the map yet.
            unsafe { self.map.place(space.base, space.map) };
            inner.space = Some(space);
        }
        Some(())
    }

    /// Adds room for `count` aligned regions at the top.
    fn grow(&self, inner: &mut Inner, shape: Shape) -> Result<(), MapError> {
        let (count, align) = (shape.regions, shape.align);
        let at = inner.records(&self.map);
        let top = RegionIndex(inner.top as u32);
        // A clean run at the top becomes part of what is added.
        let clean = at.free_before(top, State::Clean);
        let start = RegionIndex(top.0 - clean as u32);
        let start = align_region(self.map.base(), start, align);
        // The run at the top can be long enough and yet not have been found, behind
        // many others in its list: what is added to it puts it in front.
        let missing = (start.index() + count).saturating_sub(top.index());
        self.grow_by(inner, missing.max(1))
    }

    /// Commits at least `needed` more regions at the top.
    ///
    /// `Occupied` means that the arena grew, but that a part of what was added
    /// belongs to somebody else.
    fn grow_by(&self, inner: &mut Inner, needed: usize) -> Result<(), MapError> {
        let top = inner.top;
        let space = inner.space.as_mut().ok_or(MapError::OutOfMemory)?;
        let room = space.regions - top;
        if needed > room {
            return Err(MapError::OutOfMemory);
        }
        let generous = (top / 8).clamp(STEP_MIN, STEP_MAX).max(needed);
        let generous = generous.next_multiple_of(STEP_MIN).min(room);
        let mut failure = MapError::OutOfMemory;
        for step in [generous, needed] {
            // The regions first: what is too much is refused at once, and has taken nothing.
            let committed = space.commit_more(top, step);
            if let Err(error) = committed
                && error != MapError::Occupied
            {
                failure = error;
                continue;
            }
            if let Err(error) = space.commit_meta(top + step) {
                if committed.is_ok() {
                    // SAFETY: committed a moment ago, and used by nobody.
                    unsafe { space.undo_more(top, step) };
                }
                failure = error;
                continue;
            }
            if committed.is_err() {
                inner.append_around_foreign(&self.map, step)?;
                return Err(MapError::Occupied);
            }
            self.written.0.growths.fetch_add(1, Ordering::Relaxed);
            inner.append(&self.map, step, Some(State::Clean));
            return Ok(());
        }
        // Metadata that collides with somebody else's mapping ends the range.
        Err(if failure == MapError::Occupied {
            MapError::OutOfMemory
        } else {
            failure
        })
    }
}
