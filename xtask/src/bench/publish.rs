//! `docs/benchmarks.md`: the tables for readers of the repository, with the page's picture.

use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, Result};

use super::report;
use super::results::Results;
use super::summary;
use super::table;
use crate::workspace;

/// Writes `docs/benchmarks.md`, and `docs/benchmarks.png` where a browser is installed. Without
/// one the page has no picture: that of an earlier measurement is not of this one.
///
/// # Errors
/// A sentence that names the file that cannot be written, or what is wrong with the page.
pub fn write(results: &Results, page: &Path) -> Result<()> {
    let docs = workspace::root().join("docs");
    std::fs::create_dir_all(&docs)
        .with_context(|| format!("{} could not be made", docs.display()))?;
    let picture = docs.join("benchmarks.png");
    let has_picture = report::browser().is_some();
    if has_picture {
        println!("{}", report::check(page)?);
        report::picture(page, &picture)?;
        println!("picture: {}", picture.display());
    } else {
        println!(
            "no browser is installed: the page is not checked, and published without a picture"
        );
    }
    let text = document(results, has_picture);
    let path = docs.join("benchmarks.md");
    std::fs::write(&path, text).with_context(|| format!("{} cannot be written", path.display()))?;
    println!("published: {}", path.display());
    Ok(())
}

fn document(results: &Results, picture: bool) -> String {
    let machine = &results.machine;
    let mut text = String::from("# Benchmarks\n\n");
    let _ = writeln!(
        text,
        "Written by `cargo xtask bench --{} --publish`. Measured {} at commit {}{} on {} × {}, {} \
         GiB, Linux {}, transparent huge pages `{}`, {}. Built with {}.\n",
        results.mode,
        results.date,
        results.commit.hash,
        if results.commit.dirty {
            " with changes"
        } else {
            ""
        },
        machine.cores,
        machine.cpu,
        machine.memory_bytes >> 30,
        machine.kernel,
        machine.huge_pages,
        machine.rustc,
        results.build,
    );
    text.push_str(
        "Each cell is the median of the runs and its ratio to the smallest of the row; smaller is \
         better everywhere. Bold: the smallest. `~`: close to the smallest and not to be told from \
         it within the noise, and then none is called best. `–`: the peer cannot take part.\n",
    );
    if picture {
        text.push_str("\n![The report's summary](benchmarks.png)\n");
    }
    let _ = writeln!(
        text,
        "\n## Summary\n\n{}\n\n| {} |\n|---{}|",
        summary::EXPLANATION,
        summary::HEADINGS.join(" | "),
        "|---:".repeat(summary::HEADINGS.len() - 1),
    );
    for line in summary::lines(results) {
        let _ = writeln!(text, "| {} |", line.cells().join(" | "));
    }
    for part in table::PARTS {
        if let Some(table) = table::markdown(results, part.key) {
            let _ = write!(text, "\n## {}\n\n{table}", part.title);
        }
    }
    let mut failures = table::failures(results);
    failures.extend(table::notes(results));
    let skipped: Vec<_> = results
        .rows
        .iter()
        .filter_map(|row| {
            Some(format!(
                "{} was not run: {}",
                row.label,
                row.skipped.as_ref()?
            ))
        })
        .collect();
    if !failures.is_empty() || !skipped.is_empty() {
        text.push_str("\n## What did not run\n\n");
        for sentence in failures.iter().chain(&skipped) {
            let _ = writeln!(text, "- {}", sentence.replace('\n', " "));
        }
    }
    text.push_str("\n## Peers\n\n| peer | version | preloaded library |\n|---|---|---|\n");
    for peer in &results.peers {
        let version = peer.missing.as_ref().unwrap_or(&peer.version);
        let preload = peer.preload.as_deref().unwrap_or("");
        let _ = writeln!(
            text,
            "| {} | {} | {preload} |",
            peer.name,
            version.replace('\n', " ")
        );
    }
    text
}
