//! What becomes of slabs whose blocks are all free, and of their memory.

mod support {
    pub mod heaps;
    pub mod take;
}

use hakmem_page_arena::{Arena, Label};
use hakmem_region_id::REGION_BYTES;
use hakmem_superslab::{Shared, SlabPool};
use hakmem_test_support::{Numbers, check, fill};
use support::heaps::{class, heap, heaps};
use support::take::take;

/// A slab has 64 blocks of this size.
const OF_64: usize = REGION_BYTES / 64;
/// Blocks of 1024 bytes in a slab.
const IN_SLAB: usize = REGION_BYTES / 1024;

#[test]
fn an_empty_slab_serves_another_class() {
    let (shared, owners) = heaps(1);
    let mut first = [std::ptr::null_mut(); 64];
    assert_eq!(owners[0].refill(shared, class(OF_64), &mut first), 64);
    // SAFETY: the blocks are ours.
    unsafe { owners[0].flush(shared, class(OF_64), &first) };
    owners[0].trim(shared);
    let mut second = [std::ptr::null_mut(); 4];
    assert_eq!(owners[0].refill(shared, class(48), &mut second), 4);
    assert_eq!(
        second[0].addr() / REGION_BYTES,
        first[0].addr() / REGION_BYTES
    );
    assert_eq!(shared.pool().counts().superslabs_made, 1);
}

#[test]
fn slabs_lie_in_pieces_of_dirty_memory_that_no_whole_superslab_fits_into() {
    let (shared, heaps) = heaps(1);
    let (arena, heap, class) = (shared.arena(), heaps[0], class(1024));
    // One superslab takes the first slabs.
    let mut blocks = take(shared, heap, class, 32 * IN_SLAB);
    assert_eq!(shared.pool().counts().superslabs_made, 1);
    // Pieces of one to 40 regions, with a region in use behind each.
    let pieces: Vec<_> = (1..=40)
        .map(|regions| {
            let run = arena.allocate(regions, 1, Label::LARGE).expect("memory");
            arena.allocate(1, 1, Label::LARGE).expect("memory");
            (run.first, regions)
        })
        .collect();
    for (first, regions) in pieces {
        // SAFETY: the run is ours, and not used.
        unsafe { arena.free(first, regions) };
    }
    let used = arena.stats().used_bytes;
    let all = arena.stats().dirty_bytes as usize / REGION_BYTES;
    assert_eq!(all, 820);
    for slab in 0..all {
        let more = take(shared, heap, class, IN_SLAB);
        blocks.extend(more);
        let dirty = arena.stats().dirty_bytes as usize + shared.dirty_bytes();
        assert_eq!(dirty / REGION_BYTES, all - 1 - slab, "new memory");
    }
    assert!(shared.pool().counts().superslabs_made > 40);
    blocks.extend(take(shared, heap, class, IN_SLAB));
    let grown = arena.stats().used_bytes - used;
    let whole = 32 * REGION_BYTES as u64;
    assert_eq!(grown, (all * REGION_BYTES) as u64 + whole);
    for &block in &blocks {
        // SAFETY: the block is ours, and has so many bytes.
        unsafe { fill(block, 1024) };
    }
    Numbers(7).shuffle(&mut blocks);
    for part in blocks.chunks(50) {
        for &block in part {
            // SAFETY: as above, and filled.
            unsafe { check(block, 1024) };
        }
        // SAFETY: the blocks are ours.
        unsafe { heap.flush(shared, class, part) };
    }
    heap.trim(shared);
    shared.pool().counts();
    heap.purge_pool(shared, true);
    heap.clear_pool(shared);
    let counts = shared.pool().counts();
    assert!(
        counts.superslabs_made - counts.superslabs_ended <= 1,
        "{counts:?}"
    );
    assert_eq!(shared.used_bytes(), 0);
}

#[test]
fn slabs_that_become_empty_in_random_order_are_found_by_few_looks() {
    const SLABS: u64 = 2000;
    let (shared, heaps) = heaps(1);
    let class = class(1024);
    let mut blocks = vec![std::ptr::null_mut(); SLABS as usize * IN_SLAB];
    for part in blocks.chunks_mut(IN_SLAB) {
        assert_eq!(heaps[0].refill(shared, class, part), part.len());
    }
    Numbers(1).shuffle(&mut blocks);
    // Whoever frees into a slab of nobody's puts it into the class's pool.
    heaps[0].abandon(shared);
    for block in &blocks {
        // SAFETY: the block is ours.
        unsafe { heaps[0].flush(shared, class, std::slice::from_ref(block)) };
    }
    let counts = shared.pool().counts();
    let emptied = heaps[0].counts().emptied.get();
    assert!(
        emptied + 16 >= SLABS,
        "{emptied} of {SLABS} slabs are empty"
    );
    assert!(counts.slabs_met <= 12 * SLABS, "{counts:?}");
    assert!(
        counts.superslabs_met <= 40 * counts.superslabs_made,
        "{counts:?}"
    );
}

#[test]
fn memory_of_empty_slabs_goes_back_when_the_arena_needs_some_and_stays_once_it_was_missed() {
    static ARENA: Arena = Arena::new().with_reclaim(|| shared().reclaim());
    static POOL: SlabPool = SlabPool::new();
    fn shared() -> Shared<'static> {
        // SAFETY: both are used here only.
        unsafe { Shared::new(&ARENA, &POOL) }
    }
    const BYTES: usize = 16 << 20;
    let heap = heap(shared(), 0);
    let class = class(1024);
    let take = |bytes: usize| take(shared(), heap, class, bytes / 1024);
    // SAFETY: what is freed is ours.
    let free = |blocks: &[*mut u8]| unsafe { heap.flush(shared(), class, blocks) };
    // So that each superslab stays.
    let blocks = take(BYTES);
    let in_superslab = 32 * REGION_BYTES / 1024;
    for part in blocks.chunks(in_superslab) {
        free(&part[1..]);
    }
    let need_memory = || {
        assert!(ARENA.allocate(1, 1, Label::TAKEN).expect("memory").zeroed());
        POOL.counts().purged_bytes as usize
    };
    // All but one of each superslab, and the heap's current one.
    let empty = BYTES - BYTES / 32 - REGION_BYTES;
    assert_eq!(shared().dirty_bytes(), empty);
    let purged = need_memory();
    assert!(purged > empty - (5 << 20), "{purged} of {empty} bytes");
    assert_eq!(shared().dirty_bytes(), empty - purged);
    assert_eq!(need_memory(), purged, "what is left is too little");

    for _ in 0..10 {
        let again = take(empty);
        free(&again);
        assert_eq!(need_memory(), purged);
    }
    // It is forgotten by and by.
    for _ in 0..20 {
        heap.purge_pool(shared(), false);
    }
    free(&take(empty));
    assert!(need_memory() > purged);
    assert!(shared().dirty_bytes() < 5 << 20);
}
