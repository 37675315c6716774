//! The arena against a list of the runs that are handed out.

mod support {
    pub mod arena;
    pub mod contents;
    pub mod lengths;
    pub mod map;
    pub mod reserved;
    pub mod runs;
}

use hakmem_page_arena::{Arena, BITS_BYTES, HugePages, Label, Run, SIDE_BYTES, Shape, Use};
use hakmem_region_id::{ClassIndex, Kind, Part, REGION_BYTES, RegionIndex};
use hakmem_sys::vm::{self, HUGE_PAGE_BYTES};
use hakmem_test_support::resident_pages;
use proptest::prelude::*;
use std::sync::OnceLock;
use support::arena::arena;
use support::contents::{assert_zero, check, fill};
use support::lengths::KIB64;
use support::map::{kinds, regions_of, word_of};
use support::reserved::is_reserved;
use support::runs::hand_out;

/// Regions of a chunk.
const CHUNK: usize = HUGE_PAGE_BYTES / REGION_BYTES;

/// What the run is that a region is a part of; `None` if it has a class.
fn kind_of(arena: &Arena, region: RegionIndex) -> Option<Kind> {
    // SAFETY: callers pass regions of the map.
    word_of(arena, unsafe { arena.first_of(region) }).kind()
}

#[derive(Clone, Debug)]
enum Step {
    Allocate { count: usize, align: usize },
    AllocateInChunk { count: usize, align: usize },
    AllocateWithRoom { count: usize, more: usize },
    Free(usize),
    FreeFront { run: usize, part: usize },
    Extend { run: usize, by: usize },
    Shrink { run: usize, part: usize },
    FreeClean(usize),
    Purge { limit: usize },
    Trim,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let count = prop_oneof![
    4 => 1..40_usize,
    4 => 1..40 * KIB64,
    2 => 40 * KIB64..140 * KIB64,
    1 => 500 * KIB64..530 * KIB64,
    ];
    let step = prop_oneof![
        6 => (count, 0..7 + KIB64.ilog2()).prop_map(|(count, align)| Step::Allocate { count, align: 1 << align }),
        3 => (prop_oneof![3 => 1..=CHUNK, 1 => CHUNK..3 * CHUNK], prop_oneof![2 => Just(0), 1 => 0..=CHUNK.ilog2()])
            .prop_map(|(count, align)| Step::AllocateInChunk { count, align: 1 << align }),
        2 => (1..20 * KIB64, 0..40 * KIB64).prop_map(|(count, more)| Step::AllocateWithRoom { count, more }),
        5 => any::<usize>().prop_map(Step::Free),
        1 => (any::<usize>(), any::<usize>()).prop_map(|(run, part)| Step::FreeFront { run, part }),
        3 => (any::<usize>(), 1..60 * KIB64).prop_map(|(run, by)| Step::Extend { run, by }),
        2 => (any::<usize>(), any::<usize>()).prop_map(|(run, part)| Step::Shrink { run, part }),
        2 => any::<usize>().prop_map(Step::FreeClean),
        1 => (1..200 * KIB64).prop_map(|limit| Step::Purge { limit }),
        1 => Just(Step::Trim),
    ];
    prop::collection::vec(step, 1..70)
}

/// A run that is handed out.
#[derive(Debug)]
struct Live {
    first: RegionIndex,
    count: usize,
    label: Label,
    seed: u64,
    /// Whether the arena keeps its length: not after its front was given back.
    has_len: bool,
}

struct Model {
    arena: &'static Arena,
    live: Vec<Live>,
    seed: u64,
}

impl Model {
    fn new(arena: &'static Arena) -> Self {
        assert_eq!(
            arena.stats().used_bytes,
            0,
            "a case starts with nothing in use"
        );
        arena.set_huge_pages(HugePages::All);
        Self {
            arena,
            live: Vec::new(),
            seed: 0,
        }
    }

    fn pick(&self, number: usize) -> Option<usize> {
        number.checked_rem(self.live.len())
    }

    fn label(&self, count: usize) -> Label {
        let tag = (self.seed % 256) as u8;
        match self.seed % 3 {
            0 => Label::LARGE,
            2 if count <= Part::MOST => Label::shared(ClassIndex::for_size(4096).unwrap(), tag),
            _ => Label::TAKEN,
        }
    }

