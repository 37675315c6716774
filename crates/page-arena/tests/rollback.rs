//! The system refuses to map a part of what the arena grows by, and then to unmap the other parts.
//!
//! One test only: what is injected concerns the whole process, and the second part takes all places
//! where arenas claim their ranges.

mod support {
    pub mod arena;
    pub mod contents;
    pub mod map;
    pub mod reserved;
}

use hakmem_page_arena::{Arena, Label, Run};
use hakmem_region_id::{Kind, REGION_BYTES};
use hakmem_sys::vm::fault;
use hakmem_test_support::address_space;
use support::arena::arena;
use support::contents::{assert_zero, check, fill};
use support::map::regions_of;
use support::reserved::is_reserved;

/// Metadata comes for so many regions at a time (64 MiB).
const META_STEP: usize = (64 << 20) / REGION_BYTES;
/// So many regions of each run are looked at.
const LOOKED_AT: usize = 200;

/// In so many places an arena may claim its range.
const PLACES: i64 = 31;
const TURNS: u64 = 8;
/// What these need at most, with metadata.
const ROOM: usize = (TURNS as usize + 2) * META_STEP * REGION_BYTES;

/// Asks for a run while the system refuses after so many calls, and unmaps nothing.
fn is_served_despite(arena: &Arena, calls: i64, count: usize) -> bool {
    fault::keep_mappings();
    fault::fail_after(calls);
    let run = arena.allocate(count, 1, Label::LARGE);
    fault::off();
    run.is_some()
}

fn what_could_not_be_undone_is_used() {
    // What it grows by and four arrays of metadata, twice.
    for calls in 0..10 {
        let arena = arena();
        let first = arena.allocate(1, 1, Label::LARGE).expect("memory").first;
        let is_served = is_served_despite(arena, calls, 4 * META_STEP);
        assert_eq!(is_served, calls >= 5, "after {calls} calls");
        let before = address_space();
        for turn in 0..TURNS {
            let run = arena.allocate(META_STEP, 1, Label::LARGE);
            let run = run.expect("the system gives memory again").first;
            assert_zero(arena, run, LOOKED_AT);
            fill(arena, run, 0, LOOKED_AT, turn);
            check(arena, run, 0..LOOKED_AT, turn);
        }
        let foreign = regions_of(arena, Some(Kind::Foreign));
        assert_eq!(foreign, 0, "its own leftovers, after {calls} calls");
        assert!(address_space() - before <= ROOM);
        // SAFETY: allocated above.
        unsafe { arena.free(first, 1) };
    }
}

fn a_range_that_could_not_be_given_back_is_used() {
    for _ in 0..PLACES {
        arena().allocate(1, 1, Label::LARGE).expect("memory");
    }
    let before = address_space();
    let arena = arena();
    // Each place is asked for. Then the range is there, and none of its metadata.
    assert!(!is_served_despite(arena, PLACES + 1, 1));
    let reserved = address_space() - before;
    assert!(reserved > 64 << 20);
    let run = arena.allocate(1, 1, Label::LARGE);
    assert!(run.is_some_and(Run::zeroed));
    assert!(is_reserved(arena));
    assert_eq!(address_space() - before, reserved, "it is reserved twice");
}

#[test]
fn what_could_not_be_given_back_is_used_when_there_is_memory() {
    what_could_not_be_undone_is_used();
    a_range_that_could_not_be_given_back_is_used();
}
