//! Hooks around `fork`.

/// Registers functions to run before a fork, and after it in the parent and in
/// the child. Returns whether the system had room for them.
///
/// The system may allocate here, so the caller's heap must already be usable.
pub fn register(
    prepare: unsafe extern "C" fn(),
    parent: unsafe extern "C" fn(),
    child: unsafe extern "C" fn(),
) -> bool {
    // SAFETY: the functions live as long as the program.
    unsafe { libc::pthread_atfork(Some(prepare), Some(parent), Some(child)) == 0 }
}
