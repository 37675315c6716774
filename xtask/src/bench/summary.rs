//! How often each peer is the best, and how far it is from the best on average.

use super::results::{Results, Row};
use super::stats;
use super::table::PARTS;

/// Whose ratio to each peer a line has.
const OURS: &str = "hakmem";

/// One peer's summary; times and memory in the order of [`PARTS`].
pub struct Line {
    /// The peer.
    pub peer: String,
    /// Rows in which it is the best, or cannot be told from the best.
    pub wins: [usize; 2],
    /// Geometric mean, over all rows it took part in, of its ratio to the best.
    pub means: [Option<f64>; 2],
    /// Geometric means of its ratio to the best of the others in each row, in which that one is chosen
    /// by the other rounds, and by all: the truth is in between.
    pub over_others: [Option<(f64, f64)>; 2],
    /// Geometric means of [`OURS`]' medians to its, over the rows that both have.
    pub ours: [Option<f64>; 2],
}

/// The headings of a line's columns.
pub const HEADINGS: [&str; 9] = [
    "peer",
    "time: best or tied",
    "time: mean ratio",
    "time: to the best other",
    "time: hakmem to it",
    "memory: best or tied",
    "memory: mean ratio",
    "memory: to the best other",
    "memory: hakmem to it",
];

/// What the columns are.
pub const EXPLANATION: &str = "Mean ratio: to the best of each row, geometric, over all rows. \
    To the best other: to the best of the other peers in each row; below 1 is ahead of all of them \
    at once. The first number has that peer chosen by the other rounds, so that it is not the \
    luckiest of several alike, and the second by all rounds; the truth is in between. hakmem to \
    it: hakmem's median to the peer's, geometric, over the rows that both have.";

impl Line {
    /// The line's cells, under [`HEADINGS`].
    pub fn cells(&self) -> [String; 9] {
        let none = || "–".to_owned();
        let mean = |mean: Option<f64>| mean.map_or_else(none, |mean| format!("{mean:.2}x"));
        let range = |range: Option<(f64, f64)>| {
            range.map_or_else(none, |(fair, all)| format!("{fair:.3}x to {all:.3}x"))
        };
        [
            self.peer.clone(),
            self.wins[0].to_string(),
            mean(self.means[0]),
            range(self.over_others[0]),
            mean(self.ours[0]),
            self.wins[1].to_string(),
            mean(self.means[1]),
            range(self.over_others[1]),
            mean(self.ours[1]),
        ]
    }
}

/// A line for each peer. Of each row the first figure of each part counts, if two peers or
/// more have it.
pub fn lines(results: &Results) -> Vec<Line> {
    results
        .peers
        .iter()
        .map(|peer| {
            let parts = PARTS.map(|part| of_part(&results.rows, &peer.name, part.key));
            Line {
                peer: peer.name.clone(),
                wins: parts.map(|part| part.0),
                means: parts.map(|part| part.1),
                over_others: PARTS.map(|part| over_others(&results.rows, &peer.name, part.key)),
                ours: PARTS.map(|part| ours(&results.rows, &peer.name, part.key)),
            }
        })
        .collect()
}

fn of_part(rows: &[Row], peer: &str, part: &str) -> (usize, Option<f64>) {
    let mut wins = 0;
    let mut logs = Vec::new();
    let first = rows
        .iter()
        .filter_map(|row| row.figures.iter().find(|figure| figure.table == part));
    for figure in first.filter(|figure| figure.values.len() > 1) {
        let best = figure.best.as_deref() == Some(peer);
        wins += usize::from(best || figure.tied.iter().any(|name| name == peer));
        let ratio = figure.values.get(peer).and_then(|value| value.to_best);
        logs.extend(ratio.filter(|&ratio| ratio > 0.0).map(f64::ln));
    }
    let mean = logs.iter().sum::<f64>() / logs.len() as f64;
    (wins, (!logs.is_empty()).then(|| mean.exp()))
}

