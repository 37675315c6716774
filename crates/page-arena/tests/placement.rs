//! Where runs are put, and what that means for the range's length.

mod support {
    pub mod arena;
    pub mod lengths;
    pub mod runs;
}

use hakmem_page_arena::{Arena, Label, Shape, Use};
use hakmem_region_id::{Kind, REGION_BYTES, RegionIndex};
use hakmem_test_support::Numbers;
use support::arena::arena;
use support::lengths::KIB64;
use support::runs::hand_out;

/// Regions of what is called a short run here, less than 512 KiB.
const SHORT: usize = 4;
/// Regions of a long one.
const LONG: usize = 50 * SHORT;

fn free(arena: &Arena, first: RegionIndex, count: usize) {
    // SAFETY: the run is handed out, and forgotten.
    unsafe { arena.free(first, count) };
}

fn free_clean(arena: &Arena, first: RegionIndex, count: usize) {
    // SAFETY: as in `free`, and it was never written to.
    unsafe { arena.free_clean(first, count) };
}

fn kind_of(arena: &Arena, region: RegionIndex) -> Option<Kind> {
    // SAFETY: callers pass regions of the map.
    unsafe { arena.map().get(region) }.kind()
}

/// Runs of these lengths, with one region in use behind each.
fn walled<const N: usize>(arena: &Arena, lengths: [usize; N]) -> [RegionIndex; N] {
    lengths.map(|count| [count, 1].map(|count| hand_out(arena, count))[0])
}

/// A run of the first of these lengths, or of a shorter one.
fn of_lengths(arena: &Arena, lengths: &[usize]) -> (RegionIndex, usize) {
    let shapes: Vec<_> = lengths
        .iter()
        .map(|&regions| (Shape { regions, align: 1 }, Label::LARGE))
        .collect();
    let run = arena.allocate_in_chunk(&shapes, Use::Unknown, 0);
    let run = run.expect("memory");
    (run.first, run.regions)
}

#[test]
fn a_run_that_is_a_region_longer_is_found_behind_many_shorter_ones() {
    for size in [250_000, 1_000_000, 1_850_000] {
        let arena = arena();
        let shorter = Shape::large(size, 1).regions;
        let longer = shorter + 1;
        let pairs: Vec<_> = (0..60).map(|_| walled(arena, [shorter, longer])).collect();
        for &[_, second] in &pairs {
            free(arena, second, longer);
        }
        for &[first, _] in &pairs {
            free(arena, first, shorter);
        }
        for _ in 0..60 {
            let run = arena.allocate(longer, 1, Label::LARGE).expect("memory");
            assert!(
                pairs.iter().any(|&[_, second]| second == run.first),
                "{longer} regions"
            );
        }
    }
}

#[test]
fn a_shorter_length_is_taken_where_dirty_memory_is_there_for_that_only() {
    let arena = arena();
    let [two, three, five, _rest] = walled(arena, [2, 3, 5, LONG]);
    free(arena, two, 2);
    free(arena, five, 5);
    assert_eq!(of_lengths(arena, &[4, 3, 1]), (five, 4), "the usual length");
    free(arena, three, 3);
    // Of the five one is left.
    assert_eq!(of_lengths(arena, &[4, 3, 1]), (three, 3));
    assert_eq!(of_lengths(arena, &[4, 2]), (two, 2));
    let mapped = arena.stats().used_bytes;
    let (_, regions) = of_lengths(arena, &[4, 3]);
    assert_eq!(regions, 4, "new memory is of the usual length");
    assert_eq!(arena.stats().used_bytes - mapped, 4 * REGION_BYTES as u64);
    assert_eq!(of_lengths(arena, &[4, 1]), (five.plus(4), 1));
    assert_eq!(arena.stats().dirty_bytes, 0);
    assert!(arena.allocate_in_chunk(&[], Use::Unknown, 0).is_none());
}

