//! The thread cache: for each size class a bin, and behind the bins a depot.
//!
//! A **bin** is a stack of pointers (a *magazine*), not a list through the
//! blocks: a free does not touch the block's cache line, and successive allocs do
//! not wait on each other's loads. The magazine's slot below the lowest is null
//! for ever, so the test for "empty" is part of loading the block.
//!
//! The **depot** keeps whole magazines, so that a burst of frees followed by a
//! burst of allocs moves magazines, not blocks (J. Bonwick and J. Adams,
//! "Magazines and Vmem", USENIX 2001). Where it has none to give or no room, a
//! refill takes a batch from the [`Source`] and a flush returns the older half of
//! the bin to it.
//!
//! **Invariant: the two fast paths, [`ThreadCache::pop`] and
//! [`ThreadCache::push`], contain nothing else.** Whatever is to see every call
//! is reached by a cache whose bins stay empty and full at once
//! ([`ThreadCache::CLOSED`]).
//!
//! **Invariant: one thread uses a cache.** Others may only count what is in it.

#![cfg_attr(not(loom), no_std)]

mod cache;
mod magazine;

pub use cache::{CacheCounts, Source, ThreadCache};
pub use magazine::capacity;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
