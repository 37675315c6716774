//! Where the workspace is, what it is made of, and where its builds go.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result};
use cargo_metadata::{Metadata, MetadataCommand};

/// The workspace's root folder.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask is a folder of the workspace")
}

/// What `cargo metadata` says about the workspace's own packages, asked once.
pub fn metadata() -> Result<&'static Metadata> {
    static METADATA: OnceLock<Metadata> = OnceLock::new();
    if let Some(metadata) = METADATA.get() {
        return Ok(metadata);
    }
    let metadata = MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        .no_deps()
        .exec()
        .context("`cargo metadata` could not read the workspace")?;
    Ok(METADATA.get_or_init(|| metadata))
}

/// The folder builds go to: `target`, or what `CARGO_TARGET_DIR` says.
pub fn target_dir() -> Result<&'static Path> {
    Ok(metadata()?.target_directory.as_std_path())
}

/// A folder for what a chore leaves behind (logs, differing outputs), made if need be.
pub fn output_dir(name: &str) -> Result<PathBuf> {
    let dir = target_dir()?.join("xtask").join(name);
    std::fs::create_dir_all(&dir)
        .with_context(|| format!("{} could not be made", dir.display()))?;
    Ok(dir)
}

/// `cargo` of the toolchain that runs xtask, in the workspace's root.
pub fn cargo() -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(cargo);
    command.current_dir(root());
    forget_cargo(&mut command);
    command
}

/// `cargo` of the nightly toolchain, in the workspace's root.
pub fn nightly_cargo() -> Command {
    let mut command = Command::new("rustup");
    command.args(["run", "nightly", "cargo"]);
    command.current_dir(root());
    forget_cargo(&mut command);
    command.env_remove("RUSTUP_TOOLCHAIN").env_remove("RUSTC");
    command
}

/// Takes out of `command`'s environment what `cargo run` put there for xtask, so that
/// the program starts as it would from the user's own shell.
pub fn forget_cargo(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") || text == "CARGO"
        {
            command.env_remove(&name);
        }
    }
    let Some(paths) = std::env::var_os("LD_LIBRARY_PATH") else {
        return;
    };
    let executable = std::env::current_exe().unwrap_or_default();
    let builds = executable.parent().unwrap_or(Path::new("/nonexistent"));
    let kept: Vec<PathBuf> = std::env::split_paths(&paths)
        .filter(|path| !path.starts_with(builds) && !is_toolchain_library_folder(path))
        .collect();
    match std::env::join_paths(&kept) {
        Ok(paths) if !kept.is_empty() => command.env("LD_LIBRARY_PATH", paths),
        _ => command.env_remove("LD_LIBRARY_PATH"),
    };
}

/// Whether `path` is the `lib` folder of a Rust toolchain: `cargo run` adds that of the
/// toolchain itself and that of the target's standard library.
fn is_toolchain_library_folder(path: &Path) -> bool {
    path.join("rustlib").is_dir() || path.components().any(|part| part.as_os_str() == "rustlib")
}
