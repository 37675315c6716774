//! The example in `README.md`.

use hakmem_large::Large;
use hakmem_page_arena::Arena;

static ARENA: Arena = Arena::new();
static LARGE: Large = Large::new();

#[test]
fn the_example_in_the_readme_works() {
    let block = LARGE.allocate(&ARENA, 3 << 20, 4096).expect("no memory");
    let first = ARENA
        .map()
        .region_of(block.address.addr())
        .expect("of the arena");
    // SAFETY: the block is ours, and not used any more after it is freed.
    unsafe {
        block.address.write(7);
        assert!(Large::resize_in_place(&ARENA, first, 5 << 20));
        assert!(Large::run_bytes(&ARENA, first) >= 5 << 20);
        assert_eq!(block.address.read(), 7);
        Large::free_run(&ARENA, first);
    }
    assert_eq!(ARENA.stats().used_bytes, 0);
}
