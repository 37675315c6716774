//! Runs that one thread keeps for its own next request.
//!
//! The run pool's counters and lists are shared: a thread that allocates and frees buffers all
//! by itself would wait for others that do the same. So each has a few runs of its own, each in a slot. The owner
//! puts a run in with a store, and takes it out with a load and a store, which it announces.
//!
//! # How another takes runs
//!
//! The *reaper*, one at a time, works as that of a thread's bins does (`hakmem_thread_cache::bin`).
//!
//! 1. It exchanges each run for a mark, [`LIFTED`].
//! 2. A barrier on all threads of the process (`hakmem_sys::barrier`). From then on the owner finds the marks, and
//!    takes nothing from these slots, nor puts anything in.
//! 3. If the owner is in no announced take then, those that began before the barrier are over, and what they did is
//!    seen: what was lifted from a slot that still has the mark is the reaper's, and of any other the owner's. Else, or
//!    without a barrier, what was lifted goes back where there still is the mark: whether the owner had read the slot
//!    before it is not known. If it had, it empties it.
//!
//! The owner may so find a mark or a run where it took the slot to be empty, and sees to it when it puts the next one
//! in. Where the system has no such barriers, the owner takes runs by an exchange.
//!
//! How many bytes a cache may hold is a *lease* from the run pool, so that what all threads keep
//! stays in proportion to what they use. A cache starts without, and gets a first step after some
//! *turns*: a request that it could not serve, and then a run that it had no room for. So a thread that
//! only allocates or only frees has none. It gets more where it would have spared its thread several
//! meetings with others, that is, for turns between which another thread was at the pool; where much is in
//! use; where several requests in a row and then several runs show that they come in bursts; and where one run that
//! is longer than the lease comes and goes, and nothing else does.

use crate::rings::Rings;
use crate::run_pool::{MAX_RETAINED_REGIONS, RunPool};
use hakmem_region_id::{REGION_BYTES, RegionIndex};
use hakmem_sys::barrier::{self, Announcement};
use hakmem_sys::counter::Counter;
use hakmem_sys::sync::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

/// Runs that a cache holds at most.
const SLOTS: usize = if cfg!(loom) { 4 } else { 32 };
/// What a lease grows by, in regions (a quarter of the longest run that is retained),
const LEASE_STEP: usize = MAX_RETAINED_REGIONS.div_ceil(4);
/// and up to: such a run finds room.
const LEASE_MAX: usize = 4 * LEASE_STEP;
/// The same for bursts.
const BURST_LEASE_MAX: usize = 2 * LEASE_MAX;
/// Without meeting others a lease beyond the first step is at most one in so many regions of runs in use.
const LEASE_SHARE_ALONE: usize = 64;
/// After so many turns a lease grows.
const TURNS_FOR_LEASE: u32 = 4;
/// So many runs in a row that found no room, and as many requests that were not served, are a burst.
const BURST: u32 = 3;
/// After so many turns of one run that is longer than the lease, with no other call between them, the lease grows to
/// it.
const SAME_FOR_LEASE: u32 = 16;

/// No slot.
const NOTHING: usize = SLOTS;

/// An empty slot. A run's length is not zero.
const EMPTY: u64 = 0;
/// A slot whose run a reaper has in its hands.
const LIFTED: u64 = 1;

/// Publishes what the owner has written to a run that it puts in.
const PUT: Ordering = if cfg!(hakmem_mutation = "run_cache_put_relaxed") {
    Ordering::Relaxed
} else {
    Ordering::Release
};
/// Takes a run over, with what was written to it. Pairs with `PUT`.
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
        let regions = (slot >> 32) as usize;
        let first = RegionIndex(slot as u32);
        (regions != 0).then_some(Self { first, regions })
    }
}

/// How many events in a row there were last, of those that may or may not happen at each call.
struct Row {
    length: AtomicU32,
    /// The number of the last call at which it happened, as far as it goes.
    last: AtomicU32,
}

impl Row {
    hakmem_sys::const_new! {
        fn new() -> Self {
            Self {
                length: AtomicU32::new(0),
                last: AtomicU32::new(0),
            }
        }
    }

    /// Notes that it has happened at the call with this number.
    fn note(&self, call: u64) {
        let call = call as u32;
        let is_next = call == self.last.load(Ordering::Relaxed).wrapping_add(1);
        let before = self.length.load(Ordering::Relaxed);
        let length = if is_next { before.saturating_add(1) } else { 1 };
        self.length.store(length, Ordering::Relaxed);
        self.last.store(call, Ordering::Relaxed);
    }

