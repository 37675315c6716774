//! Classes to test with.

use hakmem_region_id::ClassIndex;

/// The class of blocks of this size.
pub fn class(size: usize) -> ClassIndex {
    let class = ClassIndex::for_size(size).expect("a mid size");
    assert_eq!(class.size(), size, "the tests name sizes of classes");
    class
}
