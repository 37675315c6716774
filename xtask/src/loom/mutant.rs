//! Building the boxes with one mutation in.
//!
//! A mutation is a `--cfg` for the workspace's own packages. Put into `RUSTFLAGS`, it would
//! rebuild loom and all it needs for every mutation. So xtask lends itself to cargo as
//! `RUSTC_WORKSPACE_WRAPPER`, under a name that carries the mutation: cargo asks the wrapper
//! only for packages of the workspace, and keeps what differently named wrappers built
//! apart.

use std::ffi::OsString;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

const PREFIX: &str = "rustc-with-mutation-";

/// A wrapper of rustc that switches `mutation` on: a link to a copy of this very program.
/// A copy, because a build may replace the original while mutations are being tried.
pub fn wrapper(mutation: &str, folder: &Path) -> Result<PathBuf> {
    let folder = folder.join("wrappers");
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("{} could not be made", folder.display()))?;
    let program = folder.join(format!("xtask-{}", std::process::id()));
    if !program.exists() {
        std::fs::copy("/proc/self/exe", &program)
            .with_context(|| format!("{} could not be written", program.display()))?;
    }
    let link = folder.join(format!("{PREFIX}{mutation}"));
    if link.symlink_metadata().is_ok() {
        std::fs::remove_file(&link)?;
    }
    symlink(&program, &link).with_context(|| format!("{} could not be made", link.display()))?;
    Ok(link)
}

/// Removes the copy that [`wrapper`] has made.
pub fn remove_wrappers(folder: &Path) -> Result<()> {
    let folder = folder.join("wrappers");
    if folder.exists() {
        std::fs::remove_dir_all(&folder)
            .with_context(|| format!("{} could not be removed", folder.display()))?;
    }
    Ok(())
}

/// When this program was started by a wrapper's name: becomes rustc with the mutation
/// switched on, and returns only if that failed.
pub fn compile_if_asked() -> Option<ExitCode> {
    let mut arguments = std::env::args_os();
    let name = arguments.next()?;
    let name = Path::new(&name).file_name()?.to_str()?;
    let mutation = name.strip_prefix(PREFIX)?.to_owned();
    let rustc = arguments.next().unwrap_or_else(|| OsString::from("rustc"));
    let error = Command::new(&rustc)
        .args(arguments)
        .arg("--cfg")
        .arg(format!("hakmem_mutation=\"{mutation}\""))
        .exec();
    eprintln!("error: {} could not be started: {error}", rustc.display());
    Some(ExitCode::FAILURE)
}