#[test]
fn a_short_run_does_not_split_a_long_dirty_one_where_a_clean_one_fits() {
    let arena = arena();
    let [clean, long, _rest] = walled(arena, [SHORT + 1, LONG, 5 * LONG]);
    // Nothing else is free.
    let top = arena.stats().clean_bytes as usize / REGION_BYTES;
    if top > 0 {
        hand_out(arena, top);
    }
    free_clean(arena, clean, SHORT + 1);
    free(arena, long, LONG);
    assert_eq!(hand_out(arena, SHORT), clean);
    assert_eq!(
        hand_out(arena, SHORT),
        long,
        "the next one is put where memory is"
    );
}

#[test]
fn dirty_memory_is_not_spared_where_there_is_much_of_it() {
    let arena = arena();
    let [clean, long] = walled(arena, [SHORT + 1, LONG]);
    free_clean(arena, clean, SHORT + 1);
    free(arena, long, LONG);
    let stats = arena.stats();
    assert!(stats.dirty_bytes > stats.used_bytes / 4);
    assert_eq!(hand_out(arena, SHORT), long);
}

#[test]
fn a_run_with_room_begins_a_long_dirty_one() {
    let arena = arena();
    let [short, long] = walled(arena, [2 * SHORT, 8 * SHORT]);
    assert!(
        arena
            .allocate_with_room(SHORT, 4 * SHORT, Label::LARGE)
            .is_none(),
        "nothing is dirty"
    );
    free(arena, short, 2 * SHORT);
    free(arena, long, 8 * SHORT);
    let run = arena.allocate_with_room(SHORT, 4 * SHORT, Label::LARGE);
    let run = run.expect("the long run has room");
    assert_eq!((run.first, run.regions, run.soiled), (long, SHORT, SHORT));
    assert_eq!(kind_of(arena, long), Some(Kind::LargeStart));
    assert_eq!(hand_out(arena, SHORT), short, "others do without");
    // SAFETY: the run was handed out with so many regions.
    let zeroed = unsafe { arena.extend(run.first, SHORT, 4 * SHORT, Label::LARGE) };
    assert_eq!(zeroed, Some(false), "it has grown into dirty memory");
    assert!(
        arena
            .allocate_with_room(SHORT, 5 * SHORT, Label::LARGE)
            .is_none(),
        "four are left"
    );
    for (count, room) in [(0, SHORT), (SHORT, SHORT - 1), (SHORT, 0), (1, usize::MAX)] {
        let run = arena.allocate_with_room(count, room, Label::LARGE);
        assert!(run.is_none(), "{count} with room for {room}");
    }
}

#[test]
fn no_run_gets_room_where_dirty_memory_is_spared() {
    let arena = arena();
    let [long, _rest] = walled(arena, [LONG, 3 * LONG]);
    free(arena, long, LONG);
    let stats = arena.stats();
    assert!(stats.dirty_bytes <= stats.used_bytes / 2);
    assert!(
        arena
            .allocate_with_room(SHORT, 4 * SHORT, Label::LARGE)
            .is_none()
    );
}

#[test]
fn a_dirty_run_that_fits_is_taken_before_a_clean_one_that_fits_better() {
    let arena = arena();
    let [clean, dirty] = walled(arena, [SHORT, 2 * SHORT]);
    free_clean(arena, clean, SHORT);
    free(arena, dirty, 2 * SHORT);
    assert_eq!(hand_out(arena, SHORT), dirty);
}

#[test]
fn a_long_run_is_put_where_memory_is() {
    let arena = arena();
    let [clean, dirty] = walled(arena, [LONG, 3 * LONG]);
    free_clean(arena, clean, LONG);
    free(arena, dirty, 3 * LONG);
    assert_eq!(hand_out(arena, LONG), dirty);
}

#[test]
fn a_short_run_fills_a_hole_before_it_splits_a_long_clean_run() {
    let arena = arena();
    let [hole] = walled(arena, [2 * SHORT]);
    free(arena, hole, 2 * SHORT);
    arena.trim();
    assert_eq!(kind_of(arena, hole), Some(Kind::FreeHole));
    let [clean] = walled(arena, [LONG]);
    free_clean(arena, clean, LONG);
    let run = arena.allocate(SHORT, 1, Label::LARGE).expect("memory");
    assert_eq!(run.first, hole);
    assert!(run.zeroed());
}

