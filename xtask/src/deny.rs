//! Licences, bans and sources of every dependency, by cargo-deny.
//!
//! Its advisory database lives on the network, so advisories are not part of this check.

use std::time::Duration;

use anyhow::Result;

use crate::tally::Outcome;
use crate::tools::{self, Install};
use crate::{command, workspace};

/// Checks `deny.toml`. Installs cargo-deny where `install` allows that.
pub fn check(install: Install) -> Result<Outcome> {
    if tools::find("cargo-deny").is_none() {
        if !install.allowed() {
            return Ok(Outcome::Skipped(
                "cargo-deny is not installed: `cargo install cargo-deny --locked` brings it, and \
                 --install does that for you"
                    .to_owned(),
            ));
        }
        println!("    installing cargo-deny, which takes minutes");
        let mut cargo = workspace::cargo();
        cargo.args(["install", "cargo-deny", "--locked"]);
        let finished = command::captured(&mut cargo, Duration::from_secs(1200))?;
        if !finished.success() {
            return Ok(Outcome::Skipped(format!(
                "`cargo install cargo-deny` {}: {}",
                finished.ending(),
                command::tail(&finished.text(), 5)
            )));
        }
    }
    let mut deny = workspace::cargo();
    deny.args([
        "deny",
        "--workspace",
        "--all-features",
        "check",
        "bans",
        "licenses",
        "sources",
    ]);
    let finished = command::captured(&mut deny, Duration::from_secs(300))?;
    let text = finished.text();
    Ok(if finished.success() {
        Outcome::Passed(command::tail(&text, 1))
    } else {
        Outcome::Failed(format!(
            "cargo deny {}:\n{}",
            finished.ending(),
            command::tail(&text, 60)
        ))
    })
}
