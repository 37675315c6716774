//! Runs that one thread keeps for its own next request.
//!
//! The run pool's counters and lists are shared: a thread that allocates and frees buffers all
//! by itself would wait for others that do the same. So each has a few runs of its own. Both
//! sides of the exchange are single steps on one slot: the owner puts a run into an empty slot,
//! and whoever wants it, the owner or another on its behalf, takes it out by an exchange. There
//! is no state in between, for a reaper or a fork to find.
//!
//! How many bytes a cache may hold is a *lease* from the run pool, so that what all threads keep
//! stays in proportion to what they use. A cache starts without, and gets a first step after some
//! *turns*: a request that it could not serve, and then a run that it had no room for. So a thread that
//! only allocates or only frees has none. It gets more where it would have spared its thread several
//! meetings with others: turns between which another thread was at the pool.

use crate::run_pool::{MAX_RETAINED_REGIONS, RunPool};
use hakmem_region_id::{REGION_BYTES, RegionIndex};
use hakmem_sys::counter::Counter;
use hakmem_sys::sync::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

/// Runs that a cache holds at most.
const SLOTS: usize = 8;
/// What a lease grows by, in regions (a quarter of the longest run that is retained),
const LEASE_STEP: usize = MAX_RETAINED_REGIONS.div_ceil(4);
/// and up to: such a run finds room.
const LEASE_MAX: usize = 4 * LEASE_STEP;
/// After so many turns a lease grows.
const TURNS_FOR_LEASE: u32 = 4;

/// An empty slot. A run's length is not zero.
const EMPTY: u64 = 0;

/// Publishes what the owner has written to a run that it puts in.
const PUT: Ordering = if cfg!(hakmem_mutation = "run_cache_put_relaxed") {
    Ordering::Relaxed
} else {
    Ordering::Release
};
/// Takes a run over, with what was written to it.
const TAKE: Ordering = if cfg!(hakmem_mutation = "run_cache_take_relaxed") {
    Ordering::Relaxed
} else {
    Ordering::Acquire
};

/// A run in a cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CachedRun {
    /// Its first region.
    pub first: RegionIndex,
    /// Its length in regions.
    pub regions: usize,
}

impl CachedRun {
    #[inline]
    fn to_slot(self) -> u64 {
        (self.regions as u64) << 32 | u64::from(self.first.0)
    }

    #[inline]
    fn from_slot(slot: u64) -> Option<Self> {
        (slot != EMPTY).then_some(Self {
            first: RegionIndex(slot as u32),
            regions: (slot >> 32) as usize,
        })
    }
}

/// The runs that one thread keeps. [`take`](Self::take) and [`put`](Self::put) are for the owner,
/// one thread at a time; [`clear`](Self::clear) is for anybody at any time.
pub struct RunCache {
    slots: [AtomicU64; SLOTS],
    /// Regions that may be held.
    lease: AtomicUsize,
    /// Turns since the lease grew. The owner's.
    turns: AtomicU32,
    /// Whether a request has not been served since a run went to the pool. The owner's.
    has_missed: AtomicBool,
    /// Slots that were looked at so far for what to push out; wraps. The owner's.
    looked_at: AtomicU32,
    /// The slot that a run was put into last, or taken out of. The owner's.
    last: AtomicU32,
    /// Regions of all runs in the slots, or more, as others have cleared some. The owner's.
    held_most: AtomicUsize,
    /// Calls of the owner.
    visits: Counter,
    /// Requests served.
    hits: Counter,
    /// How many these were at the last [`clear_unused`](Self::clear_unused).
    visits_seen: AtomicU64,
}

impl Default for RunCache {
    fn default() -> Self {
        Self::new()
    }
}

impl core::fmt::Debug for RunCache {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("RunCache")
            .field("lease", &self.lease)
            .finish_non_exhaustive()
    }
}

impl RunCache {
    hakmem_sys::const_new! {
        /// An empty cache.
        pub fn new() -> Self {
            Self {
                slots: hakmem_sys::array_of!(SLOTS, AtomicU64::new(EMPTY)),
                lease: AtomicUsize::new(0),
                turns: AtomicU32::new(0),
                has_missed: AtomicBool::new(false),
                looked_at: AtomicU32::new(0),
                last: AtomicU32::new(0),
                held_most: AtomicUsize::new(0),
                visits: Counter::new(),
                hits: Counter::new(),
                visits_seen: AtomicU64::new(0),
            }
        }
    }

    /// Calls of the owner so far.
    #[inline]
    pub fn visits(&self) -> u64 {
        self.visits.get()
    }

    /// Requests of the owner that were served so far.
    pub fn hits(&self) -> u64 {
        self.hits.get()
    }

    /// Bytes of the runs in the cache.
    pub fn held_bytes(&self) -> usize {
        self.held().map(|run| run.regions).sum::<usize>() * REGION_BYTES
    }

    /// The runs in the cache.
    pub fn held(&self) -> impl Iterator<Item = CachedRun> {
        self.runs().map(|(_, run)| run)
    }

