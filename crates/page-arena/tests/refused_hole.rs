//! The system refuses to map a hole that a short run would fill.
//!
//! One test only: what is injected concerns the whole process.

mod support {
    pub mod arena;
    pub mod runs;
}

use hakmem_page_arena::Label;
use hakmem_sys::vm::fault;
use support::arena::arena;
use support::runs::hand_out;

#[test]
fn a_short_run_goes_elsewhere() {
    const SHORT: usize = 4;
    const LONG: usize = 200;
    let arena = arena();
    // Dirty memory is spared where there is little of it.
    let [hole, _wall, long, _rest] =
        [2 * SHORT, 1, LONG, 5 * LONG].map(|count| hand_out(arena, count));
    // SAFETY: the run is handed out, and forgotten.
    unsafe { arena.free(hole, 2 * SHORT) };
    arena.trim();
    // SAFETY: as above.
    unsafe { arena.free(long, LONG) };
    fault::fail_after(0);
    let run = arena.allocate(SHORT, SHORT, Label::LARGE);
    fault::off();
    let run = run.expect("dirty memory").first;
    assert!((long.0..long.0 + LONG as u32).contains(&run.0), "{run:?}");
    let later = arena.allocate(2 * SHORT, 1, Label::LARGE);
    assert_eq!(
        later.map(|run| run.first),
        Some(hole),
        "it is one run still"
    );
}
