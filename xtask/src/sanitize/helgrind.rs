//! A C program on the preloaded library, under helgrind, our malloc kept in place.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::stress::Load;
use crate::tally::Outcome;
use crate::tools::{Install, Tool};
use crate::{command, library, workspace};

/// Helgrind makes a program some fifty times slower, its last round too.
const GRACE: Duration = Duration::from_secs(300);

/// Compiles the program and runs it; every report is a failure.
pub fn check(load: Load, install: Install) -> Result<Outcome> {
    for tool in [
        Tool::of_package("valgrind", "valgrind"),
        Tool::of_package("cc", "gcc"),
    ] {
        if let Err(sentence) = tool.ensure(install) {
            return Ok(Outcome::Skipped(sentence));
        }
    }
    let library = library::build()?;
    let scratch = tempfile::tempdir().context("no temporary folder could be made")?;
    let program = compile(scratch.path())?;
    let suppressions = scratch.path().join("helgrind.supp");
    std::fs::write(&suppressions, include_str!("helgrind.supp"))?;

    let mut valgrind = Command::new("valgrind");
    valgrind
        .args(["--tool=helgrind", "--error-exitcode=66"])
        // Valgrind would put its own malloc in place of ours otherwise.
        .arg("--soname-synonyms=somalloc=nouserintercepts")
        .arg(format!("--suppressions={}", suppressions.display()))
        .arg(program);
    load.describe(&mut valgrind);
    library::preload(&mut valgrind, &library);
    let finished = command::captured(&mut valgrind, load.time + GRACE)?;
    let text = finished.text();
    if !finished.success() || !text.contains("ERROR SUMMARY: 0 errors") {
        let report = workspace::output_dir("sanitize")?.join("helgrind.txt");
        std::fs::write(&report, &text)?;
        return Ok(Outcome::Failed(format!(
            "helgrind {}; its reports are in {}:\n{}",
            finished.ending(),
            report.display(),
            command::tail(&text, 30)
        )));
    }
    let rounds = text.lines().find(|line| line.contains(" rounds of "));
    Ok(match rounds {
        Some(rounds) => Outcome::Passed(rounds.to_owned()),
        None => Outcome::Failed(format!(
            "the program ended without its last lines:\n{}",
            command::tail(&text, 30)
        )),
    })
}

fn compile(folder: &Path) -> Result<std::path::PathBuf> {
    let source = folder.join("helgrind.c");
    let program = folder.join("helgrind");
    std::fs::write(&source, include_str!("helgrind.c"))?;
    let mut cc = Command::new("cc");
    cc.args(["-O1", "-g", "-pthread"]);
    cc.arg(&source).arg("-o").arg(&program);
    let finished = command::captured(&mut cc, Duration::from_secs(60))?;
    if !finished.success() {
        bail!(
            "the program for helgrind did not compile (it needs valgrind's headers, which come \
             with valgrind): {}",
            finished.text().trim()
        );
    }
    Ok(program)
}
