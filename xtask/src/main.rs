//! The project's chores, each a `cargo xtask` command.

mod asm;
mod bench;
mod command;
mod deny;
mod layers;
mod library;
mod loom;
mod musl;
mod packages;
mod run;
mod sanitize;
mod smoke;
mod soak;
mod stress;
mod tally;
mod test;
mod tools;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The project's chores run on the project's own allocator.
#[cfg(feature = "hakmem")]
#[global_allocator]
static ALLOCATOR: hakmem_alloc::Hakmem = hakmem_alloc::Hakmem::new();

/// The project's chores: each command has its own --help.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    Run(run::Args),
    Test(test::Args),
    Smoke(smoke::Args),
    Asm(asm::Args),
    Loom(loom::Args),
    Sanitize(sanitize::Args),
    Soak(soak::Args),
    Bench(bench::Args),
}

fn main() -> ExitCode {
    if let Some(status) = loom::compile_if_asked() {
        return status;
    }
    let result = match Cli::parse().chore {
        Chore::Run(args) => run::run(&args).map(|()| ExitCode::SUCCESS),
        Chore::Test(args) => test::run(&args),
        Chore::Smoke(args) => smoke::run(&args),
        Chore::Asm(args) => asm::run(&args),
        Chore::Loom(args) => loom::run(&args),
        Chore::Sanitize(args) => Ok(sanitize::run(&args)),
        Chore::Soak(args) => soak::run(&args),
        Chore::Bench(args) => bench::run(args),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
