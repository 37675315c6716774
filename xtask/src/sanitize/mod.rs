//! `cargo xtask sanitize`: the stress under `AddressSanitizer` and `ThreadSanitizer` and in Miri,
//! there with the boxes' examples, and a C program on the preloaded library under helgrind.
//!
//! All but the last need nightly. In the first two the standard library is used as it comes, uninstrumented: the
//! stress meets its other threads only in its own atomics and in joins, so nothing is hidden
//! from the sanitizer and nothing is reported that is not so.

mod helgrind;
mod miri;

use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::ValueEnum;

use crate::stress::{self, Load};
use crate::tally::{Outcome, Tally};
use crate::tools::{self, Install};
use crate::{command, workspace};

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Run the stress under sanitizers
#[derive(clap::Args)]
pub struct Args {
    /// Which to run; all when none is named
    #[arg(value_name = "SANITIZER")]
    which: Vec<Sanitizer>,

    /// How long each stress goes on
    #[arg(long, default_value_t = 60, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,

    /// Threads at a time
    #[arg(long, default_value_t = 8, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=256))]
    threads: u32,

    /// Install valgrind with apt-get and Miri with rustup where they are missing (always done in CI as root)
    #[arg(long)]
    install: bool,
}

/// What looks for errors.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Sanitizer {
    /// `AddressSanitizer`
    Asan,
    /// `ThreadSanitizer`
    Tsan,
    /// Valgrind's race detector
    Helgrind,
    /// Rust's interpreter
    Miri,
}

/// Every sanitizer.
pub const ALL: [Sanitizer; 4] = [
    Sanitizer::Asan,
    Sanitizer::Tsan,
    Sanitizer::Helgrind,
    Sanitizer::Miri,
];

impl Sanitizer {
    fn name(self) -> &'static str {
        match self {
            Sanitizer::Asan => "asan",
            Sanitizer::Tsan => "tsan",
            Sanitizer::Helgrind => "helgrind",
            Sanitizer::Miri => "miri",
        }
    }
}

/// The command: succeeds when nothing was reported.
pub fn run(args: &Args) -> ExitCode {
    let chosen = if args.which.is_empty() {
        &ALL[..]
    } else {
        &args.which
    };
    let load = Load {
        threads: args.threads,
        time: Duration::from_secs(args.seconds),
        seed: 1,
    };
    let tally = check(chosen, load, Install::when(args.install));
    println!("{tally}");
    if tally.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Runs each of `chosen`.
pub fn check(chosen: &[Sanitizer], load: Load, install: Install) -> Tally {
    let mut tally = Tally::default();
    for (index, &sanitizer) in chosen.iter().enumerate() {
        println!("  [{}/{}] {}", index + 1, chosen.len(), sanitizer.name());
        let start = Instant::now();
        let outcome = Outcome::of(match sanitizer {
            Sanitizer::Asan => compiled_in(sanitizer, &["-Zsanitizer=address"], load),
            Sanitizer::Tsan => compiled_in(
                sanitizer,
                &[
                    "-Zsanitizer=thread",
                    // The precompiled standard library is not instrumented.
                    "-Cunsafe-allow-abi-mismatch=sanitizer",
                    // The middle of the address space, where the arena likes to be, is
                    // ThreadSanitizer's own.
                    "--cfg=hakmem_tsan",
                ],
                load,
            ),
            Sanitizer::Helgrind => helgrind::check(load, install),
            Sanitizer::Miri => miri::check(load, install),
        });
        println!("    {outcome} ({:.1} s)", start.elapsed().as_secs_f64());
        tally.count(&outcome);
    }
    tally
}

/// Builds the stress with a sanitizer compiled in, and runs it.
fn compiled_in(sanitizer: Sanitizer, flags: &[&str], load: Load) -> Result<Outcome> {
    if let Some(sentence) = tools::no_nightly() {
        return Ok(Outcome::Skipped(sentence));
    }
    let program = build(sanitizer, flags)?;
    let mut command = Command::new(program);
    // A report ends the run with a status of its own, and is not lost among others.
    command.env("ASAN_OPTIONS", "exitcode=66:detect_leaks=1:symbolize=1");
    command.env("TSAN_OPTIONS", "exitcode=66:halt_on_error=1:symbolize=1");
    Ok(match stress::run(&mut command, load)? {
        Err(failed) => failed,
        Ok(report) if report.text.contains("Sanitizer") => {
            Outcome::Failed(format!("reported:\n{}", command::tail(&report.text, 60)))
        }
        Ok(report) => Outcome::Passed(report.rounds().to_owned()),
    })
}

fn build(sanitizer: Sanitizer, flags: &[&str]) -> Result<PathBuf> {
    // Flags for every crate, build scripts excepted: hence the named target.
    let folder = workspace::target_dir()?.join(sanitizer.name());
    let mut cargo = workspace::nightly_cargo();
    cargo.args(["build", "--release", "--package", "hakmem-alloc"]);
    cargo.args(["--example", stress::NAME, "--target", TARGET]);
    cargo.arg(workspace::MESSAGES);
    cargo.env("CARGO_TARGET_DIR", &folder);
    cargo.env("RUSTFLAGS", flags.join(" "));
    let finished = command::captured(&mut cargo, Duration::from_secs(900))?;
    if !finished.success() {
        bail!(
            "the stress does not build with {}:\n{}",
            flags.join(" "),
            command::tail(&String::from_utf8_lossy(&finished.stderr), 40)
        );
    }
    workspace::artifact(&finished.stdout, stress::NAME)
}
