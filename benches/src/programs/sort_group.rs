//! Strings are made, sorted, grouped and joined in parallel, with `rayon`: a
//! small data pipeline.
//!
//! Worker threads allocate strings that others free, partial maps are merged,
//! and large vectors grow and shrink between the steps.

use std::collections::BTreeMap;

use rayon::prelude::*;

use super::{fold, words};
use crate::measure::{Outcome, timed};

#[derive(clap::Args)]
pub struct Args {
    /// Strings.
    #[arg(long, default_value_t = 400_000)]
    ops: u64,
    /// Worker threads.
    #[arg(long, default_value_t = 4)]
    threads: usize,
    /// Seed of the content.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

type Groups = BTreeMap<String, Vec<String>>;

pub fn run(args: &Args) -> Outcome {
    let (answer, time) = timed(|| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(args.threads.max(1))
            .build()
            .expect("the thread pool starts");
        pool.install(|| work(args.ops, args.seed))
    });
    Outcome::new(answer, args.ops, time)
}

fn work(count: u64, seed: u64) -> u64 {
    let mut lines: Vec<String> = (0..count)
        .into_par_iter()
        .map(|at| words::line(&mut fastrand::Rng::with_seed(seed ^ (at << 8)), 3))
        .collect();
    lines.par_sort();
    lines.dedup();
    let groups: Groups = lines
        .par_iter()
        .fold(Groups::new, |mut groups, line| {
            let (key, rest) = line.split_once(' ').unwrap_or((line, ""));
            groups
                .entry(key.to_owned())
                .or_default()
                .push(rest.to_uppercase());
            groups
        })
        .reduce(Groups::new, |mut all, some| {
            for (key, values) in some {
                all.entry(key).or_default().extend(values);
            }
            all
        });
    drop(lines);
    let joined: Vec<String> = groups
        .into_par_iter()
        .map(|(key, mut values)| {
            values.sort_unstable();
            format!("{key}: {}", values.join(","))
        })
        .collect();
    joined.iter().fold(0, |answer, line| fold(answer, line))
}
