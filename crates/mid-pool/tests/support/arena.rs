//! An arena to test with.

use hakmem_page_arena::Arena;

/// An arena that lives as long as the process.
pub fn arena() -> &'static Arena {
    Box::leak(Box::new(Arena::new()))
}
