//! Several arenas in one process. A file of its own: it takes all places where
//! an arena would claim addresses.

mod support {
    pub mod arena;
    pub mod contents;
    pub mod lengths;
    pub mod reserved;
}

use hakmem_page_arena::{Label, Run};
use hakmem_test_support::{address_space, with_room_for};
use support::arena::arena;
use support::contents::{assert_zero, check, fill};
use support::lengths::KIB64;
use support::reserved::is_reserved;

/// In so many places an arena may claim its range.
const PLACES: usize = 31;

#[test]
fn arenas_take_ranges_of_their_own_and_reserve_one_where_all_places_are_taken() {
    const SHORT: usize = 10 * KIB64;
    const LONG: usize = 700 * KIB64;
    const LIMIT: usize = 1 << 30;
    let arenas: Vec<_> = (0..=PLACES).map(|_| arena()).collect();
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
    let last = arenas[PLACES];
    assert!(!is_reserved(arenas[PLACES - 1]));
    assert!(is_reserved(last), "there are so many places to claim");
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

    // Under a limit it leaves most to others.
    let before = address_space();
    with_room_for(LIMIT, || {
        for count in 1..=3 {
            let run = arena().allocate(SHORT, 1, Label::LARGE);
            assert!(run.is_some_and(Run::zeroed));
            assert!(address_space() - before < count * LIMIT / 7);
        }
    });
}
