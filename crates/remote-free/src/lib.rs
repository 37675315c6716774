//! Lock-free lists, each with one small API, and no other home for their
//! atomics:
//!
//! - [`RemoteList`]: the blocks of a slab that threads other than its owner have
//!   freed, together with the mark that says whether the slab has an owner. Many
//!   push, the owner takes everything at once. **Push and disown meet on this one
//!   word**, so nothing freed can be stranded.
//! - [`Outbox`]: where a thread gathers what it frees for others, so that a
//!   whole chain goes to a slab with one atomic operation.
//! - [`TaggedStack`]: a stack of regions that many push to and many pop from.
//! - [`ListedWord`]: which parts of a run or a superslab are free, and whether it stands in such a
//!   stack.
//! - [`Surplus`]: how many entries of such a stack are to leave it, and when a walk over all of
//!   them pays.
//!
//! The lists link through memory the caller owns, named by the traits
//! [`BlockLinks`] and [`StackLinks`]: blocks and side records in the allocator,
//! loom cells in the models.
//!
//! **Invariant: nothing here waits.** Every operation is one atomic
//! read-modify-write, retried only when another thread made progress.

#![cfg_attr(not(loom), no_std)]

mod listed_word;
mod outbox;
mod remote_list;
mod stack;
mod surplus;

pub use listed_word::{GivenBack, ListedWord, MAX_PARTS, TakenOut};
pub use outbox::{Bundle, Outbox};
pub use remote_list::{
    BlockLinks, BlockSlot, Chain, Disowned, OwnerNumber, Pushed, RegionBlocks, RemoteList, Unlisted,
};
pub use stack::{StackLinks, TaggedStack};
pub use surplus::Surplus;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
