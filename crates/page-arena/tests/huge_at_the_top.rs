//! Huge pages where the arena's last chunk is not complete. One test only: the limit of the address
//! space concerns the whole process.

mod support {
    pub mod arena;
}

use hakmem_page_arena::{HugePages, Label, Shape, Use};
use hakmem_region_id::REGION_BYTES;
use hakmem_sys::vm::HUGE_PAGE_BYTES;
use hakmem_test_support::with_room_for;
use support::arena::arena;

/// Regions of a chunk.
const CHUNK: usize = HUGE_PAGE_BYTES / REGION_BYTES;
/// Regions from which on an arena is large (16 MiB).
const LARGE: usize = (16 << 20) / REGION_BYTES;

#[test]
fn no_chunk_is_looked_for_beyond_the_top() {
    let arena = arena();
    arena.set_huge_pages(HugePages::Proven);
    arena.allocate(LARGE, 1, Label::LARGE).expect("memory");
    // The rest of what there is.
    while arena.stats().clean_bytes > 0 {
        arena.allocate(1, 1, Label::LARGE).expect("memory");
    }
    let top = || arena.map().len();
    let before = top();
    with_room_for(HUGE_PAGE_BYTES - REGION_BYTES, || {
        // There is no room for 2 MiB: each time the arena grows by what is asked for.
        for count in 1..5 {
            let run = arena.allocate_in_chunk(
                &[(
                    Shape {
                        regions: count,
                        align: 1,
                    },
                    Label::LARGE,
                )],
                Use::Proven,
                0,
            );
            assert_eq!(run.map(|run| run.huge_pages), Some(0));
        }
    });
    assert!(top() - before < CHUNK && !top().is_multiple_of(CHUNK));
}
