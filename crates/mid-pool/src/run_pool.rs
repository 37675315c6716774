//! Whole runs, of which shorter ones are retained for the next request.

use crate::mid_pool::SHARDS;
use crate::record::RunLinks;
use crate::run_use::{RunUse, Trust, add};
use hakmem_page_arena::{
    Arena, LARGE_STEP, Label, MAX_HUGE_RUN, Run, Shape, Use, fills_steps, large_regions,
};
use hakmem_region_id::{Kind, REGION_BYTES, RegionIndex, RegionWord};
use hakmem_remote_free::TaggedStack;
use hakmem_sys::sync::{AtomicIsize, AtomicU32, AtomicUsize, Ordering};
use hakmem_sys::vm::HUGE_PAGE_BYTES;

/// The longest run that is handed out, in regions (of a block of 8 MiB): what is known of the use of others says
/// whether it comes as huge pages.
pub const MAX_RUN_REGIONS: usize = MAX_HUGE_RUN;
/// The largest block, in bytes, whose run may be retained (1 MiB).
pub const MAX_RETAINED: usize = 1 << 20;
/// The longest run that is retained, in regions.
pub const MAX_RETAINED_REGIONS: usize = large_regions(MAX_RETAINED, 1);
/// Runs have a multiple of so many regions, or one more. There is a list for each multiple.
pub(crate) const STEP: usize = LARGE_STEP / REGION_BYTES;
const LENGTHS: usize = number_of(MAX_RETAINED_REGIONS) + 1;
/// The most that is retained in all, in regions (one such run). More spares a lock now and then, and
/// keeps the arena from joining what is free.
const RETAINED_MAX: usize = MAX_RETAINED_REGIONS;
/// Runs up to this length (of a block of 256 KiB), of which a program may free and allocate many in turn, are
/// retained beyond that where those that were not have been asked for again.
const MAX_SHORT: usize = large_regions(256 << 10, 1);
const SHORT_LENGTHS: usize = number_of(MAX_SHORT) + 1;
/// After so many of these requests
const REGRETS_FOR_MORE: u32 = 512;
/// so many regions more are retained (256 KiB),
const MORE: usize = 4 * STEP;
/// up to one in so many regions of runs in use.
const MORE_SHARE: usize = 8;
/// The most that threads may keep besides, in regions (4 MiB),
const LEASED_MAX: usize = (4 << 20) / REGION_BYTES;
/// and one in so many regions of runs in use.
const LEASED_SHARE: usize = 8;

/// A block that has grown out of its place gets one in which it can become so many times as long: one that
/// doubles would else be copied again and again.
const ROOM: usize = 4;
/// That holds for runs from here (256 KiB), because most that are shorter grow no further,
const LEAST_WITH_ROOM: usize = 4 * STEP;
/// to here (of a block of 2 MiB): of room for longer ones there is little, and others need it.
const MOST_WITH_ROOM: usize = large_regions(2 << 20, 1);

/// A block that leaves more of its run than one in so many bytes gets no huge page on trust: what
/// it leaves is in memory then, for nobody.
const MOST_SLACK_SHARE: usize = 8;

/// Runs up to [`MAX_RETAINED_REGIONS`] are trusted for 512 MiB.
const TRUST_SHORT: Trust = Trust {
    pages: 256,
    enough: 16,
    at_first: 4,
    later: 4,
};
/// Longer ones for 24 MiB: these are more often buffers of which little is used, and one that is
/// not in memory takes longer to be looked at than to be freed.
const TRUST_LONG: Trust = Trust {
    pages: 12,
    enough: 8,
    at_first: 1,
    later: 16,
};

/// The number of the list for runs of this length.
const fn number_of(regions: usize) -> usize {
    regions / STEP - 1
}

/// Freed runs by length.
pub struct RunPool {
    lists: [[TaggedStack; SHARDS]; LENGTHS],
    retained: AtomicUsize,
    /// Regions of short runs that are retained beyond [`RETAINED_MAX`].
    more: AtomicUsize,
    /// How many short runs of each length were not retained, and have not been asked for since. An
    /// estimate, as the next one: two threads at once may lose one.
    given: [AtomicU32; SHORT_LENGTHS],
    /// How many were asked for again; wraps.
    regrets: AtomicU32,
    /// Regions that came from the arena and have not gone back from here.
    held: AtomicIsize,
    /// Regions that threads may keep in caches of their own.
    leased: AtomicUsize,
    /// Who was here last, of those caches that have noted it.
    visitor: AtomicUsize,
    /// What is known of the use of runs up to [`MAX_RETAINED_REGIONS`],
    known_short: RunUse,
    /// and of longer ones.
    known_long: RunUse,
}

