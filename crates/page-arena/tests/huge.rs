//! Huge pages: behind which runs, from when on, and what becomes of the rest of a chunk.

mod support {
    pub mod arena;
    pub mod contents;
    pub mod lengths;
}

use hakmem_page_arena::{Arena, HugePages, Label, MAX_HUGE_RUN, Run, Shape, Use};
use hakmem_region_id::REGION_BYTES;
use hakmem_sys::vm::{self, HUGE_PAGE_BYTES};
use hakmem_test_support::{can_make_huge, is_kept_small, resident_pages};
use support::arena::arena;
use support::contents::{assert_zero, check, fill};
use support::lengths::KIB64;

/// Regions of a chunk.
const CHUNK: usize = HUGE_PAGE_BYTES / REGION_BYTES;
/// Regions from which on an arena is large (16 MiB).
const LARGE: usize = (16 << 20) / REGION_BYTES;

/// Regions of a kind from which on others of it may come as huge pages in a smaller one (4 MiB).
const LIKE: usize = (4 << 20) / REGION_BYTES;

/// An arena that wants huge pages, with a run of so many regions in use.
fn arena_with(in_use: usize, wanted: HugePages) -> &'static Arena {
    let arena = arena();
    arena.set_huge_pages(wanted);
    arena.allocate(in_use, 1, Label::LARGE).expect("memory");
    arena
}

fn in_chunk(arena: &Arena, count: usize, expected: Use) -> Run {
    arena
        .allocate_in_chunk(
            &[(
                Shape {
                    regions: count,
                    align: 1,
                },
                Label::LARGE,
            )],
            expected,
            0,
        )
        .expect("memory")
}

/// Writes to a page.
fn fill_one(address: usize) {
    // SAFETY: callers pass memory of a run of theirs.
    unsafe { std::ptr::with_exposed_provenance_mut::<u8>(address).write_volatile(1) };
}

fn resident_regions(arena: &Arena, run: Run, count: usize) -> usize {
    let pages = REGION_BYTES / vm::page_size();
    resident_pages(arena.map().address_of(run.first), count * pages) / pages
}

/// A run that came with a huge page; `None` if this system has none to give (which may change
/// from one moment to the next, or a touch be taken for slow on a busy machine).
fn huge_run(arena: &Arena, count: usize, expected: Use) -> Option<Run> {
    for _ in 0..8 {
        let run = in_chunk(arena, count, expected);
        if run.huge_pages > 0 {
            return Some(run);
        }
        if !can_make_huge() {
            return None;
        }
    }
    panic!("the system has huge pages, and the arena takes none");
}

#[test]
fn a_large_arena_puts_a_huge_page_behind_a_proven_run() {
    let arena = arena_with(LARGE, HugePages::Proven);
    let Some(run) = huge_run(arena, CHUNK, Use::Proven) else {
        assert_eq!(arena.stats().huge_bytes, 0);
        return;
    };
    assert!(run.zeroed());
    assert_eq!(resident_regions(arena, run, CHUNK), CHUNK);
    assert_eq!(arena.stats().huge_bytes, HUGE_PAGE_BYTES as u64);
    assert_zero(arena, run.first, CHUNK);
}

#[test]
fn in_a_small_arena_there_is_enough_of_its_like_first() {
    let arena = arena_with(LIKE, HugePages::Proven);
    let come = |like: usize| {
        let before = arena.stats().huge_bytes;
        for _ in 0..8 {
            arena
                .allocate_in_chunk(
                    &[(
                        Shape {
                            regions: 1,
                            align: CHUNK,
                        },
                        Label::LARGE,
                    )],
                    Use::Proven,
                    like,
                )
                .expect("memory");
        }
        arena.stats().huge_bytes - before
    };
    assert_eq!(come(LIKE - 1), 0);
    if can_make_huge() {
        assert!(come(LIKE) > 0);
    }
}

