//! Blocks that change their size.

use super::block::Block;
use super::direct::HAKMEM;
use std::alloc::{GlobalAlloc, Layout};

impl Block {
    /// Resizes the block; `false`, with the block as it was, if there is no
    /// memory.
    #[must_use]
    pub fn resize(&mut self, size: usize) -> bool {
        self.check();
        // SAFETY: the block is live, and callers ask for sizes that are not zero.
        let moved = unsafe { HAKMEM.realloc(self.address, self.layout, size) };
        if moved.is_null() {
            self.check();
            return false;
        }
        self.address = moved;
        assert_eq!(moved.addr() % self.layout.align(), 0, "{self:?}");
        self.check_first(size);
        self.layout = Layout::from_size_align(size, self.layout.align()).unwrap();
        self.fill(0);
        true
    }
}
