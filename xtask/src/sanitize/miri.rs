//! The stress and the examples of the boxes in Miri, which follows each of their steps by the rules
//! of Rust: who may use which memory through which pointer, races of the memory model, and values
//! that a weaker processor could read.

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

/// The examples take some ten seconds, once they are built.
const EXAMPLES_LIMIT: Duration = Duration::from_secs(600);

/// Runs the examples and the stress; a report is a failure.
pub fn check(load: Load, install: Install) -> Result<Outcome> {
    if let Some(sentence) = tools::no_nightly() {
        return Ok(Outcome::Skipped(sentence));
    }
    if let Err(sentence) = ensure(install) {
        return Ok(Outcome::Skipped(sentence));
    }
    let examples = match examples(load.seed)? {
        Ok(count) => count,
        Err(failed) => return Ok(failed),
    };
    let mut cargo = cargo_miri("run", load.seed)?;
    cargo.args(["--quiet", "--package", "hakmem-alloc"]);
    cargo.args(["--example", "stress", "--"]);
    let load = Load {
        threads: load.threads.min(THREADS_AT_MOST),
        time: load.time.max(LEAST_TIME),
        ..load
    };
    Ok(match stress::run(&mut cargo, load)? {
        Err(failed) => failed,
        Ok(report) => Outcome::Passed(format!("{examples} examples, {}", report.rounds())),
    })
}

/// Runs the examples of all boxes but the facade, whose boxes the stress goes through, and whose
/// example makes more blocks than Miri has time for. Returns how many; the inner error is a failed
/// one.
fn examples(seed: u64) -> Result<Result<usize, Outcome>> {
    let mut cargo = cargo_miri("test", seed)?;
    cargo.arg("--doc").args(workspace::BOXES);
    cargo.args(["--exclude", "hakmem-alloc"]);
    let finished = command::captured(&mut cargo, EXAMPLES_LIMIT)?;
    let text = finished.text();
    let passed = command::passed_tests(&text);
    if finished.success() && passed > 0 {
        return Ok(Ok(passed));
    }
    Ok(Err(Outcome::Failed(format!(
        "the examples of the boxes: {passed} passed, and `{}` {}:\n{}",
        command::line(&cargo),
        finished.ending(),
        command::tail(&text, 60)
    ))))
}

/// A `cargo miri` command.
fn cargo_miri(what: &str, seed: u64) -> Result<Command> {
    let mut cargo = workspace::nightly_cargo();
    cargo.args(["miri", what]);
    let folder = workspace::target_dir()?.join("interpreted");
    cargo.env("CARGO_TARGET_DIR", folder);
    cargo.env("MIRIFLAGS", format!("{FLAGS} -Zmiri-seed={seed}"));
    Ok(cargo)
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