impl core::fmt::Debug for RunPool {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("RunPool")
            .field("retained", &self.retained)
            .finish_non_exhaustive()
    }
}

/// A run handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PooledRun {
    /// Its first region, labelled as the start of a large run.
    pub first: RegionIndex,
    /// Its length in regions.
    pub regions: usize,
    /// How many of its regions, from the first on, are not known to read as zero.
    pub soiled: usize,
}

impl RunPool {
    hakmem_sys::const_new! {
        /// A pool without runs.
        ///
        /// # Safety
        ///
        /// The pool is used with one arena only, which all calls are given.
        pub unsafe fn new() -> Self {
            Self {
                lists: hakmem_sys::array_of!(
                    LENGTHS,
                    hakmem_sys::array_of!(SHARDS, TaggedStack::new())
                ),
                retained: AtomicUsize::new(0),
                more: AtomicUsize::new(0),
                given: hakmem_sys::array_of!(SHORT_LENGTHS, AtomicU32::new(0)),
                regrets: AtomicU32::new(0),
                held: AtomicIsize::new(0),
                leased: AtomicUsize::new(0),
                visitor: AtomicUsize::new(0),
                known_short: RunUse::new(TRUST_SHORT),
                known_long: RunUse::new(TRUST_LONG),
            }
        }
    }

    /// Bytes retained.
    pub fn retained_bytes(&self) -> usize {
        self.retained.load(Ordering::Relaxed) * REGION_BYTES
    }

    /// Bytes that caches may keep, all of them.
    pub fn leased_bytes(&self) -> usize {
        self.leased.load(Ordering::Relaxed) * REGION_BYTES
    }

    /// Regions of the pool's runs that are not in the arena, about.
    pub(crate) fn held(&self) -> usize {
        usize::try_from(self.held.load(Ordering::Relaxed)).unwrap_or(0)
    }

    /// What is known of the use of runs of about this length.
    #[inline]
    fn known(&self, regions: usize) -> &RunUse {
        if regions > MAX_RETAINED_REGIONS {
            &self.known_long
        } else {
            &self.known_short
        }
    }

    /// Notes that a cache, known by this number, has visited the pool. Returns whether another
    /// was the last.
    pub(crate) fn note_visitor(&self, cache: usize) -> bool {
        let is_other = self.visitor.load(Ordering::Relaxed) != cache;
        if is_other {
            self.visitor.store(cache, Ordering::Relaxed);
        }
        is_other
    }

    /// Lets a cache keep so many regions, if there are not too many in caches. Returns whether it
    /// may.
    pub(crate) fn try_lease(&self, regions: usize) -> bool {
        let may = self.leased.fetch_add(regions, Ordering::Relaxed) + regions <= self.most_leased();
        if !may {
            self.end_lease(regions);
        }
        may
    }

    /// Regions that caches may keep, all of them.
    fn most_leased(&self) -> usize {
        LEASED_MAX + self.held() / LEASED_SHARE
    }

    /// Whether caches keep more than they would get now.
    pub(crate) fn is_overleased(&self) -> bool {
        self.leased.load(Ordering::Relaxed) > self.most_leased()
    }

    /// Says how many regions all caches together may keep, in the child of a fork, where some
    /// [have lost](crate::RunCache::lose) what they had.
    pub fn set_leased(&self, regions: usize) {
        self.leased.store(regions, Ordering::Relaxed);
    }

    /// Takes back that a cache may keep so many regions.
    pub(crate) fn end_lease(&self, regions: usize) {
        if regions > 0 {
            self.leased.fetch_sub(regions, Ordering::Relaxed);
        }
    }

