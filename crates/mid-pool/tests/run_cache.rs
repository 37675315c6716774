//! The runs that a thread keeps for itself.

mod support {
    pub mod runs;
}

use hakmem_mid_pool::{CachedRun, MAX_RETAINED_REGIONS, MAX_RUN_REGIONS, RunCache, RunPool};
use hakmem_page_arena::{LARGE_STEP, large_regions};
use hakmem_region_id::{REGION_BYTES, RegionIndex};
use proptest::prelude::*;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc;
use std::thread;
use support::runs::run_pool;

const STEP: usize = LARGE_STEP / REGION_BYTES;
/// Regions of all a cache may hold: the longest run, in four steps.
const MOST: usize = 4 * large_regions(1 << 20, 1).div_ceil(4);

fn run(number: u32, bytes: usize) -> CachedRun {
    CachedRun {
        first: RegionIndex(number),
        regions: large_regions(bytes, 1),
    }
}

/// A request that is not served, and a run that goes in or not: whether it did.
fn turn(cache: &RunCache, pool: &RunPool, bytes: usize) -> bool {
    let mut is_kept = true;
    assert_eq!(cache.take(large_regions(bytes, 1)), None);
    cache.put(pool, run(7, bytes), |_| is_kept = false);
    if is_kept {
        assert_eq!(cache.take(large_regions(bytes, 1)), Some(run(7, bytes)));
    }
    is_kept
}

/// A cache that runs of up to so many bytes go into.
fn leased(pool: &RunPool, bytes: usize) -> RunCache {
    let (cache, other) = (RunCache::new(), RunCache::new());
    for _ in 0..100 {
        turn(&other, pool, 1 << 20);
        if turn(&cache, pool, bytes) {
            // Its own lease is not to count.
            other.clear(pool, |_| ());
            return cache;
        }
    }
    panic!("it never got a lease");
}

#[test]
fn a_thread_that_meets_nobody_keeps_a_first_lease_and_no_more() {
    let pool = run_pool();
    let cache = RunCache::new();
    let kept = (0..5).map(|_| turn(&cache, &pool, 100_000));
    assert_eq!(kept.collect::<Vec<_>>(), [false, false, false, true, true]);
    assert!((0..1000).all(|number| !turn(&cache, &pool, either(number))));
    assert_eq!(cache.leased(), MOST / 4);
}

/// Two lengths in turn that a first lease has no room for.
fn either(number: u32) -> usize {
    400_000 + number as usize % 2 * 100_000
}

#[test]
fn one_run_that_comes_and_goes_and_nothing_else_is_kept() {
    let pool = run_pool();
    let cache = RunCache::new();
    let kept: Vec<bool> = (0..30).map(|_| turn(&cache, &pool, 1 << 20)).collect();
    let first = kept.iter().position(|&kept| kept).expect("it is kept");
    assert!((10..20).contains(&first), "not before there is a reason");
    assert!(kept[first..].iter().all(|&kept| kept));
    assert_eq!(cache.leased(), large_regions(1 << 20, 1));
    // A longer one than any that is retained is not.
    assert!((0..100).all(|_| !turn(&cache, &pool, 5 << 18)));
}

#[test]
fn one_run_that_comes_back_longer_is_not_kept() {
    let pool = run_pool();
    let cache = RunCache::new();
    for _ in 0..100 {
        assert_eq!(cache.take(large_regions(400_000, 1)), None);
        let mut is_kept = true;
        cache.put(&pool, run(7, 1 << 20), |_| is_kept = false);
        assert!(!is_kept);
    }
}

#[test]
fn one_run_that_comes_and_goes_among_others_is_not_kept() {
    let pool = run_pool();
    let cache = RunCache::new();
    for _ in 0..100 {
        assert!(!turn(&cache, &pool, 1 << 20));
        turn(&cache, &pool, 100_000);
    }
    assert_eq!(cache.leased(), MOST / 4);
}

#[test]
fn what_others_have_cleared_leaves_room() {
    let pool = run_pool();
    let cache = RunCache::new();
    for _ in 0..3 {
        let kept = (0..4).filter(|_| turn(&cache, &pool, 256 << 10)).count();
        assert_eq!(kept, 1, "the fourth time");
        let mut surplus = Vec::new();
        cache.put(&pool, run(9, 256 << 10), |run| surplus.push(run));
        assert_eq!(surplus, [], "a whole lease is free");
        cache.clear(&pool, |run| surplus.push(run));
        assert_eq!(surplus, [run(9, 256 << 10)]);
    }
}

