//! Sleeping on a word, and waking who does (`futex(2)`).

use crate::errno;

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
