//! The example in `README.md`.

use hakmem_region_id::{ClassIndex, word::bin_offset};
use hakmem_thread_cache::{Source, ThreadCache};

/// Blocks from the system's allocator.
struct System;

impl Source for System {
    fn refill(&mut self, class: ClassIndex, out: &mut [*mut u8]) -> usize {
        out.fill_with(|| Box::leak(vec![0_u8; class.size()].into_boxed_slice()).as_mut_ptr());
        out.len()
    }

    fn flush(&mut self, class: ClassIndex, blocks: &[*mut u8]) {
        for &block in blocks {
            let slice = std::ptr::slice_from_raw_parts_mut(block, class.size());
            // SAFETY: leaked by `refill` with this length.
            drop(unsafe { Box::from_raw(slice) });
        }
    }
}

#[test]
fn the_example_in_the_readme_works() {
    let mut cache = ThreadCache::CLOSED;
    let mut magazines = [0_u64; 1024];
    let memory = magazines.as_mut_ptr_range();
    let class = ClassIndex::for_size(48).expect("up to 32 KiB");
    // SAFETY: the memory is the cache's alone; one thread uses it.
    unsafe {
        cache.set_memory(memory.start.cast(), memory.end.cast());
        let block = ThreadCache::refill(&raw const cache, class, 8, &mut System);
        let next = ThreadCache::pop(&raw const cache, bin_offset(class));
        assert!(!block.is_null() && !next.is_null());
        assert!(ThreadCache::push(
            &raw const cache,
            bin_offset(class),
            block
        ));
        assert!(ThreadCache::push(&raw const cache, bin_offset(class), next));
        ThreadCache::drain(&raw const cache, &mut System);
    }
}
