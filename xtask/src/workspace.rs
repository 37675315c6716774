//! Where the workspace is, what it is made of, and where its builds go.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use anyhow::{Context, Result, bail};
use cargo_metadata::{Message, Metadata, MetadataCommand};

use crate::command;

/// Has `cargo build` list on its standard output, for [`artifact`], what it made.
pub const MESSAGES: &str = "--message-format=json-render-diagnostics";

/// Has `cargo` take the boxes: all but the library for programs of glibc's, and the chores.
pub const BOXES: [&str; 7] = [
    "--workspace",
    "--exclude",
    "hakmem-preload",
    "--exclude",
    "hakmem-benches",
    "--exclude",
    "xtask",
];

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
        // Where the builds run: a relative `CARGO_TARGET_DIR` is relative to this.
        .current_dir(root())
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

/// Runs a `cargo build` with its output shown as it comes, and returns the path of the file
/// called `name` that it made.
pub fn build(cargo: &mut Command, name: &str) -> Result<PathBuf> {
    cargo.arg(MESSAGES).stderr(Stdio::inherit());
    let line = command::line(cargo);
    let output = cargo
        .output()
        .with_context(|| format!("`{line}` could not be started"))?;
    if !output.status.success() {
        bail!("`{line}` {}", command::ending(output.status));
    }
    artifact(&output.stdout, name)
}

/// The path of the file called `name` among what a `cargo build` with [`MESSAGES`] says it made.
///
/// Where that is depends on cargo's settings: with `build.target` set, the usual place has
/// nothing, or what an earlier build left there.
pub fn artifact(messages: &[u8], name: &str) -> Result<PathBuf> {
    for message in Message::parse_stream(messages) {
        let message = message.context("what cargo says it made cannot be read")?;
        if let Message::CompilerArtifact(made) = message
            && let Some(file) = made
                .filenames
                .iter()
                .find(|file| file.file_name() == Some(name))
        {
            return Ok(file.clone().into_std_path_buf());
        }
    }
    bail!("the build succeeded, but made no {name}: does the workspace still have that target?")
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

#[cfg(test)]
mod tests {
    use super::artifact;

    /// What cargo prints for a library and an example that it makes.
    fn messages(folder: &str) -> String {
        let made = |kind: &str, file: &str| {
            format!(
                r#"{{"reason":"compiler-artifact","package_id":"path+file:///a#0.1.0","manifest_path":"/a/Cargo.toml","target":{{"kind":["{kind}"],"crate_types":["bin"],"name":"a","src_path":"/a/a.rs","edition":"2024","doc":false,"doctest":false,"test":false}},"profile":{{"opt_level":"3","debuginfo":0,"debug_assertions":false,"overflow_checks":false,"test":false}},"features":[],"filenames":["{folder}/{file}"],"executable":null,"fresh":true}}"#
            )
        };
        [
            made("cdylib", "libhakmem.so"),
            made("example", "examples/stress"),
            r#"{"reason":"build-finished","success":true}"#.to_owned(),
        ]
        .join("\n")
    }

    #[test]
    fn what_was_built_is_found_wherever_cargo_puts_it() {
        for folder in [
            "/target/release",
            "/target/x86_64-unknown-linux-gnu/release",
        ] {
            let messages = messages(folder);
            for (name, place) in [("libhakmem.so", ""), ("stress", "examples/")] {
                let path = artifact(messages.as_bytes(), name).unwrap();
                assert_eq!(path.to_str(), Some(&*format!("{folder}/{place}{name}")));
            }
        }
    }

    #[test]
    fn a_build_that_did_not_make_what_is_wanted_is_reported_by_its_name() {
        let messages = messages("/target/release");
        let error = artifact(messages.as_bytes(), "fast_paths").unwrap_err();
        assert!(error.to_string().contains("made no fast_paths"), "{error}");
    }
}
