//! `cargo xtask smoke`: real programs with and without the library must not differ.
//!
//! Each program is prepared in an empty folder and run twice or more from it: once as it
//! is, then on hakmem. It passes when every step on hakmem ends with status 0, answers as it
//! did without, and writes no line that starts with `hakmem:` to its standard error.

mod inputs;
mod programs;
mod step;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::tally::{Outcome, Tally};
use crate::tools::Install;
use crate::{library, workspace};
use programs::Program;
use step::Evidence;

/// Run real programs with and without libhakmem.so and compare what they do
#[derive(clap::Args)]
pub struct Args {
    /// Programs to run; all of them when none is named (--list shows the names)
    #[arg(value_name = "NAME")]
    names: Vec<String>,

    /// How many times to run each program on hakmem
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    times: u32,

    /// Install missing programs with apt-get (always done in CI as root)
    #[arg(long)]
    install: bool,

    /// List the programs and end
    #[arg(long)]
    list: bool,
}

/// The command: succeeds when no program failed.
pub fn run(args: &Args) -> Result<ExitCode> {
    if args.list {
        for program in programs::ALL {
            println!("{:<10} {}", program.name, program.what);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let chosen = choose(&args.names)?;
    let tally = check(&chosen, args.times, Install::when(args.install))?;
    println!("{tally}");
    Ok(if tally.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Runs every program `times` times on hakmem.
pub fn check_all(times: u32, install: Install) -> Result<Tally> {
    check(&programs::ALL.iter().collect::<Vec<_>>(), times, install)
}

fn choose(names: &[String]) -> Result<Vec<&'static Program>> {
    if names.is_empty() {
        return Ok(programs::ALL.iter().collect());
    }
    let known: BTreeSet<&str> = programs::ALL.iter().map(|program| program.name).collect();
    for name in names {
        if !known.contains(name.as_str()) {
            let known: Vec<&str> = programs::ALL.iter().map(|program| program.name).collect();
            bail!(
                "there is no smoke program called {name}; there are {}",
                known.join(", ")
            );
        }
    }
    Ok(programs::ALL
        .iter()
        .filter(|program| names.iter().any(|name| name == program.name))
        .collect())
}

fn check(chosen: &[&Program], times: u32, install: Install) -> Result<Tally> {
    let library = library::build()?;
    let mut tally = Tally::default();
    for (index, program) in chosen.iter().enumerate() {
        println!("  [{}/{}] {}", index + 1, chosen.len(), program.name);
        let start = Instant::now();
        let outcome = Outcome::of(check_one(program, &library, times, install));
        println!("    {outcome} ({:.1} s)", start.elapsed().as_secs_f64());
        tally.count(&outcome);
    }
    Ok(tally)
}

fn check_one(program: &Program, library: &Path, times: u32, install: Install) -> Result<Outcome> {
    for tool in program.tools {
        if let Err(sentence) = tool.ensure(install) {
            return Ok(Outcome::Skipped(sentence));
        }
    }
    let scratch = tempfile::tempdir().context("no temporary folder could be made")?;
    // The same path every time: some programs write it into what they make.
    let folder = scratch.path().join(program.name);

    let plain = run_steps(program, &folder, None)?;
    let plain = match plain {
        Ran::Evidence(evidence) => evidence,
        Ran::Unprepared(sentence) => return Ok(Outcome::Skipped(sentence)),
        Ran::Failed(reason) => {
            return Ok(Outcome::Failed(format!(
                "without hakmem already, {reason}; the program itself does not work here"
            )));
        }
    };
    for round in 1..=times {
        match run_steps(program, &folder, Some(library))? {
            Ran::Evidence(evidence) if evidence == plain => {}
            Ran::Evidence(evidence) => {
                let kept = keep(program, &plain, &evidence)?;
                return Ok(Outcome::Failed(format!(
                    "round {round} of {times}: its answers differ on hakmem; both are in {}",
                    kept.display()
                )));
            }
            Ran::Failed(reason) | Ran::Unprepared(reason) => {
                return Ok(Outcome::Failed(format!(
                    "round {round} of {times}: on hakmem {reason}"
                )));
            }
        }
    }
    let rounds = if times == 1 {
        String::new()
    } else {
        format!("{times} times out of {times}")
    };
    Ok(Outcome::Passed(rounds))
}

/// What came of running a program's steps.
enum Ran {
    /// All ended well; this is what they answered.
    Evidence(Vec<Evidence>),
    /// The program is there, but not what it needs.
    Unprepared(String),
    /// A step went wrong.
    Failed(String),
}

fn run_steps(program: &Program, folder: &Path, library: Option<&Path>) -> Result<Ran> {
    if folder.exists() {
        std::fs::remove_dir_all(folder)
            .with_context(|| format!("{} could not be emptied", folder.display()))?;
    }
    std::fs::create_dir_all(folder)?;
    let steps = match (program.prepare)(folder) {
        Ok(steps) => steps,
        Err(error) => return Ok(Ran::Unprepared(format!("{error:#}"))),
    };
    let mut evidence = Vec::new();
    for step in &steps {
        match step.run(folder, library)? {
            Ok(found) => evidence.extend(found),
            Err(reason) => return Ok(Ran::Failed(reason)),
        }
    }
    Ok(Ran::Evidence(evidence))
}

/// Writes both answers where they can be looked at.
fn keep(program: &Program, plain: &[Evidence], hakmem: &[Evidence]) -> Result<PathBuf> {
    let folder = workspace::output_dir("smoke")?.join(program.name);
    for (name, evidence) in [("without", plain), ("with", hakmem)] {
        let folder = folder.join(name);
        std::fs::create_dir_all(&folder)?;
        for (index, piece) in evidence.iter().enumerate() {
            let name = format!("{index:02}-{}", piece.name.replace(['/', ' '], "_"));
            std::fs::write(folder.join(name), &piece.bytes)?;
        }
    }
    Ok(folder)
}
