//! Programs of the system: finding them, and installing them where that is allowed.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use crate::command;

/// A program of the system and the Debian package that has it.
#[derive(Clone, Copy)]
pub struct Tool {
    /// The name it is started by.
    pub command: &'static str,
    /// The package, or `None` where it has to be there already.
    pub package: Option<&'static str>,
}

impl Tool {
    /// A tool that a Debian package has.
    pub const fn of_package(command: &'static str, package: &'static str) -> Self {
        Self {
            command,
            package: Some(package),
        }
    }

    /// A tool that is used where it is, and never installed.
    pub const fn if_present(command: &'static str) -> Self {
        Self {
            command,
            package: None,
        }
    }

    /// The tool's path, after an attempt to install it where `install` allows that; else a
    /// sentence saying what is missing.
    pub fn ensure(&self, install: Install) -> Result<PathBuf, String> {
        if let Some(path) = find(self.command) {
            return Ok(path);
        }
        let Some(package) = self.package else {
            return Err(format!("{} is not installed", self.command));
        };
        if !install.allowed() {
            return Err(format!(
                "{} is not installed: `apt-get install {package}` brings it, and --install does \
                 that for you",
                self.command
            ));
        }
        apt_install(package)?;
        find(self.command).ok_or_else(|| {
            format!(
                "{package} was installed, but {} is still not on PATH",
                self.command
            )
        })
    }
}

/// Whether missing tools may be installed.
#[derive(Clone, Copy)]
pub struct Install(bool);

impl Install {
    /// Allowed when asked for, and in CI where the process is root.
    pub fn when(asked: bool) -> Self {
        Self(asked || (in_ci() && rustix::process::geteuid().is_root()))
    }

    /// Whether installing is allowed.
    pub fn allowed(self) -> bool {
        self.0
    }
}

/// Whether this is a continuous-integration run: the variable `CI` says so.
pub fn in_ci() -> bool {
    std::env::var_os("CI").is_some_and(|value| value == "true" || value == "1")
}

/// The first executable file called `command` on `PATH`.
pub fn find(command: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|folder| folder.join(command))
        .find(|path| is_executable(path))
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata()
        .is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

/// Why nothing can be built on nightly here, if so.
pub fn no_nightly() -> Option<String> {
    if !cfg!(all(target_arch = "x86_64", target_os = "linux")) {
        return Some("the sanitizers are set up for x86-64 Linux only".to_owned());
    }
    if find("rustup").is_none() {
        return Some("rustup is not installed, and with it a nightly toolchain".to_owned());
    }
    let mut list = Command::new("rustup");
    list.args(["toolchain", "list"]);
    match command::captured(&mut list, Duration::from_secs(60)) {
        Ok(finished)
            if finished
                .text()
                .lines()
                .any(|line| line.starts_with("nightly-")) =>
        {
            None
        }
        _ => Some(
            "there is no nightly toolchain: `rustup toolchain install nightly` brings it"
                .to_owned(),
        ),
    }
}

/// Installs a Debian package, or says why that failed.
pub fn apt_install(package: &str) -> Result<(), String> {
    static UPDATED: OnceLock<()> = OnceLock::new();
    if find("apt-get").is_none() {
        return Err(format!(
            "{package} cannot be installed here: there is no apt-get; install it by hand"
        ));
    }
    println!("    installing {package}");
    // Without a network the lists on disk may still do.
    UPDATED.get_or_init(|| {
        let _ = apt(&["update"]);
    });
    apt(&["install", "--yes", "--no-install-recommends", package])
        .map_err(|reason| format!("{package} could not be installed: {reason}"))
}

fn apt(arguments: &[&str]) -> Result<(), String> {
    let mut apt = Command::new("apt-get");
    apt.args(["-o", "DPkg::Lock::Timeout=300"]).args(arguments);
    apt.env("DEBIAN_FRONTEND", "noninteractive");
    let finished = command::captured(&mut apt, Duration::from_secs(600))
        .map_err(|error| format!("{error:#}"))?;
    if finished.success() {
        return Ok(());
    }
    Err(format!(
        "apt-get {}: {}",
        finished.ending(),
        command::tail(&finished.text(), 1)
    ))
}
