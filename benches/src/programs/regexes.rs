//! Regular expressions are compiled and run over a text, with `regex`: a log
//! filter that is told new patterns all the time.
//!
//! Compiling makes automata of many vectors that grow; matching fills lazily
//! built tables and capture lists.

use regex::Regex;

use super::{fold, words};
use crate::measure::{Outcome, timed};

#[derive(clap::Args)]
pub struct Args {
    /// Rounds of compiling all patterns and running each.
    #[arg(long, default_value_t = 20)]
    ops: u64,
    /// Lines of text.
    #[arg(long, default_value_t = 400)]
    lines: usize,
    /// Seed of the text.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

const PATTERNS: [&str; 8] = [
    r"\b(ba|cor)(du|el)+\b",
    r"(?i)^(?<first>\w+)\s+(?<second>\w+)",
    r"(\w+)\s+(\w+)\s+(\w+)$",
    r"\b\w*(qua|xe|zo)\w*\b",
    r"(?:[aeiou][^aeiou\s]){3,}",
    r"\bver(\w{2,8})\b",
    r"(mar|ne|or){2,4}",
    r"[a-f]+[g-m]+[n-s]+[t-z]+",
];

pub fn run(args: &Args) -> Outcome {
    let mut rng = fastrand::Rng::with_seed(args.seed);
    let text: Vec<String> = (0..args.lines).map(|_| words::line(&mut rng, 12)).collect();
    let (answer, time) = timed(|| {
        let mut answer = 0_u64;
        for _ in 0..args.ops {
            for pattern in PATTERNS {
                let regex = Regex::new(pattern).expect("the patterns are valid");
                for line in &text {
                    for captures in regex.captures_iter(line) {
                        let groups = captures.iter().flatten().count() as u64;
                        answer = fold(answer.wrapping_add(groups), &captures[0]);
                    }
                }
                let replaced = regex.replace_all(&text[0], "<$0>");
                answer = fold(answer, &replaced);
            }
        }
        answer
    });
    Outcome::new(answer, args.ops, time)
}
