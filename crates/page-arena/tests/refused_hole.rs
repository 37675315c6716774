//! The system refuses to map a hole that a short run would fill.
//!
//! One test only: what is injected concerns the whole process.

mod support {
    pub mod arena;
}

use hakmem_page_arena::Label;
use hakmem_sys::vm::fault;
use support::arena::arena;

#[test]
fn a_short_run_goes_elsewhere() {
    const SHORT: usize = 4;
    const LONG: usize = 200;
    let arena = arena();
    let [hole, _wall, long, _end] = [SHORT, 1, LONG, 1].map(|count| {
        let run = arena.allocate(count, 1, Label::LARGE);
        run.expect("memory").first
    });
    // SAFETY: the run is handed out, and forgotten.
    unsafe { arena.free(hole, SHORT) };
    arena.trim();
    // SAFETY: as above.
    unsafe { arena.free(long, LONG) };
    fault::fail_after(0);
    let run = arena.allocate(SHORT, 1, Label::LARGE);
    fault::off();
    assert_eq!(run.map(|run| run.first), Some(long));
    let later = arena.allocate(SHORT, 1, Label::LARGE);
    assert_eq!(later.map(|run| run.first), Some(hole), "it is a hole still");
}
