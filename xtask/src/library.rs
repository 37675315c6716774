//! `libhakmem.so`: building it, and putting it under a program.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::{command, workspace};

/// Builds the release library and returns its absolute path.
pub fn build() -> Result<PathBuf> {
    command::shown(workspace::cargo().args(["build", "--release", "--package", "hakmem-preload"]))?;
    let library = workspace::target_dir()?.join("release/libhakmem.so");
    if !library.is_file() {
        bail!(
            "the build succeeded, but {} is not there: does crates/preload still build a cdylib \
             named `hakmem`?",
            library.display()
        );
    }
    Ok(library)
}

/// Has `command` run on `library`, before anything that `LD_PRELOAD` names already.
pub fn preload(command: &mut Command, library: &Path) {
    let mut value = OsString::from(library);
    if let Some(others) = std::env::var_os("LD_PRELOAD").filter(|others| !others.is_empty()) {
        value.push(":");
        value.push(others);
    }
    command.env("LD_PRELOAD", value);
}
