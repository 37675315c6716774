//! `cargo xtask test`: every check there is, in order, and one plain line at the end.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::stress::Load;
use crate::tally::{Outcome, Tally};
use crate::tools::{Install, Tool};
use crate::{
    asm, command, deny, layers, library, loom, musl, packages, sanitize, smoke, soak, workspace,
};

/// A stage that builds everything on a slow machine still ends.
const CARGO_LIMIT: Duration = Duration::from_secs(1800);

/// What the names of the tests end with that run programs under valgrind.
const UNDER_VALGRIND: &str = "_under_valgrind";

/// Run every check of the project
#[derive(clap::Args)]
pub struct Args {
    /// Only these stages (--list shows the names)
    #[arg(long, value_delimiter = ',', value_name = "STAGE")]
    only: Vec<String>,

    /// List the stages and end
    #[arg(long)]
    list: bool,

    /// The long versions: smoke ten times, stresses of a minute, mutations, 30 minutes of soak
    #[arg(long)]
    long: bool,

    /// Install missing tools with apt-get and cargo (always done in CI as root)
    #[arg(long, visible_alias = "ci")]
    install: bool,
}

/// What the stages are told.
struct Context {
    install: Install,
    long: bool,
}

/// One stage.
struct Stage {
    name: &'static str,
    what: &'static str,
    run: fn(&Context) -> Result<Tally>,
}

const STAGES: &[Stage] = &[
    Stage {
        name: "fmt",
        what: "the source is formatted",
        run: |_| cargo_check(&["fmt", "--all", "--check", "--", "-l"], &[]),
    },
    Stage {
        name: "clippy",
        what: "no warning from the compiler or clippy, in any target",
        run: |_| {
            let arguments = [
                "clippy",
                "--workspace",
                "--all-targets",
                "--",
                "--deny",
                "warnings",
            ];
            cargo_check(&arguments, &[])
        },
    },
    Stage {
        name: "layers",
        what: "dependencies of the boxes point down only",
        run: |_| Ok(one(&layers::check()?)),
    },
    Stage {
        name: "packages",
        what: "the packages have what crates.io and their users want of one",
        run: |_| Ok(one(&packages::check()?)),
    },
    Stage {
        name: "deny",
        what: "licences, bans and sources of all dependencies",
        run: |context| Ok(one(&deny::check(context.install)?)),
    },
    Stage {
        name: "tests",
        what: "unit, property and integration tests",
        run: tests,
    },
    Stage {
        name: "musl",
        what: "the boxes' tests on a C library that is linked into the program",
        run: |context| match musl::target(context.install) {
            Ok(target) => box_tests(&["--tests", "--target", &target], &[]),
            Err(missing) => Ok(one(&Outcome::Skipped(missing))),
        },
    },
    Stage {
        name: "wide",
        what: "the boxes' tests and examples with regions of 64 KiB, as on other processors",
        run: wide,
    },
    Stage {
        name: "doc",
        what: "documentation tests, and rustdoc without a warning",
        run: documentation,
    },
    Stage {
        name: "loom",
        what: "the models of the lock-free protocols",
        run: models,
    },
    Stage {
        name: "asm",
        what: "the fast paths are within their instruction budgets",
        run: |context| Ok(one(&asm::check(context.install)?)),
    },
    Stage {
        name: "smoke",
        what: "real programs do the same on hakmem as without",
        run: |context| smoke::check_all(if context.long { 10 } else { 1 }, context.install),
    },
    Stage {
        name: "stress",
        what: "threads that allocate, hand over and free leave nothing behind",
        run: |context| Ok(stresses(context)),
    },
    Stage {
        name: "sanitize",
        what: "the stress under ASan, TSan and helgrind, and with the boxes' examples in Miri",
        run: |context| Ok(sanitizers(context)),
    },
];

