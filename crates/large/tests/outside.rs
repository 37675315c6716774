//! Blocks that are mappings of their own, because the arena's range is used up.

mod support {
    pub mod arena;
    pub mod contents;
    pub mod full;
}

use hakmem_large::Large;
use hakmem_page_arena::Arena;
use hakmem_test_support::{Numbers, assert_zero, turn, word_at};
use proptest::prelude::*;
use std::sync::{MutexGuard, OnceLock};
use support::contents::{check, fill};
use support::full::full_arena;

/// One arena for all tests, and one test at a time: they count mappings.
fn arena() -> (&'static Arena, MutexGuard<'static, ()>) {
    static ARENA: OnceLock<&'static Arena> = OnceLock::new();
    let turn = turn();
    (*ARENA.get_or_init(full_arena), turn)
}

#[test]
fn a_block_outside_is_named_by_its_first_byte_only() {
    let (arena, _turn) = arena();
    let large = Large::new();
    let block = large.allocate(arena, 100_000, 16).expect("memory");
    assert!(arena.map().region_of(block.address.addr()).is_none());
    assert!(block.zeroed);
    // SAFETY: the block is ours, and no part of it is written yet.
    unsafe { assert_zero(block.address, 100_000) };
    fill(block.address, 0, 100_000, 1);
    assert_eq!(large.outside_bytes(block.address), Some(25 * 4096));
    assert_eq!(large.outside_totals(), (1, 25 * 4096));
    let stack = 0_u8;
    for other in [
        block.address.wrapping_add(1),
        block.address.wrapping_add(4096),
        block.address.wrapping_sub(4096),
        std::ptr::null_mut(),
        std::ptr::without_provenance_mut(1),
        (&raw const stack).cast_mut(),
    ] {
        assert_eq!(large.outside_bytes(other), None);
        // SAFETY: there is no block there, so nothing is freed.
        assert!(!unsafe { large.free_outside(other) });
    }
    let start = block.address.addr();
    for (offset, is_inside) in [(0, true), (1, true), (102_399, true), (102_400, false)] {
        let around = large.outside_around(block.address.wrapping_add(offset));
        assert_eq!(around, is_inside.then_some((start, 25 * 4096)), "{offset}");
    }
    assert_eq!(large.outside_around(block.address.wrapping_sub(1)), None);
    for align in [0, 3, 3000, 12_288] {
        assert_eq!(large.allocate(arena, 100_000, align), None);
        assert_eq!(large.allocate_outside(100_000, align), None);
    }
    check(block.address, 100_000, 100_000, 1);
    let mark = word_at(start).expect("the block can be read");
    // SAFETY: the block is ours.
    unsafe {
        assert!(large.free_outside(block.address));
        assert!(!large.free_outside(block.address), "once only");
    }
    assert_ne!(word_at(start), Some(mark), "it is mapped still");
    assert_eq!(large.outside_totals(), (0, 0));
}

#[test]
fn blocks_outside_are_aligned_as_asked() {
    let (arena, _turn) = arena();
    let large = Large::new();
    for shift in 0..=30 {
        let align = 1 << shift;
        let block = large.allocate(arena, 70_000, align).expect("memory");
        assert_eq!(block.address.addr() % align, 0, "{align}");
        fill(block.address, 0, 70_000, align as u64);
        let mark = word_at(block.address.addr()).expect("the block can be read");
        // Moves or grows out of the slack that alignment has left.
        // SAFETY: the block is ours.
        unsafe {
            let grown = large
                .resize_outside(block.address, 500_000)
                .expect("memory");
            check(grown, 70_000, 500_000, align as u64);
            assert_eq!(large.outside_totals(), (1, 123 * 4096));
            assert!(large.free_outside(grown));
        }
        assert_ne!(word_at(block.address.addr()), Some(mark), "{align}");
    }
}

#[test]
fn the_registry_holds_thousands_of_mappings_and_forgets_those_freed() {
    let (arena, _turn) = arena();
    let large = Large::new();
    let mut live: Vec<(*mut u8, u64)> = Vec::new();
    let mut numbers = Numbers(3);
    for seed in 0..9000_u64 {
        if live.len() > 1500 {
            let (address, seed) = live.swap_remove(numbers.below(live.len()));
            check(address, 9000, 9000, seed);
            // SAFETY: the block is ours.
            assert!(unsafe { large.free_outside(address) });
            assert_eq!(large.outside_bytes(address), None);
        }
        let block = large.allocate(arena, 9000, 16).expect("memory");
        fill(block.address, 0, 9000, seed);
        live.push((block.address, seed));
    }
    assert_eq!(large.outside_totals(), (live.len(), live.len() * 3 * 4096));
    for (address, seed) in live {
        assert_eq!(large.outside_bytes(address), Some(3 * 4096));
        check(address, 9000, 9000, seed);
        // SAFETY: the block is ours.
        assert!(unsafe { large.free_outside(address) });
    }
    assert_eq!(large.outside_totals(), (0, 0));
}