#[test]
fn a_short_run_that_lies_beside_a_hole_becomes_a_part_of_it() {
    let arena = arena();
    // Where there are so many regions, a run of one does not become a hole by itself.
    let _many = hand_out(arena, 10_000);
    let [long, beside, _wall, alone, _end] = [LONG, 1, 1, 1, 1].map(|count| hand_out(arena, count));
    for (first, count) in [(long, LONG), (alone, 1)] {
        free(arena, first, count);
    }
    arena.trim();
    assert_eq!(kind_of(arena, long), Some(Kind::FreeHole));
    assert_eq!(kind_of(arena, alone), Some(Kind::FreeClean));
    let before = arena.stats();
    free(arena, beside, 1);
    arena.trim();
    assert_eq!(kind_of(arena, beside), Some(Kind::FreeHole));
    let gone = before.mapped_bytes - arena.stats().mapped_bytes;
    assert_eq!(gone, REGION_BYTES as u64);
}

/// Runs of which most are short and all live for a random time, with a trim now and then: what a
/// process does for days.
#[test]
fn the_range_does_not_grow_for_ever() {
    const SLOTS: usize = 700;
    let arena = arena();
    let mut numbers = Numbers(7);
    let mut slots: Vec<Option<(RegionIndex, usize)>> = vec![None; SLOTS];
    let (mut used, mut most, mut end) = (0, 0, 0);
    for turn in 0..60_000 {
        let slot = &mut slots[numbers.below(SLOTS)];
        if let Some((first, count)) = slot.take() {
            free(arena, first, count);
            used -= count;
        }
        let count = match numbers.below(16) {
            0 => 4 * KIB64 + numbers.below(60 * KIB64),
            _ => 1 + numbers.below(16),
        };
        let first = hand_out(arena, count);
        *slot = Some((first, count));
        used += count;
        most = most.max(used);
        end = end.max(first.index() + count);
        if turn % 1000 == 0 {
            arena.trim();
        }
    }
    assert!(end < 2 * most, "{most} regions were in use, of {end}");
}

#[test]
fn what_was_freed_first_goes_back_first() {
    const LEN: usize = 4;
    let arena = arena();
    let runs = walled(arena, [LEN; 40]);
    for &run in &runs {
        free(arena, run, LEN);
    }
    for given in 0..=runs.len() {
        for (index, &run) in runs.iter().enumerate() {
            let state = if index < given {
                Kind::FreeClean
            } else {
                Kind::FreeDirty
            };
            assert_eq!(
                kind_of(arena, run),
                Some(state),
                "run {index} after {given}"
            );
        }
        arena.purge(0, LEN);
    }
}

#[test]
fn a_shape_that_no_run_can_have_is_passed_over() {
    let arena = arena();
    let first = hand_out(arena, SHORT);
    hand_out(arena, 1);
    free(arena, first, SHORT);
    let shape = |regions, align| (Shape { regions, align }, Label::LARGE);
    let usual = shape(LONG, 1);
    for impossible in [
        shape(usize::MAX, 4),
        shape(usize::MAX - 3, 1),
        shape(1, 1 << 63),
        shape(1, 3),
        shape(0, 1),
    ] {
        let run = arena
            .allocate_in_chunk(&[usual, impossible], Use::Unknown, 0)
            .expect("memory");
        assert_eq!(run.regions, LONG, "{impossible:?}");
        free_clean(arena, run.first, LONG);
        let run = arena.allocate_in_chunk(&[impossible, usual], Use::Unknown, 0);
        assert_eq!(run, None, "{impossible:?}");
    }
}

#[test]
fn a_run_that_would_grow_beyond_all_addresses_stays_as_it_is() {
    let arena = arena();
    let first = hand_out(arena, SHORT);
    for new in [usize::MAX, usize::MAX - 3, 1 << 32] {
        // SAFETY: the run was handed out with so many regions.
        let grown = unsafe { arena.extend(first, SHORT, new, Label::LARGE) };
        assert_eq!(grown, None);
        // SAFETY: as above.
        assert_eq!(unsafe { arena.run_len(first) }, SHORT);
    }
}
