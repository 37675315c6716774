//! What the counters say. One test in a process of its own, and no purge thread: they are exact only where no other
//! thread does anything, and those of other tests still empty their heaps when the next one runs.

use hakmem_alloc::{c, set_purge_thread, stats};

/// All pointers are the allocator's.
struct Nobody;

impl c::Foreign for Nobody {
    unsafe fn free(ptr: *mut u8) {
        panic!("{ptr:p} is foreign");
    }

    unsafe fn realloc(ptr: *mut u8, _: usize) -> *mut u8 {
        panic!("{ptr:p} is foreign");
    }

    unsafe fn usable_size(ptr: *mut u8) -> usize {
        panic!("{ptr:p} is foreign");
    }
}

fn free(block: *mut u8) {
    // SAFETY: callers pass live blocks.
    unsafe { c::free::<Nobody>(block) }
}

#[test]
fn counters_say_what_was_allocated_and_as_what() {
    set_purge_thread(false);
    the_counters_follow_what_is_allocated_and_freed();
    what_grows_beyond_the_fine_classes_or_is_zeroed_is_a_run();
}

fn the_counters_follow_what_is_allocated_and_freed() {
    let before = stats();
    let blocks: Vec<*mut u8> = [64, 64, 1024, 8320, 60_000, 260_000, (4 << 20) - 5000]
        .map(c::malloc)
        .into();
    let during = stats();
    let bytes = 64 + 64 + 1024 + 8320 + 65_664 + 262_144 + (4 << 20);
    assert_eq!(during.live_bytes - before.live_bytes, bytes);
    assert_eq!(during.large_live - before.large_live, 2);
    assert!(during.committed_bytes >= during.live_bytes);
    assert!(during.mapped_bytes >= during.committed_bytes);
    blocks.into_iter().for_each(free);
    let after = stats();
    assert_eq!(after.live_bytes, before.live_bytes);
    assert_eq!(after.large_live, before.large_live);
    // What was freed is in a cache, retained, or dirty: not lost.
    assert!(after.cached_bytes + after.retained_bytes + after.dirty_bytes >= bytes);
}

fn what_grows_beyond_the_fine_classes_or_is_zeroed_is_a_run() {
    let large = || stats().large_live;
    let before = large();
    let block = c::malloc(100_000);
    assert_eq!(large(), before);
    let zeroed = c::calloc(1, 100_000);
    assert_eq!(large(), before + 1);
    // SAFETY: the blocks are live.
    unsafe {
        let grown = c::realloc::<Nobody>(c::malloc(1000), 60_000);
        assert_eq!(large(), before + 2);
        let most = c::usable_size::<Nobody>(grown);
        assert_eq!(c::realloc::<Nobody>(grown, most), grown);
        let grown_again = c::realloc::<Nobody>(block, 120_000);
        assert_eq!(large(), before + 3);
        // What becomes smaller has a bin again.
        let less = c::realloc::<Nobody>(grown_again, 20_000);
        assert_eq!(large(), before + 2);
        [zeroed, grown, less].into_iter().for_each(free);
    }
    assert_eq!(large(), before);
}
