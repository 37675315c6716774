//! Many blocks at once.

use hakmem_region_id::ClassIndex;
use hakmem_superslab::{OwnedSlabs, Shared};

/// So many blocks of a class, by refills of 64 or fewer.
pub fn take(
    shared: Shared<'_>,
    heap: &OwnedSlabs,
    class: ClassIndex,
    count: usize,
) -> Vec<*mut u8> {
    let mut blocks = vec![std::ptr::null_mut(); count];
    let mut taken = 0;
    while taken < count {
        let end = count.min(taken + 64);
        let got = heap.refill(shared, class, &mut blocks[taken..end]);
        assert!(got > 0, "after {taken} of {count}");
        taken += got;
    }
    blocks
}
