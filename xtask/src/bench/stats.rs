//! From runs to figures: medians, what they are known to, ratios, and whether a
//! difference is one.
//!
//! The runs of a row are interleaved, so the *n*th runs of two peers happened
//! next to each other; the ratio of each such pair is free of whatever slowed
//! the whole machine at that moment. Ratios are medians of these.
//!
//! The interval of a median is the notch of a box plot, 1.57 times the distance of the
//! quartiles over the root of the number of runs (R. McGill, J. Tukey and
//! W. Larsen, "Variations of Box Plots", The American Statistician 32, 1978):
//! where the intervals of two medians do not meet, they differ at about the 5 % level.

#![allow(clippy::doc_markdown, reason = "the names of people are not code")]

use std::collections::BTreeMap;

use statrs::statistics::{Data, OrderStatistics};

use super::catalog::FigureSpec;
use super::outcome::Outcome;
use super::results::{Cell, Figure, Value};

/// Differences smaller than this are never called one.
const LEAST_DIFFERENCE: f64 = 0.01;
/// The same, where there are too few runs to know better.
const LEAST_DIFFERENCE_OF_FEW: f64 = 0.10;
/// Larger ratios are never called a tie, unless the runs are few and the ratio is less than their
/// least difference: the interval of noisy runs reaches down to 1 even from several times the best.
const LARGEST_TIE: f64 = 1.05;
/// Fewer runs than this are few.
const ENOUGH_RUNS: usize = 3;

/// A median and what it is known to.
#[derive(Clone, Copy, Debug)]
pub struct Estimate {
    /// The median.
    pub median: f64,
    /// The lower end of its interval.
    pub low: f64,
    /// The upper end.
    pub high: f64,
    /// Distance of the quartiles over the median.
    pub spread: f64,
}

/// The median of `values` and its interval, which reaches at least half the least difference
/// to either side; `None` where there are none.
pub fn estimate(values: &[f64]) -> Option<Estimate> {
    estimate_within(values, least_difference(values.len()) / 2.0)
}

/// The same, with an interval that reaches at least `least` times the median to either side.
fn estimate_within(values: &[f64], least: f64) -> Option<Estimate> {
    if values.is_empty() {
        return None;
    }
    let mut data = Data::new(values.to_vec());
    let median = data.median();
    let distance = data.upper_quartile() - data.lower_quartile();
    let notch = 1.57 * distance / (values.len() as f64).sqrt();
    let reach = notch.max(median.abs() * least);
    Some(Estimate {
        median,
        low: median - reach,
        high: median + reach,
        spread: if median == 0.0 {
            0.0
        } else {
            distance / median.abs()
        },
    })
}

fn least_difference(runs: usize) -> f64 {
    if runs < ENOUGH_RUNS {
        LEAST_DIFFERENCE_OF_FEW
    } else {
        LEAST_DIFFERENCE
    }
}

/// A peer's ratio to the best of the others, whose name nobody knows for certain.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OverOthers {
    /// To the one with the smallest median of all rounds. Of several that are alike this is the
    /// one that was lucky, so the ratio is on the large side.
    pub chosen_by_all: f64,
    /// To the one with the smallest median of the *other* rounds, round by round: luck has no
    /// part in it, but a choice that was wrong has, so the ratio is on the small side.
    /// `None` where there is one round only.
    pub chosen_by_others: Option<f64>,
}

/// The ratio of the figure `key` to the best of the other peers; `None` where there is none, or
/// `peer` has no runs.
pub fn over_others(cells: &BTreeMap<String, Cell>, key: &str, peer: &str) -> Option<OverOthers> {
    let own = values_of(key, cells.get(peer)?);
    let others: Vec<Vec<f64>> = cells
        .iter()
        .filter(|(name, _)| *name != peer)
        .map(|(_, cell)| values_of(key, cell))
        .filter(|runs| !runs.is_empty() && runs.len() == own.len())
        .collect();
    // The best of the others by all rounds but one.
    let best = |left_out: Option<usize>| {
        let median = |runs: &[f64]| {
            let kept = runs.iter().enumerate();
            let kept = kept.filter(|(round, _)| Some(*round) != left_out);
            Data::new(kept.map(|(_, &value)| value).collect::<Vec<_>>()).median()
        };
        others
            .iter()
            .min_by(|a, b| median(a).total_cmp(&median(b)))
            .map(Vec::as_slice)
    };
    let chosen_by_all = paired_ratio(&own, best(None)?)?.median;
    let chosen_by_others = (own.len() > 1)
        .then(|| {
            let chosen: Option<Vec<f64>> = (0..own.len())
                .map(|round| best(Some(round)).map(|runs| runs[round]))
                .collect();
            paired_ratio(&own, &chosen?)
        })
        .flatten()
        .map(|ratio| ratio.median);
    Some(OverOthers {
        chosen_by_all,
        chosen_by_others,
    })
}

