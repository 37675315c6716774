//! Sleeping on a word, and waking who does (`futex(2)`).

use crate::errno;
use core::ptr;
use core::sync::atomic::AtomicU32;

/// Sleeps as long as the word has this value, until somebody [wakes](wake_one) who sleeps on it, or for
/// so long. Returns whether the system did as it was asked, which it does not in a sandbox that denies
/// the call.
///
/// # Safety
///
/// The word can be read until then.
pub(crate) unsafe fn wait(word: *const u32, value: u32, at_most: &libc::timespec) -> bool {
    // SAFETY: the caller's promise; the operation only reads the word and the time.
    let outcome = unsafe {
        libc::syscall(
            libc::SYS_futex,
            word,
            libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG,
            value,
            core::ptr::from_ref(at_most),
        )
    };
    outcome == 0 || matches!(errno::get(), libc::EAGAIN | libc::EINTR | libc::ETIMEDOUT)
}

/// Whether the process, or another that can be seen from it, has a thread with this number (`gettid(2)`)
/// that has not ended; not if the system does not tell the one from the other, or refuses the call.
///
/// A lock of its own kind (`FUTEX_TRYLOCK_PI`), which that thread is said to hold, is asked for in vain if
/// there is such a thread (or it is the one that asks), and else refused because there is not. It needs no
/// call that a program with threads does not make anyway, and no file.
pub(crate) fn is_there(thread: u32) -> bool {
    // None can have it: it is beyond what the system gives.
    const NOBODY: u32 = libc::FUTEX_TID_MASK;
    if cfg!(any(miri, loom)) {
        return false;
    }
    errno::preserved(|| {
        matches!(asked_of(thread), libc::EAGAIN | libc::EDEADLK) && asked_of(NOBODY) == libc::ESRCH
    })
}

/// What the system says to who asks for a lock that this thread holds.
fn asked_of(holder: u32) -> i32 {
    let lock = AtomicU32::new(holder);
    // SAFETY: the word outlives the call, which is over at once.
    let outcome = unsafe {
        libc::syscall(
            libc::SYS_futex,
            lock.as_ptr(),
            libc::FUTEX_TRYLOCK_PI | libc::FUTEX_PRIVATE_FLAG,
            0,
            ptr::null::<libc::timespec>(),
        )
    };
    if outcome == 0 { 0 } else { errno::get() }
}

/// Wakes one of those who sleep on the word, which has another value by now.
pub(crate) fn wake_one(word: *const u32) {
    errno::preserved(|| {
        // SAFETY: the address is only used as a key; nothing is read or written.
        unsafe {
            libc::syscall(
                libc::SYS_futex,
                word,
                libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG,
                1,
            );
        }
    });
}
