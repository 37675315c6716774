//! A process with as many mappings as it may have. In a file of its own: nothing else can run then.

mod support {
    pub mod arena;
    pub mod contents;
    pub mod full;
}

use hakmem_large::Large;
use hakmem_sys::vm;
use hakmem_test_support::{at_the_limit_of_mappings, resident_pages};
use support::contents::{check, fill};
use support::full::full_arena;

const BYTES: usize = 1 << 20;

#[test]
fn the_memory_of_a_block_goes_back_even_if_its_addresses_cannot() {
    let arena = full_arena();
    let large = Large::new();
    // The system joins neighbours: the one in the middle cannot go without a mapping more. It places what it
    // maps next to each other, but for holes that it fills first.
    let mut blocks: Vec<*mut u8> = Vec::new();
    let middle = loop {
        assert!(blocks.len() < 100, "no three blocks are neighbours");
        let block = large.allocate(arena, BYTES, 16).expect("memory").address;
        fill(block, 0, BYTES, 1);
        blocks.push(block);
        let is_there = |address| blocks.iter().any(|block| block.addr() == address);
        let has_both =
            |block: &&*mut u8| is_there(block.addr() - BYTES) && is_there(block.addr() + BYTES);
        if let Some(block) = blocks.iter().find(has_both) {
            break block.addr();
        }
    };
    let pages = BYTES / vm::page_size();
    let middle_block = *blocks.iter().find(|block| block.addr() == middle).unwrap();
    let left = at_the_limit_of_mappings(|| {
        // SAFETY: the block is ours.
        let is_freed = unsafe { large.free_outside(middle_block) };
        (is_freed, resident_pages(middle, pages))
    });
    let Some(left) = left else {
        eprintln!("mappings are not so limited here: nothing to see");
        return;
    };
    assert_eq!(left, (true, 0), "pages are still there");
    assert_eq!(large.outside_totals().0, blocks.len() - 1);
    for block in blocks.into_iter().filter(|block| block.addr() != middle) {
        check(block, BYTES, BYTES, 1);
        // SAFETY: the block is ours.
        assert!(unsafe { large.free_outside(block) });
    }
}
