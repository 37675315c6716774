//! Counting what was checked, and saying so in one plain line.

use std::fmt;
use std::ops::AddAssign;

/// How many checks passed, failed, and were skipped.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Tally {
    /// Checks that held.
    pub passed: usize,
    /// Checks that did not.
    pub failed: usize,
    /// Checks that could not be made here, each with its reason printed.
    pub skipped: usize,
}

impl Tally {
    /// Counts one check.
    pub fn count(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Passed(_) => self.passed += 1,
            Outcome::Failed(_) => self.failed += 1,
            Outcome::Skipped(_) => self.skipped += 1,
        }
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)?;
        if self.skipped > 0 {
            write!(f, ", {} skipped", self.skipped)?;
        }
        Ok(())
    }
}

/// How one check came out, with a remark or a reason.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It held; the remark may be empty.
    Passed(String),
    /// It did not, and this is why.
    Failed(String),
    /// It could not be made, and this is what is missing.
    Skipped(String),
}

impl Outcome {
    /// Turns an error into a failed check.
    pub fn of(result: anyhow::Result<Outcome>) -> Outcome {
        result.unwrap_or_else(|error| Outcome::Failed(format!("{error:#}")))
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Passed(remark) if remark.is_empty() => f.write_str("ok"),
            Outcome::Passed(remark) => write!(f, "ok, {remark}"),
            Outcome::Failed(reason) => write!(f, "FAILED: {reason}"),
            Outcome::Skipped(reason) => write!(f, "skipped: {reason}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Outcome, Tally};

    #[test]
    fn the_closing_line_names_skipped_checks_only_when_there_are_any() {
        let mut tally = Tally::default();
        tally.count(&Outcome::Passed(String::new()));
        tally.count(&Outcome::Failed("because".to_owned()));
        assert_eq!(tally.to_string(), "1 passed, 1 failed");
        tally.count(&Outcome::Skipped("no such tool".to_owned()));
        assert_eq!(tally.to_string(), "1 passed, 1 failed, 1 skipped");
    }
}
