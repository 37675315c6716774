//! Region ids: from an address to what lies there, in one load.
//!
//! The arena's address range is cut into **regions** of [`REGION_BYTES`], and
//! the [`RegionMap`] holds one [`RegionWord`] for each. The word says who owns the
//! region and what it holds, packed so that the test `free` makes, *is this a
//! block that my thread may put into one of its bins, and into which*, is one
//! `and` and one compare (see [`word`]).
//!
//! The box also holds what gives those words their meaning: the
//! [size classes](size_class), and the [tiny header](tiny_header), the older
//! form of the same idea, one byte before each block, for allocators that check.
//!
//! **Invariant: nothing here decides what a word becomes.** Who may write which one is the
//! business of the boxes above; a region's word changes only by its owner, or by
//! the thread that has just won the claim to it.

#![cfg_attr(not(loom), no_std)]

pub mod region_map;
pub mod size_class;
pub mod tiny_header;
pub mod word;

pub use region_map::{MapView, REGION_BYTES, REGION_SHIFT, RegionIndex, RegionMap};
pub use size_class::{
    CLASSES, COARSE_CLASSES, ClassIndex, MAX_CACHED, MAX_CACHED_ALIGN, MAX_FINE, MAX_TINY,
    MID_ALIGN, PLAIN_CLASSES, TINY_CLASSES,
};
pub use word::{Kind, OwnerId, Part, RegionWord};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
