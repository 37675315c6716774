//! Running other programs: captured, timed, and ended when they take too long.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

/// What a command left behind.
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to its standard output.
    pub stdout: Vec<u8>,
    /// What it wrote to its standard error.
    pub stderr: Vec<u8>,
    /// Whether it was ended because its time was over.
    pub out_of_time: bool,
}

impl Finished {
    /// Whether it ended by itself with exit status 0.
    pub fn success(&self) -> bool {
        self.status.success() && !self.out_of_time
    }

    /// How it ended, in words.
    pub fn ending(&self) -> String {
        if self.out_of_time {
            return "did not end in time".to_owned();
        }
        ending(self.status)
    }

    /// Both outputs, one after the other, as text.
    pub fn text(&self) -> String {
        let mut text = String::from_utf8_lossy(&self.stdout).into_owned();
        text.push_str(&String::from_utf8_lossy(&self.stderr));
        text
    }
}

/// How a process ended, in words.
pub fn ending(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with status {code}"),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => status.to_string(),
    }
}

/// Runs `command` to its end, keeping both outputs, and ends it with all its children
/// once it has run for `limit`.
///
/// The outputs go through files, not pipes, so a child that outlives the command cannot
/// keep this waiting.
pub fn captured(command: &mut Command, limit: Duration) -> Result<Finished> {
    let mut stdout = scratch_file()?;
    let mut stderr = scratch_file()?;
    command
        .stdout(Stdio::from(stdout.try_clone()?))
        .stderr(Stdio::from(stderr.try_clone()?));
    let mut child = command
        .spawn()
        .with_context(|| format!("{} could not be started", program(command)))?;
    let (status, out_of_time) = wait(&mut child, limit)?;
    Ok(Finished {
        status,
        stdout: whole(&mut stdout)?,
        stderr: whole(&mut stderr)?,
        out_of_time,
    })
}

/// The command as one would type it.
pub fn line(command: &Command) -> String {
    let mut line = program(command);
    for argument in command.get_args() {
        line.push(' ');
        line.push_str(&argument.to_string_lossy());
    }
    line
}

/// The last `lines` lines of `text`.
pub fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// How many tests a run of `cargo test` says have passed.
pub fn passed_tests(text: &str) -> usize {
    text.lines()
        .filter_map(|line| line.strip_prefix("test result: ok. "))
        .filter_map(|line| line.split_whitespace().next()?.parse::<usize>().ok())
        .sum()
}

fn program(command: &Command) -> String {
    let program = command.get_program();
    std::path::Path::new(program)
        .file_name()
        .unwrap_or(program)
        .to_string_lossy()
        .into_owned()
}

fn scratch_file() -> Result<File> {
    tempfile::tempfile().context("no scratch file could be made in the temporary folder")
}

fn whole(file: &mut File) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Waits for `child`, and ends it when `limit` has passed. Also says whether it had to.
pub fn wait(child: &mut Child, limit: Duration) -> Result<(ExitStatus, bool)> {
    let start = Instant::now();
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok((status, false));
        }
        if start.elapsed() >= limit {
            kill_with_children(child.id());
            return Ok((child.wait()?, true));
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// Ends the process and everything it started. Parents go first, so that none is left to
/// start another.
fn kill_with_children(process: u32) {
    let children = children(process);
    if let Some(pid) = i32::try_from(process).ok().and_then(Pid::from_raw) {
        // It may just have ended by itself, which is as good.
        let _ = kill_process(pid, Signal::KILL);
    }
    for child in children {
        kill_with_children(child);
    }
}

fn children(process: u32) -> Vec<u32> {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{process}/task")) else {
        return Vec::new();
    };
    threads
        .flatten()
        .filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok())
        .flat_map(|list| {
            list.split_whitespace()
                .filter_map(|child| child.parse().ok())
                .collect::<Vec<u32>>()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::passed_tests;

    #[test]
    fn tests_of_all_binaries_are_counted() {
        let text = "running 2 tests\ntest result: ok. 2 passed; 0 failed; 0 ignored\n\
                    test result: ok. 11 passed; 0 failed; 0 ignored\n";
        assert_eq!(passed_tests(text), 13);
    }
}