#[test]
fn what_a_run_leaves_of_its_chunk_is_dirty_and_used_next() {
    const FIRST: usize = 10 * KIB64;
    const REST: usize = CHUNK - FIRST;
    let arena = arena_with(LARGE, HugePages::All);
    let Some(first) = huge_run(arena, FIRST, Use::Unknown) else {
        assert_eq!(arena.dirty_regions(), 0);
        return;
    };
    assert_eq!(arena.dirty_regions(), REST);
    fill(arena, first.first, 0, FIRST, 1);
    let second = in_chunk(arena, REST, Use::Unknown);
    assert_eq!(second.first, first.first.plus(FIRST));
    assert!(!second.zeroed() && second.huge_pages == 0);
    assert_eq!(resident_regions(arena, second, REST), REST);
    check(arena, first.first, 0..FIRST, 1);
    // And goes back like all that is dirty.
    // SAFETY: allocated above.
    unsafe { arena.free(second.first, REST) };
    assert_eq!(arena.purge(0, usize::MAX), REST);
    let start = arena.map().address_of(second.first);
    let pages = REST * REGION_BYTES / vm::page_size();
    assert_eq!(resident_pages(start, pages), 0);
    check(arena, first.first, 0..FIRST, 1);
    // It does not come again as a whole.
    let again = arena.allocate(REST, 1, Label::LARGE).expect("memory");
    assert_eq!(again.first, second.first);
    fill_one(start);
    assert_eq!(resident_pages(start, pages), 1);
}

/// Two chunks and a half.
const LONG: usize = 5 * CHUNK / 2;

#[test]
fn a_long_run_gets_as_many_huge_pages_as_it_needs() {
    let arena = arena_with(8 * LONG, HugePages::Proven);
    let Some(run) = huge_run(arena, LONG, Use::Proven) else {
        return;
    };
    assert!(run.zeroed());
    let there = (run.huge_pages * CHUNK).min(LONG);
    assert!(resident_regions(arena, run, LONG) >= there);
    // One that comes late is the last.
    if run.huge_pages == 3 {
        assert_eq!(arena.dirty_regions(), CHUNK / 2);
    }
    assert_zero(arena, run.first, LONG);
}

#[test]
fn a_long_run_is_an_eighth_of_the_arena_or_no_more_than_its_like() {
    let taken = |in_use: usize, like: usize| {
        let arena = arena_with(in_use, HugePages::Proven);
        for _ in 0..4 {
            arena
                .allocate_in_chunk(
                    &[(
                        Shape {
                            regions: LONG,
                            align: 1,
                        },
                        Label::LARGE,
                    )],
                    Use::Proven,
                    like,
                )
                .expect("memory");
        }
        arena.stats().huge_bytes
    };
    // Not for the last of the four either.
    let few = 4 * LONG;
    assert_eq!(taken(few, 0), 0);
    assert_eq!(taken(few, LONG - 1), 0);
    if can_make_huge() {
        assert!(taken(few, LONG) > 0);
        assert!(taken(8 * LONG, 0) > 0);
    }
}

#[test]
fn runs_that_do_not_fill_their_chunks_go_on_in_the_next() {
    for count in [2 * CHUNK / 3, CHUNK + CHUNK / 4, LONG - 1] {
        let arena = arena_with(8 * LONG, HugePages::Proven);
        let runs: Vec<Run> = (0..40)
            .map(|number| {
                let run = in_chunk(arena, count, Use::Proven);
                assert_zero(arena, run.first.plus(run.soiled), count - run.soiled);
                fill(arena, run.first, 0, count, number);
                run
            })
            .collect();
        let leads = runs.iter().filter(|run| !run.zeroed()).count();
        assert!(leads > 0 || arena.stats().huge_bytes == 0);
        // The rest of the last one, and what was dirty when there was a refusal.
        let dirty = arena.dirty_regions();
        assert!(
            dirty < 2 * CHUNK,
            "{dirty} regions are left of runs of {count}"
        );
        for (run, number) in runs.iter().zip(0..) {
            check(arena, run.first, 0..count, number);
            // SAFETY: allocated above, filled, and used no more.
            unsafe { arena.free(run.first, count) };
        }
        assert_eq!(arena.dirty_regions(), dirty + 40 * count);
        arena.trim();
        assert_eq!(arena.dirty_regions(), 0);
    }
}

