//! The tables in the terminal, and in Markdown.

use comfy_table::{Attribute, Cell, CellAlignment, Color, Table, presets};

use super::results::{Figure, Results, Row};
use super::summary;

/// One of the tables.
#[derive(Clone, Copy)]
pub struct Part {
    /// The figures' `table`.
    pub key: &'static str,
    /// Its heading.
    pub title: &'static str,
}

/// The tables, in order.
pub const PARTS: [Part; 2] = [
    Part {
        key: "speed",
        title: "Time (smaller is better)",
    },
    Part {
        key: "memory",
        title: "Memory (smaller is better)",
    },
];

/// The text of one peer's cell.
struct Text {
    content: String,
    best: bool,
    tied: bool,
    failed: bool,
}

/// What the ratios in a table are against.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Against {
    /// The smallest value of the row.
    Best,
    /// The chosen base.
    Base,
}

/// Prints all tables.
pub fn print(results: &Results, against: Against) {
    for part in PARTS {
        if let Some(table) = terminal(results, part.key, against) {
            println!("\n{}\n{table}", part.title);
        }
    }
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY);
    table.set_header(summary::HEADINGS);
    for line in summary::lines(results) {
        table.add_row(line.cells());
    }
    println!("\nSummary\n{table}\n{}", summary::EXPLANATION);
    let other = match against {
        Against::Best => "the smallest of the row",
        Against::Base => results.base.as_str(),
    };
    println!(
        "\nEach cell: the median, and its ratio to {other}. *: the smallest; ~ where the peers \
         so marked are close and cannot be told apart (then none is called best). The last column: \
         the largest spread of the row, the distance of a peer's quartiles over its median."
    );
    for row in &results.rows {
        if let Some(reason) = &row.skipped {
            println!("not run: {}: {reason}", row.label);
        }
    }
    for sentence in failures(results) {
        println!("failed: {sentence}");
    }
    for sentence in notes(results) {
        println!("note: {sentence}");
    }
    for peer in &results.peers {
        if let Some(reason) = &peer.missing {
            println!("{}: {reason}", peer.name);
        }
    }
}

/// What single cells add to their figures.
pub fn notes(results: &Results) -> Vec<String> {
    let cells = results
        .rows
        .iter()
        .flat_map(|row| row.cells.iter().map(move |(peer, cell)| (row, peer, cell)));
    cells
        .filter_map(|(row, peer, cell)| {
            Some(format!("{}: {peer}: {}", row.label, cell.note.as_ref()?))
        })
        .collect()
}

/// What went wrong in single cells: each peer and reason with its rows.
pub fn failures(results: &Results) -> Vec<String> {
    let mut sentences = Vec::new();
    for row in &results.rows {
        for (peer, cell) in &row.cells {
            let Some(reason) = &cell.failed else { continue };
            let could_run = results.peers.iter().any(|info| {
                info.name == *peer && (row_is_preloaded(row) || info.missing.is_none())
            });
            if could_run && is_failure(reason) {
                sentences.push(format!("{}: {peer}: {reason}", row.label));
            }
        }
    }
    sentences
}

fn row_is_preloaded(row: &Row) -> bool {
    !row.command.starts_with("hakmem-bench")
}

/// A peer that is not there is no failure; one that crashed is.
fn is_failure(reason: &str) -> bool {
    !reason.starts_with("skipped") && !is_absent(reason)
}

/// True for the sentences that say a peer cannot take part in a row at all.
pub fn is_absent(reason: &str) -> bool {
    reason.contains("not installed")
        || reason.contains("no library of it")
        || reason.contains("only built into")
}

fn terminal(results: &Results, part: &str, against: Against) -> Option<Table> {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY);
    let mut header = vec![Cell::new("")];
    for peer in &results.peers {
        header.push(Cell::new(&peer.name).set_alignment(CellAlignment::Right));
    }
    header.push(Cell::new("spread").set_alignment(CellAlignment::Right));
    table.set_header(header);
    let mut rows = 0;
    for (row, figure) in figures(results, part) {
        rows += 1;
        let mut line = vec![Cell::new(title(row, figure))];
        for peer in &results.peers {
            let text = text(row, figure, &peer.name, against);
            let mut cell = Cell::new(text.content).set_alignment(CellAlignment::Right);
            if text.best {
                cell = cell.add_attribute(Attribute::Bold).fg(Color::Green);
            } else if text.tied {
                cell = cell.fg(Color::Yellow);
            } else if text.failed {
                cell = cell.fg(Color::Red);
            }
            line.push(cell);
        }
        line.push(Cell::new(spread(figure)).set_alignment(CellAlignment::Right));
        table.add_row(line);
    }
    (rows > 0).then_some(table)
}

