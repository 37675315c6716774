//! Large allocations: each is a run of the arena, or a mapping of its own where
//! the arena's range is too small.
//!
//! - [`Large`] hands out runs with any alignment, knows which read as zero,
//!   places blocks in them (`offset`), grows them in place into what is free behind
//!   them, shrinks them by giving the tail back, and moves the largest out of the arena by
//!   moving their pages.
//! - the registry holds the mappings outside the arena: blocks that were moved, and where the
//!   arena had to settle for a small range (an emulator, a low address-space limit), those
//!   that it has no room for, so that a program can still use all of its memory.
//!
//! **Invariant: an address is a large allocation only if its region word or the
//! registry says so**, and only its first byte is its name.

#![cfg_attr(not(loom), no_std)]

mod large;
mod offset;
mod outside;

pub use large::{Block, LEAST_OUTSIDE, Large};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
