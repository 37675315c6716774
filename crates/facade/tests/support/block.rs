//! Blocks that can be checked.

use super::direct::HAKMEM;
use hakmem_test_support::assert_zero;
use std::alloc::{GlobalAlloc, Layout};

/// A block with a pattern in it that depends on its seed, not on where it is.
#[derive(Debug)]
pub struct Block {
    pub address: *mut u8,
    pub layout: Layout,
    pub seed: u64,
}

// SAFETY: blocks are handed from thread to thread, which is what is tested.
unsafe impl Send for Block {}

/// The offsets that carry the pattern: all of a small block, else the start, the
/// end, and a few bytes between, at least one in every page.
fn marks(size: usize) -> impl Iterator<Item = usize> {
    let dense = if size <= 160 { size } else { 32 };
    (0..dense)
        .chain((dense..size).step_by(if size <= 4096 { 61 } else { 4093 }))
        .chain(size.saturating_sub(16).max(dense)..size)
}

fn value(seed: u64, offset: usize) -> u8 {
    let mixed = (seed ^ offset as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 56) as u8 | 1
}

impl Block {
    /// Allocates and fills a block; `None` if there is no memory.
    pub fn new(layout: Layout, zeroed: bool, seed: u64) -> Option<Self> {
        // SAFETY: callers ask for sizes that are not zero.
        let address = unsafe {
            if zeroed {
                HAKMEM.alloc_zeroed(layout)
            } else {
                HAKMEM.alloc(layout)
            }
        };
        if address.is_null() {
            return None;
        }
        let block = Self {
            address,
            layout,
            seed,
        };
        assert_eq!(address.addr() % layout.align(), 0, "{block:?}");
        if zeroed {
            // SAFETY: the block is ours, and no part of it is written yet.
            unsafe { assert_zero(address, layout.size()) };
        }
        block.fill(0);
        Some(block)
    }

    pub fn fill(&self, from: usize) {
        for offset in marks(self.layout.size()).filter(|&offset| offset >= from) {
            // SAFETY: the block is ours, and the offset inside it.
            unsafe { self.address.add(offset).write(value(self.seed, offset)) };
        }
    }

    pub fn check(&self) {
        self.check_first(self.layout.size());
    }

    /// Checks what of the pattern lies in the first `kept` bytes.
    pub fn check_first(&self, kept: usize) {
        for offset in marks(self.layout.size()).filter(|&offset| offset < kept) {
            // SAFETY: the block is ours, and the offset inside it.
            let found = unsafe { self.address.add(offset).read() };
            assert_eq!(found, value(self.seed, offset), "byte {offset} of {self:?}");
        }
    }

    pub fn free(self) {
        self.check();
        // SAFETY: the block is live, and not used any more.
        unsafe { HAKMEM.dealloc(self.address, self.layout) };
    }
}
