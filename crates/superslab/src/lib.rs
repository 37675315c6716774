//! Slabs: regions of blocks of one tiny class, owned by one heap at a time.
//!
//! Four structures, from below:
//!
//! - a **superslab** is a piece of arena, cut into 32 slabs, or fewer; one atomic word says
//!   which are empty ([`superslab`]);
//! - a **slab** is one region. Its record lies outside the blocks, in the arena's
//!   side records: a bit for each free block, how far the slab has been carved,
//!   and the [`RemoteList`](hakmem_remote_free::RemoteList) where other heaps
//!   leave the blocks they free and where ownership changes hands (`record`);
//! - [`OwnedSlabs`] are the slabs of one heap, by class: the current one, those
//!   with room, the full ones; with the inbox that says in which of them freed
//!   blocks are waiting. What is done with them under the heap's lock has a file each: `refill` and
//!   `flush`, `deliver` (what a flush sends to others) and `drain` (what others have sent), `give_up`
//!   (slabs that leave) and `upkeep`;
//! - the [`SlabPool`] is what all heaps share: empty slabs, and for each class
//!   the slabs with room that nobody owns.
//!
//! A refill goes through counted stages: own slabs, the class's pool, an empty
//! slab, a new superslab. A free of a block goes to the slab's bits, under the
//! lock of the heap that owns the slab. If that is another heap, which is busy, or
//! nobody, it goes to the slab's remote list, batched; and if nobody owns the slab,
//! the heap that frees has thereby claimed it.
//!
//! Neither refill nor flush touches a block: both work on the bits. Only a block
//! on its way to a slab's remote list carries a link.
//!
//! **Nothing is stranded.** A heap that sleeps does not drain its inbox, but
//! whoever frees one of its blocks does it on the sleeper's behalf, and whoever needs slabs has its
//! slabs with room given to the pool. One that works is asked for its *sparse* slabs, of which three
//! quarters are free.
//!
//! **Invariant: a block in a bin counts as used**, whoever owns its slab by now;
//! flush routes it by the region word.
#![cfg_attr(not(loom), no_std)]

mod bits;
mod deliver;
mod drain;
mod empty;
mod flush;
mod geometry;
mod give_up;
mod held;
mod holes;
mod lists;
mod lookup;
mod marks;
mod owned;
mod owners;
mod pool;
mod record;
mod refill;
mod slab;
pub mod superslab;
mod upkeep;
mod waiting;

/// Names an owner in the [`OwnerTable`].
pub use hakmem_remote_free::OwnerNumber;
pub use owned::{OwnedSlabs, SlabCounts};
pub use owners::OwnerTable;
pub use pool::{PoolCounts, Shared, SlabPool};
pub use record::used_blocks;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