    fn assert_free_of_live(&self, first: RegionIndex, count: usize) {
        for run in &self.live {
            assert!(
                first.index() + count <= run.first.index()
                    || run.first.index() + run.count <= first.index(),
                "regions {} to {} overlap a run that is in use: {run:?}",
                first.0,
                first.index() + count
            );
        }
    }

    fn allocate(&mut self, count: usize, align: usize) {
        self.seed += 1;
        let label = self.label(count);
        let run = self.arena.allocate(count, align, label).expect("memory");
        self.take_over(run, count, align, label);
    }

    fn allocate_in_chunk(&mut self, count: usize, align: usize) {
        self.seed += 1;
        // Each length once, as the run's says which shape it has; one of no regions is passed over.
        let lengths = [
            count,
            count / 2 * usize::from(count > 3),
            usize::from(count > 1),
        ];
        let aligns = [align, align, 1];
        let shapes = [0, 1, 2].map(|place| {
            self.seed += 1;
            let (regions, align) = (lengths[place], aligns[place]);
            (Shape { regions, align }, self.label(regions))
        });
        let all = [Use::Proven, Use::Likely, Use::Unknown];
        let expected = all[self.seed as usize % all.len()];
        let run = self
            .arena
            .allocate_in_chunk(
                &shapes,
                expected,
                self.seed as usize * KIB64 % (128 * KIB64),
            )
            .expect("memory");
        let usual = count;
        let count = run.regions;
        let (shape, label) = *shapes
            .iter()
            .find(|(shape, _)| shape.regions == count)
            .expect("a length that was asked for");
        let align = shape.align;
        assert!(count == usual || !run.zeroed(), "short, and not dirty");
        // At least as much as that is there before it is written to.
        let bytes = count * REGION_BYTES;
        assert!(
            run.huge_pages == 0 || run.soiled < count,
            "a huge page is put behind clean memory only"
        );
        let there = if run.zeroed() {
            (run.huge_pages * HUGE_PAGE_BYTES).min(bytes)
        } else {
            0
        };
        let start = self.arena.map().address_of(run.first);
        let page = vm::page_size();
        assert!(resident_pages(start, bytes / page) >= there / page);
        self.take_over(run, count, align, label);
    }

    fn allocate_with_room(&mut self, count: usize, more: usize) {
        self.seed += 1;
        let label = self.label(count);
        let before = self.arena.stats();
        let Some(run) = self.arena.allocate_with_room(count, count + more, label) else {
            return;
        };
        let after = self.arena.stats();
        let taken = (count * REGION_BYTES) as u64;
        assert_eq!(before.dirty_bytes - after.dirty_bytes, taken);
        assert_eq!(after.used_bytes - before.used_bytes, taken);
        assert!(
            2 * before.dirty_bytes > before.used_bytes,
            "it was to spare"
        );
        assert_eq!((run.regions, run.soiled), (count, count));
        // The room behind it is nobody's.
        self.assert_free_of_live(run.first, count + more);
        self.take_over(run, count, 1, label);
    }

    fn take_over(&mut self, run: Run, count: usize, align: usize, label: Label) {
        assert_eq!(
            self.arena.map().address_of(run.first) % (align * REGION_BYTES),
            0,
            "not aligned to {align} regions"
        );
        assert!(run.first.index() + count <= self.arena.map().len());
        self.assert_free_of_live(run.first, count);
        if run.soiled < count {
            let clean = run.first.plus(run.soiled);
            assert_zero(self.arena, clean, count - run.soiled);
        }
        fill(self.arena, run.first, 0, count, self.seed);
        self.live.push(Live {
            first: run.first,
            count,
            label,
            seed: self.seed,
            has_len: true,
        });
    }

    fn free(&mut self, index: usize) {
        let run = self.live.swap_remove(index);
        check(self.arena, run.first, 0..run.count, run.seed);
        // SAFETY: the run is handed out, and forgotten here.
        unsafe { self.arena.free(run.first, run.count) };
    }

