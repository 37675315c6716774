//! A memory barrier on all threads of the process at once.
//!
//! It costs the threads nothing but an interrupt when it is asked for: what is rare pays
//! for what is frequent (`membarrier(2)`, Linux 4.14).

#[cfg(not(loom))]
use crate::errno;
use crate::sync::{AtomicBool, Ordering};
#[cfg(not(loom))]
use core::sync::atomic::{compiler_fence, fence};
#[cfg(loom)]
use loom::sync::atomic::fence;

#[cfg(not(loom))]
mod system {
    /// `MEMBARRIER_CMD_PRIVATE_EXPEDITED`
    pub const PRIVATE_EXPEDITED: i32 = 1 << 3;
    /// `MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED`
    pub const REGISTER_PRIVATE_EXPEDITED: i32 = 1 << 4;

    #[cfg(all(target_os = "linux", not(miri)))]
    pub fn membarrier(command: i32) -> bool {
        // SAFETY: the call reads and writes no memory of the process.
        unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) == 0 }
    }

    #[cfg(any(not(target_os = "linux"), miri))]
    pub fn membarrier(_: i32) -> bool {
        false
    }
}

#[cfg(not(loom))]
static READY: AtomicBool = AtomicBool::new(false);

/// Tells the system that this process will want barriers. It is quick while the process has
/// one thread.
#[cfg(not(loom))]
pub fn prepare() {
    let prepared = errno::preserved(|| system::membarrier(system::REGISTER_PRIVATE_EXPEDITED));
    READY.store(prepared, Ordering::Relaxed);
}

/// Whether the system has such barriers, as far as [`prepare`] has found out (relaxed).
#[cfg(not(loom))]
#[inline(always)]
pub fn is_prepared() -> bool {
    READY.load(Ordering::Relaxed)
}

/// As it is under loom, where a model can [be without](pretend_prepared).
#[cfg(loom)]
pub fn is_prepared() -> bool {
    PREPARED.load(core::sync::atomic::Ordering::Relaxed)
}

#[cfg(loom)]
static PREPARED: core::sync::atomic::AtomicBool = core::sync::atomic::AtomicBool::new(true);

/// Has models run as on a system that has such barriers, or on one that has none. Not while one runs.
#[cfg(loom)]
pub fn pretend_prepared(is_prepared: bool) {
    PREPARED.store(is_prepared, core::sync::atomic::Ordering::Relaxed);
}

/// Makes every thread of the process pass a full memory barrier between the call and the
/// return. `false` if the system has none, or [`prepare`] was not called: then nothing has
/// happened.
///
/// What a thread did before its barrier is visible to the caller afterwards, and what the
/// caller did before the call is visible to the thread after its barrier.
#[cfg(not(loom))]
pub fn all_threads() -> bool {
    is_prepared() && errno::preserved(|| system::membarrier(system::PRIVATE_EXPEDITED))
}

/// As it is under loom, which has no such barrier: a fence here and one in each
/// [`this_thread`] come to the same.
#[cfg(loom)]
pub fn all_threads() -> bool {
    fence(Ordering::SeqCst);
    is_prepared()
}

/// A full memory barrier on the calling thread alone: of two threads that each write a word, pass
/// this, and then read the word of the other, one at least reads what the other has written.
#[inline]
pub fn full() {
    if !cfg!(hakmem_mutation = "barrier_full_left_out") {
        fence(Ordering::SeqCst);
    }
}

/// Keeps the calling thread's accesses before and after it in their order with regard to
/// [`all_threads`] of others. No instruction: it is the compiler that must not change the
/// order.
#[inline(always)]
pub fn this_thread() {
    #[cfg(not(loom))]
    compiler_fence(Ordering::SeqCst);
    #[cfg(loom)]
    fence(Ordering::SeqCst);
}

/// Makes visible, with the end of what was announced, what was done meanwhile.
const END: Ordering = if cfg!(hakmem_mutation = "announcement_end_relaxed") {
    Ordering::Relaxed
} else {
    Ordering::Release
};
/// Sees that. Pairs with `END`.
const SEEN: Ordering = if cfg!(hakmem_mutation = "announcement_seen_relaxed") {
    Ordering::Relaxed
} else {
    Ordering::Acquire
};

/// Whether the one thread that owns something is about to take from it, without a locked instruction, what others may
/// take, too.
///
/// The owner [begins](Self::begin), looks whether what it wants is still there, takes it, and [ends](Self::end).
/// Another marks it as gone, has [all threads](all_threads) pass a barrier, and asks whether that
/// [is under way](Self::is_under_way). If not, the owner has taken what the other finds taken then, and nothing else
/// that was marked: what began before the barrier is over, and what begins after it finds the marks. If it is, nobody
/// knows whether the owner has seen the mark.
///
/// The asymmetry is that of D. Dice, H. Huang and M. Yang, "Asymmetric Dekker Synchronization" (2001).
#[derive(Debug)]
pub struct Announcement(AtomicBool);

impl Default for Announcement {
    fn default() -> Self {
        Self::new()
    }
}

impl Announcement {
    crate::const_new! {
        /// Nothing is under way.
        pub fn new() -> Self {
            Self(AtomicBool::new(false))
        }
    }

    /// For the owner, before it looks. No locked instruction, and no fence.
    #[inline(always)]
    pub fn begin(&self) {
        if !cfg!(hakmem_mutation = "announcement_left_out") {
            self.0.store(true, Ordering::Relaxed);
        }
        if !cfg!(hakmem_mutation = "announcement_without_barrier") {
            this_thread();
        }
    }

    /// For the owner, when it has taken what it wanted, or found it gone.
    ///
    /// Ordering: release.
    #[inline(always)]
    pub fn end(&self) {
        self.0.store(false, END);
    }

    /// For others, behind a barrier.
    ///
    /// Ordering: acquire.
    #[inline]
    pub fn is_under_way(&self) -> bool {
        self.0.load(SEEN)
    }
}
