//! Hooks around `fork`. One test: the hooks are the process's.
#![cfg(not(loom))]

use hakmem_sys::fork;
use std::sync::atomic::{AtomicU32, Ordering};

/// One digit for each hook that ran.
static RAN: AtomicU32 = AtomicU32::new(0);

fn note(digit: u32) {
    RAN.store(RAN.load(Ordering::Relaxed) * 10 + digit, Ordering::Relaxed);
}

unsafe extern "C" fn prepare() {
    note(1);
}

unsafe extern "C" fn parent() {
    note(2);
}

unsafe extern "C" fn child() {
    note(3);
}

#[test]
fn hooks_run_before_a_fork_and_after_it_on_both_sides() {
    // SAFETY: they may be called at any time.
    assert!(unsafe { fork::register(prepare, parent, child) });
    // SAFETY: the child calls only `_exit`.
    let process = unsafe { libc::fork() };
    if process == 0 {
        // SAFETY: ends the child without running anything of the test's.
        unsafe { libc::_exit(RAN.load(Ordering::Relaxed) as i32) };
    }
    assert!(process > 0, "fork works here");
    assert_eq!(RAN.load(Ordering::Relaxed), 12);
    let mut status = 0;
    // SAFETY: `status` is a valid place.
    let ended = unsafe { libc::waitpid(process, &raw mut status, 0) };
    assert_eq!(ended, process);
    assert!(libc::WIFEXITED(status));
    assert_eq!(libc::WEXITSTATUS(status), 13);
}