    /// Gives the first part of a run back.
    fn free_front(&mut self, index: usize, part: usize) {
        let (first, count) = (self.live[index].first, self.live[index].count);
        if count < 2 {
            return;
        }
        let part = 1 + part % (count - 1);
        check(self.arena, first, 0..count, self.live[index].seed);
        // SAFETY: the part is handed out, and forgotten here.
        unsafe { self.arena.free(first, part) };
        self.seed += 1;
        let run = &mut self.live[index];
        run.first = first.plus(part);
        run.count = count - part;
        run.seed = self.seed;
        run.has_len = false;
        for place in 0..run.count {
            // SAFETY: the region is handed out.
            unsafe {
                self.arena
                    .map()
                    .set(run.first.plus(place), run.label.word(place));
            };
        }
        fill(self.arena, run.first, 0, run.count, run.seed);
    }

    fn extend(&mut self, index: usize, by: usize) {
        let run = &self.live[index];
        let (first, old, new) = (run.first, run.count, run.count + by);
        if !run.label.may_have(new) {
            return;
        }
        let behind = first.index() + old..(first.index() + new).min(self.arena.map().len());
        let has_room = behind.end == first.index() + new
            && behind.clone().all(|region| {
                matches!(
                    kind_of(self.arena, RegionIndex(region as u32)),
                    Some(Kind::FreeDirty | Kind::FreeClean)
                )
            });
        // SAFETY: the run is handed out with so many regions.
        let outcome = unsafe { self.arena.extend(first, old, new, run.label) };
        let Some(zeroed) = outcome else {
            assert!(
                !has_room,
                "a run did not grow into {by} committed free regions behind it"
            );
            check(self.arena, first, 0..old, run.seed);
            return;
        };
        self.assert_free_of_live(first.plus(old), by);
        if zeroed {
            assert_zero(self.arena, first.plus(old), by);
        }
        check(self.arena, first, 0..old, run.seed);
        fill(self.arena, first.plus(old), old, by, run.seed);
        self.live[index].count = new;
        self.live[index].has_len = true;
    }

    fn shrink(&mut self, index: usize, part: usize) {
        let run = &mut self.live[index];
        if run.count < 2 {
            return;
        }
        let new = 1 + part % (run.count - 1);
        // SAFETY: the run is handed out with so many regions; the tail is
        // forgotten here.
        unsafe { self.arena.shrink(run.first, run.count, new) };
        run.count = new;
        run.has_len = true;
        check(self.arena, run.first, 0..new, run.seed);
    }

    fn free_clean(&mut self, index: usize) {
        let run = self.live.swap_remove(index);
        check(self.arena, run.first, 0..run.count, run.seed);
        let address = self.arena.map().address_of(run.first);
        // SAFETY: the run is handed out, and forgotten above.
        unsafe {
            assert!(vm::purge(address, run.count * REGION_BYTES));
            self.arena.free_clean(run.first, run.count);
        }
        for offset in 0..run.count {
            assert!(matches!(
                kind_of(self.arena, run.first.plus(offset)),
                Some(Kind::FreeClean | Kind::FreeHole)
            ));
        }
    }

    fn purge(&mut self, limit: usize) {
        let before = self.arena.stats();
        let given = self.arena.purge(0, limit);
        let after = self.arena.stats();
        let dirty = before.dirty_bytes / REGION_BYTES as u64;
        assert_eq!(given as u64, dirty.min(limit as u64));
        assert_eq!(
            after.dirty_bytes,
            before.dirty_bytes - (given * REGION_BYTES) as u64
        );
        assert_eq!(
            after.purged_bytes - before.purged_bytes,
            (given * REGION_BYTES) as u64
        );
    }

    fn trim(&mut self) {
        let dirty = self.arena.dirty_regions();
        assert_eq!(self.arena.trim(), dirty);
        assert_eq!(self.arena.dirty_regions(), 0);
        let kinds: Vec<_> = kinds(self.arena).collect();
        let is_half_a_hole = |pair: &[Option<Kind>]| {
            pair.contains(&Some(Kind::FreeClean)) && pair.contains(&Some(Kind::FreeHole))
        };
        assert!(!kinds.windows(2).any(is_half_a_hole));
    }

