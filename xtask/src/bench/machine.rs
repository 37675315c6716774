//! Where and on what a measurement was made.

use std::process::Command;

use super::results::{Commit, Machine};
use crate::workspace;

/// This machine.
pub fn machine() -> Machine {
    Machine {
        cpu: proc_field("/proc/cpuinfo", "model name")
            .or_else(|| proc_field("/proc/cpuinfo", "CPU part"))
            .unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
        cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        memory_bytes: memory("MemTotal").unwrap_or(0),
        kernel: rustix::system::uname()
            .release()
            .to_string_lossy()
            .into_owned(),
        huge_pages: huge_pages(),
        rustc: output("rustc", &["--version"]).unwrap_or_else(|| "unknown".to_owned()),
        load: load().unwrap_or(0.0),
    }
}

/// The commit of the sources.
pub fn commit() -> Commit {
    let hash = output("git", &["rev-parse", "HEAD"]).unwrap_or_else(|| "unknown".to_owned());
    let changes = output("git", &["status", "--porcelain", "--untracked-files=no"]);
    Commit {
        hash,
        dirty: changes.is_none_or(|changes| !changes.is_empty()),
    }
}

/// Bytes that a new process could use without swapping.
pub fn available_bytes() -> u64 {
    memory("MemAvailable").unwrap_or(u64::MAX)
}

/// Runs on the machine per processor over the last minute.
pub fn load() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/loadavg").ok()?;
    text.split_whitespace().next()?.parse().ok()
}

fn memory(field: &str) -> Option<u64> {
    let value = proc_field("/proc/meminfo", field)?;
    let number: u64 = value.split_whitespace().next()?.parse().ok()?;
    Some(number * 1024)
}

fn proc_field(path: &str, field: &str) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == field).then(|| value.trim().to_owned())
    })
}

/// The word in brackets.
fn huge_pages() -> String {
    let text = std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled");
    let text = text.unwrap_or_default();
    let chosen = text
        .split('[')
        .nth(1)
        .and_then(|rest| rest.split(']').next());
    chosen.unwrap_or("unknown").to_owned()
}

fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(workspace::root())
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    output.status.success().then_some(text)
}
