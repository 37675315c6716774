//! `report.html`: one file with everything in it, charts included.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::charts::{self, Axis, Bars, Curve, Scale};
use super::results::{Results, Row};
use super::summary;
use super::table;
use crate::{command, tools};

const STYLE: &str = "
:root { color-scheme: light; }
body { font: 15px/1.45 system-ui, sans-serif; color: #222; background: #fff; margin: 0 auto;
  max-width: 1120px; padding: 24px 20px 60px; }
h1 { font-size: 26px; margin: 0 0 4px; }
h2 { font-size: 20px; margin: 40px 0 8px; border-bottom: 1px solid #ddd; }
h3 { font-size: 16px; margin: 26px 0 2px; }
p.note, figcaption { color: #555; font-size: 13px; margin: 2px 0 10px; }
table { border-collapse: collapse; font-size: 13px; width: 100%; }
th, td { padding: 3px 7px; text-align: right; border-bottom: 1px solid #e6e6e6; }
th:first-child, td:first-child { text-align: left; }
td.name, table.facts td:last-child { text-align: left; }
tbody tr:hover { background: #f4f7fa; }
.best { font-weight: 700; color: #00694b; }
.tied { color: #7a5c00; }
.failed { color: #b00020; font-weight: 600; }
.absent, .ratio { color: #777; }
.ratio.base, body.base .ratio { display: none; }
body.base .ratio.base { display: inline; }
.scroll { overflow-x: auto; }
.legend { position: sticky; top: 0; background: #fffffff0; padding: 6px 0; z-index: 1; }
.legend span { margin-right: 14px; white-space: nowrap; font-size: 13px; }
.legend i { display: inline-block; width: 12px; height: 12px; margin-right: 4px; border-radius: 2px;
  vertical-align: -1px; }
.pair { display: flex; flex-wrap: wrap; gap: 8px; }
figure { margin: 0; }
svg { max-width: 100%; height: auto; }
details { margin: 6px 0; }
code { font-size: 12px; }
";

/// Counts what a reader would see and leaves it where the check can find it.
const SCRIPT: &str = "
const shown = [...document.querySelectorAll('svg')].filter(svg => {
  const box = svg.getBoundingClientRect();
  return box.width > 100 && box.height > 100 && svg.querySelectorAll('rect, polyline, circle').length > 2;
});
const root = document.documentElement;
root.dataset.charts = shown.length;
root.dataset.rows = document.querySelectorAll('tbody tr').length;
const toggle = document.getElementById('against');
toggle.addEventListener('change', () => document.body.classList.toggle('base', toggle.checked));
root.dataset.overflow = root.scrollWidth > root.clientWidth + 1 ? 'yes' : 'no';
";

/// Writes the page.
///
/// # Errors
/// A sentence that names the file, or the chart that cannot be drawn.
pub fn write(results: &Results, path: &Path) -> Result<()> {
    let page = page(results)?.into_string();
    std::fs::write(path, page).with_context(|| format!("{} cannot be written", path.display()))
}

fn page(results: &Results) -> Result<Markup> {
    let drawn = Charts::draw(results)?;
    let summary = summary_section(results)?;
    let count = drawn.count + summary.count;
    Ok(html! {
        (DOCTYPE)
        html lang="en" data-expected-charts=(count) {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "hakmem: benchmarks" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { "hakmem against other allocators" }
                p.note {
                    "Measured " (results.date) " on " (results.machine.cores) " × "
                    (results.machine.cpu) ", " (results.machine.memory_bytes >> 30)
                    " GiB, Linux " (results.machine.kernel) ", huge pages "
                    (results.machine.huge_pages) "; " (results.machine.rustc) "; commit "
                    (short(&results.commit.hash))
                    @if results.commit.dirty { " with changes" }
                    "; " code { "--" (results.mode) }
                    @if let Some(pin) = &results.pin { ", on processors " (pin) " only" }
                    ". Built with " (results.build) ". "
                    "In every figure smaller is better."
                }
                (legend(results))
                label {
                    input type="checkbox" id="against";
                    " show ratios in the tables against " (results.base) " instead of the best"
                }
                h2 { "In short" }
                (summary.markup)
                h2 { "Charts" }
                (drawn.markup)
                @for part in table::PARTS {
                    h2 { (part.title) }
                    p.note {
                        "The median, and its ratio to the smallest of the row. Green: the smallest. "
                        "~: close to the smallest and not to be told from it within the noise; then none "
                        "is called best."
                    }
                    (table_of(results, part.key))
                }
                h2 { "Processor time, page faults, memory at the end" }
                details {
                    summary { "Show the table" }
                    (table_of(results, "detail"))
                }
                (rows_that_failed(results))
                h2 { "Peers" }
                (peers(results))
                script { (PreEscaped(SCRIPT)) }
            }
        }
    })
}

fn short(hash: &str) -> &str {
    hash.get(..12).unwrap_or(hash)
}

fn legend(results: &Results) -> Markup {
    html! {
        div.legend {
            @for peer in &results.peers {
                @let colour = charts::colour(&peer.name);
                span {
                    i style=(format!("background: rgb({}, {}, {})", colour.0, colour.1, colour.2)) {}
                    (peer.name)
                }
            }
        }
    }
}

/// Some markup and the number of charts in it.
struct Charts {
    markup: Markup,
    count: usize,
}

/// How often each peer is the best, and how far it is from the best on average.
fn summary_section(results: &Results) -> Result<Charts> {
    let lines = summary::lines(results);
    let groups = [
        "time, mean ratio to the best",
        "memory, mean ratio to the best",
    ];
    let bars: Vec<Bars> = lines
        .iter()
        .map(|line| Bars {
            peer: line.peer.clone(),
            ratios: line.means.to_vec(),
        })
        .collect();
    let chart = charts::bars(&groups.map(str::to_owned), &bars)?;
    let markup = html! {
        figure {
            (PreEscaped(chart))
            figcaption { "Geometric mean, over all rows, of the ratio to the best peer of the row." }
        }
        table {
            thead {
                tr {
                    @for heading in summary::HEADINGS {
                        th { (heading) }
                    }
                }
            }
            tbody {
                @for line in &lines {
                    @let [peer, figures @ ..] = line.cells();
                    tr {
                        td.name { (peer) }
                        @for figure in figures {
                            td { (figure) }
                        }
                    }
                }
            }
        }
        p.note { (summary::EXPLANATION) }
    };
    Ok(Charts { markup, count: 1 })
}

impl Charts {
    fn draw(results: &Results) -> Result<Self> {
        let mut groups: Vec<&str> = Vec::new();
        for row in &results.rows {
            if !groups.contains(&row.group.as_str()) {
                groups.push(&row.group);
            }
        }
        let mut sections = Vec::new();
        let mut count = 0;
        for group in groups {
            let rows: Vec<&Row> = results
                .rows
                .iter()
                .filter(|row| row.group == group)
                .collect();
            let mut charts = Vec::new();
            for part in table::PARTS {
                if let Some(chart) = bar_chart(results, &rows, part.key)? {
                    charts.push((format!("{}, ratio to the best", part.title), chart));
                }
            }
            let wide = charts.len();
            charts.extend(line_charts(results, &rows)?);
            charts.extend(series_charts(results, &rows)?);
            count += charts.len();
            sections.push((group, charts, wide));
        }
        let markup = html! {
            @for (group, charts, wide) in &sections {
                @if !charts.is_empty() {
                    h3 { (group) }
                    @for (caption, chart) in charts.iter().take(*wide) {
                        figure { (PreEscaped(chart)) figcaption { (caption) } }
                    }
                    div.pair {
                        @for (caption, chart) in charts.iter().skip(*wide) {
                            figure { (PreEscaped(chart)) figcaption { (caption) } }
                        }
                    }
                }
            }
        };
        Ok(Self { markup, count })
    }
}

/// The first figure of each row in a table, as bars; `None` where fewer than two peers have one.
fn bar_chart(results: &Results, rows: &[&Row], part: &str) -> Result<Option<String>> {
    let mut labels = Vec::new();
    let mut figures = Vec::new();
    for row in rows {
        let several = rows.len() == 1;
        for figure in row.figures.iter().filter(|figure| figure.table == part) {
            if figure.values.len() < 2 {
                continue;
            }
            labels.push(if several {
                figure.label.clone()
            } else {
                part_of(row)
            });
            figures.push(figure);
            if !several {
                break;
            }
        }
    }
    if figures.is_empty() {
        return Ok(None);
    }
    let peers: Vec<Bars> = results
        .peers
        .iter()
        .map(|peer| {
            let ratio = |figure: &&super::results::Figure| {
                figure
                    .values
                    .get(&peer.name)
                    .and_then(|value| value.to_best)
            };
            Bars {
                peer: peer.name.clone(),
                ratios: figures.iter().map(ratio).collect(),
            }
        })
        .collect();
    charts::bars(&labels, &peers).map(Some)
}

/// The row's name without its group's.
fn part_of(row: &Row) -> String {
    row.label
        .strip_prefix(&row.group)
        .map_or(row.label.as_str(), str::trim)
        .to_owned()
}

/// One chart for each line of the group: the first figure over threads, heap size or block size.
fn line_charts(results: &Results, rows: &[&Row]) -> Result<Vec<(String, String)>> {
    let mut names: Vec<&str> = Vec::new();
    for row in rows {
        if let Some(line) = row.line.as_deref()
            && !names.contains(&line)
        {
            names.push(line);
        }
    }
    let mut drawn = Vec::new();
    for name in names {
        let on_line = rows.iter().filter(|row| row.line.as_deref() == Some(name));
        let on_line: Vec<_> = on_line
            .filter_map(|row| Some((row.x?, row.figures.first()?)))
            .collect();
        if on_line.len() < 2 {
            continue;
        }
        let curves = results.peers.iter().map(|peer| Curve {
            peer: peer.name.clone(),
            points: on_line
                .iter()
                .filter_map(|(x, figure)| Some((*x, figure.values.get(&peer.name)?.median)))
                .collect(),
        });
        let curves: Vec<Curve> = curves.filter(|curve| !curve.points.is_empty()).collect();
        let (x_title, axis) = match rows[0].group.as_str() {
            "big-heap" => ("live bytes", Axis::Bytes),
            "fastpath" => ("block size", Axis::Bytes),
            _ => ("threads", Axis::Doubling),
        };
        let caption = match rows[0].group.as_str() {
            "big-heap" => "one free and one allocation, less the touch, by live heap".to_owned(),
            "fastpath" => "one pair, by block size".to_owned(),
            group => format!("{group} {name}, by threads"),
        };
        let y_title = "ns per operation";
        drawn.push((
            caption,
            charts::lines(&curves, x_title, y_title, axis, Scale::Plain)?,
        ));
    }
    Ok(drawn)
}

/// The curves the runs themselves report, of each peer's last run.
fn series_charts(results: &Results, rows: &[&Row]) -> Result<Vec<(String, String)>> {
    let kinds = [
        (
            "held_bytes_by_second",
            "seconds since the last free",
            "bytes held",
            Scale::Bytes,
            "memory of an idle program",
        ),
        (
            "held_over_live_by_phase",
            "phase",
            "held over live",
            Scale::Plain,
            "held over live bytes, phase by phase",
        ),
    ];
    let mut drawn = Vec::new();
    for row in rows {
        for (key, x_title, y_title, scale, caption) in kinds {
            let curves: Vec<Curve> = results
                .peers
                .iter()
                .filter_map(|peer| {
                    let run = row.cells.get(&peer.name)?.runs.last()?;
                    let points = run.series.get(key)?.clone();
                    Some(Curve {
                        peer: peer.name.clone(),
                        points,
                    })
                })
                .collect();
            if !curves.is_empty() {
                let chart = charts::lines(&curves, x_title, y_title, Axis::Even, scale)?;
                drawn.push((caption.to_owned(), chart));
            }
        }
    }
    Ok(drawn)
}

fn table_of(results: &Results, part: &str) -> Markup {
    html! {
        div.scroll {
            table {
                thead {
                    tr {
                        th {}
                        @for peer in &results.peers { th { (peer.name) } }
                        th { "spread" }
                    }
                }
                tbody {
                    @for (row, figure) in table::figures(results, part) {
                        tr {
                            td.name title=(row.command) { (table::title(row, figure)) }
                            @for peer in &results.peers {
                                (cell(row, figure, &peer.name))
                            }
                            td.absent { (table::spread(figure)) }
                        }
                    }
                }
            }
        }
    }
}

fn cell(row: &Row, figure: &super::results::Figure, peer: &str) -> Markup {
    let Some(value) = figure.values.get(peer) else {
        let reason = row
            .cells
            .get(peer)
            .and_then(|cell| cell.failed.as_deref())
            .unwrap_or("");
        let failed =
            !reason.is_empty() && !reason.starts_with("skipped") && !table::is_absent(reason);
        return html! {
            td.failed[failed].absent[!failed] title=(reason) { @if failed { "failed" } @else { "–" } }
        };
    };
    let best = figure.best.as_deref() == Some(peer);
    let tied = figure.tied.iter().any(|name| name == peer);
    let known = format!(
        "{} to {}, spread {:.0} %",
        table::number(value.low, &figure.unit),
        table::number(value.high, &figure.unit),
        value.spread * 100.0
    );
    html! {
        td.best[best].tied[tied] title=(known) {
            @if tied { "~" }
            (table::number(value.median, &figure.unit))
            @if let (Some(ratio), false) = (value.to_best, best) {
                " " span.ratio { (format!("{ratio:.2}x")) }
            }
            @if let Some(ratio) = value.to_base {
                " " span.ratio.base { (format!("{ratio:.2}x")) }
            }
        }
    }
}

fn rows_that_failed(results: &Results) -> Markup {
    let mut sentences = table::failures(results);
    sentences.extend(table::notes(results));
    for row in &results.rows {
        if let Some(reason) = &row.skipped {
            sentences.push(format!("{} was not run: {reason}", row.label));
        }
    }
    html! {
        @if !sentences.is_empty() {
            h2 { "What did not run" }
            ul { @for sentence in &sentences { li { (sentence) } } }
        }
    }
}

fn peers(results: &Results) -> Markup {
    html! {
        table.facts {
            thead { tr { th { "peer" } th { "version" } } }
            tbody {
                @for peer in &results.peers {
                    tr {
                        td.name { (peer.name) }
                        td {
                            @match &peer.missing {
                                Some(reason) => { span.failed { (reason) } },
                                None => { (peer.version) },
                            }
                            @if let Some(preload) = &peer.preload { "; preloaded: " (preload) }
                        }
                    }
                }
            }
        }
    }
}

/// Opens the page in a headless browser and checks that every chart can be seen.
/// Returns a sentence that says what was seen.
///
/// # Errors
/// A sentence where there is no browser, or the page does not show what it should.
pub fn check(page: &Path) -> Result<String> {
    let dom = browse(page, &["--dump-dom"])?;
    let value = |name: &str| {
        let start = dom.find(&format!("data-{name}=\""))? + name.len() + 7;
        dom[start..].split('"').next()
    };
    let number = |name: &str| value(name).and_then(|text| text.parse::<usize>().ok());
    let (Some(expected), Some(shown), Some(rows)) =
        (number("expected-charts"), number("charts"), number("rows"))
    else {
        bail!(
            "{} did not run its own check in the browser",
            page.display()
        );
    };
    if shown != expected {
        bail!(
            "{} should show {expected} charts and shows {shown}",
            page.display()
        );
    }
    if value("overflow") == Some("yes") {
        bail!("{} is wider than the window", page.display());
    }
    Ok(format!(
        "{}: {shown} charts and {rows} table rows are shown",
        page.display()
    ))
}

/// Takes a picture of the top of the page.
///
/// # Errors
/// A sentence where there is no browser, or it fails.
pub fn picture(page: &Path, to: &Path) -> Result<()> {
    // An earlier one would pass for what the browser wrote.
    if to.exists() {
        std::fs::remove_file(to).with_context(|| format!("{} is in the way", to.display()))?;
    }
    let screenshot = format!("--screenshot={}", to.display());
    browse(
        page,
        &[&screenshot, "--window-size=1160,1900", "--hide-scrollbars"],
    )?;
    if !to.is_file() {
        bail!("the browser wrote no {}", to.display());
    }
    Ok(())
}

/// The browser, where one is installed.
pub fn browser() -> Option<PathBuf> {
    ["chromium", "chromium-browser", "google-chrome"]
        .iter()
        .find_map(|name| tools::find(name))
}

/// Runs the browser on a page, in a profile of its own; returns what it printed.
fn browse(page: &Path, more: &[&str]) -> Result<String> {
    let Some(browser) = browser() else {
        bail!("no browser is installed: `apt-get install chromium` brings one");
    };
    let page =
        std::fs::canonicalize(page).with_context(|| format!("{} is not there", page.display()))?;
    let profile = tempfile::tempdir().context("no temporary folder could be made")?;
    let mut run = Command::new(browser);
    run.args([
        "--headless",
        "--disable-gpu",
        "--no-first-run",
        "--disable-background-networking",
    ]);
    run.args([
        "--disable-component-update",
        "--disable-sync",
        "--disable-quic",
        "--no-sandbox",
    ]);
    run.arg(format!("--user-data-dir={}", profile.path().display()));
    run.args(more).arg(format!("file://{}", page.display()));
    let finished = command::captured(&mut run, Duration::from_secs(120))?;
    if !finished.success() {
        bail!(
            "the browser {}: {}",
            finished.ending(),
            command::tail(&finished.text(), 3)
        );
    }
    Ok(String::from_utf8_lossy(&finished.stdout).into_owned())
}