    /// Hands out a run of this [shape](Shape::large): a retained one if any region will do and there is one
    /// that is at most a quarter (and a region) longer than needed. `None` if there is no memory, the
    /// alignment is no power of two, or the run would have more than [`MAX_RUN_REGIONS`] regions.
    ///
    /// It is for a block of `size` bytes, which says whether huge pages would be filled.
    pub fn allocate(
        &self,
        arena: &Arena,
        size: usize,
        shape: Shape,
        shard: usize,
    ) -> Option<PooledRun> {
        let Shape { regions, align } = shape;
        if regions > MAX_RUN_REGIONS {
            return None;
        }
        let retained = self.retained.load(Ordering::Relaxed);
        if align == 1 && regions <= retained.min(MAX_RETAINED_REGIONS) {
            let list = &self.lists[number_of(regions)][shard % SHARDS];
            let run = self.take_from(arena, list, regions);
            let run = run.or_else(|| self.look_for_retained(arena, regions, retained, shard));
            if run.is_some() {
                return run;
            }
        }
        if regions <= MAX_SHORT {
            self.note_missed(regions);
        }
        // Blocks that fill whole steps come page by page: vectors that double would hold more, and be no
        // faster (decision 17).
        let run_bytes = regions * REGION_BYTES;
        // Runs that are aligned to more do not go on where others end.
        let expected = if align == 1
            && !fills_steps(size)
            && run_bytes.saturating_sub(size) <= run_bytes / MOST_SLACK_SHARE
            && self
                .known(regions)
                .is_likely_whole(run_bytes.div_ceil(HUGE_PAGE_BYTES))
        {
            Use::Likely
        } else {
            Use::Unknown
        };
        let run = arena.allocate_in_chunk(&[(shape, Label::LARGE)], expected, self.held())?;
        if run.huge_pages > 0 {
            self.known(regions).note_huge(run.huge_pages);
        }
        Some(self.hand_out(run))
    }

    /// A run for a block that has grown to `size` bytes at a multiple of `align`, at most a region's, and may
    /// go on: with free memory behind it. `None` if there is none that may be taken for this, or no blocks
    /// of this size are placed so.
    pub fn allocate_with_room(
        &self,
        arena: &Arena,
        size: usize,
        align: usize,
    ) -> Option<PooledRun> {
        let Shape { regions, align } = Shape::large(size, align);
        if align > 1 || !(LEAST_WITH_ROOM..=MOST_WITH_ROOM).contains(&regions) {
            return None;
        }
        let run = arena.allocate_with_room(regions, ROOM * regions, Label::LARGE)?;
        Some(self.hand_out(run))
    }

    /// Counts a run that the arena has just handed out.
    fn hand_out(&self, run: Run) -> PooledRun {
        self.held.fetch_add(run.regions as isize, Ordering::Relaxed);
        PooledRun {
            first: run.first,
            regions: run.regions,
            soiled: run.soiled,
        }
    }

    /// The retained run of at least this length that this list has first.
    #[inline]
    fn take_from(&self, arena: &Arena, list: &TaggedStack, needed: usize) -> Option<PooledRun> {
        if list.is_empty() {
            return None;
        }
        let first = RegionIndex(list.pop(&RunLinks(arena))?);
        // SAFETY: the run was popped, so it is this thread's.
        let regions = unsafe { arena.run_len(first) };
        if regions < needed {
            list.push(&RunLinks(arena), first.0);
            return None;
        }
        self.retained.fetch_sub(regions, Ordering::Relaxed);
        // SAFETY: as above.
        unsafe {
            arena
                .map()
                .set(first, RegionWord::of_kind(Kind::LargeStart));
        }
        Some(PooledRun {
            first,
            regions,
            soiled: regions,
        })
    }

    /// The same from any list with runs that are at most a quarter too long.
    #[inline(never)]
    fn look_for_retained(
        &self,
        arena: &Arena,
        regions: usize,
        retained: usize,
        shard: usize,
    ) -> Option<PooledRun> {
        // Of many there is one that fits.
        let longest = if retained > RETAINED_MAX {
            regions
        } else {
            (regions + regions / 4).min(MAX_RETAINED_REGIONS)
        };
        (number_of(regions)..=number_of(longest)).find_map(|number| {
            (0..SHARDS).find_map(|offset| {
                let shard = shard.wrapping_add(offset) % SHARDS;
                self.take_from(arena, &self.lists[number][shard], regions)
            })
        })
    }

    /// Whether [`note_use`](Self::note_use) has a use for blocks in runs of this length: not before one
    /// of them came as huge pages.
    #[inline]
    pub fn wants_use(&self, regions: usize) -> bool {
        self.known(regions).has_taken()
    }

    /// Whether it also has a use for some blocks in runs of this length that stay with their thread: not once enough is
    /// known, or many of these were not looked at for other reasons.
    #[inline]
    pub fn wants_kept_use(&self, regions: usize) -> bool {
        self.known(regions).is_unsure()
    }

