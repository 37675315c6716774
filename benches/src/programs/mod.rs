//! Programs made of well-known crates: what a Rust program does with its
//! allocator when nobody is looking.

pub mod async_messages;
pub mod json;
pub mod ordered_map;
pub mod regexes;
pub mod rust_parse;
pub mod sort_group;
pub mod words;

use crate::measure::Outcome;

/// The programs and their arguments.
#[derive(clap::Subcommand)]
pub enum Program {
    /// A JSON document built, read, changed and written (`serde_json`).
    Json(json::Args),
    /// An ordered map of strings (`std::collections::BTreeMap`).
    OrderedMap(ordered_map::Args),
    /// Rust source parsed and printed again (`syn`, `quote`).
    RustParse(rust_parse::Args),
    /// Regular expressions compiled and run (`regex`).
    Regexes(regexes::Args),
    /// Boxed messages among the workers of an async runtime (`tokio`).
    AsyncMessages(async_messages::Args),
    /// Strings sorted and grouped in parallel (`rayon`).
    SortGroup(sort_group::Args),
}

impl Program {
    /// Does the work.
    pub fn run(&self) -> Outcome {
        match self {
            Self::Json(args) => json::run(args),
            Self::OrderedMap(args) => ordered_map::run(args),
            Self::RustParse(args) => rust_parse::run(args),
            Self::Regexes(args) => regexes::run(args),
            Self::AsyncMessages(args) => async_messages::run(args),
            Self::SortGroup(args) => sort_group::run(args),
        }
    }
}

/// Adds a text to an answer: FNV-1a, the same on every machine.
pub fn fold(answer: u64, text: &str) -> u64 {
    text.bytes()
        .fold(answer ^ 0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
}
