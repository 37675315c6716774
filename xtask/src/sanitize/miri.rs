//! The stress in Miri, which follows each of its steps by the rules of Rust: who may use which
//! memory through which pointer, races of the memory model, and values that a weaker processor
//! could read.

use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use crate::stress::{self, Load};
use crate::tally::Outcome;
use crate::tools::{self, Install};
use crate::{command, workspace};

/// More threads than this have no time to do anything.
const THREADS_AT_MOST: u32 = 3;
/// A round takes some six seconds, and there are five kinds of them.
const LEAST_TIME: Duration = Duration::from_secs(40);

/// The allocator makes pointers of addresses, lives in mappings that it never gives back, and asks
/// for the time.
const FLAGS: &str = "-Zmiri-permissive-provenance -Zmiri-ignore-leaks -Zmiri-disable-isolation";

/// Runs the stress; a report is a failure.
pub fn check(load: Load, install: Install) -> Result<Outcome> {
    if let Some(sentence) = tools::no_nightly() {
        return Ok(Outcome::Skipped(sentence));
    }
    if let Err(sentence) = ensure(install) {
        return Ok(Outcome::Skipped(sentence));
    }
    let mut cargo = workspace::nightly_cargo();
    cargo.args(["miri", "run", "--quiet", "--package", "hakmem-alloc"]);
    cargo.args(["--example", "stress", "--"]);
    cargo.env(
        "CARGO_TARGET_DIR",
        workspace::target_dir()?.join("interpreted"),
    );
    cargo.env("MIRIFLAGS", format!("{FLAGS} -Zmiri-seed={}", load.seed));
    let load = Load {
        threads: load.threads.min(THREADS_AT_MOST),
        time: load.time.max(LEAST_TIME),
        ..load
    };
    Ok(match stress::run(&mut cargo, load)? {
        Err(failed) => failed,
        Ok(report) => Outcome::Passed(report.rounds().to_owned()),
    })
}

/// Makes sure that nightly has Miri, or says what is missing.
fn ensure(install: Install) -> Result<(), String> {
    if is_there() {
        return Ok(());
    }
    let way = "`rustup component add miri rust-src --toolchain nightly` brings it";
    if !install.allowed() {
        return Err(format!(
            "there is no Miri: {way}, and --install does that for you"
        ));
    }
    println!("    installing Miri");
    let mut rustup = Command::new("rustup");
    rustup.args(["component", "add", "miri", "rust-src"]);
    rustup.args(["--toolchain", "nightly"]);
    match command::captured(&mut rustup, Duration::from_secs(600)) {
        Ok(_) if is_there() => Ok(()),
        Ok(finished) => Err(format!(
            "there is no Miri: {way}, but it {}:\n{}",
            finished.ending(),
            command::tail(&finished.text(), 10)
        )),
        Err(error) => Err(format!("{error:#}")),
    }
}

fn is_there() -> bool {
    let mut cargo = workspace::nightly_cargo();
    cargo.args(["miri", "--version"]);
    command::captured(&mut cargo, Duration::from_secs(60)).is_ok_and(|finished| finished.success())
}
