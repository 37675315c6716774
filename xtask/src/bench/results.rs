//! What is written to `results.json`; described for readers in
//! `docs/bench-results-schema.md`.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::outcome::Outcome;

/// The schema's number; a reader refuses any other.
pub const SCHEMA: u32 = 1;

/// Everything one `cargo xtask bench` found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Results {
    /// [`SCHEMA`].
    pub schema: u32,
    /// When the measuring began, RFC 3339 in UTC.
    pub date: String,
    /// `quick` or `full`.
    pub mode: String,
    /// The commit the sources were at, and whether they had been changed since.
    pub commit: Commit,
    /// The machine.
    pub machine: Machine,
    /// How the bench programs were built, with the variables that changed that.
    pub build: String,
    /// The processors that all runs were kept on, as `--pin` had them; `None` where they ran on any.
    #[serde(default)]
    pub pin: Option<String>,
    /// The peer that ratios are also given against.
    pub base: String,
    /// The peers, in the order of the columns.
    pub peers: Vec<PeerInfo>,
    /// The rows, in the order of the tables.
    pub rows: Vec<Row>,
}

/// Where the sources stood.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Commit {
    /// The commit's hash, or `unknown`.
    pub hash: String,
    /// True where files differed from it.
    pub dirty: bool,
}

/// Where it ran.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Machine {
    /// The processor's name.
    pub cpu: String,
    /// Processors the runs could use.
    pub cores: usize,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// The kernel's release.
    pub kernel: String,
    /// `/sys/kernel/mm/transparent_hugepage/enabled`, the chosen word.
    pub huge_pages: String,
    /// `rustc --version`.
    pub rustc: String,
    /// The load average over the minute before the builds.
    pub load: f64,
}

/// One column.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PeerInfo {
    /// Its name.
    pub name: String,
    /// Versions, as far as they are known.
    pub version: String,
    /// The library that is preloaded under whole programs, with its version.
    pub preload: Option<String>,
    /// Why it could not take part, where it could not.
    pub missing: Option<String>,
}

/// One workload with its arguments.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    /// The group and the row, as in `larson/small-4`.
    pub id: String,
    /// The workload's name.
    pub group: String,
    /// The row's name in the tables.
    pub label: String,
    /// The command line of the bench program, or of the watched program.
    pub command: String,
    /// The place on the group's chart: threads, bytes; `None` where it has none.
    pub x: Option<f64>,
    /// The line on the group's chart that the row belongs to.
    pub line: Option<String>,
    /// Why the whole row was not run, where it was not.
    pub skipped: Option<String>,
    /// Per peer.
    pub cells: BTreeMap<String, Cell>,
    /// The figures of this row, the most telling one first.
    pub figures: Vec<Figure>,
}

/// One peer's runs of one row.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Cell {
    /// The measured runs, in order; the warm-up run is not among them.
    pub runs: Vec<Outcome>,
    /// Why there are none, or no more.
    pub failed: Option<String>,
    /// What else a reader should know: a figure that could not be had, and why.
    #[serde(default)]
    pub note: Option<String>,
}

/// One figure of a row, over all peers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Figure {
    /// `ns_per_op`, `peak_rss`, or the name of a metric.
    pub key: String,
    /// What it is, for the tables.
    pub label: String,
    /// `ns`, `ms`, `bytes`, `ratio`, `count`, `cycles`, `instructions`.
    pub unit: String,
    /// `speed`, `memory` or `detail`: which table it belongs to.
    pub table: String,
    /// The peer with the smallest median; `None` where another one is tied with it.
    pub best: Option<String>,
    /// The peers that cannot be told from the smallest one and are close to it, it included,
    /// where there are several. One that is not close is not tied with it, be its runs ever so
    /// noisy: the smallest is the best then.
    pub tied: Vec<String>,
    /// Per peer.
    pub values: BTreeMap<String, Value>,
}

/// One peer's value of a figure.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Value {
    /// How many runs there are.
    pub runs: usize,
    /// The median of the runs.
    pub median: f64,
    /// The lower end of the interval the median is known to.
    pub low: f64,
    /// The upper end.
    pub high: f64,
    /// The distance of the quartiles, as a part of the median.
    pub spread: f64,
    /// The median, over the rounds, of the ratio to the peer with the smallest median.
    pub to_best: Option<f64>,
    /// The same to the base.
    pub to_base: Option<f64>,
}

/// Reads a file that an earlier run wrote.
///
/// # Errors
/// A sentence that says what is wrong with the file.
pub fn read(path: &Path) -> Result<Results> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("{} cannot be read", path.display()))?;
    let value: serde_json::Value =
        serde_json::from_str(&text).with_context(|| format!("{} is not JSON", path.display()))?;
    match value.get("schema").and_then(serde_json::Value::as_u64) {
        Some(number) if number == u64::from(SCHEMA) => {}
        Some(number) => bail!(
            "{} has schema {number}, this version reads {SCHEMA}: measure again",
            path.display()
        ),
        None => bail!("{} is not a result of `cargo xtask bench`", path.display()),
    }
    serde_json::from_value(value)
        .with_context(|| format!("{} is not a whole result", path.display()))
}

/// Writes the file, whole or not at all.
///
/// # Errors
/// A sentence that names the file.
pub fn write(path: &Path, results: &Results) -> Result<()> {
    let text = serde_json::to_string_pretty(results).context("results can be written as JSON")?;
    let draft = path.with_extension("json.part");
    std::fs::write(&draft, text)
        .and_then(|()| std::fs::rename(&draft, path))
        .with_context(|| format!("{} cannot be written", path.display()))
}