    fn run(&mut self, step: &Step) {
        match *step {
            Step::Allocate { count, align } => self.allocate(count, align),
            Step::AllocateInChunk { count, align } => self.allocate_in_chunk(count, align),
            Step::AllocateWithRoom { count, more } => self.allocate_with_room(count, more),
            Step::Purge { limit } => self.purge(limit),
            Step::Trim => self.trim(),
            Step::Free(run)
            | Step::FreeFront { run, .. }
            | Step::Extend { run, .. }
            | Step::Shrink { run, .. }
            | Step::FreeClean(run) => {
                let Some(index) = self.pick(run) else { return };
                match *step {
                    Step::FreeFront { part, .. } => self.free_front(index, part),
                    Step::Extend { by, .. } => self.extend(index, by),
                    Step::Shrink { part, .. } => self.shrink(index, part),
                    Step::FreeClean(_) => self.free_clean(index),
                    _ => self.free(index),
                }
            }
        }
        self.assert_consistent();
    }

    /// The words, the lengths and the counters say what the model knows.
    fn assert_consistent(&self) {
        let mut used = 0;
        for run in &self.live {
            used += run.count;
            for offset in 0..run.count {
                let region = run.first.plus(offset);
                assert_eq!(
                    word_of(self.arena, region),
                    run.label.word(offset),
                    "{run:?}"
                );
                let is_inside = run.label.word(1) == Label::LARGE.word(1);
                let first = if is_inside { run.first } else { region };
                // SAFETY: the run is handed out.
                assert_eq!(unsafe { self.arena.first_of(region) }, first, "{run:?}");
            }
            if run.has_len {
                // SAFETY: the run is handed out.
                assert_eq!(unsafe { self.arena.run_len(run.first) }, run.count);
            }
        }
        let [dirty, clean, holes] = [Kind::FreeDirty, Kind::FreeClean, Kind::FreeHole]
            .map(|kind| regions_of(self.arena, Some(kind)));
        let bytes = |regions: usize| (regions * REGION_BYTES) as u64;
        let stats = self.arena.stats();
        assert_eq!(stats.used_bytes, bytes(used));
        assert_eq!(stats.dirty_bytes, bytes(dirty));
        assert_eq!(stats.clean_bytes, bytes(clean));
        assert_eq!(stats.mapped_bytes, bytes(used + dirty + clean));
        assert_eq!(used + dirty + clean + holes, self.arena.map().len());
        assert_eq!(self.arena.dirty_regions(), dirty);
    }

    /// Frees everything; then the longest clean stretch must be one free run.
    fn finish(mut self) {
        while !self.live.is_empty() {
            self.free(self.live.len() - 1);
        }
        self.assert_consistent();
        self.purge(usize::MAX);
        self.assert_consistent();
        let mut longest = 0;
        let mut length = 0;
        for kind in kinds(self.arena) {
            if kind == Some(Kind::FreeClean) {
                length += 1;
                longest = longest.max(length);
            } else {
                length = 0;
            }
        }
        if longest > 0 {
            let before = self.arena.stats();
            let run = self
                .arena
                .allocate(longest, 1, Label::LARGE)
                .expect("memory that is there");
            let after = self.arena.stats();
            assert_zero(self.arena, run.first, longest.min(64 * KIB64));
            // SAFETY: allocated above.
            unsafe { self.arena.free(run.first, longest) };
            assert!(run.zeroed());
            assert_eq!(
                (before.growths, before.mapped_bytes),
                (after.growths, after.mapped_bytes),
                "{longest} clean regions in a row are not one free run"
            );
        }
    }
}

impl Drop for Model {
    /// A case that fails leaves nothing behind for those that shrink it.
    fn drop(&mut self) {
        for run in &self.live {
            // SAFETY: the run is handed out.
            unsafe { self.arena.free(run.first, run.count) };
        }
    }
}

fn run_case(arena: &'static Arena, steps: &[Step]) {
    let mut model = Model::new(arena);
    for step in steps {
        model.run(step);
    }
    model.finish();
}