    /// The numbers of the slots that are not empty, and what is in them.
    fn runs(&self) -> impl Iterator<Item = (usize, CachedRun)> {
        self.slots.iter().enumerate().filter_map(|(number, slot)| {
            let run = CachedRun::from_slot(slot.load(Ordering::Relaxed))?;
            Some((number, run))
        })
    }

    /// Takes a run of at least so many regions and at most a quarter more out, the shortest there
    /// is; `None` if there is none. To be called for each request, by the owner.
    ///
    /// Ordering: acquire.
    #[inline]
    pub fn take(&self, regions: usize) -> Option<CachedRun> {
        self.visits.add(1);
        // What was freed last, mostly.
        let last = self.last();
        let run = CachedRun::from_slot(last.load(Ordering::Relaxed));
        let run = match run {
            Some(run) if run.regions == regions && Self::claim(last, run) => run,
            _ => self.take_other(regions)?,
        };
        self.hits.add(1);
        let held = self.held_most.load(Ordering::Relaxed);
        self.held_most
            .store(held.saturating_sub(run.regions), Ordering::Relaxed);
        Some(run)
    }

    /// The same from any slot.
    #[inline(never)]
    fn take_other(&self, regions: usize) -> Option<CachedRun> {
        let fits = regions..=regions.saturating_add(regions / 4);
        while self.lease.load(Ordering::Relaxed) > 0 {
            let shortest = self
                .runs()
                .filter(|(_, run)| fits.contains(&run.regions))
                .min_by_key(|(_, run)| run.regions);
            let Some((number, run)) = shortest else {
                break;
            };
            // Another may have come before.
            if Self::claim(&self.slots[number], run) {
                self.last.store(number as u32, Ordering::Relaxed);
                return Some(run);
            }
        }
        self.has_missed.store(true, Ordering::Relaxed);
        None
    }

    #[inline]
    fn last(&self) -> &AtomicU64 {
        &self.slots[self.last.load(Ordering::Relaxed) as usize % SLOTS]
    }

    /// Puts a run in, which for a lack of room may go to `surplus` as others may that were there.
    /// To be called for each freed run, by the owner.
    ///
    /// Ordering: release.
    #[inline]
    pub fn put(&self, pool: &RunPool, run: CachedRun, surplus: impl FnMut(CachedRun)) {
        self.visits.add(1);
        let lease = self.lease.load(Ordering::Relaxed);
        let held = self.held_most.load(Ordering::Relaxed);
        let last = self.last();
        if held + run.regions <= lease && last.load(Ordering::Relaxed) == EMPTY {
            self.fill(last, run, held);
        } else {
            self.put_with_room(pool, run, surplus);
        }
    }

    /// Puts a run into a slot that is empty, of a cache that holds so many regions. Only the owner fills slots, so it
    /// still is.
    #[inline]
    fn fill(&self, slot: &AtomicU64, run: CachedRun, held: usize) {
        slot.store(run.to_slot(), PUT);
        self.held_most.store(held + run.regions, Ordering::Relaxed);
    }

    /// Puts a run in, once there is room, if there is to be any.
    #[inline(never)]
    fn put_with_room(&self, pool: &RunPool, run: CachedRun, mut surplus: impl FnMut(CachedRun)) {
        loop {
            let lease = self.lease.load(Ordering::Relaxed);
            let most = lease.checked_sub(run.regions);
            let held = self.held_most.load(Ordering::Relaxed);
            if most.is_some_and(|most| held <= most) && self.put_anywhere(run, lease) {
                return;
            }
            if self.has_missed.load(Ordering::Relaxed) && self.grow_lease(pool) {
                continue;
            }
            let Some(most) = most else {
                return surplus(run);
            };
            if self.put_in_place(run, most, &mut surplus) || self.put_anywhere(run, lease) {
                return;
            }
        }
    }

    /// Takes runs out, in turn, so that what fits no request any more goes sooner or later: one at least, if there
    /// is any, and until there are so many regions at most. Then puts this one in the last one's place; returns
    /// whether it has.
    #[inline]
    fn put_in_place(
        &self,
        run: CachedRun,
        most: usize,
        surplus: &mut impl FnMut(CachedRun),
    ) -> bool {
        let mut held = self.held_most.load(Ordering::Relaxed);
        let mut number = self.looked_at.load(Ordering::Relaxed);
        let mut is_in = false;
        for _ in 0..SLOTS {
            number = number.wrapping_add(1);
            let slot = &self.slots[number as usize % SLOTS];
            if let Some(other) = Self::empty(slot) {
                surplus(other);
                held = held.saturating_sub(other.regions);
                is_in = held <= most;
                if is_in {
                    self.last.store(number, Ordering::Relaxed);
                    self.fill(slot, run, held);
                    break;
                }
            }
        }
        self.looked_at.store(number, Ordering::Relaxed);
        is_in
    }

