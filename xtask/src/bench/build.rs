//! Building the bench program once for every peer, in turn, in one folder.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};

use super::peers::{Chosen, Compiler};
use crate::{command, tools, workspace};

/// How the bench programs are built, for the record. Link-time optimization is off because
/// it can reach into the allocators written in Rust and not into the others. No
/// debug information, because several `-sys` crates take it for a debug build.
pub const HOW: &str = "release, lto=false, codegen-units=1, panic=abort, debug=false, \
                       CFLAGS and CXXFLAGS -DNDEBUG";

const PROFILE: [&str; 4] = [
    "profile.release.lto=false",
    "profile.release.codegen-units=1",
    "profile.release.debug=false",
    "profile.release.panic=\"abort\"",
];

/// One build takes at most this long.
const LIMIT: Duration = Duration::from_secs(1200);

/// Builds every peer. Returns each one's program, or the sentence that says why
/// there is none.
///
/// # Errors
/// Where no build can even be tried.
pub fn build(
    chosen: &[Chosen],
    folder: &Path,
) -> Result<BTreeMap<String, Result<PathBuf, String>>> {
    let programs = folder.join("bin");
    std::fs::create_dir_all(&programs)
        .with_context(|| format!("{} could not be made", programs.display()))?;
    let bar = ProgressBar::new(chosen.len() as u64).with_style(
        ProgressStyle::with_template("building {pos}/{len} [{bar:20}] {msg} ({elapsed})")
            .context("the progress bar's template is valid")?
            .progress_chars("=> "),
    );
    bar.enable_steady_tick(Duration::from_millis(500));
    let mut built = BTreeMap::new();
    for one in chosen {
        let name = one.name();
        bar.set_message(name.clone());
        let result = build_one(one, folder, &programs).map_err(|error| format!("{error:#}"));
        if let Err(reason) = &result {
            bar.suspend(|| eprintln!("{name}: {reason}"));
        }
        built.insert(name, result);
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(built)
}

fn build_one(one: &Chosen, folder: &Path, programs: &Path) -> Result<PathBuf> {
    if let Some(reason) = missing_compiler(one.peer.needs) {
        bail!("skipped: {reason}");
    }
    let name = one.name();
    let mut cargo = workspace::cargo();
    cargo.args(["build", "--release", "--package", "hakmem-benches"]);
    cargo.args(["--bin", "hakmem-bench"]);
    cargo.arg("--target-dir").arg(folder.join("build"));
    for setting in PROFILE {
        cargo.args(["--config", setting]);
    }
    let features = one.features();
    if !features.is_empty() {
        cargo.args(["--features", &features]);
    }
    for variable in ["CFLAGS", "CXXFLAGS"] {
        let mut flags = std::env::var(variable).unwrap_or_default();
        flags.push_str(" -DNDEBUG");
        cargo.env(variable, flags.trim());
    }
    let finished = command::captured(&mut cargo, LIMIT)?;
    let log = programs.join(format!("{name}.log"));
    std::fs::write(&log, finished.text())
        .with_context(|| format!("{} cannot be written", log.display()))?;
    if !finished.success() {
        let text = finished.text();
        let first = text
            .lines()
            .find(|line| line.starts_with("error"))
            .unwrap_or("no error line");
        bail!(
            "the build failed ({first}); {} has all of it",
            log.display()
        );
    }
    let from = folder.join("build/release/hakmem-bench");
    let to = programs.join(format!("hakmem-bench-{name}"));
    // Not over a program that may be running: a new file under the old name.
    let draft = programs.join(format!("{name}.part"));
    copy_by_pages(&from, &draft)
        .and_then(|()| std::fs::rename(&draft, &to))
        .with_context(|| format!("{} cannot be written", to.display()))?;
    refuse_assertions(one, &to)?;
    Ok(to)
}

/// Copies a program, with a write for each page of it.
///
/// How much of a program's file a page fault maps depends on how the file was written, on Linux
/// 6.18: of two copies of one program, by large writes and by these, 130 KiB more and less were
/// resident, in every run.
fn copy_by_pages(from: &Path, to: &Path) -> std::io::Result<()> {
    const PAGE: usize = 4096;
    let mut copy = std::fs::File::create(to)?;
    for page in std::fs::read(from)?.chunks(PAGE) {
        copy.write_all(page)?;
    }
    copy.set_permissions(std::fs::metadata(from)?.permissions())
}

/// snmalloc's crate builds with its assertions on unless told otherwise, which
/// once made it look half as fast as it is. Their message is in the program then.
fn refuse_assertions(one: &Chosen, program: &Path) -> Result<()> {
    const MESSAGE: &[u8] = b"assert fail: ";
    if one.peer.name != "snmalloc" {
        return Ok(());
    }
    let bytes =
        std::fs::read(program).with_context(|| format!("{} cannot be read", program.display()))?;
    if bytes.windows(MESSAGE.len()).any(|window| window == MESSAGE) {
        bail!("skipped: this is a debug build of snmalloc, with its assertions in it");
    }
    Ok(())
}

fn missing_compiler(needs: Compiler) -> Option<&'static str> {
    let (variable, names, sentence): (_, &[&str], _) = match needs {
        Compiler::None => return None,
        Compiler::C => (
            "CC",
            &["cc", "gcc", "clang"],
            "it needs a C compiler, and there is none on PATH",
        ),
        Compiler::Cxx => (
            "CXX",
            &["c++", "g++", "clang++"],
            "it needs a C++ compiler, and there is none on PATH",
        ),
    };
    let named = std::env::var_os(variable).is_some_and(|value| !value.is_empty());
    let found = named || names.iter().any(|name| tools::find(name).is_some());
    (!found).then_some(sentence)
}

/// The versions of a peer's crates, as `Cargo.lock` has them.
///
/// # Errors
/// Where `cargo metadata` fails.
pub fn crate_versions() -> Result<BTreeMap<String, String>> {
    let metadata = cargo_metadata::MetadataCommand::new()
        .manifest_path(workspace::root().join("Cargo.toml"))
        .features(cargo_metadata::CargoOpt::AllFeatures)
        .exec()
        .context("`cargo metadata` could not read the workspace")?;
    let versions = metadata.packages.iter();
    Ok(versions
        .map(|package| (package.name.to_string(), package.version.to_string()))
        .collect())
}
