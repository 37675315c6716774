//! Keeping `errno` as the program left it.
//!
//! A system call that fails inside the allocator and is recovered from must not
//! show in the program's `errno`; `free` in particular promises not to touch it.

/// The calling thread's `errno`.
#[inline]
pub fn get() -> i32 {
    // SAFETY: `__errno_location` returns a valid pointer to the calling
    // thread's own `errno`, for as long as the thread lives.
    unsafe { *libc::__errno_location() }
}

/// Sets the calling thread's `errno`.
#[inline]
pub fn set(value: i32) {
    // SAFETY: as in `get`; no other thread can hold a reference to it.
    unsafe { *libc::__errno_location() = value }
}

/// Runs `call` and puts `errno` back afterwards.
#[inline]
pub fn preserved<R>(call: impl FnOnce() -> R) -> R {
    let saved = get();
    let result = call();
    set(saved);
    result
}
