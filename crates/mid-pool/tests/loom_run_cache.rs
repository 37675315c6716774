//! A run in a thread's cache comes out once, to the owner's next request or to another that
//! clears the cache, and whoever has it finds its memory as the last one left it. Nothing that
//! was put in is lost.
//!
//! mutation: run_cache_put_relaxed
//! mutation: run_cache_take_relaxed
//! mutation: run_cache_take_blindly
#![allow(clippy::doc_markdown, reason = "the names are for xtask to read")]
#![cfg(loom)]

mod support {
    pub mod runs;
}

use hakmem_mid_pool::{CachedRun, RunCache, RunPool};
use hakmem_page_arena::LARGE_STEP;
use hakmem_region_id::{REGION_BYTES, RegionIndex};
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

    fn clear(&self) -> Vec<CachedRun> {
        let mut taken = Vec::new();
        self.turns
            .step(|| self.cache.clear(&self.pool, |run| taken.push(run)));
        taken.iter().for_each(|run| self.hold(*run));
        taken
    }
}

#[test]
fn a_run_goes_to_the_owner_or_to_who_clears() {
    explore(|| {
        let cached = Cached::new();
        let reaper = beside(&cached, |cached| cached.clear());
        let surplus = cached.put(0);
        let taken = cached.take();
        let mut all = reaper.join().unwrap();
        all.extend(surplus);
        all.extend(taken);
        // It was put in while the cache was being cleared, after its slot was.
        all.extend(cached.clear());
        assert_eq!(all, [run(0)]);
    });
}

#[test]
fn a_cache_is_used_on_while_it_is_cleared() {
    explore(|| {
        let cached = Cached::new();
        assert_eq!(cached.put(0), None);
        let reaper = beside(&cached, |cached| cached.clear());
        let taken = cached.take();
        let surplus = cached.put(1);
        let mut all = reaper.join().unwrap();
        all.extend(taken);
        all.extend(surplus);
        all.extend(cached.clear());
        all.sort_unstable_by_key(|run| run.first.0);
        assert_eq!(all, [run(0), run(1)]);
    });
}