#[test]
fn a_long_run_that_cannot_begin_with_a_chunk_gets_those_inside_it() {
    let arena = arena_with(10 * LONG, HugePages::Proven);
    // What there is for it is half a chunk, two whole ones, and half of one.
    let place = arena
        .allocate(5 * CHUNK, CHUNK, Label::LARGE)
        .expect("memory");
    let (front, back) = (CHUNK / 2, 3 * CHUNK + CHUNK / 2);
    // SAFETY: allocated above, and not touched.
    unsafe { arena.free_clean(place.first.plus(front), back - front) };
    let count = back - front;
    let run = in_chunk(arena, count, Use::Proven);
    assert_eq!(run.first, place.first.plus(front));
    assert!(run.zeroed() && run.huge_pages <= 2);
    if can_make_huge() {
        assert!(run.huge_pages > 0);
        assert!(resident_regions(arena, run, count) >= run.huge_pages * CHUNK);
        assert!(
            resident_regions(arena, run, CHUNK / 2) == 0,
            "no more than that"
        );
    }
    assert_eq!(arena.dirty_regions(), 0);
}

#[test]
fn a_run_longer_than_4_chunks_or_aligned_to_more_than_one_is_no_part_of_one() {
    let arena = arena_with(LARGE, HugePages::All);
    for (count, align) in [(MAX_HUGE_RUN + 1, 1), (1, 2 * CHUNK)] {
        let run = arena
            .allocate_in_chunk(
                &[(
                    Shape {
                        regions: count,
                        align,
                    },
                    Label::LARGE,
                )],
                Use::Proven,
                0,
            )
            .expect("memory");
        assert_eq!(run.huge_pages, 0);
        let address = arena.map().address_of(run.first);
        assert!(address.is_multiple_of(align * REGION_BYTES));
    }
    assert_eq!(arena.stats().huge_bytes, 0);
}

#[test]
fn others_come_page_by_page() {
    for (in_use, wanted, expected) in [
        // Not large yet.
        (LARGE - 1, HugePages::All, Use::Proven),
        (LARGE, HugePages::Never, Use::Proven),
        (LARGE, HugePages::Proven, Use::Likely),
        (LARGE, HugePages::Likely, Use::Unknown),
    ] {
        let arena = arena_with(in_use, wanted);
        let run = in_chunk(arena, 10 * KIB64, expected);
        assert_eq!(run.huge_pages, 0, "{in_use} {wanted:?} {expected:?}");
        assert_eq!(resident_regions(arena, run, 10 * KIB64), 0);
        assert_eq!(arena.dirty_regions(), 0);
        assert_eq!(arena.stats().huge_bytes, 0);
    }
    let arena = arena_with(LARGE, HugePages::All);
    let run = arena.allocate(10 * KIB64, 1, Label::LARGE).expect("memory");
    assert_eq!(run.huge_pages, 0);
    assert_eq!(resident_regions(arena, run, 10 * KIB64), 0);
}

/// Whether the system is kept from making huge pages of any part of these runs by itself, as far as
/// it makes any.
fn are_kept_small(arena: &Arena, runs: &[(Run, usize)]) -> bool {
    runs.iter().all(|&(run, count)| {
        let last = run.first.plus(count - 1);
        [run.first, last]
            .into_iter()
            .all(|region| is_kept_small(arena.map().address_of(region)).unwrap_or(true))
    })
}

#[test]
fn an_arena_that_wants_none_is_kept_from_them_as_it_grows() {
    for is_open_before in [true, false] {
        let arena = arena();
        let get = |count| {
            (
                arena.allocate(count, 1, Label::LARGE).expect("memory"),
                count,
            )
        };
        let mut runs = Vec::new();
        if is_open_before {
            runs.push(get(CHUNK));
            assert_eq!(
                is_kept_small(arena.map().address_of(runs[0].0.first)).filter(|&small| small),
                None
            );
        }
        arena.set_huge_pages(HugePages::Never);
        runs.extend([1, CHUNK, 8 * CHUNK, 1].map(get));
        assert!(are_kept_small(arena, &runs));
        // Holes are filled again.
        let hole = get(3 * CHUNK);
        let _above = get(1);
        // SAFETY: the run is not used.
        unsafe { arena.free(hole.0.first, hole.1) };
        arena.trim();
        let filled = get(3 * CHUNK);
        assert_eq!(filled.0.first, hole.0.first);
        assert!(are_kept_small(arena, &[filled]));
    }
}
