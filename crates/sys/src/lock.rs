//! A word-sized lock for slow paths.
//!
//! The three-state futex mutex of Ulrich Drepper, "Futexes Are Tricky" (2011),
//! section 6. Unlike `std`'s it can be put into zeroed memory, can be taken and
//! left by different functions (the fork hooks do), knows who holds it, and never allocates.

use core::cell::UnsafeCell;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};

use crate::sync::{AtomicUsize, Ordering};
use crate::{clock, this_thread};

/// Nobody holds it. Else it is the [`this_thread::id`] of who took it, which is not zero, with
/// these bits:
const FREE: usize = 0;
/// somebody sleeps until it is left,
const CONTENDED: usize = 1;
/// it was taken for a fork: until that is over, its thread may take and leave it as often as it likes,
const FOR_FORK: usize = 2;
/// and the thread that has ended the process goes on as if it held it (once more).
const PASSED: usize = 4;
const BITS: usize = CONTENDED | FOR_FORK | PASSED;
const _: () = assert!(BITS < this_thread::ALIGN);

/// What the holder before has written is seen. Pairs with `LEAVE`.
const TAKE: Ordering = if cfg!(hakmem_mutation = "lock_taken_relaxed") {
    Ordering::Relaxed
} else {
    Ordering::Acquire
};
/// What the holder has written is there for the next one.
const LEAVE: Ordering = if cfg!(hakmem_mutation = "lock_left_relaxed") {
    Ordering::Relaxed
} else {
    Ordering::Release
};

/// How often a waiter looks again before it sleeps.
const SPINS: u32 = if cfg!(loom) { 0 } else { 100 };
/// How often one looks again who has something else to do.
const SOON: u32 = 50;
/// How long a thread that has ended the process waits for another that may be waiting for it.
const DYING_PATIENCE_MS: u32 = 100;

#[cold]
fn held_here() -> ! {
    crate::report::fatal(format_args!(
        "this thread waits for a lock that it holds itself: a signal handler has interrupted the allocator and \
         allocates or frees, or has left it by a jump"
    ));
}

/// A lock without data. All-zero bytes are an unlocked lock.
#[derive(Debug)]
pub struct RawLock {
    state: AtomicUsize,
    /// What the system has for the state.
    #[cfg(loom)]
    sleepers: crate::model::Sleepers,
}

impl Default for RawLock {
    fn default() -> Self {
        Self::new()
    }
}

impl RawLock {
    crate::const_new! {
        /// An unlocked lock.
        pub fn new() -> Self {
            Self {
                state: AtomicUsize::new(FREE),
                #[cfg(loom)]
                sleepers: crate::model::Sleepers::new(),
            }
        }
    }

    /// Takes the lock if nobody holds it.
    ///
    /// Ordering: acquire on success; pairs with the release in
    /// [`unlock`](Self::unlock).
    #[inline]
    pub fn try_lock(&self) -> bool {
        self.try_lock_as(0)
    }

    #[inline]
    fn try_lock_as(&self, bits: usize) -> bool {
        let held = this_thread::id() | bits;
        self.state
            .compare_exchange(FREE, held, TAKE, Ordering::Relaxed)
            .is_ok()
    }

    /// Takes the lock, waiting as long as another thread holds it. If the calling one does, which would wait for
    /// ever, ends the process with one line that says so.
    #[inline]
    pub fn lock(&self) {
        if !self.try_lock() {
            self.lock_slow(0, None);
        }
    }

    /// Takes the lock if nobody holds it, or it becomes free within 50 looks: long enough for a
    /// holder that runs, and no wait for one that does not. Returns whether it did.
    #[inline]
    pub fn lock_soon(&self) -> bool {
        self.try_lock() || self.spin(0, SOON)
    }

    #[cold]
    fn spin(&self, bits: usize, looks: u32) -> bool {
        for _ in 0..looks {
            if self.state.load(Ordering::Relaxed) == FREE && self.try_lock_as(bits) {
                return true;
            }
            core::hint::spin_loop();
        }
        false
    }