#[test]
fn as_many_go_as_make_room_and_in_turn() {
    const FIT: u32 = (MOST / STEP) as u32;
    let pool = run_pool();
    let cache = leased(&pool, 1 << 20);
    let mut gone = Vec::new();
    let mut put = |numbers: RangeInclusive<u32>, bytes| {
        for number in numbers {
            cache.put(&pool, run(number, bytes), |run| gone.push(run.first.0));
        }
        std::mem::take(&mut gone)
    };
    assert_eq!(put(1..=FIT, LARGE_STEP / 2), []);
    let first: Vec<u32> = (1..=FIT).collect();
    assert_eq!(
        put(FIT + 1..=2 * FIT, LARGE_STEP / 2),
        first,
        "the oldest first"
    );
    // It needs nearly all of the lease.
    let last = 2 * FIT + 1;
    let mut all = put(last..=last, 1 << 20);
    assert!(cache.held_bytes() <= MOST * REGION_BYTES);
    all.extend(cache.held().map(|run| run.first.0));
    all.sort_unstable();
    assert_eq!(all, (FIT + 1..=last).collect::<Vec<_>>(), "none is lost");
    let longest = large_regions(1 << 20, 1);
    assert_eq!(cache.take(longest), Some(run(last, 1 << 20)));
}

#[test]
fn what_fits_no_request_goes_sooner_or_later() {
    let pool = run_pool();
    let cache = leased(&pool, 1 << 20);
    let mut gone = Vec::new();
    for (number, steps) in [(1, 1), (2, 3), (3, 2)] {
        cache.put(&pool, run(number, steps * LARGE_STEP - 5000), |_| {
            panic!("there is room")
        });
    }
    for number in 4..24 {
        cache.put(&pool, run(number, 5 * LARGE_STEP - 5000), |run| {
            gone.push(run.first.0);
        });
    }
    for number in 1..=3 {
        assert!(gone.contains(&number), "{number}: {gone:?}");
    }
}

#[test]
fn what_comes_and_goes_in_bursts_is_kept() {
    const BURST: usize = 20;
    let pool = run_pool();
    let cache = RunCache::new();
    let mut pooled: Vec<CachedRun> = (0..)
        .map(|number| run(number, 60_000))
        .take(BURST)
        .collect();
    let mut misses = Vec::new();
    for _ in 0..100 {
        let before = pooled.len();
        let runs: Vec<CachedRun> = (0..BURST)
            .map(|_| {
                let kept = cache.take(large_regions(60_000, 1));
                kept.unwrap_or_else(|| pooled.pop().expect("it is not kept"))
            })
            .collect();
        misses.push(before - pooled.len());
        for run in runs {
            cache.put(&pool, run, |run| pooled.push(run));
        }
    }
    assert_eq!(misses[0], BURST);
    assert!(misses[99] < 4, "{misses:?}");
    assert!(cache.leased() <= 2 * MOST);
}

#[test]
fn what_is_not_in_a_row_is_no_burst() {
    let pool = run_pool();
    let cache = RunCache::new();
    let short = run(1, 60_000);
    let serve_short = || {
        cache.put(&pool, short, |_| ());
        cache.take(short.regions);
    };
    for _ in 0..100 {
        for number in 2..10 {
            cache.put(&pool, run(number, 1 << 20), |_| ());
            serve_short();
        }
        for _ in 2..10 {
            assert_eq!(cache.take(large_regions(1 << 20, 1)), None);
            serve_short();
        }
    }
    assert_eq!(cache.leased(), MOST / 4);
}

