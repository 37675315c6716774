//! The example in `README.md`.

use hakmem_mid_pool::{MidPool, RunPool};
use hakmem_page_arena::Arena;
use hakmem_region_id::ClassIndex;

static ARENA: Arena = Arena::new();
// SAFETY: these are used with that arena only.
static BLOCKS: MidPool = unsafe { MidPool::new() };
// SAFETY: as above.
static RUNS: RunPool = unsafe { RunPool::new() };

#[test]
fn the_example_in_the_readme_works() {
    let class = ClassIndex::for_size(5000).expect("above 1 KiB, up to 32 KiB");
    let mut blocks = [std::ptr::null_mut(); 4];
    assert_eq!(BLOCKS.refill(&ARENA, class, 0, &mut blocks), 4);
    let run = RUNS.allocate(&ARENA, 150_000, 1, 0).expect("no memory");
    // SAFETY: the blocks and the run are ours and not used any more.
    unsafe {
        BLOCKS.flush(&ARENA, class, &blocks);
        RUNS.free(&ARENA, run.first, run.regions, 0);
    }
    BLOCKS.trim(&ARENA);
    RUNS.trim(&ARENA);
    assert_eq!(ARENA.stats().used_bytes, 0);
}
