//! Classes to test with.

use hakmem_region_id::ClassIndex;

/// The class of blocks of just this size, a plain one or an aligned one.
pub fn class(size: usize) -> ClassIndex {
    let mut classes = ClassIndex::all().filter(|class| class.size() == size);
    classes.next().expect("the tests name sizes of classes")
}
