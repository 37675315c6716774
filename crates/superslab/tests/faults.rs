//! The system refuses to map memory. One test only: what is injected concerns
//! the whole process.

mod support {
    pub mod heaps;
    pub mod trim;
    pub mod used;
}

use hakmem_region_id::REGION_BYTES;
use hakmem_superslab::{OwnedSlabs, Shared};
use hakmem_sys::vm::fault;
use hakmem_test_support::{check, fill};
use support::heaps::{class, heap, heaps, owned};
use support::trim::trim_all;
use support::used::used_bytes;

/// Takes and frees blocks; returns whether a refill was refused.
fn work(shared: Shared<'_>, owned: &OwnedSlabs) -> bool {
    let mut refused = false;
    let mut blocks = Vec::new();
    // 8 MiB, a slab at a time: four superslabs' worth or more.
    for _ in 0..(8 << 20) / REGION_BYTES {
        let mut out = [std::ptr::null_mut(); REGION_BYTES / 1024];
        let got = owned.refill(shared, class(1024), &mut out);
        refused |= got == 0;
        for &block in &out[..got] {
            // SAFETY: the block is ours, and of the class.
            unsafe { fill(block, 1024) };
            blocks.push(block);
        }
    }
    for &block in &blocks {
        // SAFETY: the block is ours, and filled above.
        unsafe { check(block, 1024) };
    }
    // SAFETY: the blocks are ours.
    unsafe { owned.flush(shared, class(1024), &blocks) };
    refused
}

#[test]
fn a_refill_without_memory_is_zero_and_works_again_when_there_is_some() {
    let (shared, owners) = heaps(1);
    let mut points = 0;
    for calls in 0.. {
        fault::fail_after(calls);
        let refused = work(shared, owners[0]);
        fault::off();
        assert_eq!(used_bytes(shared), 0, "after {calls} calls");
        assert!(
            !work(shared, owners[0]),
            "there is memory again (after {calls} calls)"
        );
        trim_all(shared, &owners);
        assert_eq!(shared.arena().stats().used_bytes, 0, "after {calls} calls");
        if !refused {
            break;
        }
        points += 1;
    }
    assert!(points > 0);

    // The owner table needs memory of its own.
    let far = owned(5000);
    fault::fail_after(0);
    assert!(!shared.pool().owners.enter(far));
    fault::off();
    assert!(shared.pool().owners.get(far.number()).is_none());
    let far = heap(shared, 5000);
    assert!(std::ptr::eq(
        shared.pool().owners.get(far.number()).unwrap(),
        far
    ));
}