#[test]
fn who_uses_much_keeps_more_without_meeting_others() {
    let pool = run_pool();
    let cache = RunCache::new();
    let turns = |cache: &RunCache| {
        for number in 0..100 {
            let bytes = (1 << 20) - number % 2 * 100_000;
            if let Some(run) = cache.take(large_regions(bytes, 1)) {
                cache.put(&pool, run, |_| panic!("it was there"));
            }
            cache.put(&pool, run(1, bytes), |_| ());
        }
        cache.leased()
    };
    assert_eq!(turns(&cache), MOST / 4);
    let use_more = |runs| {
        for _ in 0..runs {
            pool.note_resized(0, MAX_RUN_REGIONS);
        }
    };
    use_more(64 * MOST / 2 / MAX_RUN_REGIONS + 1);
    assert_eq!(turns(&cache), MOST / 2);
    use_more(100);
    assert_eq!(turns(&cache), MOST);
}

#[test]
fn who_only_frees_keeps_nothing() {
    let pool = run_pool();
    let (cache, other) = (RunCache::new(), RunCache::new());
    for number in 0..100 {
        turn(&other, &pool, 100_000);
        let mut given = None;
        cache.put(&pool, run(number, 100_000), |run| given = Some(run));
        assert_eq!(given, Some(run(number, 100_000)));
    }
}

#[test]
fn who_meets_others_several_times_keeps_more() {
    const LONG: usize = 400_000;
    let pool = run_pool();
    let (cache, other) = (RunCache::new(), RunCache::new());
    assert!(
        (0..4).any(|_| turn(&cache, &pool, 256 << 10)),
        "a first lease"
    );
    assert!(
        (0..100).all(|number| !turn(&cache, &pool, either(number))),
        "more than that"
    );
    let kept = (0..4)
        .filter(|_| {
            turn(&other, &pool, LONG);
            turn(&cache, &pool, LONG)
        })
        .count();
    assert_eq!(kept, 1, "the fourth time");
    assert_eq!(cache.leased(), MOST / 2);
}

#[test]
fn a_lease_grows_to_the_longest_run() {
    let pool = run_pool();
    let cache = leased(&pool, 1 << 20);
    let half = 1 << 19;
    let mut given = Vec::new();
    for number in 0..3 {
        cache.put(&pool, run(number, half), |run| given.push(run));
    }
    assert_eq!(given.len(), 1, "1 MiB and no more");
    assert_eq!(
        cache.held_bytes(),
        2 * large_regions(half, 1) * REGION_BYTES
    );
}

#[test]
fn all_caches_together_keep_so_much_and_no_more() {
    let pool = run_pool();
    let caches: Vec<RunCache> = (0..100).map(|_| RunCache::new()).collect();
    for _ in 0..100 {
        for cache in &caches {
            turn(cache, &pool, 1 << 20);
        }
    }
    let fill = |cache: &RunCache| {
        for number in 0..16 {
            cache.put(&pool, run(number, 120_000), |_| ());
        }
        cache.held_bytes()
    };
    // The pool has handed out no run: what is leased is in proportion to nothing. A lease is no whole number
    // of these runs.
    let kept = caches.iter().map(fill).sum::<usize>();
    assert!(((3 << 20)..=4 << 20).contains(&kept), "{kept} bytes");
    // One that is cleared leaves its share to others.
    assert_eq!(
        caches[0].clear(&pool, |_| ()) * REGION_BYTES,
        256 << 10,
        "a step each"
    );
    for _ in 0..4 {
        turn(&caches[98], &pool, 100_000);
        turn(&caches[99], &pool, 100_000);
    }
    assert_eq!(fill(&caches[98]) + fill(&caches[99]), 256 << 10);
}

#[test]
fn the_shortest_run_that_fits_is_taken() {
    let pool = run_pool();
    let cache = leased(&pool, 1 << 20);
    for (number, steps) in [(1, 5), (2, 4), (3, 6), (4, 1)] {
        cache.put(&pool, run(number, steps * LARGE_STEP - 5000), |_| {
            panic!("1 MiB has room for 16 steps")
        });
    }
    let first = |steps: usize| cache.take(steps * STEP).map(|run| run.first.0);
    assert_eq!(first(3), None, "four are a third more");
    assert!((MAX_RETAINED_REGIONS / STEP + 1..1000).all(|steps| first(steps).is_none()));
    assert_eq!(first(4), Some(2));
    assert_eq!(first(4), Some(1), "five are a quarter more");
    assert_eq!(first(4), None);
    assert_eq!(first(7), None);
    assert_eq!(first(6), Some(3));
    assert_eq!(cache.held_bytes(), LARGE_STEP);
}

