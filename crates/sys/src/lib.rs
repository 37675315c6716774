//! The operating-system seam of hakmem.
//!
//! Everything the allocator asks of the system goes through this box, so that
//! the boxes between it and the preloaded library hold no `libc` call and no
//! `asm!`:
//!
//! - [`vm`]: address space and memory: claim or reserve a range, commit, purge,
//!   move, give back;
//! - [`thread_slot!`]: one pointer per thread in initial-exec TLS, the first
//!   thing both fast paths read;
//! - [`thread_exit`]: a hook that runs when a thread ends;
//! - [`this_thread`]: a number for each thread, without a call;
//! - [`fork`]: hooks around `fork`;
//! - [`barrier`]: a memory barrier on all threads of the process;
//! - [`helper`]: starting a helper thread, and sleeping;
//! - [`environment`]: the variables that the program was started with;
//! - [`image`]: the library that this code is part of stays loaded;
//! - [`lock`]: a word-sized lock for slow paths;
//! - [`sync`]: the atomics of protocols that have a model, `core`'s or, under `cfg(loom)`, loom's;
//! - [`counter`]: event counters;
//! - [`set_once`]: a pointer that is set once;
//! - [`clock`]: a cheap monotonic clock in milliseconds;
//! - [`errno`]: a call that leaves `errno` as it was;
//! - [`opaque`]: an address in a register of its own;
//! - [`prefetch`]: a hint that memory will be used soon;
//! - [`report`]: one line to standard error without allocating, then abort.
//!
//! **Invariant: nothing here allocates while a lock is held.** Arming the exit
//! hook, registering fork hooks and starting the helper thread may make the C
//! library allocate; they are called when the thread's heap is usable.

#![cfg_attr(not(loom), no_std)]

pub mod barrier;
pub mod clock;
pub mod counter;
pub mod environment;
pub mod errno;
pub mod fork;
mod futex;
pub mod helper;
pub mod image;
#[cfg(miri)]
mod interpreter;
pub mod lock;
#[cfg(loom)]
pub mod model;
pub mod opaque;
pub mod prefetch;
pub mod report;
pub mod set_once;
mod slot;
pub mod sync;
pub mod this_thread;
pub mod thread_exit;
pub mod vm;

#[doc(hidden)]
pub use libc as __libc;

#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
compile_error!("hakmem is for Linux on 64-bit processors");

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
