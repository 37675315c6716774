//! A run in a thread's cache comes out once, to the owner's next request or to a reaper, and whoever has it
//! finds its memory as the last one left it. Nothing that was put in is lost.
//!
//! mutation: run_cache_put_relaxed
//! mutation: run_cache_take_relaxed
//! mutation: announcement_left_out
//! mutation: announcement_without_barrier
//! mutation: announcement_end_relaxed
//! mutation: announcement_seen_relaxed
//! mutation: run_cache_reap_blindly
//! mutation: run_cache_without_second_look
//! mutation: run_cache_without_return
//! mutation: run_cache_fill_blindly
#![allow(clippy::doc_markdown, reason = "the names are for xtask to read")]
#![cfg(loom)]

mod support {
    pub mod runs;
}

use hakmem_mid_pool::{CachedRun, RunCache, RunPool};
use hakmem_page_arena::LARGE_STEP;
use hakmem_region_id::{REGION_BYTES, RegionIndex};
use hakmem_sys::barrier;
use hakmem_sys::model::{Held, Turns, beside, explore};
use loom::sync::Arc;
use support::runs::run_pool;

const REGIONS: usize = LARGE_STEP / REGION_BYTES;

/// A cache with a lease, and the memory of the runs 0 and 1.
struct Cached {
    pool: RunPool,
    cache: RunCache,
    memory: [Held<u32>; 2],
    turns: Turns,
}

fn run(number: u32) -> CachedRun {
    CachedRun {
        first: RegionIndex(number),
        regions: REGIONS,
    }
}

impl Cached {
    fn new() -> Arc<Self> {
        let cached = Self {
            pool: run_pool(),
            cache: RunCache::new(),
            memory: [Held::new(0), Held::new(0)],
            turns: Turns::new(),
        };
        // It gets its lease after some turns.
        let mut is_kept = false;
        while !is_kept {
            is_kept = true;
            assert_eq!(cached.cache.take(REGIONS), None);
            cached.cache.put(&cached.pool, run(0), |_| is_kept = false);
        }
        cached.cache.take(REGIONS).expect("it was kept");
        Arc::new(cached)
    }

    /// What a holder does with a run.
    fn hold(&self, run: CachedRun) {
        self.memory[run.first.index()].with_mut(|holders| *holders += 1);
    }

    /// Puts a run in. Returns what does not go in, because the lease has been ended.
    fn put(&self, number: u32) -> Option<CachedRun> {
        self.hold(run(number));
        let mut surplus = None;
        self.turns.step(|| {
            self.cache
                .put(&self.pool, run(number), |run| surplus = Some(run));
        });
        surplus
    }

    fn take(&self) -> Option<CachedRun> {
        let taken = self.turns.step(|| self.cache.take(REGIONS));
        taken.inspect(|run| self.hold(*run))
    }

    /// What a reaper does.
    fn reap(&self) -> Vec<CachedRun> {
        let mut taken = Vec::new();
        self.turns
            .step(|| self.cache.reap(&self.pool, |run| taken.push(run)));
        taken.iter().for_each(|run| self.hold(*run));
        taken
    }

    /// What is in the cache at the end.
    fn rest(&self) -> Vec<CachedRun> {
        let mut rest = Vec::new();
        self.cache.clear(&self.pool, |run| rest.push(run));
        rest.iter().for_each(|run| self.hold(*run));
        rest
    }
}

/// Runs `owner` on a cache with the first of so many runs in it, if it is to be, against a reaper, and checks that none
/// of the runs is lost or in two places. With barriers and without: a static, so the tests take turns.
fn check(
    is_filled: bool,
    runs: u32,
    owner: impl Fn(&Cached) -> Vec<Option<CachedRun>> + Clone + Send + Sync + 'static,
) {
    static TURN: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _turn = TURN.lock();
    for is_prepared in [true, false] {
        barrier::pretend_prepared(is_prepared);
        let owner = owner.clone();
        explore(move || {
            let cached = Cached::new();
            if is_filled {
                assert_eq!(cached.put(0), None);
            }
            let reaper = beside(&cached, |cached| cached.reap());
            let owned = owner(&cached);
            let mut all = reaper.join().unwrap();
            all.extend(owned.into_iter().flatten());
            all.extend(cached.rest());
            all.sort_unstable_by_key(|run| run.first.0);
            assert_eq!(all, (0..runs).map(run).collect::<Vec<_>>());
        });
    }
    barrier::pretend_prepared(true);
}

#[test]
fn a_run_goes_to_the_owner_or_to_who_reaps() {
    check(false, 1, |cached| vec![cached.put(0), cached.take()]);
}

#[test]
fn a_cache_is_used_on_while_it_is_reaped() {
    check(true, 2, |cached| vec![cached.take(), cached.put(1)]);
}

#[test]
fn a_slot_is_filled_anew_while_it_is_reaped() {
    check(true, 2, |cached| {
        let first = cached.take();
        vec![first, cached.put(1), cached.take()]
    });
}

#[test]
fn two_runs_are_taken_while_they_are_reaped() {
    check(true, 2, |cached| {
        let surplus = cached.put(1);
        vec![surplus, cached.take(), cached.take()]
    });
}