/// The command: succeeds when nothing failed.
pub fn run(args: &Args) -> Result<ExitCode> {
    if args.list {
        for stage in STAGES {
            println!("{:<10} {}", stage.name, stage.what);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let context = Context {
        install: Install::when(args.install),
        long: args.long,
    };
    let stages = choose(&args.only)?;
    let mut total = Tally::default();
    let mut summaries = Vec::new();
    for (index, stage) in stages.iter().enumerate() {
        println!(
            "[{}/{}] {}: {}",
            index + 1,
            stages.len(),
            stage.name,
            stage.what
        );
        let start = Instant::now();
        let tally = (stage.run)(&context).unwrap_or_else(|error| {
            println!("  FAILED: {error:#}");
            Tally {
                failed: 1,
                ..Tally::default()
            }
        });
        let verdict = if tally.failed == 0 { "ok" } else { "FAILED" };
        summaries.push(format!(
            "{verdict:<6} {:<10} {tally} ({:.0} s)",
            stage.name,
            start.elapsed().as_secs_f64()
        ));
        total += tally;
    }
    println!("\n{}\n\n{total}", summaries.join("\n"));
    Ok(if total.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn choose(names: &[String]) -> Result<Vec<&'static Stage>> {
    for name in names {
        if !STAGES.iter().any(|stage| stage.name == name) {
            let known: Vec<&str> = STAGES.iter().map(|stage| stage.name).collect();
            bail!(
                "there is no stage called {name}; there are {}",
                known.join(", ")
            );
        }
    }
    Ok(STAGES
        .iter()
        .filter(|stage| names.is_empty() || names.iter().any(|name| name == stage.name))
        .collect())
}

/// Prints and counts one check.
fn one(outcome: &Outcome) -> Tally {
    println!("  {outcome}");
    let mut tally = Tally::default();
    tally.count(outcome);
    tally
}

/// A cargo command as one check.
fn cargo_check(arguments: &[&str], variables: &[(&str, &str)]) -> Result<Tally> {
    let mut cargo = workspace::cargo();
    cargo.args(arguments).envs(variables.iter().copied());
    let line = command::line(&cargo);
    let finished = command::captured(&mut cargo, CARGO_LIMIT)?;
    Ok(one(&if finished.success() {
        Outcome::Passed(String::new())
    } else {
        Outcome::Failed(format!(
            "`{line}` {}:\n{}",
            finished.ending(),
            command::tail(&finished.text(), 80)
        ))
    }))
}

/// The tests of all boxes.
fn box_tests(arguments: &[&str], variables: &[(&str, &str)]) -> Result<Tally> {
    cargo_test(&[&workspace::BOXES, arguments].concat(), variables)
}

fn wide(_: &Context) -> Result<Tally> {
    // Other flags for the compiler: in another place, so that nothing is built over and over.
    let target = workspace::target_dir()?.join("wide");
    let target = target.to_string_lossy();
    let mut tally = Tally::default();
    for kind in ["--tests", "--doc"] {
        tally += box_tests(
            &[kind, "--target-dir", &target],
            &[("RUSTFLAGS", "--cfg hakmem_wide_regions")],
        )?;
    }
    Ok(tally)
}

/// A `cargo test` command, each test as one check.
fn cargo_test(arguments: &[&str], variables: &[(&str, &str)]) -> Result<Tally> {
    let mut cargo = workspace::cargo();
    cargo
        .args(["test", "--no-fail-fast"])
        .args(arguments)
        .envs(variables.iter().copied());
    let line = command::line(&cargo);
    let finished = command::captured(&mut cargo, CARGO_LIMIT)?;
    let text = finished.text();
    let mut tally = Tally {
        passed: command::passed_tests(&text),
        ..Tally::default()
    };
    if finished.success() {
        println!("  {line}: {} passed", tally.passed);
        if tally.passed == 0 {
            bail!("`{line}` ran no test");
        }
        return Ok(tally);
    }
    let report = workspace::output_dir("test")?.join("failed.txt");
    std::fs::write(&report, &text)?;
    tally.failed = text
        .lines()
        .filter(|line| line.starts_with("test ") && line.ends_with(" ... FAILED"))
        .count()
        // A crash, or a build that failed.
        .max(1);
    let failures = failures(&text);
    println!(
        "  FAILED: `{line}` {}; all of its output is in {}:\n{}",
        finished.ending(),
        report.display(),
        if failures.is_empty() {
            command::tail(&text, 60)
        } else {
            failures
        }
    );
    Ok(tally)
}

/// What failed tests had to say, of all that `cargo test` printed.
fn failures(text: &str) -> String {
    let mut inside = false;
    let mut kept = Vec::new();
    for line in text.lines() {
        if line.starts_with("---- ") {
            inside = true;
        } else if line == "failures:" {
            inside = false;
        }
        if inside && !line.is_empty() {
            kept.push(line);
        }
    }
    kept.join("\n")
}

fn tests(context: &Context) -> Result<Tally> {
    // Tests of the preload crate run programs on this library, some of them in C++ and some under
    // valgrind.
    library::build()?;
    if let Err(missing) = Tool::of_package("c++", "g++").ensure(context.install) {
        println!("  the tests of programs in C++ will fail: {missing}");
    }
    let mut tally = Tally::default();
    let mut arguments = vec!["--workspace", "--tests"];
    if let Err(missing) = Tool::of_package("valgrind", "valgrind").ensure(context.install) {
        tally += one(&Outcome::Skipped(missing));
        arguments.extend(["--", "--skip", UNDER_VALGRIND]);
    }
    tally += cargo_test(&arguments, &[])?;
    Ok(tally)
}

fn documentation(_: &Context) -> Result<Tally> {
    let mut tally = cargo_test(&["--workspace", "--doc"], &[])?;
    tally += cargo_check(
        &["doc", "--workspace", "--no-deps"],
        &[("RUSTDOCFLAGS", "--deny warnings")],
    )?;
    Ok(tally)
}

fn models(context: &Context) -> Result<Tally> {
    let mut tally = loom::check_models("")?;
    if context.long {
        tally += loom::check_mutations("")?;
    }
    if tally == Tally::default() {
        bail!("no box has a model: where are the files crates/*/tests/loom_*.rs?");
    }
    Ok(tally)
}

fn stresses(context: &Context) -> Tally {
    let mut tally = Tally::default();
    let seconds = if context.long { 60 } else { 10 };
    let minutes = if context.long { 30 } else { 1 };
    for (threads, seconds) in [(1, seconds), (2, seconds), (8, seconds), (64, minutes * 60)] {
        let load = Load {
            threads,
            time: Duration::from_secs(seconds),
            seed: 1,
        };
        tally += one(&Outcome::of(soak::check(load)));
    }
    tally
}

fn sanitizers(context: &Context) -> Tally {
    let load = Load {
        threads: 8,
        time: Duration::from_secs(if context.long { 60 } else { 20 }),
        seed: 1,
    };
    sanitize::check(&sanitize::ALL, load, context.install)
}

#[cfg(test)]
mod tests {
    use super::{UNDER_VALGRIND, failures};
    use crate::workspace;

    #[test]
    fn the_tests_that_need_valgrind_are_those_that_say_so() {
        let tests = workspace::root().join("crates/preload/tests/valgrind.rs");
        let text = std::fs::read_to_string(tests).unwrap();
        let ends = text
            .split("#[test]\nfn ")
            .skip(1)
            .filter_map(|test| test.split_once("()"));
        let names: Vec<&str> = ends.map(|(name, _)| name).collect();
        assert!(!names.is_empty());
        for name in names {
            assert!(name.ends_with(UNDER_VALGRIND), "{name}");
        }
    }

    #[test]
    fn what_failed_tests_said_is_found_among_the_rest() {
        let text = "test a ... ok\ntest b ... FAILED\n\nfailures:\n\n---- b stdout ----\n\
                    thread 'b' panicked at x.rs:1:2:\nleft is not right\n\n\nfailures:\n    b\n\n\
                    test result: FAILED. 1 passed; 1 failed\n";
        assert_eq!(
            failures(text),
            "---- b stdout ----\nthread 'b' panicked at x.rs:1:2:\nleft is not right"
        );
        assert_eq!(failures("test a ... ok\n"), "");
    }
}
