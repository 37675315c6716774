//! A word-sized lock for slow paths.
//!
//! The three-state futex mutex of Ulrich Drepper, "Futexes Are Tricky" (2011),
//! section 6. Unlike `std`'s it can be put into zeroed memory, can be taken and
//! left by different functions (the fork hooks do), and never allocates.

use core::cell::UnsafeCell;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicU32, Ordering};

const FREE: u32 = 0;
const HELD: u32 = 1;
const CONTENDED: u32 = 2;

/// How often a waiter looks again before it sleeps.
const SPINS: u32 = 100;
/// How often one looks again who has something else to do.
const SOON: u32 = 50;

/// A lock without data. All-zero bytes are an unlocked lock.
#[derive(Debug)]
pub struct RawLock {
    state: AtomicU32,
}

impl Default for RawLock {
    fn default() -> Self {
        Self::new()
    }
}

impl RawLock {
    /// An unlocked lock.
    pub const fn new() -> Self {
        Self {
            state: AtomicU32::new(FREE),
        }
    }

    /// Takes the lock if nobody holds it.
    ///
    /// Ordering: acquire on success; pairs with the release in
    /// [`unlock`](Self::unlock).
    #[inline]
    pub fn try_lock(&self) -> bool {
        self.state
            .compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
    }

    /// Takes the lock, waiting as long as another thread holds it.
    #[inline]
    pub fn lock(&self) {
        if !self.try_lock() {
            self.lock_slow();
        }
    }

    /// Takes the lock if nobody holds it, or it becomes free within 50 looks: long enough for a
    /// holder that runs, and no wait for one that does not. Returns whether it did.
    #[inline]
    pub fn lock_soon(&self) -> bool {
        self.try_lock() || self.spin(SOON)
    }

    #[cold]
    fn spin(&self, looks: u32) -> bool {
        for _ in 0..looks {
            if self.state.load(Ordering::Relaxed) == FREE && self.try_lock() {
                return true;
            }
            core::hint::spin_loop();
        }
        false
    }

    #[cold]
    fn lock_slow(&self) {
        if self.spin(SPINS) {
            return;
        }
        while self.state.swap(CONTENDED, Ordering::Acquire) != FREE {
            if crate::report::is_dying() {
                return;
            }
            crate::errno::preserved(|| wait(&self.state, CONTENDED));
        }
    }

    /// Leaves the lock.
    ///
    /// # Safety
    ///
    /// The caller (or the thread it stands for, in a fork hook) holds the lock.
    #[inline]
    pub unsafe fn unlock(&self) {
        if self.state.swap(FREE, Ordering::Release) == CONTENDED {
            wake_one(&self.state);
        }
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

/// Sleeps while `*word == expected`.
#[cold]
fn wait(word: &AtomicU32, expected: u32) {
    // SAFETY: `word` outlives the call and the operation only reads it.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG,
            expected,
            core::ptr::null::<libc::timespec>(),
        );
    }
}

#[cold]
fn wake_one(word: &AtomicU32) {
    crate::errno::preserved(|| {
        // SAFETY: the address is only used as a key; nothing is read or written.
        unsafe {
            libc::syscall(
                libc::SYS_futex,
                word.as_ptr(),
                libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG,
                1,
            );
        }
    });
}

/// Data behind a [`RawLock`].
#[derive(Debug)]
pub struct Lock<T> {
    raw: RawLock,
    value: UnsafeCell<T>,
}

// SAFETY: the lock lets one thread at a time reach the value.
unsafe impl<T: Send> Sync for Lock<T> {}

impl<T> Lock<T> {
    /// An unlocked lock around `value`.
    pub const fn new(value: T) -> Self {
        Self {
            raw: RawLock::new(),
            value: UnsafeCell::new(value),
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
