//! The allocator with a small range of addresses, as under an emulator or a low
//! limit: the range is used up, and large blocks are mappings of their own.

mod support {
    pub mod block;
    pub mod direct;
    pub mod model;
    pub mod resize;
}

use hakmem_alloc::{c, stats};
use hakmem_page_arena::{Arena, Label};
use hakmem_test_support::with_room_for;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use support::block::Block;
use support::direct::layout;
use support::model::{run, steps};

/// In so many places an arena may claim its range.
const PLACES: usize = 31;

/// Takes all places where the allocator would claim addresses, and lets it
/// reserve only a small range.
fn start_in_a_small_range() {
    for _ in 0..PLACES {
        let arena: &'static Arena = Box::leak(Box::new(Arena::new()));
        assert!(arena.allocate(1, 1, Label::LARGE).is_some());
    }
    with_room_for(150 << 20, hakmem_alloc::init);
}

#[test]
fn everything_works_when_the_range_is_used_up() {
    start_in_a_small_range();
    // Larger than the range: a mapping of its own.
    let mut large = Block::new(layout(200 << 20, 1 << 21), true, 1).expect("memory");
    assert!(c::owns(large.address));
    assert!(large.usable() >= 200 << 20);
    assert_eq!(stats().large_live, 1);
    assert!(large.resize(250 << 20));
    assert!(large.resize(60_000));
    large.free();
    assert_eq!(stats().live_bytes, 0);

    // More blocks than the range holds; half of them are outside.
    let mut blocks: Vec<Block> = (0..600)
        .map(|seed| Block::new(layout(300_000, 16), seed % 2 == 0, seed).expect("memory"))
        .collect();
    assert!(stats().mapped_bytes > 170 << 20);
    for (turn, block) in blocks.iter_mut().enumerate() {
        let size = if turn % 2 == 0 { 900_000 } else { 20_000 };
        assert!(block.resize(size));
    }
    blocks.into_iter().for_each(Block::free);
    assert_eq!(stats().live_bytes, 0);

    let config = ProptestConfig {
        cases: 25,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    TestRunner::new(config)
        .run(&steps(24), |steps| {
            run(&steps);
            Ok(())
        })
        .unwrap();
    assert_eq!(stats().live_bytes, 0);
    hakmem_alloc::trim();
    assert_eq!(stats().dirty_bytes, 0);
    assert_eq!(stats().large_live, 0);
}
