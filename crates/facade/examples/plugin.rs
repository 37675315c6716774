//! A library with hakmem as its own allocator, for programs that load and unload it
//! (`tests/plugin.rs`).

use hakmem_alloc::Hakmem;

#[global_allocator]
static ALLOCATOR: Hakmem = Hakmem::new();

/// Makes and drops `count` vectors of `bytes` bytes, all there at the same time, and returns the sum
/// of what was written to them: `count`.
// SAFETY: nothing else in the library has this name.
#[unsafe(no_mangle)]
pub extern "C" fn plugin_work(count: usize, bytes: usize) -> usize {
    let blocks: Vec<Vec<u8>> = (0..count).map(|_| vec![1; bytes]).collect();
    blocks
        .iter()
        .map(|block| usize::from(block[bytes - 1]))
        .sum()
}

/// How many threads have a heap of this library's.
// SAFETY: nothing else in the library has this name.
#[unsafe(no_mangle)]
pub extern "C" fn plugin_heaps_attached() -> u64 {
    hakmem_alloc::stats().heaps_attached
}
