//! Messages and the end they announce, seen from outside the process.
#![cfg(not(loom))]

use hakmem_sys::lock::{Lock, RawLock};
use hakmem_sys::{errno, report};
use hakmem_test_support::{again, hakmem_line, is_child};
use std::os::unix::process::ExitStatusExt;

#[test]
fn a_fatal_report_is_one_line_and_then_an_abort() {
    if is_child() {
        report::fatal(format_args!("free({:#x}): {}", 0x1234, "double free"));
    }
    let output = again("a_fatal_report_is_one_line_and_then_an_abort");
    assert_eq!(hakmem_line(&output), "hakmem: free(0x1234): double free");
    assert_eq!(output.status.signal(), Some(libc::SIGABRT));
}

#[test]
fn a_line_that_is_too_long_is_cut_off_and_still_ends() {
    if is_child() {
        errno::set(5);
        report::line(format_args!("{:a<2000}", ""));
        assert_eq!(errno::get(), 5);
        return;
    }
    let output = again("a_line_that_is_too_long_is_cut_off_and_still_ends");
    assert!(output.status.success());
    let line = hakmem_line(&output);
    assert_eq!(line.len(), 511);
    assert!(line["hakmem: ".len()..].bytes().all(|byte| byte == b'a'));
}

#[test]
fn a_line_to_nowhere_does_no_harm() {
    if is_child() {
        // SAFETY: nothing in this process needs standard error.
        unsafe { libc::close(2) };
        errno::set(5);
        report::line(format_args!("nobody reads this"));
        assert_eq!(errno::get(), 5);
        return;
    }
    assert!(again("a_line_to_nowhere_does_no_harm").status.success());
}

static HELD: RawLock = RawLock::new();

extern "C" fn on_abort(_: libc::c_int) {
    // What an allocation in the handler comes to: the lock is held by the very
    // thread that runs it.
    HELD.lock();
    report::line(format_args!("handled"));
    // SAFETY: the lock was left to it, though held.
    unsafe { HELD.unlock() };
    let is_free = std::thread::spawn(|| HELD.try_lock()).join().unwrap();
    if is_free || !HELD.is_held_here() {
        report::line(format_args!("what was interrupted has lost its lock"));
    }
}

extern "C" fn wait_a_little(_: libc::c_int) {
    std::thread::sleep(std::time::Duration::from_millis(300));
}

/// Otherwise two of them would be at work on what the lock guards, and free of any fault tell of
/// faults.
#[test]
fn other_threads_wait_for_locks_until_the_process_has_ended() {
    static COUNT: Lock<usize> = Lock::new(0);
    if is_child() {
        let handler: extern "C" fn(libc::c_int) = wait_a_little;
        // SAFETY: the handler is a function of the right kind.
        unsafe { libc::signal(libc::SIGABRT, handler as libc::sighandler_t) };
        for _ in 0..3 {
            std::thread::spawn(|| {
                loop {
                    let mut count = COUNT.lock();
                    let before = *count;
                    std::thread::yield_now();
                    *count = before + 1;
                    if *count != before + 1 || COUNT.try_lock().is_some() {
                        report::line(format_args!("two hold it"));
                    }
                }
            });
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
        report::fatal(format_args!("dying"));
    }
    let output = again("other_threads_wait_for_locks_until_the_process_has_ended");
    assert_eq!(hakmem_line(&output), "hakmem: dying");
    assert_eq!(output.status.signal(), Some(libc::SIGABRT));
}

#[test]
fn a_dying_process_waits_for_no_lock() {
    if is_child() {
        let handler: extern "C" fn(libc::c_int) = on_abort;
        // SAFETY: the handler is a function of the right kind.
        unsafe { libc::signal(libc::SIGABRT, handler as libc::sighandler_t) };
        HELD.lock();
        report::fatal(format_args!("dying"));
    }
    let output = again("a_dying_process_waits_for_no_lock");
    let text = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("hakmem: "))
        .collect();
    assert_eq!(lines, ["hakmem: dying", "hakmem: handled"]);
    assert_eq!(output.status.signal(), Some(libc::SIGABRT));
}