#[test]
fn what_was_not_used_for_a_while_is_cleared() {
    let pool = run_pool();
    let cache = leased(&pool, 100_000);
    cache.put(&pool, run(1, 100_000), |_| ());
    assert_eq!(cache.reap_unused(&pool, |_| ()), 0, "it was just used");
    let mut given = Vec::new();
    assert_eq!(
        cache.reap_unused(&pool, |run| given.push(run)),
        large_regions(100_000, 1)
    );
    assert_eq!(given, [run(1, 100_000)]);
    assert_eq!(cache.held_bytes(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn what_goes_in_comes_out_once(
        steps in prop::collection::vec((0..8u8, 1..=20usize), 1..300)
    ) {
        let pool = run_pool();
        let cache = leased(&pool, 1 << 20);
        let mut inside: Vec<CachedRun> = Vec::new();
        let remove = |inside: &mut Vec<CachedRun>, run: CachedRun| {
            let place = inside.iter().position(|other| *other == run);
            inside.swap_remove(place.expect("it went in, and has not come out"));
        };
        for (number, (what, length)) in steps.into_iter().enumerate() {
            match what {
                0 => {
                    cache.clear(&pool, |run| remove(&mut inside, run));
                    prop_assert!(inside.is_empty());
                }
                1..4 => {
                    let wanted = length * STEP;
                    let fits = |run: &&CachedRun| (wanted..=wanted + wanted / 4).contains(&run.regions);
                    let best = inside.iter().filter(fits).map(|run| run.regions).min();
                    let taken = cache.take(wanted);
                    prop_assert_eq!(taken.map(|run| run.regions), best);
                    if let Some(run) = taken {
                        remove(&mut inside, run);
                    }
                }
                _ => {
                    let run = run(number as u32, length * LARGE_STEP - number % 2 * 5000);
                    inside.push(run);
                    cache.put(&pool, run, |run| remove(&mut inside, run));
                }
            }
            let held: usize = inside.iter().map(|run| run.regions * REGION_BYTES).sum();
            prop_assert_eq!(cache.held_bytes(), held);
            // More than other caches', as they may be bursts.
            prop_assert!(held <= 2 * MOST * REGION_BYTES);
        }
    }
}

/// The model has a few steps of this; here are many, with the barriers of the system where it has some.
#[test]
fn a_run_is_in_one_place_while_another_thread_reaps() {
    const RUNS: usize = 6;
    const ROUNDS: u32 = if cfg!(miri) { 20 } else { 400_000 };
    hakmem_sys::barrier::prepare();
    let pool = run_pool();
    let cache = leased(&pool, 100_000);
    let hits_before = cache.hits();
    let is_out = [const { AtomicBool::new(true) }; RUNS];
    let take_out = |run: CachedRun| {
        assert!(
            !is_out[run.first.index()].swap(true, Relaxed),
            "in two places"
        );
        run
    };
    let (to_owner, from_reaper) = mpsc::channel();
    let is_done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let to_owner = to_owner;
            while !is_done.load(Relaxed) {
                cache.reap(&pool, |run| to_owner.send(take_out(run)).unwrap());
                thread::yield_now();
            }
        });
        let mut own: Vec<_> = (0..RUNS as u32)
            .map(|number| run(number, 100_000))
            .collect();
        for round in 0..ROUNDS {
            own.extend(from_reaper.try_iter());
            if round % 3 < 2
                && let Some(run) = own.pop()
            {
                is_out[run.first.index()].store(false, Relaxed);
                cache.put(&pool, run, |run| own.push(take_out(run)));
            }
            if round % 2 == 0 {
                own.extend(cache.take(run(0, 100_000).regions).map(take_out));
            }
        }
        is_done.store(true, Relaxed);
        while let Ok(run) = from_reaper.recv() {
            own.push(run);
        }
        cache.clear(&pool, |run| own.push(take_out(run)));
        own.sort_unstable_by_key(|run| run.first.0);
        let numbers: Vec<_> = own.iter().map(|run| run.first.index()).collect();
        assert_eq!(numbers, (0..RUNS).collect::<Vec<_>>(), "none is lost");
    });
    assert!(cfg!(miri) || cache.hits() > hits_before);
}