/// One table in Markdown; `None` where it has no rows.
pub fn markdown(results: &Results, part: &str) -> Option<String> {
    use std::fmt::Write;
    let mut text_of_table = String::from("| |");
    for peer in &results.peers {
        let _ = write!(text_of_table, " {} |", peer.name);
    }
    text_of_table.push_str(" spread |\n|---|");
    text_of_table.push_str(&"---:|".repeat(results.peers.len() + 1));
    text_of_table.push('\n');
    let mut rows = 0;
    for (row, figure) in figures(results, part) {
        rows += 1;
        let _ = write!(text_of_table, "| {} |", title(row, figure));
        for peer in &results.peers {
            let text = text(row, figure, &peer.name, Against::Best);
            let mark = if text.best { "**" } else { "" };
            let content = text.content.trim_start_matches('*');
            let _ = write!(text_of_table, " {mark}{content}{mark} |");
        }
        let _ = writeln!(text_of_table, " {} |", spread(figure));
    }
    (rows > 0).then_some(text_of_table)
}

/// The figures of one table, with their rows.
pub fn figures<'a>(
    results: &'a Results,
    part: &'a str,
) -> impl Iterator<Item = (&'a Row, &'a Figure)> {
    results
        .rows
        .iter()
        .flat_map(|row| row.figures.iter().map(move |figure| (row, figure)))
        .filter(move |(_, figure)| figure.table == part)
}

/// The row's name, and the figure's where the row has several in one table.
pub fn title(row: &Row, figure: &Figure) -> String {
    let several = row
        .figures
        .iter()
        .filter(|other| other.table == figure.table)
        .count()
        > 1;
    let unit = match figure.unit.as_str() {
        "ns" | "ms" | "cycles" => format!(" ({})", figure.unit),
        "instructions" => " (instr.)".to_owned(),
        _ => String::new(),
    };
    if several {
        format!("{}: {}{unit}", row.label, figure.label)
    } else {
        row.label.clone() + &unit
    }
}

/// The largest spread among the peers; a dash where no peer ran twice.
pub fn spread(figure: &Figure) -> String {
    let several = figure.values.values().filter(|value| value.runs > 1);
    several
        .map(|value| value.spread)
        .reduce(f64::max)
        .map_or("–".to_owned(), |largest| {
            format!("{:.0} %", largest * 100.0)
        })
}

fn text(row: &Row, figure: &Figure, peer: &str, against: Against) -> Text {
    let Some(value) = figure.values.get(peer) else {
        let reason = row.cells.get(peer).and_then(|cell| cell.failed.as_deref());
        let (text, failed) = match reason {
            None => ("", false),
            Some(reason) if is_absent(reason) || reason.starts_with("skipped") => ("–", false),
            Some(reason) => (brief(reason), true),
        };
        return Text {
            content: text.to_owned(),
            best: false,
            tied: false,
            failed,
        };
    };
    let best = figure.best.as_deref() == Some(peer);
    let tied = figure.tied.iter().any(|name| name == peer);
    let mark = match (best, tied) {
        (true, _) => "*",
        (false, true) => "~",
        (false, false) => "",
    };
    let ratio = match against {
        Against::Best => value.to_best.filter(|_| !best && figure.values.len() > 1),
        Against::Base => value.to_base,
    };
    let ratio = ratio.map_or(String::new(), |ratio| format!(" {ratio:.2}x"));
    Text {
        content: format!("{mark}{}{ratio}", number(value.median, &figure.unit)),
        best,
        tied,
        failed: false,
    }
}

/// A word for a failure, where a sentence does not fit.
fn brief(reason: &str) -> &'static str {
    if reason.contains("signal") {
        "crashed"
    } else if reason.contains("in time") {
        "timed out"
    } else if reason.contains("build failed") {
        "not built"
    } else {
        "failed"
    }
}

/// A number with its unit, in about five characters.
pub fn number(value: f64, unit: &str) -> String {
    if unit == "bytes" {
        return bytes(value);
    }
    if unit == "ns" && value >= 1e6 {
        return format!("{} ms", digits(value / 1e6));
    }
    if unit == "ns" && value >= 1e4 {
        return format!("{} us", digits(value / 1e3));
    }
    digits(value)
}

fn digits(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

fn bytes(value: f64) -> String {
    const STEPS: [(&str, f64); 3] = [("G", 1_073_741_824.0), ("M", 1_048_576.0), ("K", 1024.0)];
    for (letter, step) in STEPS {
        if value >= step {
            return format!("{}{letter}", digits(value / step));
        }
    }
    format!("{value:.0}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_keep_their_unit() {
        assert_eq!(number(2.345, "ns"), "2.35");
        assert_eq!(number(54_321.0, "ns"), "54.3 us");
        assert_eq!(number(5_432_100.0, "ns"), "5.43 ms");
        assert_eq!(number(1536.0, "bytes"), "1.50K");
        assert_eq!(number(3.0 * 1_073_741_824.0, "bytes"), "3.00G");
        assert_eq!(number(1.5, "ratio"), "1.50");
    }
}
