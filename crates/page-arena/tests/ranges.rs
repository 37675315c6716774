//! Several arenas in one process. A file of its own: it takes all places where
//! an arena would claim addresses.

mod support {
    pub mod arena;
    pub mod contents;
    pub mod lengths;
    pub mod reserved;
}

use hakmem_page_arena::Label;
use support::arena::arena;
use support::contents::{assert_zero, check, fill};
use support::lengths::KIB64;
use support::reserved::is_reserved;

#[test]
fn arenas_take_ranges_of_their_own_and_reserve_one_where_all_places_are_taken() {
    const SHORT: usize = 10 * KIB64;
    const LONG: usize = 700 * KIB64;
    let arenas: Vec<_> = (0..8).map(|_| arena()).collect();
    let runs: Vec<_> = arenas
        .iter()
        .map(|arena| arena.allocate(SHORT, 1, Label::LARGE).expect("memory"))
        .collect();
    for (index, (arena, run)) in arenas.iter().zip(&runs).enumerate() {
        fill(arena, run.first, 0, SHORT, index as u64);
    }
    for (index, (arena, run)) in arenas.iter().zip(&runs).enumerate() {
        check(arena, run.first, 0..SHORT, index as u64);
        for other in &arenas {
            let own = std::ptr::eq(*arena, *other);
            let address = arena.map().address_of(run.first);
            assert_eq!(other.map().region_of(address).is_some(), own);
        }
    }
    let last = arenas[7];
    assert!(is_reserved(last), "there are six places to claim");
    // A reserved range works the same: grows, gives back, commits again.
    let run = last.allocate(LONG, 1, Label::LARGE).expect("memory");
    assert_zero(last, run.first, LONG);
    fill(last, run.first, 0, LONG, 1);
    // SAFETY: allocated above.
    unsafe { last.free(run.first, LONG) };
    last.trim();
    last.trim();
    let again = last.allocate(LONG, 1, Label::LARGE).expect("memory");
    assert!(again.zeroed());
    assert_zero(last, again.first, LONG);
}