    /// Waits for the lock, but not beyond such a moment of [`clock::now_ms`], give or take
    /// [`LOOK_AGAIN_NS`]. Returns whether it is taken.
    #[cold]
    fn lock_slow(&self, bits: usize, deadline: Option<u32>) -> bool {
        // Somebody else's fork handler, which runs inside the hooks.
        if self.is_held_here_for_fork() || self.spin(bits, SPINS) {
            return true;
        }
        if deadline.is_none() && self.is_held_here() && !crate::report::is_dying_here() {
            held_here();
        }
        let mut patience = DYING_PATIENCE_MS;
        loop {
            let state = self.state.load(Ordering::Relaxed);
            if state == FREE {
                // There may be others who sleep.
                let others = if cfg!(hakmem_mutation = "lock_taken_as_if_alone") {
                    0
                } else {
                    CONTENDED
                };
                if self.try_lock_as(bits | others) {
                    return true;
                }
                continue;
            }
            if state & CONTENDED == 0
                && self
                    .state
                    .compare_exchange(
                        state,
                        state | CONTENDED,
                        Ordering::Relaxed,
                        Ordering::Relaxed,
                    )
                    .is_err()
            {
                continue;
            }
            if deadline.is_some_and(is_over) {
                return false;
            }
            if !crate::report::is_dying_here() {
                crate::errno::preserved(|| self.sleep(state | CONTENDED));
            } else if self.is_held_here() || patience == 0 {
                self.state.fetch_or(PASSED, Ordering::Relaxed);
                return true;
            } else {
                crate::errno::preserved(|| crate::helper::sleep_ms(1));
                patience -= 1;
            }
        }
    }

    /// Leaves the lock.
    ///
    /// # Safety
    ///
    /// The caller (or the thread it stands for, in a fork hook) holds the lock.
    #[inline]
    pub unsafe fn unlock(&self) {
        let kept = if cfg!(hakmem_mutation = "lock_left_within_a_fork") {
            PASSED
        } else {
            FOR_FORK | PASSED
        };
        if self.state.load(Ordering::Relaxed) & kept == 0 {
            self.leave();
        } else {
            self.unlock_slow();
        }
    }

    #[inline]
    fn leave(&self) {
        if self.state.swap(FREE, LEAVE) & CONTENDED != 0 {
            self.wake_one();
        }
    }

    #[cold]
    fn unlock_slow(&self) {
        let state = self.state.load(Ordering::Relaxed);
        if state & PASSED != 0 && crate::report::is_dying_here() {
            // Whoever held it before still does.
            self.state.fetch_and(!PASSED, Ordering::Relaxed);
        } else if state & FOR_FORK == 0 {
            self.leave();
        }
    }

    /// Leaves the lock and takes it again. Who sleeps for it has it in between: without that he would
    /// wake up too late again and again.
    ///
    /// # Safety
    ///
    /// The caller holds the lock.
    pub unsafe fn let_others(&self) {
        let is_wanted = self.state.load(Ordering::Relaxed) & CONTENDED != 0;
        // SAFETY: passed on.
        unsafe { self.unlock() };
        if is_wanted {
            crate::errno::preserved(|| crate::helper::sleep_us(WAKE_US));
        }
        self.lock();
    }

    /// Whether the calling thread holds the lock. A signal handler learns by it whether it has
    /// interrupted who does.
    pub fn is_held_here(&self) -> bool {
        self.state.load(Ordering::Relaxed) & !BITS == this_thread::id()
    }

    /// Whether the calling thread has taken the lock by [`lock_for_fork`](Self::lock_for_fork).
    pub fn is_held_here_for_fork(&self) -> bool {
        self.is_held_here() && self.state.load(Ordering::Relaxed) & FOR_FORK != 0
    }

    /// As [`lock`](Self::lock), in the hook that runs before a fork: those that run after it
    /// can tell, and on the same thread can take and leave the lock meanwhile.
    ///
    /// # Safety
    ///
    /// Until [`unlock_for_fork`](Self::unlock_for_fork) the lock is free for the calling thread,
    /// which must not take it while it holds it: by two [`Guard`]s it would reach the value twice.
    pub unsafe fn lock_for_fork(&self) {
        if !self.try_lock_as(FOR_FORK) {
            self.lock_slow(FOR_FORK, None);
        }
    }

    /// As [`lock_for_fork`](Self::lock_for_fork), if it becomes free before such a moment of
    /// [`clock::now_ms`], or some 20 milliseconds later. Returns whether it did.
    ///
    /// # Safety
    ///
    /// As for [`lock_for_fork`](Self::lock_for_fork).
    pub unsafe fn lock_for_fork_before(&self, deadline: u32) -> bool {
        self.try_lock_as(FOR_FORK) || self.lock_slow(FOR_FORK, Some(deadline))
    }

    /// Leaves the lock after a fork.
    ///
    /// # Safety
    ///
    /// The caller has taken it by [`lock_for_fork`](Self::lock_for_fork), or by
    /// [`lock_for_fork_before`](Self::lock_for_fork_before).
    pub unsafe fn unlock_for_fork(&self) {
        self.leave();
    }