#[derive(Clone, Debug)]
enum Step {
    Allocate { size: usize, align: u32 },
    Free(usize),
    Resize { block: usize, size: usize },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (1..600_000_usize, 0..22_u32).prop_map(|(size, align)| Step::Allocate { size, align }),
        2 => any::<usize>().prop_map(Step::Free),
        3 => (any::<usize>(), 1..900_000_usize).prop_map(|(block, size)| Step::Resize { block, size }),
    ];
    prop::collection::vec(step, 1..60)
}

#[test]
fn blocks_outside_do_not_overlap_keep_their_contents_and_all_come_back() {
    let (arena, _turn) = arena();
    let config = ProptestConfig {
        cases: 60,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    proptest!(config, |(steps in steps())| {
        let large = Large::new();
        let mut live: Vec<(*mut u8, usize, u64)> = Vec::new();
        for (seed, step) in (0_u64..).zip(&steps) {
            match *step {
                Step::Allocate { size, align } => {
                    let block = large.allocate(arena, size, 1 << align).expect("memory");
                    prop_assert_eq!(block.address.addr() % (1 << align), 0);
                    fill(block.address, 0, size, seed);
                    live.push((block.address, size, seed));
                }
                Step::Free(block) if !live.is_empty() => {
                    let (address, size, seed) = live.swap_remove(block % live.len());
                    check(address, size, size, seed);
                    // SAFETY: the block is ours.
                    let freed = unsafe { large.free_outside(address) };
                    prop_assert!(freed, "once");
                }
                Step::Resize { block, size } if !live.is_empty() => {
                    let index = block % live.len();
                    let (address, old, seed) = live[index];
                    // SAFETY: the block is ours.
                    let moved = unsafe { large.resize_outside(address, size) }.expect("memory");
                    check(moved, old, size, seed);
                    fill(moved, 0, size, seed);
                    live[index] = (moved, size, seed);
                }
                _ => {}
            }
            let usable = |size: usize| size.next_multiple_of(4096);
            let bytes: usize = live.iter().map(|&(_, size, _)| usable(size)).sum();
            prop_assert_eq!(large.outside_totals(), (live.len(), bytes));
            for &(address, size, _) in &live {
                prop_assert_eq!(large.outside_bytes(address), Some(usable(size)));
            }
        }
        for (address, size, seed) in live {
            check(address, size, size, seed);
            // SAFETY: the block is ours.
            let freed = unsafe { large.free_outside(address) };
                    prop_assert!(freed, "once");
        }
        prop_assert_eq!(large.outside_totals(), (0, 0));
    });
}

#[test]
fn a_block_outside_does_not_grow_beyond_any_address_space() {
    let (arena, _turn) = arena();
    let large = Large::new();
    let block = large.allocate(arena, 8192, 16).expect("memory");
    fill(block.address, 0, 8192, 1);
    for size in [1 << 50, isize::MAX as usize, usize::MAX - 4096, usize::MAX] {
        // SAFETY: the block is ours.
        assert_eq!(unsafe { large.resize_outside(block.address, size) }, None);
    }
    check(block.address, 8192, 8192, 1);
    // SAFETY: the block is ours.
    assert!(unsafe { large.free_outside(block.address) });
}

#[test]
fn threads_use_the_registry_together() {
    let (arena, _turn) = arena();
    let large = Large::new();
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let large = &large;
            scope.spawn(move || {
                for round in 0..400 {
                    let seed = thread << 32 | round;
                    let block = large.allocate(arena, 20_000, 16).expect("memory");
                    fill(block.address, 0, 20_000, seed);
                    // SAFETY: the block is this thread's.
                    unsafe {
                        let grown = large.resize_outside(block.address, 60_000).expect("memory");
                        check(grown, 20_000, 60_000, seed);
                        assert!(large.free_outside(grown));
                    }
                }
            });
        }
    });
    assert_eq!(large.outside_totals(), (0, 0));
}
