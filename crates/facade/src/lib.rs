//! hakmem: a general-purpose memory allocator.
//!
//! ```
//! use hakmem_alloc::Hakmem;
//!
//! #[global_allocator]
//! static ALLOCATOR: Hakmem = Hakmem::new();
//!
//! let words: Vec<String> = ["bins", "slabs", "regions"].map(String::from).into();
//! assert_eq!(words.join(" "), "bins slabs regions");
//! ```
//!
//! This crate is where the boxes meet. The structures, by name:
//!
//! - the **arena** ([`hakmem_page_arena::Arena`]) owns a range of addresses, cut
//!   into regions (of 16 KiB on x86-64), and the **region map** with a word for each: what is
//!   there, and whose it is;
//! - **slabs** ([`hakmem_superslab::OwnedSlabs`]) hold blocks up to 1 KiB; each is
//!   owned by one thread's heap at a time;
//! - the **mid pool** ([`hakmem_mid_pool::MidPool`], [`hakmem_mid_pool::RunPool`])
//!   holds blocks up to 128 KiB and the runs of those up to 8 MiB, which all threads share;
//! - **large** blocks ([`hakmem_large::Large`]) are runs of regions;
//! - a **thread heap** is a thread's [cache](hakmem_thread_cache::ThreadCache) of
//!   free blocks, one bin for each size class to 128 KiB, and the slabs it owns.
//!   The **thread slot** points to it.
//!
//! # The journey of an allocation
//!
//! 1. The size picks a bin from a table in the heap. If the bin has a block, that
//!    is it: 15 to 22 instructions, and 17 to 28 where the alignment is looked at first.
//! 2. Else the slow path refills the bin: a whole magazine from the thread's
//!    depot, or a batch from the class's source: for tiny classes the heap's own
//!    slabs, then slabs nobody owns, then an empty slab; for mid classes a run of
//!    the mid pool.
//! 3. Empty slabs come from superslabs, and these, like runs, from the arena,
//!    which commits memory in steps.
//! 4. Above 128 KiB a block is a run of regions of its own, and above 32 KiB one that grows or
//!    is zeroed: retained from an earlier free, or from the arena; where the arena's range is
//!    used up, a mapping of its own.
//!
//! # The journey of a free
//!
//! 1. The address picks a region, and if the kind in the region's word is the offset
//!    of a bin (the region holds blocks), and the bin has room, the block goes there,
//!    whoever owns it: 20 instructions, one more for Rust. The block itself is not touched.
//! 2. A full bin goes to the depot, or its oldest blocks (half, or seven eighths after several
//!    flushes in a row) are flushed to where the words say: bits in the slab's or the run's
//!    record.
//! 3. The blocks of a slab that another heap owns get their bits too, if that heap's lock
//!    becomes free within some microseconds; else they go to the slab's remote list, in one
//!    chain. If nobody owns the slab, this heap does then.
//! 4. A slab, run or superslab that is all free goes back one step, down to the
//!    arena, and the arena's dirty memory to the system after a second.
//!
//! **Invariant (one gate): the fast paths test nothing but the gate.** A thread
//! without a heap, or whose heap is gone, has one whose bins are empty and full
//! at once, so every call takes the slow path.
//!
//! **Invariant: no function here panics, unwinds, or calls an allocation function
//! of its own program.**

#![no_std]

pub mod c;
mod fork;
mod free;
mod front;
mod global;
mod heap;
mod huge;
mod malloc;
mod purger;
mod realloc;
mod registry;
mod settings;
mod source;
mod state;
mod stats;
mod thread;
mod upkeep;

pub use global::Hakmem;
pub use huge::{HugePages, set_huge_pages};
pub use purger::set_purge_thread;
pub use stats::{Stats, stats};
pub use upkeep::trim;

/// Prepares the allocator for the calling thread and registers what has to be
/// registered with the system.
///
/// Calling it is never necessary: the first allocation does the same. The
/// preloaded library calls it when it is loaded, so that its fork hooks come
/// before those of the program.
pub fn init() {
    thread::heap();
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct ProjectReadme;
