//! Inputs that are made rather than kept: the same bytes every time, on any machine.

use std::fmt::Write as _;

/// A linear congruential generator (Knuth's MMIX constants): inputs need to be varied and
/// repeatable, nothing more.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// `lines` lines of two to twelve words each.
pub fn text(lines: usize) -> String {
    let mut numbers = Numbers(1);
    let mut text = String::new();
    for _ in 0..lines {
        for _ in 0..2 + numbers.below(11) {
            let length = 1 + numbers.below(9);
            for _ in 0..length {
                text.push(char::from(b'a' + numbers.below(16) as u8));
            }
            text.push(' ');
        }
        writeln!(text, "{}", numbers.below(1_000_000)).expect("a string takes any text");
    }
    text
}

/// A random 3-SAT formula in DIMACS form, near the ratio of clauses to variables where such
/// formulas are hardest.
pub fn formula(variables: u64) -> String {
    let mut numbers = Numbers(3);
    let clauses = variables * 426 / 100;
    let mut text = format!("p cnf {variables} {clauses}\n");
    for _ in 0..clauses {
        for _ in 0..3 {
            let sign = if numbers.below(2) == 0 { "" } else { "-" };
            write!(text, "{sign}{} ", 1 + numbers.below(variables)).expect("as above");
        }
        text.push_str("0\n");
    }
    text
}

/// The `n` queens problem for an SMT solver, with the columns as integers, then asked again
/// for a board that differs.
pub fn queens(n: usize) -> String {
    let mut text = String::from("(set-logic QF_LIA)\n");
    for row in 0..n {
        writeln!(
            text,
            "(declare-const q{row} Int)(assert (and (<= 0 q{row}) (< q{row} {n})))"
        )
        .expect("as above");
    }
    for row in 0..n {
        for other in 0..row {
            let apart = row - other;
            writeln!(
                text,
                "(assert (and (distinct q{row} q{other}) (distinct q{row} (+ q{other} {apart})) \
                 (distinct q{row} (- q{other} {apart}))))"
            )
            .expect("as above");
        }
    }
    text.push_str("(check-sat)\n(assert (> q0 (div (+ q1 q2) 2)))\n(check-sat)\n");
    text
}

/// A JSON array of `records` records.
pub fn records(records: usize) -> String {
    let mut numbers = Numbers(4);
    let mut text = String::from("[");
    for id in 0..records {
        let comma = if id == 0 { "" } else { ",\n" };
        write!(
            text,
            "{comma}{{\"id\":{id},\"group\":\"g{}\",\"values\":[{},{},{}],\"note\":\"{}\"}}",
            numbers.below(500),
            numbers.below(1000),
            numbers.below(1000),
            numbers.below(1000),
            "n".repeat(numbers.below(60) as usize)
        )
        .expect("as above");
    }
    text.push_str("]\n");
    text
}

#[cfg(test)]
mod tests {
    use super::{formula, records, text};

    #[test]
    fn inputs_are_the_same_every_time_and_have_the_asked_size() {
        assert_eq!(text(50), text(50));
        assert_eq!(text(50).lines().count(), 50);
        assert_eq!(formula(100).lines().count(), 1 + 426);
        assert_eq!(records(10).lines().count(), 10);
    }
}
