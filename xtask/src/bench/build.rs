//! Building the bench program once for every peer, in turn, in one folder.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};

use super::peers::{Chosen, Compiler};
use crate::{command, tools, workspace};

/// Each peer's program by the peer's name, or the sentence that says why there is none.
pub type Programs = BTreeMap<String, Result<PathBuf, String>>;

/// How the bench programs are built. Link-time optimization is off because
/// it can reach into the allocators written in Rust and not into the others. No
/// debug information, because several `-sys` crates take it for a debug build.
const HOW: &str = "release, lto=false, codegen-units=1, panic=abort, debug=false, \
                   CFLAGS and CXXFLAGS -DNDEBUG";

/// Variables of the user's that change what is built.
const VARIABLES: [&str; 7] = [
    "RUSTFLAGS",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_BUILD_TARGET",
    "CC",
    "CXX",
    "CFLAGS",
    "CXXFLAGS",
];

const PROFILE: [&str; 4] = [
    "profile.release.lto=false",
    "profile.release.codegen-units=1",
    "profile.release.debug=false",
    "profile.release.panic=\"abort\"",
];

/// The name of the bench program, before it gets its allocator's.
const PROGRAM: &str = "hakmem-bench";

/// One build takes at most this long.
const LIMIT: Duration = Duration::from_secs(1200);

/// How the bench programs are built, for the record, with what the user's variables add.
pub fn how() -> String {
    use std::fmt::Write;
    let mut how = HOW.to_owned();
    for name in VARIABLES {
        if let Some(value) = std::env::var_os(name).filter(|value| !value.is_empty()) {
            let _ = write!(how, ", {name}={}", value.display());
        }
    }
    how
}

/// Builds every peer.
///
/// # Errors
/// Where no build can even be tried.
pub fn build(chosen: &[Chosen], folder: &Path) -> Result<Programs> {
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
    cargo.args(["--bin", PROGRAM, workspace::MESSAGES]);
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
    std::fs::write(&log, &finished.stderr)
        .with_context(|| format!("{} cannot be written", log.display()))?;
    if !finished.success() {
        let text = String::from_utf8_lossy(&finished.stderr);
        let first = text
            .lines()
            .find(|line| line.starts_with("error"))
            .unwrap_or("no error line");
        bail!(
            "the build failed ({first}); {} has all of it",
            log.display()
        );
    }
    let from = workspace::artifact(&finished.stdout, PROGRAM)?;
    let to = programs.join(format!("{PROGRAM}-{name}"));
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

/// The versions of all crates, as `Cargo.lock` has them. `cargo metadata` would want every crate
/// downloaded, those for other systems too.
///
/// # Errors
/// Where the file cannot be read.
pub fn crate_versions() -> Result<BTreeMap<String, String>> {
    let lock = workspace::root().join("Cargo.lock");
    let text = std::fs::read_to_string(&lock)
        .with_context(|| format!("{} cannot be read", lock.display()))?;
    Ok(locked_versions(&text))
}

/// Each crate's version: the line after its name's.
fn locked_versions(lock: &str) -> BTreeMap<String, String> {
    let value = |line: Option<&str>, key: &str| {
        let value = line?.strip_prefix(key)?.strip_prefix(" = \"")?;
        Some(value.strip_suffix('"')?.to_owned())
    };
    let mut lines = lock.lines();
    let mut versions = BTreeMap::new();
    while let Some(line) = lines.next() {
        if let Some(name) = value(Some(line), "name")
            && let Some(version) = value(lines.next(), "version")
        {
            versions.insert(name, version);
        }
    }
    versions
}

#[cfg(test)]
mod tests {
    use super::super::peers::PEERS;
    use super::*;

    #[test]
    fn the_lock_file_has_a_version_of_every_crate_of_a_peer() {
        let versions = crate_versions().unwrap();
        for package in PEERS.iter().flat_map(|peer| peer.packages) {
            let version = versions.get(*package).unwrap();
            assert!(version.starts_with(char::is_numeric), "{package} {version}");
        }
    }

    #[test]
    fn dependencies_in_the_lock_file_are_not_taken_for_crates() {
        let lock = "version = 4\n\n[[package]]\nname = \"a\"\nversion = \"1.2.3\"\n\
                    dependencies = [\n \"b\",\n]\n\n[[package]]\nname = \"c\"\nversion = \"4.5.6\"\n";
        let versions = locked_versions(lock);
        let expected = [("a", "1.2.3"), ("c", "4.5.6")];
        assert_eq!(
            versions,
            BTreeMap::from(expected.map(|(name, version)| (name.to_owned(), version.to_owned())))
        );
    }
}