fn cases() -> ProptestConfig {
    ProptestConfig {
        cases: 40,
        max_shrink_iters: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

#[test]
fn runs_of_a_claimed_range_do_not_overlap_keep_their_contents_and_all_come_back() {
    static ARENA: OnceLock<&'static Arena> = OnceLock::new();
    proptest!(cases(), |(steps in steps())| {
        run_case(ARENA.get_or_init(arena), &steps);
    });
}

/// An arena whose range is reserved as a whole: what an arena falls back to when
/// all places where it would claim addresses are taken.
fn reserved_arena() -> &'static Arena {
    for _ in 0..40 {
        let arena = arena();
        let run = arena.allocate(1, 1, Label::LARGE).expect("memory");
        // SAFETY: allocated above.
        unsafe { arena.free(run.first, 1) };
        if is_reserved(arena) {
            return arena;
        }
    }
    panic!("forty arenas in one process, and none had to reserve its range");
}

#[test]
fn runs_of_a_reserved_range_do_not_overlap_keep_their_contents_and_all_come_back() {
    static ARENA: OnceLock<&'static Arena> = OnceLock::new();
    proptest!(cases(), |(steps in steps())| {
        run_case(ARENA.get_or_init(reserved_arena), &steps);
    });
}

#[test]
fn a_freed_run_is_used_again_before_the_arena_grows() {
    const LEN: usize = 20 * KIB64;
    let arena = arena();
    let first = arena.allocate(LEN, 1, Label::LARGE).unwrap();
    // SAFETY: allocated above.
    unsafe { arena.free(first.first, LEN) };
    let before = arena.stats();
    let again = arena.allocate(LEN, 1, Label::LARGE).unwrap();
    assert_eq!(again.first, first.first);
    assert!(!again.zeroed(), "it was freed with whatever was in it");
    assert_eq!(arena.stats().growths, before.growths);
}

#[test]
fn dirty_memory_is_kept_until_it_is_old_enough() {
    let arena = arena();
    let run = arena.allocate(40, 1, Label::LARGE).unwrap();
    // SAFETY: allocated above.
    unsafe { arena.free(run.first, 40) };
    assert_eq!(arena.purge(3_600_000, usize::MAX), 0);
    assert_eq!(arena.dirty_regions(), 40);
    assert_eq!(arena.purge(0, 7), 7, "no more than the limit");
    assert_eq!(arena.purge(0, usize::MAX), 33);
    assert_eq!(arena.dirty_regions(), 0);
}

#[test]
fn a_very_long_run_goes_back_to_the_system_when_it_is_freed() {
    // 262 MiB, of which only a part is touched.
    const LONG: usize = 4192 * KIB64;
    const TOUCHED: usize = 600 * KIB64;
    let arena = arena();
    let run = arena.allocate(LONG, 1, Label::LARGE).unwrap();
    fill(arena, run.first, 0, TOUCHED, 1);
    let before = arena.stats();
    // SAFETY: allocated above.
    unsafe { arena.free(run.first, LONG) };
    let after = arena.stats();
    assert_eq!(after.dirty_bytes, before.dirty_bytes);
    assert_eq!(
        before.mapped_bytes - after.mapped_bytes,
        (LONG * REGION_BYTES) as u64
    );
    let again = arena.allocate(LONG, 1, Label::LARGE).unwrap();
    assert_eq!(again.first, run.first, "its addresses are used again");
    assert!(again.zeroed());
    assert_zero(arena, again.first, TOUCHED);
}

#[test]
fn an_aligned_run_behind_many_that_are_not_aligned_is_found_or_the_arena_grows() {
    const LEN: usize = 32 * KIB64;
    let arena = arena();
    // Thirty runs of 2 MiB that each begin one region past a multiple of it, and
    // after them nothing but the last 2 MiB, which are aligned.
    arena.allocate(1, LEN, Label::LARGE).unwrap();
    let mut fragments = Vec::new();
    for _ in 0..30 {
        fragments.push(arena.allocate(LEN, 1, Label::LARGE).unwrap().first);
        arena.allocate(LEN, 1, Label::LARGE).unwrap();
    }
    while regions_of(arena, Some(Kind::FreeClean)) != LEN {
        arena.allocate(1, 1, Label::LARGE).unwrap();
    }
    // Clean runs of the same length that stand before it in its list.
    for &fragment in &fragments {
        // SAFETY: allocated above.
        unsafe { arena.free(fragment, LEN) };
    }
    arena.purge(0, usize::MAX);
    let before = arena.stats();
    let run = arena
        .allocate(20 * KIB64, LEN, Label::LARGE)
        .expect("memory");
    assert_eq!(arena.map().address_of(run.first) % (LEN * REGION_BYTES), 0);
    let after = arena.stats();
    assert_eq!(
        after.purged_bytes, before.purged_bytes,
        "memory was not short"
    );
    assert!(after.mapped_bytes >= before.mapped_bytes);
}

#[test]
fn a_request_beyond_the_range_or_of_nothing_is_refused_and_changes_nothing() {
    // 1 TiB.
    const RANGE: usize = (1 << 40) / REGION_BYTES;
    let arena = arena();
    let kept = arena.allocate(1, 1, Label::LARGE).unwrap();
    let before = arena.stats();
    for count in [RANGE, RANGE + 1, usize::MAX / REGION_BYTES, usize::MAX] {
        assert_eq!(arena.allocate(count, 1, Label::LARGE), None, "{count}");
    }
    assert_eq!(arena.stats().used_bytes, before.used_bytes);
    let before = arena.stats();
    for align in [2 * RANGE, (1 << 62) / REGION_BYTES, 1 << 63, 0, 3] {
        assert_eq!(arena.allocate(1, align, Label::LARGE), None, "{align}");
    }
    assert_eq!(arena.allocate(0, 1, Label::LARGE), None);
    assert_eq!(arena.stats(), before);
    assert_eq!(word_of(arena, kept.first).kind(), Some(Kind::LargeStart));
    let next = arena.allocate(1, 1, Label::LARGE).unwrap();
    assert_ne!(next.first, kept.first);
}

#[test]
fn runs_are_aligned_to_large_powers_of_two() {
    // 4 GiB.
    const LARGEST: usize = (4 << 30) / REGION_BYTES;
    let arena = arena();
    for shift in 0..=LARGEST.ilog2() {
        let align = 1_usize << shift;
        let run = arena.allocate(3, align, Label::LARGE).unwrap();
        assert_eq!(
            arena.map().address_of(run.first) % (align * REGION_BYTES),
            0,
            "{align} regions"
        );
        fill(arena, run.first, 0, 3, align as u64);
    }
}

#[test]
fn side_records_and_bit_space_start_as_zero_and_stay_as_they_were_left() {
    let arena = arena();
    let run = arena.allocate(3, 1, Label::LARGE).unwrap();
    let mut seen = Vec::new();
    for offset in 0..3 {
        let region = run.first.plus(offset);
        let side = arena.side_record(region);
        let bits = arena.bit_space(region).cast::<u8>();
        assert_eq!(side.addr() % SIDE_BYTES, 0);
        for (start, bytes) in [(side, SIDE_BYTES), (bits, BITS_BYTES)] {
            // SAFETY: the region is ours, so its records are.
            let bytes = unsafe { std::slice::from_raw_parts_mut(start, bytes) };
            assert!(bytes.iter().all(|&byte| byte == 0));
            bytes.fill(0xa5);
            let range = bytes.as_ptr().addr()..bytes.as_ptr().addr() + bytes.len();
            assert!(
                seen.iter()
                    .all(|other: &std::ops::Range<usize>| other.end <= range.start
                        || range.end <= other.start)
            );
            seen.push(range);
        }
    }
    // SAFETY: allocated above.
    unsafe { arena.free(run.first, 3) };
    arena.purge(0, usize::MAX);
    for range in seen {
        // SAFETY: records stay mapped for ever.
        let bytes = unsafe {
            std::slice::from_raw_parts(
                std::ptr::with_exposed_provenance::<u8>(range.start),
                range.len(),
            )
        };
        assert!(bytes.iter().all(|&byte| byte == 0xa5));
    }
}

/// Regions of a block that grows where it is, in the next two tests.
const GROWN: usize = 320 * KIB64;

/// An arena with two live runs, between which so many regions are free and dirty, and a third at
/// the top. Returns it with that.
fn with_dirty(regions: usize) -> (&'static Arena, RegionIndex) {
    let arena = arena();
    let [dirty, _wall, last] = [regions, 1, GROWN / 2].map(|count| hand_out(arena, count));
    fill(arena, dirty, 0, regions, 1);
    // SAFETY: the run is handed out, and forgotten.
    unsafe { arena.free(dirty, regions) };
    (arena, last)
}

fn grow(arena: &Arena, last: RegionIndex) {
    // SAFETY: the run is handed out with half as many regions.
    let grown = unsafe { arena.extend(last, GROWN / 2, GROWN, Label::LARGE) };
    assert!(grown.is_some(), "nothing lies behind it");
}

#[test]
fn what_a_run_grows_by_makes_up_for_dirty_memory() {
    const DIRTY: usize = 400 * KIB64;
    let (arena, last) = with_dirty(DIRTY);
    grow(arena, last);
    let stats = arena.stats();
    let given = (GROWN / 2 * REGION_BYTES) as u64;
    assert_eq!(stats.purged_bytes, given);
    assert_eq!(stats.dirty_bytes, (DIRTY * REGION_BYTES) as u64 - given);
}

/// Regions of each of ten dirty runs in the next tests.
const PART: usize = 20 * KIB64;

/// An arena with so many regions in use in one run, and ten others, each with a live region behind
/// it, that are free and dirty.
fn with_scattered(used: usize) -> &'static Arena {
    let arena = arena();
    if used > 0 {
        hand_out(arena, used);
    }
    let scattered: Vec<_> = (0..10)
        .map(|_| [PART, 1].map(|count| hand_out(arena, count))[0])
        .collect();
    for first in scattered {
        fill(arena, first, 0, PART, 1);
        // SAFETY: the run is handed out, and forgotten.
        unsafe { arena.free(first, PART) };
    }
    arena
}

