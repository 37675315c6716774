//! `cargo xtask bench compare A.json B.json`: what changed beyond noise.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use comfy_table::{Attribute, Cell, CellAlignment, Color, Table, presets};

use super::results::{self, Figure, Results, Row, Value};
use super::table;

/// Ratios to the best peer that differ by less than this agree.
const AGREEMENT: f64 = 0.05;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The earlier results.json.
    before: PathBuf,
    /// The later one.
    after: PathBuf,
    /// Only these peers, separated by commas.
    #[arg(long, value_delimiter = ',', value_name = "PEER,...")]
    peers: Vec<String>,
}

/// One value in both files.
struct Pair<'a> {
    row: &'a Row,
    figure: &'a Figure,
    peer: &'a str,
    before: &'a Value,
    after: &'a Value,
}

impl Pair<'_> {
    /// The later median over the earlier one.
    fn ratio(&self) -> f64 {
        if self.before.median > 0.0 {
            self.after.median / self.before.median
        } else {
            1.0
        }
    }

    /// True where the intervals of the two medians do not meet.
    fn changed(&self) -> bool {
        self.after.low > self.before.high || self.after.high < self.before.low
    }
}

/// Prints what changed.
///
/// # Errors
/// A sentence where a file cannot be read, or the two have nothing in common.
pub fn run(args: &Args) -> Result<ExitCode> {
    let before = results::read(&args.before)?;
    let after = results::read(&args.after)?;
    if before.mode != after.mode {
        bail!(
            "{} is a --{} run and {} a --{} run: their rows do different amounts of work",
            args.before.display(),
            before.mode,
            args.after.display(),
            after.mode
        );
    }
    if before.machine.cpu != after.machine.cpu || before.machine.cores != after.machine.cores {
        println!(
            "warning: different machines ({} x {}, {} x {})",
            before.machine.cores, before.machine.cpu, after.machine.cores, after.machine.cpu
        );
    }
    if before.pin != after.pin {
        let pin = |results: &Results| match &results.pin {
            Some(processors) => format!("--pin {processors}"),
            None => "no --pin".to_owned(),
        };
        println!(
            "warning: different processors ({}, {})",
            pin(&before),
            pin(&after)
        );
    }
    let pairs: Vec<Pair<'_>> = pairs(&before, &after)
        .filter(|pair| args.peers.is_empty() || args.peers.iter().any(|name| name == pair.peer))
        .collect();
    if pairs.is_empty() {
        bail!("the two results have no row and peer in common");
    }
    let mut changed: Vec<&Pair<'_>> = pairs.iter().filter(|pair| pair.changed()).collect();
    changed.sort_by(|a, b| b.ratio().total_cmp(&a.ratio()));
    if !changed.is_empty() {
        println!("{}", table_of(&changed));
    }
    println!(
        "{} of {} figures changed beyond noise ({} larger, {} smaller)",
        changed.len(),
        pairs.len(),
        changed.iter().filter(|pair| pair.ratio() > 1.0).count(),
        changed.iter().filter(|pair| pair.ratio() < 1.0).count(),
    );
    let (agree, rows) = agreement(&before, &after);
    println!(
        "{agree} of {rows} rows agree: the ratios to the best peer differ by less than {:.0} %, or \
         the row is marked as noise in either result",
        AGREEMENT * 100.0
    );
    Ok(ExitCode::SUCCESS)
}

fn pairs<'a>(before: &'a Results, after: &'a Results) -> impl Iterator<Item = Pair<'a>> {
    after.rows.iter().flat_map(move |row| {
        let earlier = before.rows.iter().find(|other| other.id == row.id);
        let figures = row.figures.iter().filter_map(move |figure| {
            let other = earlier?
                .figures
                .iter()
                .find(|other| other.key == figure.key)?;
            Some((figure, other))
        });
        figures.flat_map(move |(figure, other)| {
            figure.values.iter().filter_map(move |(peer, after)| {
                let before = other.values.get(peer)?;
                Some(Pair {
                    row,
                    figure,
                    peer,
                    before,
                    after,
                })
            })
        })
    })
}

/// Of the rows in both results, by their first figure: how many agree, of how many.
fn agreement(before: &Results, after: &Results) -> (usize, usize) {
    let mut counts = (0, 0);
    for row in &after.rows {
        let Some(earlier) = before.rows.iter().find(|other| other.id == row.id) else {
            continue;
        };
        let (Some(new), Some(old)) = (row.figures.first(), earlier.figures.first()) else {
            continue;
        };
        counts.1 += 1;
        let noise = !new.tied.is_empty() || !old.tied.is_empty();
        let same = new.values.iter().all(|(peer, value)| {
            let other = old.values.get(peer).and_then(|value| value.to_best);
            match (value.to_best, other) {
                (Some(new), Some(old)) => (new / old - 1.0).abs() < AGREEMENT,
                _ => true,
            }
        });
        counts.0 += usize::from(noise || same);
    }
    counts
}

fn table_of(changed: &[&Pair<'_>]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY);
    table.set_header(["", "peer", "before", "after", "after/before"]);
    for pair in changed {
        let worse = pair.ratio() > 1.0;
        let number = |value: &Value| {
            Cell::new(table::number(value.median, &pair.figure.unit))
                .set_alignment(CellAlignment::Right)
        };
        table.add_row(vec![
            Cell::new(table::title(pair.row, pair.figure)),
            Cell::new(pair.peer),
            number(pair.before),
            number(pair.after),
            Cell::new(format!("{:.2}x", pair.ratio()))
                .set_alignment(CellAlignment::Right)
                .add_attribute(Attribute::Bold)
                .fg(if worse { Color::Red } else { Color::Green }),
        ]);
    }
    table
}
