//! `cargo xtask soak`: the stress for a long time, then nothing may be left.

use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::Result;

use crate::stress::{self, Load};
use crate::tally::Outcome;

/// Resident memory a run may have once everything is freed, in MiB.
const RESIDENT_LIMIT_MIB: u64 = 64;

/// Run the stress program for a long time, then check that nothing is left
#[derive(clap::Args)]
pub struct Args {
    /// How long to run
    #[arg(long, default_value_t = 30, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    minutes: u64,

    /// Threads at a time
    #[arg(long, default_value_t = 64, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=256))]
    threads: u32,

    /// Where the random numbers start
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,
}

/// The command: succeeds when the run ends well and its memory is gone.
pub fn run(args: &Args) -> Result<ExitCode> {
    let outcome = check(Load {
        threads: args.threads,
        time: Duration::from_secs(args.minutes * 60),
        seed: args.seed,
    })?;
    println!("{outcome}");
    Ok(match outcome {
        Outcome::Failed(_) => ExitCode::FAILURE,
        Outcome::Passed(_) | Outcome::Skipped(_) => ExitCode::SUCCESS,
    })
}

/// One run of the release stress program, within its memory limit at the end.
pub fn check(load: Load) -> Result<Outcome> {
    let program = stress::build()?;
    println!(
        "  stress with {} threads for {} s",
        load.threads,
        load.time.as_secs()
    );
    let report = match stress::run(&mut Command::new(program), load)? {
        Ok(report) => report,
        Err(outcome) => return Ok(outcome),
    };
    let resident = report.resident_kib / 1024;
    Ok(if resident < RESIDENT_LIMIT_MIB {
        Outcome::Passed(format!(
            "{}; {resident} MiB resident at the end",
            report.rounds()
        ))
    } else {
        Outcome::Failed(format!(
            "{resident} MiB are resident with everything freed; the limit is \
             {RESIDENT_LIMIT_MIB} MiB:\n{}",
            report.text
        ))
    })
}
