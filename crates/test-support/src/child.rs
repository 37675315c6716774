//! Tests that run again in a process of their own.

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output};

const CHILD: &str = "TEST_CHILD";

/// Whether this process was started by [`again`].
pub fn is_child() -> bool {
    std::env::var_os(CHILD).is_some()
}

/// Runs the test `name` of this binary in a process of its own, in which
/// [`is_child`] is true.
pub fn again(name: &str) -> Output {
    again_with(name, &[])
}

/// As [`again`], with these environment variables too.
pub fn again_with(name: &str, variables: &[(&str, &str)]) -> Output {
    Command::new(std::env::current_exe().expect("the test's own path"))
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(CHILD, "1")
        .envs(variables.iter().copied())
        .output()
        .expect("the test can be started again")
}

/// The one line that hakmem has written to standard error.
pub fn hakmem_line(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    let mut lines = text.lines().filter(|line| line.starts_with("hakmem: "));
    let line = lines
        .next()
        .unwrap_or_else(|| panic!("no line from hakmem: {text}"));
    assert_eq!(lines.next(), None, "one line only");
    line.to_owned()
}

/// Runs the test `name` [`again`]. It must be aborted, and hakmem's line must say
/// `message`.
#[track_caller]
pub fn assert_aborts(name: &str, message: &str) {
    let output = again(name);
    assert_eq!(
        output.status.signal(),
        Some(libc::SIGABRT),
        "not aborted, but {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    let line = hakmem_line(&output);
    assert!(line.contains(message), "{line:?} does not say {message:?}");
}

#[cfg(test)]
mod tests {
    use super::{assert_aborts, is_child};

    fn in_child(line: &str, end: fn()) -> bool {
        if is_child() {
            eprintln!("hakmem: {line}");
            end();
        }
        is_child()
    }

    #[test]
    fn an_abort_with_the_message_is_accepted() {
        if !in_child("free: double free", || std::process::abort()) {
            assert_aborts(
                "child::tests::an_abort_with_the_message_is_accepted",
                "double free",
            );
        }
    }

    #[test]
    #[should_panic(expected = "does not say")]
    fn an_abort_with_another_message_is_not() {
        if !in_child("out of memory", || std::process::abort()) {
            assert_aborts(
                "child::tests::an_abort_with_another_message_is_not",
                "double free",
            );
        }
    }

    #[test]
    #[should_panic(expected = "not aborted")]
    fn an_end_without_an_abort_is_not() {
        if !in_child("free: double free", || std::process::exit(0)) {
            assert_aborts(
                "child::tests::an_end_without_an_abort_is_not",
                "double free",
            );
        }
    }
}
