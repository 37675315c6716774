//! The example in `README.md`.

use hakmem_page_arena::{Arena, Label};
use hakmem_region_id::{Kind, REGION_BYTES};

static ARENA: Arena = Arena::new();

#[test]
fn the_example_in_the_readme_works() {
    // Four regions in a row, at a multiple of two.
    let run = ARENA.allocate(4, 2, Label::LARGE).expect("no memory");
    assert!(run.zeroed());
    let start = ARENA.map().address_of(run.first);
    assert_eq!(start % (2 * REGION_BYTES), 0);
    let word = ARENA.map().lookup(start).expect("inside the arena");
    assert_eq!(word.kind(), Some(Kind::LargeStart));
    // SAFETY: the run is ours, has four regions, and is not used any more.
    unsafe { ARENA.free(run.first, 4) };
    assert_eq!(ARENA.purge(0, usize::MAX), 4);
}