#[test]
fn a_large_run_takes_the_place_of_dirty_memory_too_scattered_for_it() {
    const LARGE: usize = 5 * PART;
    let arena = with_scattered(0);
    hand_out(arena, LARGE);
    let stats = arena.stats();
    let half = (LARGE * REGION_BYTES) as u64;
    assert_eq!((stats.purged_bytes, stats.dirty_bytes), (half, half));
}

#[test]
fn half_of_what_is_in_use_may_be_dirty_beside_a_large_run() {
    const LARGE: usize = 5 * PART;
    let arena = with_scattered(16 * PART - 10);
    hand_out(arena, LARGE);
    let stats = arena.stats();
    let part = (PART * REGION_BYTES) as u64;
    assert_eq!(
        (stats.purged_bytes, stats.dirty_bytes),
        (2 * part, 8 * part)
    );
}

#[test]
fn a_run_of_32_mib_takes_the_place_of_all_dirty_memory_it_can() {
    let arena = with_scattered(40 * PART);
    hand_out(arena, (32 << 20) / REGION_BYTES);
    let stats = arena.stats();
    let all = (10 * PART * REGION_BYTES) as u64;
    assert_eq!((stats.purged_bytes, stats.dirty_bytes), (all, 0));
}

#[test]
fn a_quarter_of_what_is_in_use_may_be_dirty() {
    let (arena, last) = with_dirty(100 * KIB64);
    grow(arena, last);
    let stats = arena.stats();
    assert_eq!(
        stats.dirty_bytes,
        stats.used_bytes / 4 / REGION_BYTES as u64 * REGION_BYTES as u64
    );
}

#[test]
fn where_all_free_memory_of_a_large_arena_goes_back_short_runs_keep_their_addresses() {
    let arena = arena();
    let runs: Vec<_> = (0..10_000).map(|_| hand_out(arena, 1)).collect();
    let [long, _wall] = [64, 1].map(|count| hand_out(arena, count));
    for &first in runs.iter().step_by(2) {
        fill(arena, first, 0, 1, 1);
        // SAFETY: the run is handed out, and forgotten.
        unsafe { arena.free(first, 1) };
    }
    // SAFETY: as above.
    unsafe { arena.free(long, 64) };
    let before = arena.stats();
    assert_eq!(arena.trim(), 5000 + 64);
    let after = arena.stats();
    assert_eq!(after.dirty_bytes, 0);
    assert_eq!(kind_of(arena, long), Some(Kind::FreeHole));
    assert_eq!(kind_of(arena, runs[0]), Some(Kind::FreeClean));
    let gone = (before.mapped_bytes - after.mapped_bytes) as usize;
    assert!(gone < 5000 * REGION_BYTES, "{gone} bytes of addresses");
}
