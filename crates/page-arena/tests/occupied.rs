//! Addresses that somebody else has mapped.

mod support {
    pub mod arena;
    pub mod contents;
    pub mod lengths;
    pub mod map;
}

use hakmem_page_arena::Label;
use hakmem_region_id::{Kind, REGION_BYTES, RegionIndex};
use hakmem_sys::vm;
use support::arena::arena;
use support::contents::{assert_zero, check, fill};
use support::lengths::KIB64;
use support::map::{regions_of, word_of};

/// Regions the arena commits in its first step (2 MiB).
const FIRST_STEP: usize = (2 << 20) / REGION_BYTES;
/// Metadata comes for so many regions at a time (64 MiB).
const META_STEP: usize = (64 << 20) / REGION_BYTES;

fn bytes_at(address: usize, length: usize) -> &'static mut [u8] {
    // SAFETY: the tests pass what they have mapped.
    unsafe {
        std::slice::from_raw_parts_mut(std::ptr::with_exposed_provenance_mut(address), length)
    }
}

#[test]
fn the_arena_grows_around_a_mapping_of_somebody_else() {
    let arena = arena();
    let first = arena.allocate(1, 1, Label::LARGE).unwrap();
    let top = arena.map().len();
    assert_eq!(top, FIRST_STEP);
    // In the third step from here.
    let foreign = arena.map().base() + (top + 2 * FIRST_STEP + 5) * REGION_BYTES;
    vm::map_at(foreign, 4096).expect("nothing is there yet");
    bytes_at(foreign, 4096).fill(0x77);

    let mut runs = vec![(first.first, 1)];
    for count in (1..40 * KIB64).step_by(KIB64).cycle().take(200) {
        let run = arena.allocate(count, 1, Label::LARGE).expect("memory");
        let start = arena.map().address_of(run.first);
        assert!(
            start + count * REGION_BYTES <= foreign || foreign + 4096 <= start,
            "the run holds somebody else's page"
        );
        assert!(run.zeroed());
        assert_zero(arena, run.first, count);
        fill(arena, run.first, 0, count, runs.len() as u64);
        runs.push((run.first, count));
    }
    assert!(bytes_at(foreign, 4096).iter().all(|&byte| byte == 0x77));
    let region = arena.map().region_of(foreign).expect("it is in the range");
    assert_eq!(word_of(arena, region).kind(), Some(Kind::Foreign));

    // What is foreign is not counted.
    let used: usize = runs.iter().map(|(_, count)| count).sum();
    let foreign_regions = regions_of(arena, Some(Kind::Foreign));
    assert!((1..=FIRST_STEP).contains(&foreign_regions));
    let stats = arena.stats();
    assert_eq!(stats.used_bytes, (used * REGION_BYTES) as u64);
    assert_eq!(
        stats.mapped_bytes,
        ((arena.map().len() - foreign_regions) * REGION_BYTES) as u64
    );

    for (index, &(first, count)) in runs.iter().enumerate().skip(1) {
        check(arena, first, 0..count, index as u64);
        // SAFETY: allocated above.
        unsafe { arena.free(first, count) };
    }
    arena.purge(0, usize::MAX);
    assert!(bytes_at(foreign, 4096).iter().all(|&byte| byte == 0x77));
    assert_eq!(arena.stats().used_bytes, REGION_BYTES as u64);
}

#[test]
fn a_hole_that_somebody_else_has_filled_is_not_handed_out() {
    const HOLE: usize = 640 * KIB64;
    const LATER: usize = 300 * KIB64;
    let arena = arena();
    let run = arena.allocate(HOLE, 1, Label::LARGE).unwrap();
    // SAFETY: allocated above.
    unsafe { arena.free(run.first, HOLE) };
    arena.trim();
    arena.trim();
    assert_eq!(word_of(arena, run.first).kind(), Some(Kind::FreeHole));
    let foreign = arena.map().address_of(run.first.plus(100 * KIB64));
    vm::map_at(foreign, REGION_BYTES).expect("a hole is not mapped");
    bytes_at(foreign, REGION_BYTES).fill(0x55);

    for _ in 0..4 {
        let run = arena.allocate(LATER, 1, Label::LARGE).expect("memory");
        let start = arena.map().address_of(run.first);
        assert!(start + LATER * REGION_BYTES <= foreign || foreign + REGION_BYTES <= start);
        assert_zero(arena, run.first, LATER);
        fill(arena, run.first, 0, LATER, 3);
    }
    assert!(
        bytes_at(foreign, REGION_BYTES)
            .iter()
            .all(|&byte| byte == 0x55)
    );
    assert_eq!(arena.stats().used_bytes, (4 * LATER * REGION_BYTES) as u64);
}

#[test]
fn a_run_does_not_grow_into_a_mapping_of_somebody_else() {
    const LEN: usize = FIRST_STEP - 2;
    let arena = arena();
    let run = arena.allocate(LEN, 1, Label::LARGE).unwrap();
    fill(arena, run.first, 0, LEN, 9);
    let foreign = arena.map().base() + (arena.map().len() + 3) * REGION_BYTES;
    vm::map_at(foreign, REGION_BYTES).expect("nothing is there yet");
    bytes_at(foreign, REGION_BYTES).fill(0x33);
    let label = Label::LARGE;
    // SAFETY: the run is ours, with so many regions.
    unsafe {
        assert_eq!(arena.extend(run.first, LEN, 2 * LEN, label), None);
        assert_eq!(arena.run_len(run.first), LEN);
        assert!(arena.extend(run.first, LEN, FIRST_STEP, label).is_some());
    }
    check(arena, run.first, 0..LEN, 9);
    assert!(
        bytes_at(foreign, REGION_BYTES)
            .iter()
            .all(|&byte| byte == 0x33)
    );
}

#[test]
fn where_metadata_cannot_grow_the_range_ends_and_the_heap_is_unharmed() {
    const LONG: usize = 900 * KIB64;
    let arena = arena();
    let kept = arena.allocate(4, 1, Label::LARGE).unwrap();
    fill(arena, kept.first, 0, 4, 2);
    // The region map is one array: what follows its committed part is where the
    // word of a later region will be.
    let later = RegionIndex(META_STEP as u32);
    let records = arena.side_record(later).addr();
    vm::map_at(records, 4096).expect("metadata of later regions is not mapped yet");
    assert_eq!(
        arena.allocate(META_STEP, 1, Label::LARGE),
        None,
        "there is no metadata for so many regions"
    );
    check(arena, kept.first, 0..4, 2);
    assert!(bytes_at(records, 4096).iter().all(|&byte| byte == 0));
    // Up to there it still works.
    let run = arena.allocate(LONG, 1, Label::LARGE).expect("memory");
    assert!(run.first.index() + LONG <= META_STEP);
    // SAFETY: allocated above.
    unsafe { arena.free(run.first, LONG) };
    assert_eq!(arena.stats().used_bytes, 4 * REGION_BYTES as u64);
}
