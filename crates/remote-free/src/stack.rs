//! A stack of regions for many pushers and many poppers.
//!
//! R. K. Treiber's stack ("Systems Programming: Coping with Parallelism", 1986)
//! over indices, with a tag in the same word that changes with every operation,
//! so that a stale pop cannot succeed (the ABA problem).

use hakmem_sys::sync::{AtomicU32, AtomicU64, Ordering};

/// Publishes what the pusher wrote to the pushed entry.
const PUSH: Ordering = if cfg!(hakmem_mutation = "stack_push_relaxed") {
    Ordering::Relaxed
} else {
    Ordering::Release
};
/// Makes visible what the pusher wrote. Pairs with `PUSH`; pops in between
/// continue its release sequence.
const POP: Ordering = if cfg!(hakmem_mutation = "stack_pop_relaxed") {
    Ordering::Relaxed
} else {
    Ordering::Acquire
};
/// Makes visible what the pusher wrote to somebody who only looks.
const PEEK: Ordering = if cfg!(hakmem_mutation = "stack_peek_relaxed") {
    Ordering::Relaxed
} else {
    Ordering::Acquire
};
/// What each operation adds to the tag.
const TAG_STEP: u64 = if cfg!(hakmem_mutation = "stack_without_tag") {
    0
} else {
    1 << 32
};

/// Where the entries of a stack keep their links.
pub trait StackLinks {
    /// The link of entry `index`. It must stay readable for ever: a popper may
    /// read the link of an entry that another has just popped.
    fn link(&self, index: u32) -> &AtomicU32;
}

/// A stack of `u32` indices. All-zero bytes are an empty stack.
#[derive(Debug)]
pub struct TaggedStack {
    /// `tag << 32 | index + 1`, or index part 0 when empty.
    head: AtomicU64,
}

impl Default for TaggedStack {
    fn default() -> Self {
        Self::new()
    }
}

impl TaggedStack {
    hakmem_sys::const_new! {
        /// An empty stack.
        pub fn new() -> Self {
            Self { head: AtomicU64::new(0) }
        }
    }

    /// The entry on top, which others may pop at any time.
    ///
    /// Ordering: acquire, so what its pusher wrote is visible.
    #[inline]
    pub fn peek(&self) -> Option<u32> {
        (self.head.load(PEEK) as u32).checked_sub(1)
    }

    /// Whether the stack is empty at some moment during the call (relaxed).
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.head.load(Ordering::Relaxed) as u32 == 0
    }

    /// Pushes an entry that is in no stack. Its index is not `u32::MAX`, which would be none.
    ///
    /// Ordering: release.
    pub fn push(&self, links: &impl StackLinks, index: u32) {
        debug_assert!(index != u32::MAX);
        let mut head = self.head.load(Ordering::Relaxed);
        loop {
            links.link(index).store(head as u32, Ordering::Relaxed);
            let pushed = (head & !0xffff_ffff).wrapping_add(TAG_STEP) | u64::from(index + 1);
            match self
                .head
                .compare_exchange_weak(head, pushed, PUSH, Ordering::Relaxed)
            {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }

    /// Pops the top entry, which is the caller's then.
    ///
    /// Ordering: acquire; pairs with the push of the entry.
    pub fn pop(&self, links: &impl StackLinks) -> Option<u32> {
        let mut head = self.head.load(POP);
        loop {
            let index = (head as u32).checked_sub(1)?;
            let next = links.link(index).load(Ordering::Relaxed);
            let popped = (head & !0xffff_ffff).wrapping_add(TAG_STEP) | u64::from(next);
            match self.head.compare_exchange_weak(head, popped, POP, POP) {
                Ok(_) => return Some(index),
                Err(now) => head = now,
            }
        }
    }

    /// Takes all entries at once. They are the caller's; walk them with
    /// [`next`](Self::next) before pushing any of them anywhere.
    ///
    /// Ordering: acquire.
    pub fn take_all(&self) -> Option<u32> {
        let mut head = self.head.load(POP);
        loop {
            let index = (head as u32).checked_sub(1)?;
            let empty = (head & !0xffff_ffff).wrapping_add(TAG_STEP);
            match self.head.compare_exchange_weak(head, empty, POP, POP) {
                Ok(_) => return Some(index),
                Err(now) => head = now,
            }
        }
    }

    /// The entry after `index` among those that [`take_all`](Self::take_all)
    /// took.
    pub fn next(links: &impl StackLinks, index: u32) -> Option<u32> {
        links.link(index).load(Ordering::Relaxed).checked_sub(1)
    }
}
