//! Hooks around `fork`.

/// Registers functions to run before a fork, and after it in the parent and in
/// the child. Returns whether the system had room for them.
///
/// The system may allocate here, so the caller's heap must already be usable.
///
/// # Safety
///
/// From now on the functions may be called around every fork, on the thread that forks.
pub unsafe fn register(
    prepare: unsafe extern "C" fn(),
    parent: unsafe extern "C" fn(),
    child: unsafe extern "C" fn(),
) -> bool {
    // SAFETY: the functions live as long as the program.
    unsafe { libc::pthread_atfork(Some(prepare), Some(parent), Some(child)) == 0 }
}

/// Whether the calling thread is known to be the only one of the process: who forks then has
/// nobody to wait for, and may be a signal handler that has interrupted the holder of a lock.
/// glibc has said so since 2.32; elsewhere, and where another thread has ended, the answer may
/// be `false` though the thread is alone.
#[inline]
pub fn is_single_threaded() -> bool {
    #[cfg(all(
        target_os = "linux",
        target_env = "gnu",
        any(target_arch = "x86_64", target_arch = "aarch64"),
        not(any(miri, loom))
    ))]
    {
        let flag = crate::weak::weak_address!("__libc_single_threaded");
        // SAFETY: where the symbol is defined it is a byte.
        unsafe {
            // The C library changes it when the first thread is created, which this thread does.
            !flag.is_null() && flag.read_volatile() != 0
        }
    }
    #[cfg(not(all(
        target_os = "linux",
        target_env = "gnu",
        any(target_arch = "x86_64", target_arch = "aarch64"),
        not(any(miri, loom))
    )))]
    false
}
