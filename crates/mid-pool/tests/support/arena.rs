//! An arena to test with.

use hakmem_page_arena::Arena;
use hakmem_region_id::ClassIndex;

/// An arena that lives as long as the process.
pub fn arena() -> &'static Arena {
    Box::leak(Box::new(Arena::new()))
}

pub fn class(size: usize) -> ClassIndex {
    let class = ClassIndex::for_size(size).expect("a mid size");
    assert_eq!(class.size(), size, "the tests name sizes of classes");
    class
}