/// The figures of a row. Smaller is better in all of them.
pub fn figures(
    specs: &[FigureSpec],
    cells: &BTreeMap<String, Cell>,
    order: &[String],
    base: &str,
) -> Vec<Figure> {
    specs
        .iter()
        .filter_map(|spec| figure(spec, cells, order, base))
        .collect()
}

fn figure(
    spec: &FigureSpec,
    cells: &BTreeMap<String, Cell>,
    order: &[String],
    base: &str,
) -> Option<Figure> {
    let runs: Vec<(&String, Vec<f64>)> = order
        .iter()
        .filter_map(|peer| {
            let values = values_of(spec.key, cells.get(peer)?);
            (!values.is_empty()).then_some((peer, values))
        })
        .collect();
    let estimates: Vec<(&String, Estimate)> = runs
        .iter()
        .filter_map(|(peer, values)| Some((*peer, estimate(values)?)))
        .collect();
    let (smallest, _) = estimates
        .iter()
        .min_by(|a, b| a.1.median.total_cmp(&b.1.median))
        .copied()?;
    let runs_of = |name: &str| runs.iter().find(|(peer, _)| *peer == name).map(|(_, v)| v);
    let best_runs = runs_of(smallest)?;

    let mut values = BTreeMap::new();
    let mut tied = Vec::new();
    for (peer, known) in &estimates {
        let own = runs_of(peer)?;
        let to_best = paired_ratio(own, best_runs);
        if *peer != smallest && to_best.is_none_or(|ratio| is_tie(&ratio, own.len())) {
            tied.push((*peer).clone());
        }
        let to_base = runs_of(base).and_then(|runs| paired_ratio(own, runs));
        values.insert(
            (*peer).clone(),
            Value {
                runs: own.len(),
                median: known.median,
                low: known.low,
                high: known.high,
                spread: known.spread,
                to_best: to_best.map(|ratio| ratio.median),
                to_base: to_base.map(|ratio| ratio.median),
            },
        );
    }
    if !tied.is_empty() {
        tied.insert(0, smallest.clone());
    }
    Some(Figure {
        key: spec.key.to_owned(),
        label: spec.label.to_owned(),
        unit: spec.unit.name().to_owned(),
        table: spec.table.to_owned(),
        best: (tied.is_empty() && estimates.len() > 1).then(|| smallest.clone()),
        tied,
        values,
    })
}

/// Whether a peer with this ratio to the one with the smallest median, over so many runs, is tied
/// with it.
fn is_tie(ratio: &Estimate, runs: usize) -> bool {
    ratio.low <= 1.0 && ratio.median <= LARGEST_TIE.max(1.0 + least_difference(runs))
}

/// The ratio of two peers' runs, pair by pair; `None` where the second is zero.
fn paired_ratio(own: &[f64], other: &[f64]) -> Option<Estimate> {
    let ratios: Vec<f64> = own
        .iter()
        .zip(other)
        .filter(|pair| *pair.1 > 0.0)
        .map(|(a, b)| a / b)
        .collect();
    estimate_within(&ratios, least_difference(ratios.len()))
}

/// A figure of a cell's runs.
fn values_of(key: &str, cell: &Cell) -> Vec<f64> {
    let runs = cell.runs.iter();
    runs.filter_map(|run| value_of(key, run)).collect()
}