    /// To be told of each freed block that stays with its thread, as long as that [is of
    /// use](Self::wants_kept_use). Returns whether this one is wanted.
    pub fn note_kept(&self, regions: usize) -> bool {
        self.known(regions).note_kept()
    }

    /// To be told of each block that is about to be freed with its run, of `bytes` usable bytes:
    /// what was used of it says whether the next ones are worth huge pages.
    ///
    /// # Safety
    ///
    /// The block is the caller's, has so many bytes, at least [`LARGE_STEP`] less four pages, and all
    /// of it may be read.
    pub unsafe fn note_use(&self, block: *const u8, bytes: usize) {
        let known = self.known(bytes.div_ceil(REGION_BYTES));
        // SAFETY: passed on.
        unsafe { known.note_freed(block, bytes) };
    }

    /// To be told of each run that has become longer or shorter while it was out, or has gone to
    /// the arena from there (to no length). More than [`MAX_RUN_REGIONS`] count for nothing.
    pub fn note_resized(&self, from: usize, to: usize) {
        let [from, to] = [from, to].map(|regions| {
            if regions > MAX_RUN_REGIONS {
                0
            } else {
                regions as isize
            }
        });
        if from != to {
            self.held.fetch_add(to - from, Ordering::Relaxed);
        }
    }

    /// Takes a run back: retains it if there is room, else gives it to the arena. Returns whether it
    /// went there.
    ///
    /// # Safety
    ///
    /// The run is the caller's, has `regions` regions, as many as a large block has
    /// ([`large_regions`]) and at most [`MAX_RUN_REGIONS`], and is not used any more.
    pub unsafe fn free(
        &self,
        arena: &Arena,
        first: RegionIndex,
        regions: usize,
        shard: usize,
    ) -> bool {
        if regions > MAX_RETAINED_REGIONS {
            // SAFETY: passed on.
            unsafe { self.give_back(arena, first, regions) };
            return true;
        }
        let most = if regions <= MAX_SHORT {
            RETAINED_MAX + self.more.load(Ordering::Relaxed)
        } else {
            RETAINED_MAX
        };
        if self.retained.fetch_add(regions, Ordering::Relaxed) + regions > most {
            self.retained.fetch_sub(regions, Ordering::Relaxed);
            if regions <= MAX_SHORT {
                add(&self.given[number_of(regions)], 1);
            }
            // SAFETY: passed on.
            unsafe { self.give_back(arena, first, regions) };
            return true;
        }
        // SAFETY: the run is the caller's.
        unsafe { arena.map().set(first, RegionWord::of_kind(Kind::Retained)) };
        self.lists[number_of(regions)][shard % SHARDS].push(&RunLinks(arena), first.0);
        arena.offer();
        false
    }

    /// Notes that a short run of this length was not there.
    fn note_missed(&self, regions: usize) {
        let given = &self.given[number_of(regions)];
        let before = given.load(Ordering::Relaxed);
        if before == 0 {
            return;
        }
        given.store(before - 1, Ordering::Relaxed);
        let regrets = self.regrets.load(Ordering::Relaxed).wrapping_add(1);
        self.regrets.store(regrets, Ordering::Relaxed);
        let more = self.more.load(Ordering::Relaxed);
        if regrets.is_multiple_of(REGRETS_FOR_MORE) && more < self.held() / MORE_SHARE {
            self.more.store(more + MORE, Ordering::Relaxed);
        }
    }

    /// Gives all retained runs to the arena, and retains less beyond the budget from then on; also for
    /// when it [asks](Arena::with_reclaim). Waits for no lock but the arena's.
    pub fn trim(&self, arena: &Arena) {
        let more = self.more.load(Ordering::Relaxed);
        self.more.store(more / 2, Ordering::Relaxed);
        for list in self.lists.as_flattened() {
            while let Some(popped) = list.pop(&RunLinks(arena)) {
                let first = RegionIndex(popped);
                // SAFETY: the run was popped, so it is this thread's.
                unsafe {
                    let regions = arena.run_len(first);
                    self.retained.fetch_sub(regions, Ordering::Relaxed);
                    self.give_back(arena, first, regions);
                }
            }
        }
    }

    /// Gives a run to the arena.
    ///
    /// # Safety
    ///
    /// The run is the caller's, has so many regions, and is not used any more.
    unsafe fn give_back(&self, arena: &Arena, first: RegionIndex, regions: usize) {
        self.held.fetch_sub(regions as isize, Ordering::Relaxed);
        // SAFETY: passed on.
        unsafe { arena.free(first, regions) };
    }
}
