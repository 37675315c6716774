//! Counting instructions with valgrind's callgrind.
//!
//! A program is run twice with different numbers of operations; the difference
//! is what the further operations cost, without start-up, first touches and the
//! end of the program.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::settings;
use crate::{command, tools};

const FEW: u64 = 2000;
const MANY: u64 = 12_000;
const LIMIT: Duration = Duration::from_secs(120);

/// Why instructions cannot be counted here, if they cannot.
pub fn missing() -> Option<&'static str> {
    tools::find("valgrind")
        .is_none()
        .then_some("instructions are not counted: valgrind is not installed")
}

/// Instructions per operation of a bench program's command, whose last two
/// arguments are `--ops` and a number.
///
/// # Errors
/// A sentence where valgrind or the program under it fails.
pub fn per_operation(bench: &[String], folder: &Path) -> Result<f64> {
    if let Some(reason) = missing() {
        bail!(reason);
    }
    let few = instructions(bench, FEW, folder)?;
    let many = instructions(bench, MANY, folder)?;
    Ok((many.saturating_sub(few)) as f64 / (MANY - FEW) as f64)
}

fn instructions(bench: &[String], ops: u64, folder: &Path) -> Result<u64> {
    let [program, arguments @ .., flag, _] = bench else {
        bail!("{} takes no --ops", bench.join(" "));
    };
    if flag != "--ops" {
        bail!("{} takes no --ops", bench.join(" "));
    }
    let out = folder.join("callgrind.out");
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--compress-strings=no"]);
    valgrind.arg(format!("--callgrind-out-file={}", out.display()));
    valgrind
        .arg(program)
        .args(arguments)
        .args(["--ops", &ops.to_string()]);
    settings::forget(&mut valgrind);
    let finished = command::captured(&mut valgrind, LIMIT)?;
    let told = String::from_utf8_lossy(&finished.stderr);
    if !finished.success() {
        // Its name alone: the sentence is published, and the folder is nobody else's.
        let name = Path::new(program).file_name().unwrap_or_default();
        bail!("{} {} under callgrind", name.display(), finished.ending());
    }
    let collected = told
        .lines()
        .find_map(|line| line.split("Collected :").nth(1)?.trim().parse().ok());
    collected.with_context(|| format!("callgrind did not say what it collected: {told}"))
}