/// A figure of one run.
fn value_of(key: &str, run: &Outcome) -> Option<f64> {
    match key {
        "ns_per_op" => Some(run.seconds * 1e9 / run.ops.max(1) as f64),
        "ms" => Some(run.seconds * 1e3),
        "cpu_ms" => Some(run.cpu_seconds * 1e3),
        "minor_faults" => Some(run.minor_faults as f64),
        "peak_rss" => Some(run.peak_rss as f64),
        "end_rss" => (run.end_rss > 0).then_some(run.end_rss as f64),
        metric => run.metrics.get(metric).copied(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::catalog::{FigureSpec, Unit};
    use super::*;

    const TIME: FigureSpec = FigureSpec {
        key: "ms",
        label: "time",
        unit: Unit::Milliseconds,
        table: "speed",
    };

    fn cell(seconds: &[f64]) -> Cell {
        let runs = seconds
            .iter()
            .map(|&seconds| Outcome {
                peer: String::new(),
                answer: 0,
                ops: 1,
                seconds,
                cpu_seconds: seconds,
                minor_faults: 0,
                peak_rss: 0,
                end_rss: 0,
                metrics: BTreeMap::new(),
                series: BTreeMap::new(),
            })
            .collect();
        Cell {
            runs,
            failed: None,
            note: None,
        }
    }

    fn compare(a: &[f64], b: &[f64]) -> Figure {
        let cells = BTreeMap::from([("a".to_owned(), cell(a)), ("b".to_owned(), cell(b))]);
        let order = ["a".to_owned(), "b".to_owned()];
        figures(&[TIME], &cells, &order, "a").remove(0)
    }

    #[test]
    fn a_clear_difference_has_a_winner() {
        let figure = compare(&[1.0, 1.01, 0.99, 1.0, 1.0], &[1.2, 1.21, 1.19, 1.2, 1.2]);
        assert_eq!(figure.best.as_deref(), Some("a"));
        assert!(figure.tied.is_empty());
        let ratio = figure.values["b"].to_best.unwrap();
        assert!((ratio - 1.2).abs() < 0.001, "{ratio}");
    }

    #[test]
    fn a_difference_inside_the_noise_has_none() {
        let figure = compare(&[1.0, 1.3, 0.8, 1.1, 0.9], &[1.05, 0.9, 1.25, 1.0, 1.1]);
        assert_eq!(figure.best, None);
        assert_eq!(figure.tied.len(), 2);
    }

    #[test]
    fn a_large_ratio_is_no_tie_however_noisy() {
        let noisy = [1.0, 20.0, 9.0, 0.9, 15.0];
        let ratio = paired_ratio(&noisy, &[1.0; 5]).unwrap();
        assert!(ratio.low <= 1.0 && ratio.median > 8.0, "{ratio:?}");
        let figure = compare(&[1.0; 5], &noisy);
        assert_eq!(figure.best.as_deref(), Some("a"));
        assert!(figure.tied.is_empty());
        // As noisy, and close.
        let figure = compare(&[1.0; 5], &[0.7, 1.3, 1.04, 0.8, 1.2]);
        assert_eq!(figure.best, None);
        assert_eq!(figure.tied, ["a", "b"]);
    }

    #[test]
    fn a_machine_that_slows_down_for_all_does_not_hide_a_difference() {
        let figure = compare(&[1.0, 2.0, 1.5, 3.0, 1.2], &[1.1, 2.2, 1.65, 3.3, 1.32]);
        assert_eq!(figure.best.as_deref(), Some("a"));
    }

    fn over(cells: &[(&str, &[f64])]) -> Option<OverOthers> {
        let cells = cells
            .iter()
            .map(|(name, seconds)| ((*name).to_owned(), cell(seconds)))
            .collect();
        over_others(&cells, "ms", "a")
    }

    #[test]
    fn the_best_of_others_is_not_the_lucky_one() {
        // Both others take 1.0 and have one round each in which they took half of that, or twice.
        let b = [1.0, 0.5, 1.0, 2.0, 1.0];
        let c = [1.0, 1.0, 2.0, 1.0, 1.0];
        let own = [1.0; 5];
        let ratio = over(&[("a", &own), ("b", &b), ("c", &c)]).unwrap();
        assert!((ratio.chosen_by_all - 1.0).abs() < 1e-9, "{ratio:?}");
        // Each of three others was quick in two rounds of three, and never in the third.
        let (quick, slow) = (0.8, 1.2);
        let b = [slow, quick, quick];
        let c = [quick, slow, quick];
        let d = [quick, quick, slow];
        let ratio = over(&[("a", &[1.0; 3]), ("b", &b), ("c", &c), ("d", &d)]).unwrap();
        assert!((ratio.chosen_by_all - 1.25).abs() < 1e-9, "{ratio:?}");
        let fair = ratio.chosen_by_others.unwrap();
        assert!((fair - 1.0 / slow).abs() < 1e-9, "{ratio:?}");
    }

    #[test]
    fn nobody_else_or_one_round_leaves_no_ratio_to_others() {
        assert_eq!(over(&[("a", &[1.0, 1.0])]), None);
        assert_eq!(over(&[("b", &[1.0, 1.0])]), None);
        let once = over(&[("a", &[1.0]), ("b", &[2.0])]).unwrap();
        assert!((once.chosen_by_all - 0.5).abs() < 1e-9);
        assert_eq!(once.chosen_by_others, None);
    }

    #[test]
    fn one_run_is_not_enough_for_a_small_difference() {
        assert_eq!(compare(&[1.0], &[1.04]).best, None);
        assert_eq!(compare(&[1.0], &[1.5]).best.as_deref(), Some("a"));
    }

    #[test]
    fn nine_tenths_of_a_percent_is_no_difference_however_steady() {
        assert_eq!(compare(&[1.0; 9], &[1.009; 9]).best, None);
    }
}
