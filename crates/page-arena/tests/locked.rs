//! Memory that a program has locked, and freed without unlocking it: the system takes none of it back.

mod support {
    pub mod arena;
    pub mod lengths;
    pub mod runs;
}

use hakmem_page_arena::Arena;
use hakmem_region_id::{REGION_BYTES, RegionIndex};
use support::arena::arena;
use support::lengths::KIB64;
use support::runs::hand_out;

const MIB: usize = 16 * KIB64;

/// Locks the page at so many bytes into a run.
fn lock_page(arena: &Arena, first: RegionIndex, at: usize) {
    let address = arena.map().address_of(first) + at;
    let page = std::ptr::with_exposed_provenance(address);
    // SAFETY: the run is handed out.
    let locked = unsafe { libc::mlock(page, 4096) };
    assert_eq!(locked, 0, "one page may be locked");
}

/// An arena with dirty runs of 40 and 10 MiB, of which the longer one has locked pages.
fn with_locked_pages() -> &'static Arena {
    let arena = arena();
    let runs = [40 * MIB, 10 * MIB].map(|count| {
        let run = hand_out(arena, count);
        // What keeps it from the next one.
        hand_out(arena, 1);
        (run, count)
    });
    lock_page(arena, runs[0].0, 33 * (1 << 20));
    lock_page(arena, runs[0].0, 40 * (1 << 20) - 4096);
    for (run, count) in runs {
        // SAFETY: the run is handed out, and forgotten.
        unsafe { arena.free(run, count) };
    }
    assert_eq!(arena.dirty_regions(), 50 * MIB);
    arena
}

/// Two parts of a sixteenth of what is given back at a time.
const KEPT: usize = 2 * (4 * MIB).div_ceil(16);

#[test]
fn a_locked_page_keeps_little_else_from_going_back() {
    let arena = with_locked_pages();
    let given = arena.purge(0, usize::MAX);
    assert_eq!(given + arena.dirty_regions(), 50 * MIB);
    let left = arena.dirty_regions();
    assert!(
        left > 0 && left <= KEPT,
        "{left} regions of {REGION_BYTES} bytes"
    );
    // Nor does it from one time to the next, in small parts.
    let run = hand_out(arena, 20 * MIB);
    // SAFETY: the run is handed out, and forgotten.
    unsafe { arena.free(run, 20 * MIB) };
    for _ in 0..40 {
        arena.purge(0, MIB);
    }
    assert!(arena.dirty_regions() <= KEPT);
}

/// A trim unmaps what is long enough, locked or not. In a large arena short runs are not.
#[test]
fn a_trim_goes_past_what_it_does_not_unmap() {
    const RUNS: usize = 50;
    let arena = arena();
    // Addresses, of which nothing is used.
    hand_out(arena, 1024 * MIB);
    let runs: Vec<RegionIndex> = (0..2 * RUNS).map(|_| hand_out(arena, 2)).collect();
    lock_page(arena, runs[0], 0);
    for run in runs.into_iter().step_by(2) {
        // SAFETY: the run is handed out, and forgotten.
        unsafe { arena.free(run, 2) };
    }
    assert_eq!(arena.trim(), 2 * RUNS - 1);
    assert_eq!(arena.dirty_regions(), 1);
}
