//! `cargo xtask asm`: how many instructions the fast paths take, counted.
//!
//! A small C program calls `malloc` and `free` of the release `libhakmem.so` under
//! callgrind, and a small Rust program the methods of the global allocator, as programs do
//! that are not optimized as a whole. Each runs once with few and once with many rounds. The
//! difference, divided by the difference in rounds, is what one call costs in the steady
//! state: exact, repeatable, and whole when every call takes the hit path.

mod callgrind;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use comfy_table::{CellAlignment, Table, presets};

use crate::tally::Outcome;
use crate::tools::{Install, Tool};
use crate::{command, library, workspace};

/// The sizes measured, each one of the drivers'.
const SIZES: [u32; 6] = [64, 1024, 1025, 16384, 32768, 131_072];
/// Above this one a size is looked up in a table of its own, and the pop announced, by so many more instructions.
const FINE: u32 = 32768;
const COARSE_MORE: u32 = 5;

/// A function, and the most instructions it may take on its hit path.
type Budget = (&'static str, u32);
/// What the C program calls.
const C: [Budget; 2] = [("malloc", 17), ("free", 20)];
/// What the Rust program calls. `alloc` has to look at the alignment, and `realloc` leaves
/// the block where it is.
const RUST: [Budget; 3] = [("alloc", 24), ("realloc", 34), ("dealloc", 22)];
/// Rounds of the two runs. The first is past every refill and lazy binding.
const ROUNDS: [u32; 2] = [1000, 3000];

/// Count the instructions of the fast paths, in libhakmem.so and in a Rust program
#[derive(clap::Args)]
pub struct Args {
    /// Print the disassembly of malloc and free as well
    #[arg(long)]
    listing: bool,

    /// Install valgrind with apt-get where it is missing (always done in CI as root)
    #[arg(long)]
    install: bool,
}

/// The command: succeeds when both paths are within their budgets.
pub fn run(args: &Args) -> Result<ExitCode> {
    let install = Install::when(args.install);
    if args.listing {
        let library = library::build()?;
        println!("{}", listing(&library)?);
    }
    let outcome = check(install)?;
    println!("{outcome}");
    Ok(match outcome {
        Outcome::Passed(_) => ExitCode::SUCCESS,
        // Nothing was counted, so nothing was found to be within its budget.
        Outcome::Failed(_) | Outcome::Skipped(_) => ExitCode::FAILURE,
    })
}

/// Counts, prints the table, and says whether the budgets are kept.
pub fn check(install: Install) -> Result<Outcome> {
    for tool in [
        Tool::of_package("valgrind", "valgrind"),
        Tool::of_package("cc", "gcc"),
    ] {
        if let Err(sentence) = tool.ensure(install) {
            return Ok(Outcome::Skipped(sentence));
        }
    }
    let counts = count(&library::build()?, &rust_driver()?)?;
    println!("{}", table(&counts));
    let over: Vec<String> = counts
        .iter()
        .filter(|count| !count.within_budget())
        .map(|count| {
            format!(
                "{} of {} bytes takes {}, {} more than its budget of {}",
                count.function,
                count.size,
                number(count.instructions),
                number(count.instructions - f64::from(count.budget)),
                count.budget
            )
        })
        .collect();
    Ok(if over.is_empty() {
        let budgets = C.iter().chain(&RUST);
        let budgets: Vec<_> = budgets
            .map(|(function, budget)| format!("{function} {budget}"))
            .collect();
        Outcome::Passed(format!("within {} instructions", budgets.join(", ")))
    } else {
        Outcome::Failed(over.join("; "))
    })
}

/// What one call of one size takes.
struct Count {
    function: &'static str,
    size: u32,
    instructions: f64,
    budget: u32,
}

impl Count {
    fn within_budget(&self) -> bool {
        self.instructions <= f64::from(self.budget)
    }
}

fn count(library: &Path, rust_driver: &Path) -> Result<Vec<Count>> {
    let scratch = tempfile::tempdir().context("no temporary folder could be made")?;
    let scratch = scratch.path();
    let driver = compile_driver(scratch)?;
    let mut counts = count_calls(&driver, Some(library), &C, scratch)?;
    counts.extend(count_calls(rust_driver, None, &RUST, scratch)?);
    Ok(counts)
}

fn count_calls(
    driver: &Path,
    library: Option<&Path>,
    functions: &[Budget],
    scratch: &Path,
) -> Result<Vec<Count>> {
    let few = profile(driver, library, ROUNDS[0], scratch)?;
    let many = profile(driver, library, ROUNDS[1], scratch)?;
    let mut counts = Vec::new();
    for &(function, budget) in functions {
        for size in SIZES {
            let caller = format!("{function}_{size}");
            let cost = |costs: &HashMap<String, u64>| {
                costs.get(&caller).copied().with_context(|| {
                    format!("callgrind saw no call of {function} from {caller} of the driver")
                })
            };
            let is_pop = matches!(function, "malloc" | "alloc");
            let more = if is_pop && size > FINE {
                COARSE_MORE
            } else {
                0
            };
            let difference = cost(&many)? - cost(&few)?;
            counts.push(Count {
                function,
                size,
                instructions: difference as f64 / f64::from(ROUNDS[1] - ROUNDS[0]),
                budget: budget + more,
            });
        }
    }
    Ok(counts)
}

/// Builds the Rust program, an example of the facade, in cargo's own release profile and not
/// in this workspace's: what most users have, and where least is inlined.
fn rust_driver() -> Result<PathBuf> {
    const EXAMPLE: &str = "fast_paths";
    let target = workspace::target_dir()?.join("asm");
    let mut build = workspace::cargo();
    build.args(["build", "--release", "--package", "hakmem-alloc"]);
    build.args(["--config", "profile.release.lto=false"]);
    build.args(["--config", "profile.release.codegen-units=16"]);
    build
        .args(["--example", EXAMPLE, "--target-dir"])
        .arg(&target);
    workspace::build(&mut build, EXAMPLE)
}

fn compile_driver(folder: &Path) -> Result<PathBuf> {
    let source = folder.join("driver.c");
    let driver = folder.join("driver");
    std::fs::write(&source, include_str!("driver.c"))?;
    // Calls go straight through the GOT, so that no stub is counted as the callee's; and the
    // compiler may not know what malloc and free are, or it would drop the pair.
    let mut cc = Command::new("cc");
    cc.args(["-O1", "-g", "-fno-plt", "-fno-builtin"]);
    cc.arg(&source).arg("-o").arg(&driver);
    let finished = command::captured(&mut cc, Duration::from_secs(60))?;
    if !finished.success() {
        bail!("the driver did not compile: {}", finished.text().trim());
    }
    Ok(driver)
}

fn profile(
    driver: &Path,
    library: Option<&Path>,
    rounds: u32,
    folder: &Path,
) -> Result<HashMap<String, u64>> {
    let output = folder.join(format!("callgrind.{rounds}"));
    let mut valgrind = Command::new("valgrind");
    valgrind
        .args([
            "--tool=callgrind",
            "--compress-strings=no",
            "--compress-pos=no",
        ])
        .arg(format!("--callgrind-out-file={}", output.display()))
        .arg(driver)
        .arg(rounds.to_string());
    if let Some(library) = library {
        library::preload(&mut valgrind, library);
    }
    let finished = command::captured(&mut valgrind, Duration::from_secs(300))?;
    if !finished.success() {
        bail!(
            "the driver under callgrind {}: {}",
            finished.ending(),
            command::tail(&finished.text(), 10)
        );
    }
    let profile = std::fs::read_to_string(&output)
        .with_context(|| format!("callgrind left no {}", output.display()))?;
    callgrind::callee_instructions(&profile)
}

fn table(counts: &[Count]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header(["call", "bytes", "instructions", "budget", ""]);
    for count in counts {
        let verdict = if count.within_budget() { "ok" } else { "over" };
        table.add_row([
            count.function.to_owned(),
            count.size.to_string(),
            number(count.instructions),
            count.budget.to_string(),
            verdict.to_owned(),
        ]);
    }
    for column in 1..=3 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// Whole numbers without decimals.
fn number(value: f64) -> String {
    if value.fract() == 0.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.2}")
    }
}

/// The machine code of `malloc` and `free`, slow paths that were inlined included.
fn listing(library: &Path) -> Result<String> {
    if let Err(sentence) = Tool::of_package("objdump", "binutils").ensure(Install::when(false)) {
        bail!("the listing needs objdump: {sentence}");
    }
    let mut text = String::new();
    for function in ["malloc", "free"] {
        let mut objdump = Command::new("objdump");
        objdump
            .args(["--no-show-raw-insn", "--demangle"])
            .arg(format!("--disassemble={function}"))
            .arg(library);
        let finished = command::captured(&mut objdump, Duration::from_secs(60))?;
        if !finished.success() {
            bail!("objdump {}: {}", finished.ending(), finished.text().trim());
        }
        let output = String::from_utf8_lossy(&finished.stdout).into_owned();
        let start = output
            .find(&format!("<{function}"))
            .with_context(|| format!("{} has no function called {function}", library.display()))?;
        let start = output[..start].rfind('\n').map_or(0, |end| end + 1);
        text.push_str(output[start..].trim_end());
        text.push_str("\n\n");
    }
    Ok(text)
}
