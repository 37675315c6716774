//! The page arena: address space, committed in steps, handed out as runs of
//! regions.
//!
//! One [`Arena`] owns one contiguous range of addresses. From below:
//!
//! - the space: the range is *claimed* piece by piece at addresses nobody
//!   else uses, so that what the system counts is what is used; where the system
//!   cannot do that (an emulator, a sanitizer), the range is *reserved* as a
//!   whole without access and committed in place. Either way the boxes above see
//!   one base and one [region map](hakmem_region_id::RegionMap).
//! - free runs: lists of free runs by length, one set of lists for each state
//!   of the memory (dirty, clean, hole), with neighbours of the same state
//!   merged. So whether a run reads as zero is known exactly, for each run.
//! - [`Arena`] itself: runs are handed out (`allocate`), become longer or shorter (`resize`), and come
//!   back (`give_back`, also to the system). What its lock guards, and where a request is placed, is in
//!   `inner`; huge pages are in `huge`.
//!
//! For each region there are [`SIDE_BYTES`] of *side record* and [`BITS_BYTES`]
//! of *bit space*, outside the blocks. They belong to whoever holds the region,
//! start as zero, and **stay mapped for ever**: a lock-free reader may always
//! look, however stale its idea of the region is.
//!
//! Because readers may be stale, the first 64 bytes of a side record have fixed
//! tenants, so that what one kind of holder takes for its atomic is never
//! another's data: bytes 0 to 47 are the slab's ([`SLAB_SIDE`]), bytes 48 to 63
//! the mid run's ([`RUN_SIDE`]). The other 64 bytes are the current holder's
//! alone.
//!
//! **Invariant: the arena knows nothing of blocks.** It writes the words of
//! free regions and the labels its callers give it.

#![cfg_attr(not(loom), no_std)]

mod allocate;
mod arena;
mod free_runs;
mod give_back;
mod huge;
mod inner;
mod resize;
mod run;
mod space;

pub use allocate::MAX_HUGE_RUN;
pub use arena::{Arena, ArenaStats};
pub use huge::{HugePages, Use};
pub use run::{
    LARGE_STEP, Label, Run, SPREAD_STEP, Shape, fills_steps, large_regions, run_regions,
    spread_room,
};
pub use space::{BITS_BYTES, RUN_SIDE, SIDE_BYTES, SLAB_SIDE};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