    /// How many it were, none from now on.
    fn take(&self) -> u32 {
        let length = self.length.load(Ordering::Relaxed);
        self.length.store(0, Ordering::Relaxed);
        length
    }
}

/// The runs that one thread keeps. [`take`](Self::take), [`put`](Self::put) and [`clear`](Self::clear) are for the
/// owner, one thread at a time; [`reap`](Self::reap) is for others, one at a time.
pub struct RunCache {
    slots: [AtomicU64; SLOTS],
    /// That the owner is about to take a run.
    taking: Announcement,
    /// Regions that may be held.
    lease: AtomicUsize,
    /// Turns since the lease grew. The owner's.
    turns: AtomicU32,
    /// Requests that were not served, and runs that found no room before these. The owner's.
    missed: Row,
    pushed: Row,
    /// Regions of the last request that was not served. The owner's.
    asked: AtomicU32,
    /// How many turns there were, one right after the other, of one run of the same length, longer than the lease; that
    /// length, and how many [calls](Self::visits) there were by then, as far as it goes. The owner's.
    same: AtomicU32,
    same_regions: AtomicU32,
    same_visits: AtomicU32,
    /// Which slots have runs of which length, as far as the owner knows,
    rings: Rings<SLOTS>,
    /// but for the one filled last, which is in the ring of empty slots until it is [put away](Self::put_away);
    /// or [`NOTHING`]. The owner's.
    hand: AtomicUsize,
    /// Regions of all runs in the slots, or more, as others have cleared some. The owner's.
    held_most: AtomicUsize,
    /// Requests of the owner that were served, those that were not, and runs that it has freed.
    hits: Counter,
    misses: Counter,
    puts: Counter,
    /// How many calls these were at the last [`reap_unused`](Self::reap_unused).
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
                taking: Announcement::new(),
                lease: AtomicUsize::new(0),
                turns: AtomicU32::new(0),
                missed: Row::new(),
                pushed: Row::new(),
                asked: AtomicU32::new(0),
                same: AtomicU32::new(0),
                same_regions: AtomicU32::new(0),
                same_visits: AtomicU32::new(0),
                rings: Rings::new(),
                hand: AtomicUsize::new(NOTHING),
                held_most: AtomicUsize::new(0),
                hits: Counter::new(),
                misses: Counter::new(),
                puts: Counter::new(),
                visits_seen: AtomicU64::new(0),
            }
        }
    }

    /// Calls of the owner so far.
    #[inline]
    pub fn visits(&self) -> u64 {
        self.takes() + self.puts.get()
    }

    /// Requests of the owner so far.
    fn takes(&self) -> u64 {
        self.hits.get() + self.misses.get()
    }

    /// Runs that the owner has freed so far.
    #[inline]
    pub fn puts(&self) -> u64 {
        self.puts.get()
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
        self.slots
            .iter()
            .filter_map(|slot| CachedRun::from_slot(slot.load(Ordering::Relaxed)))
    }

    /// Takes a run of at least so many regions and at most a quarter more out, the shortest there
    /// is; `None` if there is none. To be called for each request, by the owner, with a length that runs of
    /// large blocks have (`hakmem_page_arena::large_regions`).
    ///
    /// Ordering: release, towards reapers.
    #[inline]
    pub fn take(&self, regions: usize) -> Option<CachedRun> {
        self.take_just(regions).or_else(|| self.take_about(regions))
    }

    /// The same, if it is a run of just so many regions that the owner has put in last of all; `None` says nothing, and
    /// is no call. For fast paths, before [`take_just`](Self::take_just): the few instructions that one run takes which
    /// comes and goes.
    ///
    /// Ordering: as there.
    #[inline(always)]
    pub fn take_at_hand(&self, regions: usize) -> Option<CachedRun> {
        let hand = self.hand.load(Ordering::Relaxed);
        if hand == NOTHING || !barrier::is_prepared() {
            return None;
        }
        let run = self.take_announced(hand, |run| run.regions == regions)?;
        self.hand.store(NOTHING, Ordering::Relaxed);
        self.note_served(run);
        Some(run)
    }

    /// The same, if it is a run of just so many regions; `None` is no call. What is in the hand is put away, if it is not
    /// that.
    ///
    /// Ordering: as there.
    #[inline]
    pub fn take_just(&self, regions: usize) -> Option<CachedRun> {
        let hand = self.hand.load(Ordering::Relaxed);
        if hand != NOTHING {
            self.hand.store(NOTHING, Ordering::Relaxed);
            let run = self.serve(hand, regions);
            if run.is_some() {
                return run;
            }
            self.put_away(hand);
        }
        if regions > MAX_RETAINED_REGIONS {
            return None;
        }
        let number = self.rings.front_of(regions)?;
        let run = self.serve(number, regions)?;
        self.rings.note_emptied(number);
        Some(run)
    }

    /// Takes the run out of a slot, if it is one of just so many regions. The rings are to be told.
    #[inline]
    fn serve(&self, number: usize, regions: usize) -> Option<CachedRun> {
        let run = self.take_out(number, |run| run.regions == regions)?;
        self.note_served(run);
        Some(run)
    }

    /// Notes that a request was served.
    #[inline(always)]
    fn note_served(&self, run: CachedRun) {
        self.hits.add(1);
        self.note_gone(run);
    }

    /// Takes one that is at most a quarter longer from any ring, where nothing is in the hand.
    #[inline(never)]
    fn take_about(&self, regions: usize) -> Option<CachedRun> {
        let most = regions + regions / 4;
        while regions <= MAX_RETAINED_REGIONS
            && let Some(number) = self.rings.find(regions, most)
        {
            if let Some(run) = self.empty(number) {
                self.hits.add(1);
                return Some(run);
            }
        }
        self.misses.add(1);
        self.missed.note(self.takes());
        self.asked.store(regions as u32, Ordering::Relaxed);
        None
    }

    /// Puts away what is in the hand.
    #[inline(always)]
    fn empty_hand(&self) {
        let hand = self.hand.load(Ordering::Relaxed);
        if hand != NOTHING {
            self.hand.store(NOTHING, Ordering::Relaxed);
            self.put_away(hand);
        }
    }

    /// Puts the run of the slot in the hand into its ring, if it is still there.
    #[inline]
    fn put_away(&self, hand: usize) {
        let slot = self.slots[hand % SLOTS].load(Ordering::Relaxed);
        if let Some(run) = CachedRun::from_slot(slot) {
            self.rings.note_filled(hand, run.regions);
        } else {
            self.count_held();
        }
    }

    /// Notes that a run is not held any more.
    #[inline]
    fn note_gone(&self, run: CachedRun) {
        let held = self.held_most.load(Ordering::Relaxed);
        self.held_most
            .store(held.saturating_sub(run.regions), Ordering::Relaxed);
    }

    /// Takes what is in a slot, if another has not emptied it before.
    #[inline]
    fn empty(&self, number: usize) -> Option<CachedRun> {
        self.rings.note_emptied(number);
        let Some(run) = self.take_out(number, |_| true) else {
            self.count_held();
            return None;
        };
        self.note_gone(run);
        Some(run)
    }

    /// Counts what is held, where others have taken what the owner still counted.
    #[cold]
    fn count_held(&self) {
        let held = self.held().map(|run| run.regions).sum();
        self.held_most.store(held, Ordering::Relaxed);
    }

    /// Puts a run in, which for a lack of room may go to `surplus` as others may that were there.
    /// To be called for each freed run, of such a length, by the owner.
    ///
    /// Ordering: release.
    #[inline]
    pub fn put(&self, pool: &RunPool, run: CachedRun, surplus: impl FnMut(CachedRun)) {
        self.empty_hand();
        if !self.has_room(run.regions) || !self.put_in_room(run) {
            self.make_room_and_put(pool, run, surplus);
        }
    }

    /// Whether there is room for a run of so many regions, and a slot at hand for it. For the owner, before
    /// [`put_in_room`](Self::put_in_room).
    #[inline(always)]
    pub fn has_room_at_hand(&self, regions: usize) -> bool {
        self.hand.load(Ordering::Relaxed) == NOTHING && self.has_room(regions)
    }

    /// Whether there is room within the lease, and a slot, for a run of so many regions. Nothing is in the hand.
    #[inline(always)]
    fn has_room(&self, regions: usize) -> bool {
        self.held_most.load(Ordering::Relaxed) + regions <= self.leased()
            && regions <= MAX_RETAINED_REGIONS
            && self.rings.has_empty()
    }

    /// As [`put`](Self::put), where there [is room at hand](Self::has_room_at_hand). `false`, and it does not count as a
    /// call, if a reaper has to do with the slot: then `put` will do.
    ///
    /// Ordering: release.
    #[inline(always)]
    pub fn put_in_room(&self, run: CachedRun) -> bool {
        let is_in = self.fill(run);
        if is_in {
            self.puts.add(1);
        }
        is_in
    }

    /// Puts a run into an empty slot, which is in the hand then, where nothing was; `false` if a reaper has to do with
    /// that slot.
    #[inline(always)]
    fn fill(&self, run: CachedRun) -> bool {
        let number = self.rings.empty();
        let slot = &self.slots[number % SLOTS];
        if slot.load(Ordering::Relaxed) != EMPTY
            && !cfg!(hakmem_mutation = "run_cache_fill_blindly")
        {
            return false;
        }
        // It stays empty: only the owner fills slots, and a reaper those alone that it has emptied.
        store(slot, run.to_slot(), PUT);
        self.hand.store(number, Ordering::Relaxed);
        let held = self.held_most.load(Ordering::Relaxed);
        self.held_most.store(held + run.regions, Ordering::Relaxed);
        true
    }

    /// Has the next slot to be filled in its ring, if a reaper has put its run back. Returns whether there is one
    /// that no reaper has in its hands.
    #[cold]
    fn see_to_next(&self) -> bool {
        let number = self.rings.empty();
        let slot = self.slots[number % SLOTS].load(Ordering::Relaxed);
        if let Some(run) = CachedRun::from_slot(slot) {
            self.rings.note_filled(number, run.regions);
            self.count_held();
        }
        slot != LIFTED
    }

    /// Puts a run in, once there is room, if there is to be any.
    #[inline(never)]
    fn make_room_and_put(
        &self,
        pool: &RunPool,
        run: CachedRun,
        mut surplus: impl FnMut(CachedRun),
    ) {
        let puts = self.puts.add(1);
        let missed = self.missed.take();
        if missed > 0 {
            let pushed = self.pushed.take();
            self.grow_lease(pool, missed.min(pushed) >= BURST);
            self.grow_lease_to(pool, run.regions);
        }
        self.pushed.note(puts);
        loop {
            if !self.has_room(run.regions) {
                let fits = run.regions <= self.leased().min(MAX_RETAINED_REGIONS);
                // In turn, so that what fits no request any more goes sooner or later.
                let Some(number) = self.rings.oldest_in_turn().filter(|_| fits) else {
                    return surplus(run);
                };
                if let Some(other) = self.empty(number) {
                    surplus(other);
                }
            } else if self.fill(run) {
                return;
            } else if !self.see_to_next() {
                return surplus(run);
            }
        }
    }

    /// Takes all runs out, each of which goes to `surplus`, and gives the lease back. Returns how
    /// many regions that were. For the owner, or whoever is sure that there is none. What a reaper has in its hands
    /// may stay.
    ///
    /// Ordering: release, towards reapers.
    pub fn clear(&self, pool: &RunPool, mut surplus: impl FnMut(CachedRun)) -> usize {
        pool.end_lease(self.lease.swap(0, Ordering::Relaxed));
        let mut regions = 0;
        for run in (0..SLOTS).filter_map(|number| self.take_out(number, |_| true)) {
            regions += run.regions;
            surplus(run);
        }
        regions
    }

    /// The same for others, on behalf of the owner, which may be at work. What it is just putting in, or taking out,
    /// may stay until the next time; all stays where the system refuses a barrier.
    ///
    /// Of all calls of this and of [`reap_unused`](Self::reap_unused), one at a time.
    ///
    /// Ordering: acquire.
    pub fn reap(&self, pool: &RunPool, mut surplus: impl FnMut(CachedRun)) -> usize {
        // The lease first: what the owner puts in later, it has not got it any more.
        pool.end_lease(self.lease.swap(0, Ordering::Relaxed));
        let mut lifted = [EMPTY; SLOTS];
        for (slot, lifted) in self.slots.iter().zip(&mut lifted) {
            let before = slot.load(Ordering::Relaxed);
            if CachedRun::from_slot(before).is_some() && exchange(slot, before, LIFTED, TAKE) {
                *lifted = before;
            }
        }
        if lifted.iter().all(|&lifted| lifted == EMPTY) {
            return 0;
        }
        let is_over = !barrier::is_prepared()
            || barrier::all_threads() && !self.taking.is_under_way()
            || cfg!(hakmem_mutation = "run_cache_reap_blindly");
        let mut regions = 0;
        for (slot, lifted) in self.slots.iter().zip(lifted) {
            let Some(run) = CachedRun::from_slot(lifted) else {
                continue;
            };
            if !is_over {
                if !cfg!(hakmem_mutation = "run_cache_without_return") {
                    exchange(slot, LIFTED, lifted, Ordering::Relaxed);
                }
            } else if slot.load(Ordering::Relaxed) == LIFTED
                || cfg!(hakmem_mutation = "run_cache_without_second_look")
            {
                // Nobody else writes to it.
                store(slot, EMPTY, Ordering::Relaxed);
                regions += run.regions;
                surplus(run);
            }
        }
        regions
    }

    /// As [`reap`](Self::reap), if the owner has not come since the last call, more is leased
    /// than should be, or there is no lease: what was put in during a reap is not to stay.
    pub fn reap_unused(&self, pool: &RunPool, surplus: impl FnMut(CachedRun)) -> usize {
        let visits = self.visits();
        let is_unused = self.visits_seen.swap(visits, Ordering::Relaxed) == visits;
        if is_unused || self.leased() == 0 || pool.is_overleased() {
            self.reap(pool, surplus)
        } else {
            0
        }
    }

    /// Regions that the cache may hold.
    #[inline]
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

    /// Forgets the runs that a reaper had in its hands, in the child of a fork, where it does not exist. For the owner.
    pub fn lose_lifted(&self) {
        for slot in &self.slots {
            exchange(slot, LIFTED, EMPTY, Ordering::Relaxed);
        }
    }

    /// Counts a turn, if it is one of those that count, and lets the lease grow after some.
    #[cold]
    fn grow_lease(&self, pool: &RunPool, is_burst: bool) {
        let has_met = pool.note_visitor(core::ptr::from_ref(self).addr());
        let most = if is_burst {
            BURST_LEASE_MAX
        } else if has_met {
            LEASE_MAX
        } else {
            (pool.held() / LEASE_SHARE_ALONE).clamp(LEASE_STEP, LEASE_MAX)
        };
        if self.leased() + LEASE_STEP > most {
            return;
        }
        let turns = self.turns.load(Ordering::Relaxed) + 1;
        self.turns.store(turns % TURNS_FOR_LEASE, Ordering::Relaxed);
        if turns >= TURNS_FOR_LEASE && pool.try_lease(LEASE_STEP) {
            // If it has been ended meanwhile, by `clear`, this is the first step of the next one.
            self.lease.fetch_add(LEASE_STEP, Ordering::Relaxed);
        }
    }

    /// Counts a turn of a run, if it is longer than the lease, and lets the lease grow to it after some.
    fn grow_lease_to(&self, pool: &RunPool, regions: usize) {
        let leased = self.leased();
        if regions <= leased || regions > MAX_RETAINED_REGIONS {
            return;
        }
        let visits = self.visits() as u32;
        let last = self.same_regions.load(Ordering::Relaxed);
        let before = self.same_visits.load(Ordering::Relaxed);
        self.same_regions.store(regions as u32, Ordering::Relaxed);
        self.same_visits.store(visits, Ordering::Relaxed);
        // The request and this run, which has not grown since, are the only calls since the last turn.
        let asked = self.asked.load(Ordering::Relaxed);
        let is_same = last == regions as u32 && asked == last && visits.wrapping_sub(before) == 2;
        let same = if is_same {
            self.same.load(Ordering::Relaxed) + 1
        } else {
            0
        };
        let is_due = same >= SAME_FOR_LEASE;
        self.same
            .store(if is_due { 0 } else { same }, Ordering::Relaxed);
        if is_due && pool.try_lease(regions - leased) {
            // As above.
            self.lease.fetch_add(regions - leased, Ordering::Relaxed);
        }
    }

    /// Takes what is in a slot, if it is a run that is wanted. For the owner.
    #[inline(always)]
    fn take_out(&self, number: usize, is_wanted: impl Fn(CachedRun) -> bool) -> Option<CachedRun> {
        if barrier::is_prepared() {
            self.take_announced(number, is_wanted)
        } else {
            Self::exchange_out(&self.slots[number % SLOTS], is_wanted)
        }
    }

    /// The same where a reaper passes a barrier on all threads.
    #[inline(always)]
    fn take_announced(
        &self,
        number: usize,
        is_wanted: impl Fn(CachedRun) -> bool,
    ) -> Option<CachedRun> {
        let slot = &self.slots[number % SLOTS];
        self.taking.begin();
        let run = CachedRun::from_slot(slot.load(Ordering::Relaxed));
        let run = run.filter(|run| is_wanted(*run));
        if run.is_some() {
            store(slot, EMPTY, Ordering::Relaxed);
        }
        self.taking.end();
        run
    }

    /// The same where nobody can wait for the end of an announced take.
    #[cold]
    fn exchange_out(slot: &AtomicU64, is_wanted: impl Fn(CachedRun) -> bool) -> Option<CachedRun> {
        loop {
            let run = CachedRun::from_slot(slot.load(Ordering::Relaxed))?;
            if !is_wanted(run) {
                return None;
            }
            // The same run may have gone and come back meanwhile: then it is as free as before.
            if exchange(slot, run.to_slot(), EMPTY, TAKE) {
                return Some(run);
            }
        }
    }
}

