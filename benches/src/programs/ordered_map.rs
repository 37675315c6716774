//! An ordered map of strings, `std::collections::BTreeMap`: an index that is
//! built, searched, walked and thinned out.
//!
//! Nodes of a few hundred bytes between strings of a few tens, freed in key order, which is
//! not the order they were allocated in.

use std::collections::BTreeMap;

use super::{fold, words};
use crate::measure::{Outcome, timed};

#[derive(clap::Args)]
pub struct Args {
    /// Insertions.
    #[arg(long, default_value_t = 300_000)]
    ops: u64,
    /// Seed of the content.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

pub fn run(args: &Args) -> Outcome {
    let (answer, time) = timed(|| {
        let mut rng = fastrand::Rng::with_seed(args.seed);
        let mut map: BTreeMap<String, String> = BTreeMap::new();
        let mut answer = 0_u64;
        for op in 0..args.ops {
            map.insert(words::line(&mut rng, 2), words::line(&mut rng, 3));
            if op % 4 == 3 {
                let from = words::word(&mut rng);
                let key = map.range(from..).next().map(|(key, _)| key.clone());
                if let Some(value) = key.and_then(|key| map.remove(&key)) {
                    answer = answer.wrapping_add(value.len() as u64);
                }
            }
        }
        let upper: BTreeMap<String, usize> = map
            .iter()
            .map(|(key, value)| (key.to_uppercase(), value.len()))
            .collect();
        map.retain(|key, _| key.len() % 3 != 0);
        answer = answer.wrapping_add(map.len() as u64);
        upper
            .keys()
            .step_by(100)
            .fold(answer, |answer, key| fold(answer, key))
    });
    Outcome::new(answer, args.ops, time)
}
