//! The stress program, `crates/facade/examples/stress.rs`: building it and reading its end.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::tally::Outcome;
use crate::{command, workspace};

/// The example's name.
pub const NAME: &str = "stress";

/// Time beyond its own that a run may take to join its threads and free everything, slowed
/// by a sanitizer.
const GRACE: Duration = Duration::from_secs(300);

/// Builds the release program and returns its path.
pub fn build() -> Result<PathBuf> {
    let mut cargo = workspace::cargo();
    cargo.args(["build", "--release", "--package", "hakmem-alloc"]);
    cargo.args(["--example", NAME]);
    workspace::build(&mut cargo, NAME)
}

/// One run.
#[derive(Clone, Copy)]
pub struct Load {
    /// Threads at a time.
    pub threads: u32,
    /// How long to go on.
    pub time: Duration,
    /// Where the random numbers start.
    pub seed: u64,
}

impl Load {
    /// Adds the program's arguments.
    pub fn describe(self, command: &mut Command) {
        command
            .arg(self.threads.to_string())
            .arg(self.time.as_secs().to_string())
            .arg(self.seed.to_string());
    }
}

/// What a run that ended well said of itself.
pub struct Report {
    /// Its lines.
    pub text: String,
    /// Resident memory at the end, after a trim, in KiB.
    pub resident_kib: u64,
}

impl Report {
    /// The line that tells how much was done.
    pub fn rounds(&self) -> &str {
        self.text
            .lines()
            .find(|line| line.contains(" rounds, "))
            .unwrap_or_default()
    }
}

/// Runs a stress program; the inner error is a failed check.
pub fn run(command: &mut Command, load: Load) -> Result<Result<Report, Outcome>> {
    load.describe(command);
    let finished = command::captured(command, load.time + GRACE)?;
    let text = finished.text();
    if !finished.success() || !text.lines().any(|line| line == "ok") {
        let report = workspace::output_dir("stress")?.join("failed.txt");
        std::fs::write(&report, &text)?;
        return Ok(Err(Outcome::Failed(format!(
            "the stress with {} threads and seed {} {}; all of its output is in {}:\n{}",
            load.threads,
            load.seed,
            finished.ending(),
            report.display(),
            command::tail(&text, 40)
        ))));
    }
    let Some(resident_kib) = resident_kib(&text) else {
        bail!("the stress ended well, but did not say how much memory it has:\n{text}");
    };
    Ok(Ok(Report { text, resident_kib }))
}

fn resident_kib(text: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with("resident "))?;
    let mut words = line.split_whitespace().rev();
    (words.next()? == "KiB").then_some(())?;
    words.next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::resident_kib;

    #[test]
    fn the_memory_after_the_trim_is_read() {
        let text =
            "7 rounds, 9 operations\nresident 512 KiB; after a trim of 99 KiB, 413 KiB\nok\n";
        assert_eq!(resident_kib(text), Some(413));
        assert_eq!(resident_kib("ok\n"), None);
    }
}
