//! The bench program: one workload per run, one JSON line as its result.
//!
//! `cargo xtask bench` builds it once for every allocator (a *peer*, chosen by
//! a cargo feature, see [`peer`]) and runs it as a process of its own for every
//! measurement. By hand: `hakmem-bench larson --threads 4`.

#![allow(
    clippy::doc_markdown,
    reason = "the names of people, papers and tests are not code"
)]

mod block;
mod measure;
mod outcome;
mod peer;
mod programs;
mod tick;
mod watch;
mod workloads;

use std::process::ExitCode;

use clap::Parser;

/// One allocator, one workload, one JSON line.
#[derive(Parser)]
#[command(name = "hakmem-bench", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    #[command(flatten)]
    Workload(workloads::Workload),
    #[command(flatten)]
    Program(programs::Program),
    /// Print the allocator this program was built with, and what it says of its version.
    Peer,
    /// Run another program and report its time and memory.
    Watch(watch::Args),
}

fn main() -> ExitCode {
    // The empty program must stay empty: not even its argument list is parsed.
    if workloads::start::is_asked_for() {
        return workloads::start::run();
    }
    let outcome = match Cli::parse().command {
        Command::Workload(workload) => workload.run(),
        Command::Program(program) => program.run(),
        Command::Peer => {
            println!("{}", peer::describe());
            return ExitCode::SUCCESS;
        }
        Command::Watch(args) => return watch::run(&args),
    };
    outcome.print();
    ExitCode::SUCCESS
}
