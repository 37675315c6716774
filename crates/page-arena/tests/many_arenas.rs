//! Ten arenas in one process, as if ten libraries had each their own, and a limit on its addresses. In a
//! file of its own: the limit is the process's.

mod support {
    pub mod arena;
}

use hakmem_page_arena::Label;
use hakmem_region_id::REGION_BYTES;
use hakmem_test_support::{address_space, with_room_for};
use support::arena::arena;

#[test]
fn a_limit_counts_what_ten_arenas_use() {
    const ARENAS: usize = 10;
    /// What each hands out (1 MiB), and the most that is to be mapped for it.
    const COUNT: usize = (1 << 20) / REGION_BYTES;
    const EACH: usize = 6 << 20;
    let before = address_space();
    let served = with_room_for(256 << 20, || {
        (0..ARENAS)
            .filter(|_| arena().allocate(COUNT, 1, Label::LARGE).is_some())
            .count()
    });
    let grown = address_space() - before;
    assert_eq!(served, ARENAS, "{grown} bytes are taken");
    assert!(grown < ARENAS * EACH, "{grown} bytes are taken");
}
