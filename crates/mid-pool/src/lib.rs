//! The mid pool: blocks from just above 1 KiB to 8 MiB, which belong to no
//! thread.
//!
//! - Classes up to 128 KiB come in **runs** of one or more regions, cut into 4 to
//!   56 blocks, or a few less where dirty memory is too short for that ([`run_form`]).
//!   One atomic word per run has a bit for each free block, so a batch of blocks is
//!   taken, and given back, with one operation, and a run whose blocks are all free is
//!   found and returned to the arena ([`run_word`]). Runs with free blocks stand in
//!   lists by class, sharded, so that threads rarely meet ([`MidPool`]). What is given
//!   back of them, and when, is in `upkeep`.
//! - Above that, and where a block above 32 KiB grows or is zeroed, it is a **whole run** of 64 KiB or more.
//!   Freed ones up to 1 MiB are retained for the next request in lists by length, within a budget
//!   ([`RunPool`]). Each thread keeps a few for itself ([`RunCache`]).
//!
//! Neither writes to a block. While runs are taken as huge pages, a few words of some that
//! come back are read, to know whether they were used.
//!
//! **Invariant: every block in a run's word is free, every other is in use or in
//! a bin.** A word that a slow thread read long ago does no harm: it carries the
//! class, so if it is still what stands there, its bits mean what they meant.

#![cfg_attr(not(loom), no_std)]

mod cut;
mod mid_pool;
mod record;
mod rings;
mod run_cache;
pub mod run_form;
mod run_pool;
mod run_use;
pub mod run_word;
mod upkeep;

pub use mid_pool::{MidCounts, MidPool, SHARDS};
pub use run_cache::{CachedRun, RunCache};
pub use run_pool::{MAX_RETAINED, MAX_RETAINED_REGIONS, MAX_RUN_REGIONS, PooledRun, RunPool};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
