//! A hook that runs when a thread ends.
//!
//! It is a `pthread` key: its destructors run after those of C++
//! `thread_local` and Rust `thread_local!` values, which may still allocate.
//! Destructors of other keys can run later; the caller has to survive them
//! (hakmem's facade lets such a thread work on a shared heap), and a hook that is
//! armed by the last of them does not run.
//!
//! The system keeps the hook's address as long as the process lives. So the
//! library that a hook is part of is kept loaded from its first use on.

use core::ffi::c_void;
use core::sync::atomic::{AtomicU32, Ordering};

/// Stands for "no key yet"; `pthread` keys start at zero and are few.
const NONE: u32 = u32::MAX;

/// The hook: one `pthread` key, made at first use.
#[derive(Debug)]
pub struct ExitHook {
    key: AtomicU32,
    run: unsafe extern "C" fn(*mut c_void),
}

impl ExitHook {
    /// A hook that calls `run` with the value given to [`arm`](Self::arm), on
    /// the ending thread.
    ///
    /// # Safety
    ///
    /// `run` may be called so with every value that the hook is armed with.
    pub const unsafe fn new(run: unsafe extern "C" fn(*mut c_void)) -> Self {
        Self {
            key: AtomicU32::new(NONE),
            run,
        }
    }

    /// Asks for the hook to run with `value` (not null) when the calling thread
    /// ends. May be called again from inside the hook to have it run once more
    /// in the next round of destructors (POSIX guarantees four rounds).
    ///
    /// Returns whether the system had a key and room for the value. The system
    /// may allocate here, so the caller's heap must already be usable.
    #[expect(
        clippy::not_unsafe_ptr_arg_deref,
        reason = "the value is passed on, not looked at"
    )]
    pub fn arm(&self, value: *mut c_void) -> bool {
        let key = self.key.load(Ordering::Acquire);
        let key = if key == NONE { self.make_key() } else { key };
        // SAFETY: the key was made by `pthread_key_create` and is never deleted.
        key != NONE && unsafe { libc::pthread_setspecific(key, value) } == 0
    }

    /// The value that the hook is to run with when the calling thread ends; null if it is not to.
    pub fn value(&self) -> *mut c_void {
        match self.key.load(Ordering::Acquire) {
            NONE => core::ptr::null_mut(),
            // SAFETY: the key was made by `pthread_key_create` and is never deleted.
            key => unsafe { libc::pthread_getspecific(key) },
        }
    }

    /// Whether [`arm`](Self::arm) finds a key made: it does not enter the loader then.
    pub fn has_key(&self) -> bool {
        self.key.load(Ordering::Acquire) != NONE
    }

    fn make_key(&self) -> u32 {
        crate::image::stay_loaded();
        let mut key: libc::pthread_key_t = 0;
        // SAFETY: `key` is a valid place, and `run` is a function that lives as long as the
        // process: it is part of what stays loaded.
        if unsafe { libc::pthread_key_create(&raw mut key, Some(self.run)) } != 0 {
            return NONE;
        }
        match self
            .key
            .compare_exchange(NONE, key, Ordering::AcqRel, Ordering::Acquire)
        {
            Ok(_) => key,
            Err(theirs) => {
                // SAFETY: the key was made above and given to nobody.
                unsafe { libc::pthread_key_delete(key) };
                theirs
            }
        }
    }
}
