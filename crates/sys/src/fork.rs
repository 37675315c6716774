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
        let flag: *const u8;
        // SAFETY: reads the address of a symbol, null where nothing defines it. Asking the
        // loader for it instead would enter the loader at a program's first allocation.
        unsafe {
            #[cfg(target_arch = "x86_64")]
            core::arch::asm!(
                ".weak __libc_single_threaded",
                "mov {flag}, qword ptr [rip + __libc_single_threaded@GOTPCREL]",
                flag = out(reg) flag,
                options(nostack, preserves_flags, readonly, pure),
            );
            #[cfg(target_arch = "aarch64")]
            core::arch::asm!(
                ".weak __libc_single_threaded",
                "adrp {flag}, :got:__libc_single_threaded",
                "ldr {flag}, [{flag}, :got_lo12:__libc_single_threaded]",
                flag = out(reg) flag,
                options(nostack, preserves_flags, readonly, pure),
            );
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
