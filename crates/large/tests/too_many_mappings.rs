//! A process with as many mappings as it may have. In a file of its own: nothing else can run then.

mod support {
    pub mod arena;
    pub mod contents;
    pub mod full;
}

use hakmem_large::Large;
use hakmem_sys::vm;
use hakmem_test_support::resident_pages;
use support::contents::{check, fill};
use support::full::full_arena;

const BYTES: usize = 1 << 20;

/// Maps single pages, every other without access so that the system cannot join them, until it refuses.
fn use_up_mappings(mapped: &mut Vec<usize>) {
    let page = vm::page_size();
    while mapped.len() < mapped.capacity()
        && let Some(address) = match mapped.len() % 2 {
            0 => vm::reserve(page),
            _ => vm::map(page),
        }
    {
        mapped.push(address);
    }
}

#[test]
fn the_memory_of_a_block_goes_back_even_if_its_addresses_cannot() {
    let arena = full_arena();
    let large = Large::new();
    // The system joins neighbours: the one in the middle cannot go without a mapping more.
    let blocks: Vec<*mut u8> = (0..3)
        .map(|_| {
            let block = large.allocate(arena, BYTES, 16).expect("memory").address;
            fill(block, 0, BYTES, 1);
            block
        })
        .collect();
    let [low, middle, high] = {
        let mut sorted = [blocks[0].addr(), blocks[1].addr(), blocks[2].addr()];
        sorted.sort_unstable();
        sorted
    };
    if (middle - low, high - middle) != (BYTES, BYTES) {
        eprintln!("the blocks are not neighbours here: nothing to see");
        return;
    }
    let pages = BYTES / vm::page_size();
    let mut mapped = Vec::with_capacity(1 << 17);
    use_up_mappings(&mut mapped);
    let is_at_limit = mapped.len() < mapped.capacity();
    let middle_block = blocks.iter().find(|block| block.addr() == middle).unwrap();
    // SAFETY: the block is ours.
    assert!(unsafe { large.free_outside(*middle_block) });
    // Where mappings are not so limited its addresses are gone, too.
    let left = is_at_limit.then(|| resident_pages(middle, pages));
    for address in mapped {
        // SAFETY: mapped above, and used by nobody.
        unsafe { vm::unmap(address, vm::page_size()) };
    }
    assert_eq!(left.unwrap_or(0), 0, "pages are still there");
    assert_eq!(large.outside_totals().0, 2);
    for block in blocks.into_iter().filter(|block| block.addr() != middle) {
        check(block, BYTES, BYTES, 1);
        // SAFETY: the block is ours.
        assert!(unsafe { large.free_outside(block) });
    }
}
