//! A process with more mappings than it may have: the system makes no other, not even where the arena
//! has unmapped something. In a file of its own: nothing else can run then.

mod support {
    pub mod arena;
    pub mod lengths;
    pub mod runs;
}

use hakmem_page_arena::{Arena, Label};
use hakmem_region_id::RegionIndex;
use hakmem_test_support::at_the_limit_of_mappings;
use support::arena::arena;
use support::lengths::KIB64;
use support::runs::hand_out;

/// 320 KiB, 300 times.
const LEN: usize = 5 * KIB64;
const COUNT: usize = 300;
/// More than there is free (120 MiB).
const LONG: usize = 1920 * KIB64;
/// So much goes back to the system when it is freed (256 MiB).
const HOLE: usize = 4096 * KIB64;

/// How many of the runs the arena hands out, and takes back.
fn served(arena: &Arena) -> usize {
    let mut runs = [const { None }; COUNT];
    for run in &mut runs {
        *run = arena.allocate(LEN, 1, Label::LARGE);
    }
    let mut served = 0;
    for run in runs.into_iter().flatten() {
        // SAFETY: allocated above.
        unsafe { arena.free(run.first, LEN) };
        served += 1;
    }
    served
}

#[test]
fn free_memory_is_kept_where_it_would_not_come_back() {
    let arena = arena();
    let hole = hand_out(arena, HOLE);
    let kept = hand_out(arena, 1);
    let runs: Vec<RegionIndex> = (0..COUNT).map(|_| hand_out(arena, LEN)).collect();
    for run in runs {
        // SAFETY: handed out above.
        unsafe { arena.free(run, LEN) };
    }
    let outcome = at_the_limit_of_mappings(|| {
        let at_first = served(arena);
        let long = arena.allocate(LONG, 1, Label::LARGE);
        let after_long = served(arena);
        arena.trim();
        let after_trim = served(arena);
        // SAFETY: handed out above.
        unsafe { arena.free(hole, HOLE) };
        let after_hole = arena.allocate(LONG, 1, Label::LARGE);
        (at_first, long, after_long, after_trim, after_hole)
    });
    let Some((at_first, long, after_long, after_trim, after_hole)) = outcome else {
        eprintln!("mappings are not so limited here: nothing to see");
        return;
    };
    assert_eq!((at_first, long), (COUNT, None));
    assert_eq!(
        after_long, COUNT,
        "a request that failed has cost free memory"
    );
    assert_eq!(after_trim, COUNT, "a trim has cost free memory");
    assert!(after_hole.is_some(), "what was freed is lost");
    // As before when there are mappings again.
    let before = arena.stats().mapped_bytes;
    arena.trim();
    assert!(arena.stats().mapped_bytes < before / 2);
    assert!(arena.allocate(LONG, 1, Label::LARGE).is_some());
    // SAFETY: handed out above.
    unsafe { arena.free(kept, 1) };
}