    /// Puts a run in, if there is room within this lease, and a slot. Returns whether there was.
    fn put_anywhere(&self, run: CachedRun, lease: usize) -> bool {
        let (mut held, mut empty) = (0, None);
        for (number, slot) in self.slots.iter().enumerate() {
            match CachedRun::from_slot(slot.load(Ordering::Relaxed)) {
                Some(other) => held += other.regions,
                None => empty = Some(number),
            }
        }
        self.held_most.store(held, Ordering::Relaxed);
        let Some(number) = empty.filter(|_| held + run.regions <= lease) else {
            return false;
        };
        self.last.store(number as u32, Ordering::Relaxed);
        self.fill(&self.slots[number], run, held);
        true
    }

    /// Takes all runs out, each of which goes to `surplus`, and gives the lease back. Returns how
    /// many regions that were. What the owner is just putting in may stay until the next time.
    ///
    /// Ordering: acquire.
    pub fn clear(&self, pool: &RunPool, mut surplus: impl FnMut(CachedRun)) -> usize {
        // The lease first: what the owner puts in later, it has not got it any more.
        pool.end_lease(self.lease.swap(0, Ordering::Relaxed));
        let mut regions = 0;
        for run in self.slots.iter().filter_map(Self::empty) {
            regions += run.regions;
            surplus(run);
        }
        regions
    }

    /// As [`clear`](Self::clear), if the owner has not come since the last call, more is leased
    /// than should be, or there is no lease: what was put in during a clear is not to stay. Of
    /// these, one at a time.
    pub fn clear_unused(&self, pool: &RunPool, surplus: impl FnMut(CachedRun)) -> usize {
        let visits = self.visits();
        let is_unused = self.visits_seen.swap(visits, Ordering::Relaxed) == visits;
        if is_unused || self.leased() == 0 || pool.is_overleased() {
            self.clear(pool, surplus)
        } else {
            0
        }
    }

    /// Regions that the cache may hold.
    pub fn leased(&self) -> usize {
        self.lease.load(Ordering::Relaxed)
    }

    /// Forgets the runs and the lease, in the child of a fork, where the owner does not exist,
    /// whatever somebody was about to do with them. The pool
    /// is to be [told](RunPool::set_leased).
    pub fn lose(&self) {
        self.lease.store(0, Ordering::Relaxed);
        for slot in &self.slots {
            slot.store(EMPTY, Ordering::Relaxed);
        }
    }

    /// Counts a turn, beyond the first step if another has been at the pool since the last one, and lets the
    /// lease grow after some. Returns whether it has grown.
    #[cold]
    fn grow_lease(&self, pool: &RunPool) -> bool {
        self.has_missed.store(false, Ordering::Relaxed);
        let lease = self.lease.load(Ordering::Relaxed);
        let has_met = pool.note_visitor(core::ptr::from_ref(self).addr());
        if lease >= if has_met { LEASE_MAX } else { LEASE_STEP } {
            return false;
        }
        let turns = self.turns.load(Ordering::Relaxed) + 1;
        self.turns.store(turns % TURNS_FOR_LEASE, Ordering::Relaxed);
        if turns < TURNS_FOR_LEASE || !pool.try_lease(LEASE_STEP) {
            return false;
        }
        // If it has been ended meanwhile, by `clear`, this is the first step of the next one.
        self.lease.fetch_add(LEASE_STEP, Ordering::Relaxed);
        true
    }

    /// Takes what is in a slot.
    fn empty(slot: &AtomicU64) -> Option<CachedRun> {
        loop {
            let run = CachedRun::from_slot(slot.load(Ordering::Relaxed))?;
            if Self::claim(slot, run) {
                return Some(run);
            }
        }
    }

    /// Takes this run out of its slot, if it is still there. Returns whether it was.
    #[inline]
    fn claim(slot: &AtomicU64, run: CachedRun) -> bool {
        if cfg!(hakmem_mutation = "run_cache_take_blindly") {
            slot.store(EMPTY, Ordering::Relaxed);
            return true;
        }
        // The same run may have gone and come back meanwhile: then it is as free as before.
        slot.compare_exchange(run.to_slot(), EMPTY, TAKE, Ordering::Relaxed)
            .is_ok()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_in_during_a_clear_does_not_stay() {
        // SAFETY: it is used with no arena at all.
        let pool = unsafe { RunPool::new() };
        let cache = RunCache::new();
        let run = CachedRun {
            first: RegionIndex(3),
            regions: LEASE_STEP,
        };
        // The owner had read a lease, which is gone.
        cache.slots[2].store(run.to_slot(), PUT);
        let mut swept = None;
        assert_eq!(cache.take(LEASE_STEP), None);
        cache.clear_unused(&pool, |run| swept = Some(run));
        assert_eq!(swept, Some(run));
    }

    #[test]
    fn what_is_leased_shrinks_with_what_is_in_use() {
        // SAFETY: as above.
        let pool = unsafe { RunPool::new() };
        let cache = RunCache::new();
        // As if so much more had been in use.
        assert!(pool.try_lease(LEASE_MAX));
        pool.set_leased(1 << 20);
        cache.lease.store(LEASE_MAX, Ordering::Relaxed);
        assert_eq!(cache.take(LEASE_STEP), None);
        cache.clear_unused(&pool, |_| ());
        assert_eq!(cache.leased(), 0);
    }
}
