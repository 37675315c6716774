//! The thread cache: for each size class a bin, and behind the bins a depot.
//!
//! A **bin** is a stack of pointers (a *magazine*), not a list through the
//! blocks: a free does not touch the block's cache line, and successive allocs do
//! not wait on each other's loads. The magazine's slot below the lowest is null
//! for ever, so the test for "empty" is part of loading the block.
//!
//! The **depot** keeps magazines, so that a burst of frees followed by a
//! burst of allocs moves magazines, not blocks (J. Bonwick and J. Adams,
//! "Magazines and Vmem", USENIX 2001); of what is no burst a bin gives it half a magazine and takes half
//! of one, and is half full then, far from the next time (decision 40). Where it has none to give or no room, a
//! refill takes a batch from the [`Source`], and a flush returns to it the blocks that were
//! freed first: half a magazine each time, or seven eighths after several in a row. How much it
//! keeps of a class grows by evidence: refills that follow flushes, and more of it where many of each
//! are in a row, as in bursts (decision 37).
//!
//! A class starts with a small magazine, and gets one of its full [`capacity`] when that has
//! run empty or full: most classes that a thread uses never come so far.
//! It has none before the first refill, or the ninth free: what a thread frees without having
//! allocated any of the class is others', may share cache lines with what is still theirs, and
//! goes back to the source.
//!
//! **A class lends to smaller ones.** With few blocks in each of many classes, the most that
//! each ever had is twice what all have at a time. So a class that has flushed, and needs more
//! now than it kept, gets free blocks of the next classes one by one, before the source makes
//! it new ones: [`Source::refill_free`]. Only with a source that [lends](Source::LENDS): a block's
//! class is then not what was asked for, and has to be known where it is freed.
//!
//! **Invariant: the two fast paths, [`ThreadCache::pop`] and
//! [`ThreadCache::push`], contain nothing else.** Whatever is to see every call
//! is reached by a cache whose bins stay empty and full at once
//! ([`ThreadCache::CLOSED`]).
//!
//! **Invariant: one thread uses a cache.** Another may count what is in it, and
//! [reap](ThreadCache::reap) it: take the depot and all but the topmost block of each bin, and of
//! coarse classes that one, too, because the thread seems to sleep. How that is safe while the thread may wake up any
//! moment is told in [`bin`].

#![cfg_attr(not(loom), no_std)]

pub mod bin;
#[cfg(not(loom))]
mod cache;
#[cfg(not(loom))]
mod depot;
#[cfg(not(loom))]
mod held;
#[cfg(not(loom))]
mod loans;
#[cfg(not(loom))]
mod magazine;
#[cfg(not(loom))]
mod reap;
#[cfg(not(loom))]
mod source;

#[cfg(not(loom))]
pub use cache::{CacheCounts, ThreadCache};
#[cfg(not(loom))]
pub use magazine::{capacity, first_capacity};
#[cfg(not(loom))]
pub use source::Source;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