    /// Makes the lock free whoever held it.
    ///
    /// # Safety
    ///
    /// Only in the child of a fork, where the holder does not exist any more,
    /// or where the caller holds it.
    pub unsafe fn reset(&self) {
        self.state.store(FREE, Ordering::Release);
    }
}

/// How a thread sleeps until the lock is left.
#[cfg(not(loom))]
impl RawLock {
    /// Sleeps while the state's lower half is as expected, but for some milliseconds at most.
    ///
    /// Who leaves a lock wakes another a moment later. A signal handler may come in between, which
    /// forks, and so waits for all that slow paths have in hand: for one who sleeps here, too.
    #[cold]
    fn sleep(&self, expected: usize) {
        if cfg!(miri) {
            // Miri wants an atomic to be looked at as a whole.
            // SAFETY: no arguments.
            unsafe { libc::sched_yield() };
            return;
        }
        let at_most = libc::timespec {
            tv_sec: 0,
            tv_nsec: LOOK_AGAIN_NS,
        };
        // SAFETY: the state outlives the call.
        unsafe { crate::futex::wait(self.half(), expected as u32, &at_most) };
    }

    #[cold]
    fn wake_one(&self) {
        if cfg!(miri) {
            return;
        }
        crate::futex::wake_one(self.half());
    }

    /// The half of the state that the system looks at: the one with the bits.
    fn half(&self) -> *mut u32 {
        let halves: *mut u32 = self.state.as_ptr().cast();
        let last = size_of::<AtomicUsize>() / size_of::<u32>() - 1;
        halves.wrapping_add(if cfg!(target_endian = "big") { last } else { 0 })
    }
}

/// How a thread sleeps in a model: nobody looks again by himself there.
#[cfg(loom)]
impl RawLock {
    fn sleep(&self, expected: usize) {
        let is_expected = || self.state.load(Ordering::Relaxed) == expected;
        self.sleepers.sleep_while(is_expected);
    }

    fn wake_one(&self) {
        if !cfg!(hakmem_mutation = "lock_left_in_silence") {
            self.sleepers.wake_one();
        }
    }
}

/// Whether this moment of [`clock::now_ms`] is past.
fn is_over(deadline: u32) -> bool {
    clock::now_ms().wrapping_sub(deadline).cast_signed() >= 0
}

/// How long it takes who sleeps to wake up, in microseconds.
const WAKE_US: u32 = 100;

/// Nanoseconds after which who sleeps looks again without being woken.
#[cfg_attr(loom, expect(dead_code, reason = "in a model nobody does"))]
const LOOK_AGAIN_NS: i64 = 20_000_000;

/// Data behind a [`RawLock`].
#[derive(Debug)]
pub struct Lock<T> {
    raw: RawLock,
    value: UnsafeCell<T>,
}

// SAFETY: the lock lets one thread at a time reach the value.
unsafe impl<T: Send> Sync for Lock<T> {}

impl<T> Lock<T> {
    crate::const_new! {
        /// An unlocked lock around `value`.
        pub fn new(value: T) -> Self {
            Self {
                raw: RawLock::new(),
                value: UnsafeCell::new(value),
            }
        }
    }

    /// Takes the lock; it is left when the guard is dropped.
    #[inline]
    pub fn lock(&self) -> Guard<'_, T> {
        self.raw.lock();
        Guard {
            lock: self,
            on_its_thread: PhantomData,
        }
    }

    /// Takes the lock if nobody holds it.
    #[inline]
    pub fn try_lock(&self) -> Option<Guard<'_, T>> {
        self.raw.try_lock().then(|| Guard {
            lock: self,
            on_its_thread: PhantomData,
        })
    }

    /// The lock itself, for the fork hooks.
    pub fn raw(&self) -> &RawLock {
        &self.raw
    }
}

/// Access to the value of a [`Lock`] while it is held.
#[derive(Debug)]
pub struct Guard<'a, T> {
    lock: &'a Lock<T>,
    on_its_thread: PhantomData<*mut T>,
}

// SAFETY: sharing the guard shares the value, and no more. (Sharing the lock
// needs less of the value, so this cannot follow from the fields.)
unsafe impl<T: Sync> Sync for Guard<'_, T> {}

impl<T> Deref for Guard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the guard holds the lock, so no other access exists.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T> DerefMut for Guard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the guard holds the lock, so no other access exists.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T> Drop for Guard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: the guard exists only while its thread holds the lock.
        unsafe { self.lock.raw.unlock() }
    }
}
