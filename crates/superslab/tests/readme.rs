//! The example in `README.md`.

use hakmem_page_arena::Arena;
use hakmem_region_id::ClassIndex;
use hakmem_superslab::{OwnedSlabs, Shared, SlabPool};

static ARENA: Arena = Arena::new();
static POOL: SlabPool = SlabPool::new();

#[test]
fn the_example_in_the_readme_works() {
    // SAFETY: these two are used with each other only, and by one heap, made for them.
    let shared = unsafe { Shared::new(&ARENA, &POOL) };
    // SAFETY: it is not moved any more, and used with that pool only, once it is entered there.
    let heap = unsafe { OwnedSlabs::new(0) }.expect("a number");
    let heap: &'static OwnedSlabs = Box::leak(Box::new(heap));
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
