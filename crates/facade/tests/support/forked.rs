//! Work in the child of a fork.

use std::thread;
use std::time::{Duration, Instant};

/// Runs `child` in a forked process and waits for it. The child must end within
/// a time that only a deadlock exceeds.
pub fn in_child(child: impl FnOnce()) {
    // SAFETY: the child calls nothing but the allocator and `_exit`; a panic in
    // it ends in `_exit(1)`, too.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork failed");
    if pid == 0 {
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(child));
        // SAFETY: ends the child without running anything of the parent's.
        unsafe { libc::_exit(i32::from(outcome.is_err())) };
    }
    let start = Instant::now();
    loop {
        let mut status = 0;
        // SAFETY: `status` is a valid place.
        let done = unsafe { libc::waitpid(pid, &raw mut status, libc::WNOHANG) };
        if done == pid {
            assert_eq!(status, 0, "the child has failed");
            return;
        }
        if start.elapsed() > Duration::from_secs(60) {
            // SAFETY: the child is ours.
            unsafe { libc::kill(pid, libc::SIGKILL) };
            panic!("the child of a fork hangs");
        }
        thread::sleep(Duration::from_millis(1));
    }
}
