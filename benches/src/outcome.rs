//! What one run of the bench program found. It is printed as one JSON line, and `cargo xtask bench`,
//! which compiles this file as well, reads it and keeps it in its results.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One run's result.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outcome {
    /// The allocator this program was built with.
    pub peer: String,
    /// What the workload computed; the same for every allocator.
    pub answer: u64,
    /// Operations in the timed part; what one is, the workload says.
    pub ops: u64,
    /// Seconds the timed part took.
    pub seconds: f64,
    /// Processor seconds (user and system, all threads) of the timed part.
    pub cpu_seconds: f64,
    /// Page faults of the timed part that needed no disk.
    pub minor_faults: i64,
    /// Largest resident set of the whole run, in bytes.
    pub peak_rss: u64,
    /// Resident set once everything was freed, in bytes.
    pub end_rss: u64,
    /// Further figures, by name; units are in the name.
    #[serde(default)]
    pub metrics: BTreeMap<String, f64>,
    /// Curves over time or size, by name.
    #[serde(default)]
    pub series: BTreeMap<String, Vec<(f64, f64)>>,
}
