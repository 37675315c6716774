//! Huge pages behind a large heap of small blocks. One test only: where some came slowly, the next
//! ones are let pass.

mod support {
    pub mod block;
    pub mod burst;
    pub mod direct;
}

use hakmem_alloc::{Hakmem, HugePages, set_huge_pages};
use hakmem_sys::vm::{HugePageSetting, huge_page_setting};
use hakmem_test_support::{can_make_huge, resident};
use support::burst::burst;

#[global_allocator]
static ALLOCATOR: Hakmem = Hakmem::new();

#[test]
fn a_large_heap_of_small_blocks_gets_huge_pages_and_gives_all_of_them_back() {
    set_huge_pages(HugePages::Proven);
    let before = resident();
    let could = can_make_huge();
    let (came, over) = burst();
    if huge_page_setting() == HugePageSetting::Never {
        assert_eq!(came, 0);
    } else if could && can_make_huge() {
        assert!(came > 0, "the system could, the heap did not");
    }
    // A chunk that is not full yet, side records, slabs of other classes.
    assert!(over < 8 << 20, "{over} bytes more than was allocated");
    hakmem_alloc::trim();
    let left = resident().saturating_sub(before);
    assert!(left < 8 << 20, "{left} bytes left after a trim");
    set_huge_pages(HugePages::Never);
    assert_eq!(burst().0, 0, "none when they are not wanted");
}
