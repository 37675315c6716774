//! What a source of blocks must not do.
#![cfg(not(loom))]

use hakmem_region_id::ClassIndex;
use hakmem_sys::barrier;
use hakmem_test_support::{assert_aborts, is_child};
use hakmem_thread_cache::{Source, ThreadCache};

/// Counts the blocks that it gives.
struct Numbers(usize);

impl Source for Numbers {
    fn refill(&mut self, _: ClassIndex, out: &mut [*mut u8]) -> usize {
        for place in &mut *out {
            self.0 += 1;
            *place = std::ptr::without_provenance_mut(self.0 << 8);
        }
        out.len()
    }

    fn flush(&mut self, _: ClassIndex, _: &[*mut u8]) {
        panic!("not today");
    }
}

#[test]
fn a_source_that_panics_while_it_takes_blocks_back_ends_the_process() {
    if !is_child() {
        return assert_aborts(
            "a_source_that_panics_while_it_takes_blocks_back_ends_the_process",
            "a source of blocks has panicked",
        );
    }
    barrier::prepare();
    let mut memory = vec![0_u64; 4096];
    let range = memory.as_mut_ptr_range();
    let mut cache = ThreadCache::CLOSED;
    let class = ClassIndex::for_size(64).expect("a cached size");
    // SAFETY: the memory outlives the cache, which is this thread's.
    unsafe {
        cache.set_memory(range.start.cast(), range.end.cast());
        ThreadCache::refill(&raw mut cache, class, 8, &mut Numbers(0));
        ThreadCache::drain(&raw mut cache, &mut Numbers(0));
    }
}
