//! Rust programs on another C library, musl, which is linked into the program: its target for this
//! processor.

use std::env::consts::ARCH;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use crate::tools::{self, Install};
use crate::{command, workspace};

/// The target, for which the compiler has the standard library; or a sentence saying what is
/// missing, after an attempt to install it where that is allowed.
pub fn target(install: Install) -> Result<String, String> {
    let target = format!("{ARCH}-unknown-linux-musl");
    ensure(&target, install)?;
    Ok(target)
}

/// Makes sure that the compiler has the standard library for `target`.
fn ensure(target: &str, install: Install) -> Result<(), String> {
    if is_there(target) {
        return Ok(());
    }
    let way = format!("`rustup target add {target}` brings it");
    if tools::find("rustup").is_none() {
        return Err(format!(
            "this Rust has no standard library for {target}: where there is rustup, {way}"
        ));
    }
    if !install.allowed() {
        return Err(format!(
            "this Rust has no standard library for {target}: {way}, and --install does that for you"
        ));
    }
    println!("    installing Rust's standard library for {target}");
    let mut rustup = Command::new("rustup");
    rustup
        .args(["target", "add", target])
        .current_dir(workspace::root());
    match command::captured(&mut rustup, Duration::from_secs(600)) {
        Ok(_) if is_there(target) => Ok(()),
        Ok(finished) => Err(format!(
            "`rustup target add {target}` {}:\n{}",
            finished.ending(),
            command::tail(&finished.text(), 10)
        )),
        Err(error) => Err(format!("{error:#}")),
    }
}

fn is_there(target: &str) -> bool {
    let mut rustc = Command::new("rustc");
    rustc
        .args(["--print", "target-libdir", "--target", target])
        .current_dir(workspace::root());
    command::captured(&mut rustc, Duration::from_secs(60))
        .is_ok_and(|finished| finished.success() && Path::new(finished.text().trim()).is_dir())
}