/// What [`OURS`] is to the peer, by the rows' first figures of the part; nothing to itself.
fn ours(rows: &[Row], peer: &str, part: &str) -> Option<f64> {
    if peer == OURS {
        return None;
    }
    let logs: Vec<f64> = rows
        .iter()
        .filter_map(|row| {
            let figure = row.figures.iter().find(|figure| figure.table == part)?;
            let median = |peer| figure.values.get(peer).map(|value| value.median);
            let ratio = median(OURS)? / median(peer)?;
            (ratio.is_finite() && ratio > 0.0).then(|| ratio.ln())
        })
        .collect();
    (!logs.is_empty()).then(|| (logs.iter().sum::<f64>() / logs.len() as f64).exp())
}

/// Of the rows with at least two rounds, by their first figure of the part.
fn over_others(rows: &[Row], peer: &str, part: &str) -> Option<(f64, f64)> {
    let ratios: Vec<(f64, f64)> = rows
        .iter()
        .filter_map(|row| {
            let figure = row.figures.iter().find(|figure| figure.table == part)?;
            let ratio = stats::over_others(&row.cells, &figure.key, peer)?;
            Some((ratio.chosen_by_others?.ln(), ratio.chosen_by_all.ln()))
        })
        .filter(|(fair, all)| fair.is_finite() && all.is_finite())
        .collect();
    let mean = |logs: f64| (logs / ratios.len() as f64).exp();
    (!ratios.is_empty()).then(|| {
        (
            mean(ratios.iter().map(|ratio| ratio.0).sum()),
            mean(ratios.iter().map(|ratio| ratio.1).sum()),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::results::{Figure, Value};
    use std::collections::BTreeMap;

    fn figure(part: &str, ratios: &[(&str, f64)]) -> Figure {
        let value = |ratio: f64| Value {
            runs: 5,
            median: ratio,
            low: ratio,
            high: ratio,
            spread: 0.0,
            to_best: Some(ratio),
            to_base: None,
        };
        Figure {
            key: "ms".to_owned(),
            label: "time".to_owned(),
            unit: "ms".to_owned(),
            table: part.to_owned(),
            best: Some("a".to_owned()),
            tied: Vec::new(),
            values: ratios
                .iter()
                .map(|&(peer, ratio)| (peer.to_owned(), value(ratio)))
                .collect(),
        }
    }

    fn row(figures: Vec<Figure>) -> Row {
        Row {
            id: "row".to_owned(),
            group: "row".to_owned(),
            label: "row".to_owned(),
            command: String::new(),
            x: None,
            line: None,
            skipped: None,
            cells: BTreeMap::new(),
            figures,
        }
    }

    #[test]
    fn ours_is_compared_where_both_are() {
        let rows = [
            row(vec![figure("speed", &[(OURS, 1.0), ("b", 2.0)])]),
            row(vec![
                figure("speed", &[(OURS, 4.0), ("b", 2.0)]),
                figure("speed", &[(OURS, 100.0), ("b", 1.0)]),
            ]),
            row(vec![figure("speed", &[(OURS, 1.0), ("b", 16.0)])]),
            row(vec![figure("speed", &[("b", 1.0)])]),
        ];
        let ratio = ours(&rows, "b", "speed").unwrap();
        assert!((ratio - (1.0_f64 / 16.0).cbrt()).abs() < 1e-9);
        assert_eq!(ours(&rows, OURS, "speed"), None);
        assert_eq!(ours(&rows, "c", "speed"), None);
    }

    #[test]
    fn the_mean_is_geometric_and_takes_one_figure_of_each_row() {
        let rows = [
            row(vec![
                figure("speed", &[("a", 1.0), ("b", 2.0)]),
                figure("speed", &[("a", 1.0), ("b", 100.0)]),
            ]),
            row(vec![figure("speed", &[("a", 1.0), ("b", 8.0)])]),
            // Nobody to compare with.
            row(vec![figure("speed", &[("b", 1.0)])]),
        ];
        let (wins, mean) = of_part(&rows, "b", "speed");
        assert_eq!(wins, 0);
        assert!((mean.unwrap() - 4.0).abs() < 1e-9);
        assert_eq!(of_part(&rows, "a", "speed"), (2, Some(1.0)));
        assert_eq!(of_part(&rows, "a", "memory"), (0, None));
    }
}
