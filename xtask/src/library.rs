//! `libhakmem.so`: building it, and putting it under a program.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::{command, workspace};

/// Builds the release library and returns its absolute path, once it is known to be
/// [taken](ensure_taken).
pub fn build() -> Result<PathBuf> {
    let mut cargo = workspace::cargo();
    cargo.args(["build", "--release", "--package", "hakmem-preload"]);
    let library = workspace::build(&mut cargo, "libhakmem.so")?;
    ensure_taken(&library)?;
    Ok(library)
}

/// Makes sure that the dynamic linker really puts `library` under a program: of one that it
/// cannot load it only warns, and the program runs on the system's allocator.
pub fn ensure_taken(library: &Path) -> Result<()> {
    if library.to_string_lossy().contains([' ', ':']) {
        bail!(
            "the dynamic linker cannot load {}: it takes LD_PRELOAD apart at spaces and colons; \
             build in a folder whose path has neither (CARGO_TARGET_DIR names one)",
            library.display()
        );
    }
    let file = std::fs::canonicalize(library)
        .with_context(|| format!("{} is not there", library.display()))?;
    let mut cat = Command::new("cat");
    cat.arg("/proc/self/maps");
    preload(&mut cat, library);
    let finished = command::captured(&mut cat, Duration::from_secs(10))?;
    if !finished.success() {
        bail!(
            "`cat /proc/self/maps` on {} {}: {}",
            library.display(),
            finished.ending(),
            command::tail(&finished.text(), 3)
        );
    }
    let maps = String::from_utf8_lossy(&finished.stdout);
    if !maps.contains(&*file.to_string_lossy()) {
        bail!(
            "the dynamic linker did not load {}: {}",
            library.display(),
            command::tail(&String::from_utf8_lossy(&finished.stderr), 3)
        );
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_that_programs_load_is_taken_under_any_name() {
        // A library that this program has and `cat` has not.
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let mut paths = maps.split_whitespace();
        let real = paths.find(|path| path.contains("/libgcc_s")).unwrap();
        ensure_taken(Path::new(real)).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("libother.so");
        std::os::unix::fs::symlink(real, &link).unwrap();
        ensure_taken(&link).unwrap();
    }

    #[test]
    fn a_library_that_the_dynamic_linker_only_warns_of_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let library = folder.path().join("libhakmem.so");
        std::fs::write(&library, "no library").unwrap();
        let error = ensure_taken(&library).unwrap_err().to_string();
        assert!(error.contains("did not load"), "{error}");
    }

    #[test]
    fn a_path_that_the_dynamic_linker_takes_apart_is_refused() {
        for path in ["/a folder/libhakmem.so", "/a:b/libhakmem.so"] {
            let error = ensure_taken(Path::new(path)).unwrap_err().to_string();
            assert!(error.contains("spaces and colons"), "{error}");
        }
    }
}
