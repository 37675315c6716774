//! The allocator, called directly.

use hakmem_alloc::Hakmem;
use std::alloc::Layout;

/// It has no state of its own.
pub const HAKMEM: Hakmem = Hakmem::new();

pub fn layout(size: usize, align: usize) -> Layout {
    Layout::from_size_align(size, align).expect("a valid layout")
}
