//! The settings of a program whose first calls find no memory.

mod support {
    pub mod block;
    pub mod direct;
}

use hakmem_sys::vm::fault;
use hakmem_test_support::{again_with, hakmem_line, is_child};
use support::block::Block;
use support::direct::layout;

#[test]
fn the_environment_is_read_once_though_the_first_heap_comes_late() {
    if is_child() {
        fault::fail_after(0);
        for _ in 0..3 {
            assert!(Block::new(layout(100, 8), false, 1).is_none());
        }
        fault::off();
        Block::new(layout(100, 8), false, 1).expect("memory").free();
        return;
    }
    let child = again_with(
        "the_environment_is_read_once_though_the_first_heap_comes_late",
        &[("HAKMEM_HUGE_PAGES", "2M")],
    );
    assert!(child.status.success(), "{child:?}");
    assert_eq!(
        hakmem_line(&child),
        "hakmem: HAKMEM_HUGE_PAGES is none of 0, system, proven, 1 and all; taken as 1"
    );
}
