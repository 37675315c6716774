//! The system refuses to map memory, at every point where it is asked.
//!
//! One test only: what is injected concerns the whole process.

mod support {
    pub mod arena;
    pub mod contents;
    pub mod lengths;
}

use hakmem_page_arena::{Arena, Label};
use hakmem_region_id::RegionIndex;
use hakmem_sys::vm::fault;
use support::arena::arena;
use support::contents::{self, assert_zero};
use support::lengths::KIB64;

/// More than the arena commits unasked (64 MiB).
const MANY: usize = 1500 * KIB64;

/// So much becomes a hole when it is freed, and is mapped anew when it is needed.
const HOLE: usize = 4096 * KIB64;

/// What a run grows by (4 MiB).
const GROWTH: usize = 64 * KIB64;

/// In so many places an arena may claim its range.
const PLACES: i64 = 31;

/// Writes a pattern into one region of each 64 KiB: the runs are long.
fn fill(arena: &Arena, first: RegionIndex, position: usize, count: usize, seed: u64) {
    for index in (0..count).step_by(KIB64) {
        contents::fill(arena, first.plus(index), position + index, 1, seed);
    }
}

fn check(arena: &Arena, first: RegionIndex, count: usize, seed: u64) {
    contents::check(arena, first, (0..count).step_by(KIB64), seed);
}

/// What a program might do. Returns what of it was refused, and has freed
/// everything when it returns.
fn work(arena: &Arena) -> Vec<String> {
    let mut refused = Vec::new();
    let mut runs = Vec::new();
    for (seed, count) in [
        (1, 3),
        (2, 40 * KIB64),
        (3, MANY),
        (4, 20 * KIB64),
        (5, 600 * KIB64),
        (6, HOLE),
        (7, HOLE),
    ] {
        match arena.allocate(count, 1, Label::LARGE) {
            Some(run) => {
                if run.zeroed() {
                    assert_zero(arena, run.first, count.min(50 * KIB64));
                }
                fill(arena, run.first, 0, count, seed);
                runs.push((run.first, count, seed));
            }
            None => refused.push(format!("allocate({count})")),
        }
    }
    if let Some((first, count, seed)) = runs.pop() {
        // SAFETY: allocated above.
        let grown = unsafe { arena.extend(first, count, count + GROWTH, Label::LARGE) };
        check(arena, first, count, seed);
        // What lies behind it may be in use, so this may fail at any time.
        if grown.is_some() {
            fill(arena, first.plus(count), count, GROWTH, seed);
            runs.push((first, count + GROWTH, seed));
        } else {
            runs.push((first, count, seed));
        }
    }
    for (first, count, seed) in runs {
        check(arena, first, count, seed);
        // SAFETY: allocated above.
        unsafe { arena.free(first, count) };
    }
    refused
}

/// Returns whether a refusal has shown.
fn disturb(arena: &Arena, calls: i64) -> bool {
    let kept = !arena.map().is_empty();
    let kept = kept.then(|| arena.allocate(5, 1, Label::LARGE).expect("memory").first);
    if let Some(kept) = kept {
        fill(arena, kept, 0, 5, 77);
    }
    fault::fail_after(calls);
    let refused = work(arena);
    fault::off();
    if let Some(kept) = kept {
        check(arena, kept, 5, 77);
        // SAFETY: allocated above.
        unsafe { arena.free(kept, 5) };
    }
    assert_eq!(arena.stats().used_bytes, 0, "after {calls} calls");
    let none: Vec<String> = Vec::new();
    assert_eq!(
        work(arena),
        none,
        "the system gives memory again, and the arena does not (after {calls} calls)"
    );
    assert_eq!(arena.stats().used_bytes, 0, "after {calls} calls");
    !refused.is_empty()
}

#[test]
fn a_refusal_is_none_leaves_the_arena_unharmed_and_is_over_when_memory_is_there() {
    let warm = arena();
    let mut disturbed = [0, 0];
    let mut undisturbed = 0;
    for calls in 0.. {
        let shown = [disturb(arena(), calls), disturb(warm, calls)];
        for (count, shown) in disturbed.iter_mut().zip(shown) {
            *count += i32::from(shown);
        }
        if shown == [false, false] {
            undisturbed += 1;
            if undisturbed == 4 {
                break;
            }
        } else {
            undisturbed = 0;
        }
    }
    // Four arrays of metadata, twice, and what the work itself asks for.
    assert!(disturbed[0] >= 10, "{disturbed:?}");
    assert!(disturbed[1] >= 2, "{disturbed:?}");

    // The same of arenas that reserve their range, after they have asked for each place.
    for _ in 0..PLACES {
        arena().allocate(1, 1, Label::LARGE).expect("memory");
    }
    let mut disturbed = 0;
    while disturb(arena(), PLACES + disturbed) {
        disturbed += 1;
    }
    // One for the range, and those from the metadata on.
    assert!(disturbed >= 6, "{disturbed}");
}
