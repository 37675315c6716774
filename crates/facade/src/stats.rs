//! Counters, gathered from the boxes.

use crate::state::{ARENA, LARGE, MID, RUNS, SLABS};
use crate::{heap, purger, thread, upkeep};
use hakmem_mid_pool::MidPool;
use hakmem_region_id::{Kind, REGION_BYTES, RegionIndex};
use hakmem_thread_cache::ThreadCache;

/// What the allocator has done and holds. Events are counts since the start of
/// the process; bytes are as of the call, exact when no other thread allocates
/// meanwhile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Bytes of blocks in the program's hands, as rounded to size classes.
    pub live_bytes: u64,
    /// Bytes of free blocks in threads' caches.
    pub cached_bytes: u64,
    /// Bytes mapped for blocks.
    pub mapped_bytes: u64,
    /// Bytes of runs that are in use for slabs, mid runs, large blocks, heaps.
    pub committed_bytes: u64,
    /// Bytes free in the arena that the system has not got back, besides those committed.
    pub dirty_bytes: u64,
    /// Bytes of freed runs retained for the next request.
    pub retained_bytes: u64,
    /// Bytes given back to the system so far.
    pub purged_bytes: u64,
    /// Thread heaps made, in use or idle.
    pub heaps: u64,
    /// Of these, those that a thread has.
    pub heaps_attached: u64,
    /// Bins found empty.
    pub bins_empty: u64,
    /// Bins found full.
    pub bins_full: u64,
    /// Empty bins filled by a magazine from the depot.
    pub depot_hits: u64,
    /// Full bins whose magazine went to the depot.
    pub depot_stores: u64,
    /// Blocks of larger classes handed out where new memory would have been needed.
    pub loans: u64,
    /// Large blocks handed out from what their thread had kept.
    pub runs_reused: u64,
    /// Times a cache was emptied on behalf of a thread that seemed to sleep.
    pub reaps: u64,
    /// Refills served from the heap's own slabs.
    pub refills_own: u64,
    /// Slabs claimed from the pool for a refill.
    pub refills_pool: u64,
    /// Empty slabs taken from superslabs in use.
    pub refills_empty: u64,
    /// Empty slabs taken from wholly empty superslabs.
    pub refills_superslab: u64,
    /// Empty slabs taken from new superslabs.
    pub refills_arena: u64,
    /// Tiny blocks returned to slabs of the same heap.
    pub local_frees: u64,
    /// Tiny blocks freed by another heap than their slab's.
    pub remote_frees: u64,
    /// Chains of such blocks pushed to slabs, whose owners were busy.
    pub remote_pushes: u64,
    /// Chains taken in by owners.
    pub remote_drains: u64,
    /// Slabs claimed by freeing into them.
    pub claims: u64,
    /// Slabs given up.
    pub disowns: u64,
    /// Times a heap took in what was waiting for another.
    pub helps: u64,
    /// Slabs that became empty.
    pub slabs_emptied: u64,
    /// Superslabs in use.
    pub superslabs: u64,
    /// Superslabs made.
    pub superslabs_made: u64,
    /// Superslabs given back to the arena.
    pub superslabs_ended: u64,
    /// Mid runs made.
    pub mid_runs_made: u64,
    /// Mid runs given back to the arena.
    pub mid_runs_ended: u64,
    /// Large blocks in the program's hands.
    pub large_live: u64,
    /// Bytes taken as huge pages so far.
    pub huge_bytes: u64,
    /// Steps in which the arena grew.
    pub arena_growths: u64,
    /// Times the purge thread parked: it waits to be woken, and looks by itself now and then.
    pub purge_parks: u64,
    /// Times it was woken then.
    pub purge_wakes: u64,
}

