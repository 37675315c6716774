//! Runs a test of this binary again, alone and in a process of its own.

#![allow(dead_code, reason = "each test file uses a part of this")]

use std::env;
use std::process::{Command, Output, Stdio};

const CHILD: &str = "HAKMEM_TEST_CHILD";

/// Whether this process was started by [`again`].
pub fn is_child() -> bool {
    env::var_os(CHILD).is_some()
}

/// Runs the test with this name in a child, in which [`is_child`] is true.
pub fn again(test: &str) -> Output {
    Command::new(env::current_exe().expect("the test's own path"))
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(CHILD, "1")
        .stdin(Stdio::null())
        .output()
        .expect("the test's own binary starts")
}

/// The line that hakmem has written to standard error.
pub fn hakmem_line(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    let mut lines = text.lines().filter(|line| line.starts_with("hakmem: "));
    let line = lines
        .next()
        .unwrap_or_else(|| panic!("a line from hakmem in {text:?}"));
    assert_eq!(lines.next(), None, "one line only");
    line.to_owned()
}
