//! Start: an empty program, for what an allocator costs before it has done
//! anything: set-up time and the resident set. This project's own test.
//!
//! The time is measured from outside, by the runner, from before the process is
//! made until it has ended; the program only reports its memory.

use std::process::ExitCode;

use crate::measure::{Memory, Outcome, Timed, Usage};

/// True if the only argument is `start`.
pub fn is_asked_for() -> bool {
    let mut arguments = std::env::args_os().skip(1);
    arguments.next().is_some_and(|name| name == "start") && arguments.next().is_none()
}

/// Reports and ends.
pub fn run() -> ExitCode {
    let usage = Usage::of_this_process();
    let memory = Memory::now();
    let timed = Timed {
        wall: std::time::Duration::ZERO,
        cpu: usage.cpu,
        minor_faults: usage.minor_faults,
    };
    Outcome::new(0, 1, timed)
        .with("anonymous_bytes", memory.anonymous as f64)
        .print();
    ExitCode::SUCCESS
}
