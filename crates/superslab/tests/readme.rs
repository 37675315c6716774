//! The example in `README.md`.

use hakmem_page_arena::Arena;
use hakmem_region_id::ClassIndex;
use hakmem_superslab::{OwnedSlabs, Shared, SlabPool};
use std::sync::OnceLock;

static ARENA: Arena = Arena::new();
static POOL: SlabPool = SlabPool::new();
static HEAP: OnceLock<OwnedSlabs> = OnceLock::new();

#[test]
fn the_example_in_the_readme_works() {
    // SAFETY: these two are used with each other only, and by one heap, made for them.
    let shared = unsafe { Shared::new(&ARENA, &POOL) };
    // SAFETY: it stays where it is, and is used with that pool only, once it is entered there.
    let heap = HEAP.get_or_init(|| unsafe { OwnedSlabs::new(0) }.expect("a number"));
    assert!(POOL.owners.enter(heap));

    let class = ClassIndex::for_size(100).expect("up to 1 KiB");
    let mut blocks = [std::ptr::null_mut(); 16];
    assert_eq!(heap.refill(shared, class, &mut blocks), 16);
    // SAFETY: the blocks are ours and not used any more.
    unsafe { heap.flush(shared, class, &blocks) };
    heap.trim(shared);
    heap.clear_pool(shared);
    assert_eq!(ARENA.stats().used_bytes, 0);
}