/// The allocator's counters. Takes time in proportion to the memory in use.
pub fn stats() -> Stats {
    // The purge thread is no "other thread" to the caller.
    let _steady = upkeep::UPKEEP.lock();
    let arena = ARENA.stats();
    let pool = SLABS.counts();
    let mid = MID.counts();
    let (outside, outside_bytes) = LARGE.outside_totals();
    let mut stats = Stats {
        mapped_bytes: arena.mapped_bytes + outside_bytes as u64,
        committed_bytes: arena.used_bytes + outside_bytes as u64,
        dirty_bytes: arena.dirty_bytes,
        retained_bytes: RUNS.retained_bytes() as u64,
        purged_bytes: arena.purged_bytes + pool.purged_bytes,
        huge_bytes: arena.huge_bytes,
        arena_growths: arena.growths,
        superslabs: pool.superslabs_made - pool.superslabs_ended,
        superslabs_made: pool.superslabs_made,
        superslabs_ended: pool.superslabs_ended,
        mid_runs_made: mid.runs_made,
        mid_runs_ended: mid.runs_ended,
        large_live: outside as u64,
        live_bytes: outside_bytes as u64,
        ..Stats::default()
    };
    (stats.purge_parks, stats.purge_wakes) = purger::parks_and_wakes();
    add_heaps(&mut stats);
    add_regions(&mut stats);
    stats.live_bytes = stats.live_bytes.saturating_sub(stats.cached_bytes);
    take_kept_runs(&mut stats);
    stats
}

fn add_heaps(stats: &mut Stats) {
    for slabs in SLABS.owners.all() {
        let heap = heap::of_slabs(slabs);
        // SAFETY: heaps are valid for ever; of another thread's cache only
        // counters are read.
        let cache = unsafe { &raw const (*heap).front.cache };
        // SAFETY: as above.
        let is_attached = unsafe { (*heap).is_attached() };
        stats.heaps_attached += u64::from(is_attached && heap != thread::fallback_heap());
        stats.heaps += 1;
        // SAFETY: as above.
        stats.cached_bytes += unsafe { (*heap).cached_bytes() } as u64;
        // SAFETY: as above.
        let counts = unsafe { ThreadCache::counts_of(cache) };
        stats.bins_empty += counts.empty.get();
        stats.bins_full += counts.full.get();
        stats.depot_hits += counts.depot_hits.get();
        stats.depot_stores += counts.depot_stores.get();
        stats.loans += counts.loans.get();
        stats.reaps += counts.reaps.get();
        // SAFETY: as above.
        stats.runs_reused += unsafe { &(*heap).runs }.hits();
        let counts = slabs.counts();
        stats.refills_own += counts.refills_own.get();
        stats.refills_pool += counts.refills_pool.get();
        stats.refills_empty += counts.refills_empty.get();
        stats.refills_superslab += counts.refills_superslab.get();
        stats.refills_arena += counts.refills_arena.get();
        stats.local_frees += counts.local_frees.get();
        stats.remote_frees += counts.remote_frees.get();
        stats.remote_pushes += counts.remote_pushes.get();
        stats.remote_drains += counts.remote_drains.get();
        stats.claims += counts.claims.get();
        stats.disowns += counts.disowns.get();
        stats.helps += counts.helps.get();
        stats.slabs_emptied += counts.emptied.get();
    }
}

/// Takes the runs that threads keep for their next requests out of what is in use: the region map
/// says the same of both.
fn take_kept_runs(stats: &mut Stats) {
    for run in heap::kept_runs() {
        let bytes = (run.regions * REGION_BYTES) as u64;
        stats.retained_bytes += bytes;
        stats.live_bytes = stats.live_bytes.saturating_sub(bytes);
        stats.large_live = stats.large_live.saturating_sub(1);
    }
}

/// Adds what is in use according to the region map.
fn add_regions(stats: &mut Stats) {
    let map = ARENA.map();
    let mut region = RegionIndex(0);
    while region.index() < map.len() {
        // SAFETY: the region is in the map.
        let word = unsafe { map.get(region) };
        let mut step = 1;
        if let Some(class) = word.class() {
            if class.is_tiny() {
                // SAFETY: the region is in the map.
                let used = unsafe { hakmem_superslab::used_blocks(&ARENA, region) };
                stats.live_bytes += (used * class.size()) as u64;
            } else {
                // SAFETY: the region is in the map.
                let inspected = unsafe { MidPool::inspect(&ARENA, region) };
                if let Some((first, used)) = inspected
                    && first == region
                {
                    stats.live_bytes += (used * class.size()) as u64;
                }
            }
        } else if word.kind() == Some(Kind::LargeStart) {
            // SAFETY: the word says that a run starts here; if it is freed
            // meanwhile the number is old, as any other here.
            step = unsafe { ARENA.run_len(region) }.max(1);
            stats.live_bytes += (step * REGION_BYTES) as u64;
            stats.large_live += 1;
        }
        region = region.plus(step);
    }
}