/// Writes to a slot.
#[inline(always)]
fn store(slot: &AtomicU64, value: u64, order: Ordering) {
    #[cfg(not(loom))]
    slot.store(value, order);
    // Loom takes a store that nothing orders before or after an exchange of another
    // thread to be both. Exchanges it puts in one order, as the hardware does stores.
    #[cfg(loom)]
    slot.swap(value, order);
}

/// Writes to a slot what it is to be in place of what it should be. Returns whether that was so.
fn exchange(slot: &AtomicU64, from: u64, to: u64, order: Ordering) -> bool {
    slot.compare_exchange(from, to, order, Ordering::Relaxed)
        .is_ok()
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
        cache.reap_unused(&pool, |run| swept = Some(run));
        assert_eq!(swept, Some(run));
    }

    /// A cache with a whole lease, one run in a ring and another in the hand; and the slot that is filled next.
    fn used(pool: &RunPool) -> (RunCache, usize) {
        let cache = RunCache::new();
        assert!(pool.try_lease(LEASE_MAX));
        cache.lease.store(LEASE_MAX, Ordering::Relaxed);
        for number in [1, 2] {
            cache.put(pool, short(number), |_| panic!("there is room"));
        }
        cache.empty_hand();
        let next = cache.rings.empty();
        (cache, next)
    }

    fn short(number: u32) -> CachedRun {
        CachedRun {
            first: RegionIndex(number),
            regions: hakmem_page_arena::large_regions(100_000, 1),
        }
    }

    #[test]
    fn nothing_is_put_where_a_reaper_is_at_work() {
        // SAFETY: as above.
        let pool = unsafe { RunPool::new() };
        let (cache, next) = used(&pool);
        cache.slots[next].store(LIFTED, Ordering::Relaxed);
        assert!(cache.has_room_at_hand(short(3).regions) && !cache.put_in_room(short(3)));
        let mut surplus = None;
        cache.put(&pool, short(3), |run| surplus = Some(run));
        assert_eq!(surplus, Some(short(3)));
        assert_eq!(cache.slots[next].load(Ordering::Relaxed), LIFTED);
        assert!([1, 2].contains(&cache.take(short(3).regions).unwrap().first.0));
    }

    #[test]
    fn what_a_reaper_has_put_back_is_found_and_filed() {
        // SAFETY: as above.
        let pool = unsafe { RunPool::new() };
        let (cache, next) = used(&pool);
        cache.slots[next].store(short(3).to_slot(), PUT);
        cache.put(&pool, short(4), |_| panic!("there is room"));
        let mut taken: [u32; 4] =
            core::array::from_fn(|_| cache.take(short(1).regions).unwrap().first.0);
        taken.sort_unstable();
        assert_eq!(taken, [1, 2, 3, 4]);
        assert_eq!(cache.held_most.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn what_the_owner_may_have_taken_is_not_reaped() {
        // SAFETY: as above.
        let pool = unsafe { RunPool::new() };
        let (cache, _) = used(&pool);
        barrier::prepare();
        if !barrier::is_prepared() {
            return;
        }
        cache.taking.begin();
        assert_eq!(cache.reap(&pool, |_| panic!("it may be taken already")), 0);
        cache.taking.end();
        assert_eq!(cache.reap(&pool, |_| ()), 2 * short(1).regions);
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
        cache.reap_unused(&pool, |_| ());
        assert_eq!(cache.leased(), 0);
    }
}
