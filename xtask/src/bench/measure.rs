//! Running the rows: one process per run, the peers in turn within each round.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use indicatif::{HumanDuration, ProgressBar, ProgressStyle};

use super::callgrind;
use super::catalog::{Kind, Mode, Spec};
use super::machine;
use super::outcome::Outcome;
use super::preload;
use super::results::{Cell, Row};
use super::settings;
use super::stats;
use crate::command;

/// What the bench program's exit statuses mean.
const CORRUPTED: i32 = 3;

/// How much is measured.
pub struct Plan {
    /// The mode.
    pub mode: Mode,
    /// Rounds of every row; `None` leaves it to the budget.
    pub runs: Option<usize>,
    /// Rounds of a row at most, where the budget decides.
    pub most_runs: usize,
    /// Rounds of a row at least.
    pub least_runs: usize,
    /// Time for all rows together.
    pub budget: Duration,
    /// One run takes at most this long.
    pub limit: Duration,
    /// Count instructions in every row that can, or only in those of one size.
    pub all_instructions: bool,
    /// The peer ratios are also given against.
    pub base: String,
}

/// A peer that can take part.
pub struct Contender {
    /// Its name.
    pub name: String,
    /// Its bench program, or why there is none.
    pub program: Result<PathBuf, String>,
    /// Its library to preload, or why there is none.
    pub library: Result<Option<PathBuf>, String>,
}

/// The measurement under way.
pub struct Measurement<'a> {
    /// How much.
    pub plan: &'a Plan,
    /// Who.
    pub contenders: &'a [Contender],
    /// Where inputs are written.
    pub folder: &'a Path,
    /// The bench program that watches other programs, or why there is none.
    pub watcher: &'a Result<PathBuf, String>,
}

/// A row that gave different answers, or corrupted its blocks.
#[derive(Debug)]
pub struct WrongAnswer(String);

impl std::fmt::Display for WrongAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for WrongAnswer {}

/// How one peer runs one row.
struct Job<'a> {
    name: &'a str,
    command: Vec<String>,
}

impl Measurement<'_> {
    /// Measures the rows, and hands each to `keep` as it is done.
    ///
    /// # Errors
    /// A wrong answer, with the row's name; or what `keep` says.
    pub fn run(&self, specs: &[Spec], mut keep: impl FnMut(Row) -> Result<()>) -> Result<()> {
        let total: f64 = specs.iter().map(Spec::share).sum();
        let bar = ProgressBar::new((total * 1000.0) as u64).with_style(
            ProgressStyle::with_template("measuring [{bar:30}] {msg}")
                .context("the progress bar's template is valid")?
                .progress_chars("=> "),
        );
        let start = Instant::now();
        let (mut done, mut skipped) = (0.0, 0.0);
        for (number, spec) in specs.iter().enumerate() {
            let left = self.plan.budget.saturating_sub(start.elapsed());
            let share = spec.share() / (total - done).max(spec.share());
            let show = |part: f64| {
                let position = done + spec.share() * part;
                bar.set_position((position * 1000.0) as u64);
                let time_left = if done > skipped {
                    let pace = start.elapsed().as_secs_f64() / (position - skipped);
                    let seconds = pace * (total - position);
                    format!(", {} left", HumanDuration(Duration::from_secs_f64(seconds)))
                } else {
                    String::new()
                };
                let message = format!("{}/{} {}{time_left}", number + 1, specs.len(), spec.title());
                if bar.is_hidden() && part == 0.0 {
                    // Not a terminal: a line per row in place of the bar.
                    println!("{message}");
                }
                bar.set_message(message);
            };
            show(0.0);
            let row = self.row(spec, left.mul_f64(share), &show)?;
            done += spec.share();
            if row.skipped.is_some() {
                skipped += spec.share();
            }
            keep(row)?;
        }
        bar.finish_and_clear();
        Ok(())
    }

    fn row(&self, spec: &Spec, allowed: Duration, show: &dyn Fn(f64)) -> Result<Row> {
        let mut row = Row {
            id: spec.id(),
            group: spec.group.to_owned(),
            label: spec.title(),
            command: format!("hakmem-bench {}", spec.args.join(" ")),
            x: spec.x,
            line: spec.line.map(str::to_owned),
            skipped: None,
            cells: BTreeMap::new(),
            figures: Vec::new(),
        };
        if machine::available_bytes() < spec.needs_bytes {
            row.skipped = Some(format!(
                "it needs {} MiB of memory and only {} MiB are available",
                spec.needs_bytes >> 20,
                machine::available_bytes() >> 20
            ));
            return Ok(row);
        }
        let jobs = match self.jobs(spec, &mut row)? {
            Ok(jobs) => jobs,
            Err(reason) => {
                row.skipped = Some(reason);
                return Ok(row);
            }
        };
        self.rounds(spec, allowed, &jobs, &mut row, show)?;
        if spec.callgrind
            && callgrind::missing().is_none()
            && (self.plan.all_instructions || spec.label == "64")
        {
            self.count_instructions(&jobs, &mut row);
        }
        let order: Vec<String> = self.contenders.iter().map(|one| one.name.clone()).collect();
        row.figures = stats::figures(&spec.figures, &row.cells, &order, &self.plan.base);
        Ok(row)
    }

    /// The command of each peer that takes part; the others get a cell that says why not.
    fn jobs(&self, spec: &Spec, row: &mut Row) -> Result<Result<Vec<Job<'_>>, String>> {
        let watched = match spec.kind {
            Kind::Preload(program) => {
                match program.command(self.plan.mode, &self.folder.join("inputs"))? {
                    Ok(command) => {
                        let variable = program.variable.into_iter().map(str::to_owned);
                        let words: Vec<String> = variable.chain(command.iter().cloned()).collect();
                        row.command = words.join(" ");
                        command
                    }
                    Err(reason) => return Ok(Err(reason)),
                }
            }
            _ => Vec::new(),
        };
        let mut jobs = Vec::new();
        for one in self.contenders {
            match self.command(spec, one, &watched) {
                Ok(command) => jobs.push(Job {
                    name: &one.name,
                    command,
                }),
                Err(reason) => {
                    let cell = Cell {
                        runs: Vec::new(),
                        failed: Some(reason),
                        note: None,
                    };
                    row.cells.insert(one.name.clone(), cell);
                }
            }
            if matches!(spec.kind, Kind::Once) && !jobs.is_empty() {
                break;
            }
        }
        Ok(Ok(jobs))
    }

    fn command(
        &self,
        spec: &Spec,
        one: &Contender,
        watched: &[String],
    ) -> Result<Vec<String>, String> {
        let text = |path: &Path| path.display().to_string();
        let watch = |more: &[&str]| {
            let watcher = self.watcher.as_ref().map_err(|reason| {
                format!("system's bench program has to watch it, and there is none: {reason}")
            })?;
            let mut command = vec![text(watcher), "watch".to_owned()];
            command.extend(more.iter().map(|&argument| argument.to_owned()));
            Ok::<_, String>(command)
        };
        match &spec.kind {
            Kind::Bench | Kind::Once => {
                let mut command = vec![text(one.program.as_ref().map_err(Clone::clone)?)];
                command.extend(spec.args.iter().cloned());
                Ok(command)
            }
            Kind::Start => {
                let program = text(one.program.as_ref().map_err(Clone::clone)?);
                let mut command = watch(&["--repeat", "50", "--own-figures", "--", &program])?;
                command.extend(spec.args.iter().cloned());
                Ok(command)
            }
            Kind::Preload(program) => {
                let mut command = match one.library.as_ref().map_err(Clone::clone)? {
                    Some(library) => watch(&["--preload", &text(library)])?,
                    None => watch(&[])?,
                };
                if let Some(variable) = program.variable {
                    command.extend(["--env".to_owned(), variable.to_owned()]);
                }
                command.push("--".to_owned());
                command.extend(watched.iter().cloned());
                Ok(command)
            }
        }
    }

    fn rounds(
        &self,
        spec: &Spec,
        allowed: Duration,
        jobs: &[Job<'_>],
        row: &mut Row,
        show: &dyn Fn(f64),
    ) -> Result<()> {
        for job in jobs {
            row.cells.insert(job.name.to_owned(), Cell::default());
        }
        let fixed = self.plan.runs.or(spec.rounds);
        let mut rounds = fixed.unwrap_or(self.plan.most_runs);
        let start = Instant::now();
        // Round 0 warms up and is dropped, unless the row is to be run only once or so.
        let warm_up = usize::from(spec.rounds.is_none());
        let mut answer: Option<(u64, &str)> = None;
        let mut round = 0;
        while round < rounds + warm_up {
            for turn in order(&row.id, round, jobs.len()) {
                let job = &jobs[turn];
                let Some(cell) = row.cells.get_mut(job.name) else {
                    continue;
                };
                if cell.failed.is_some() {
                    continue;
                }
                match self.once(job, spec)? {
                    Ok(run) => {
                        let (expected, first) = *answer.get_or_insert((run.answer, job.name));
                        if run.answer != expected {
                            bail!(WrongAnswer(format!(
                                "{}: {} computed {}, but {first} computed {expected}: one of them \
                                 gave wrong memory",
                                spec.title(),
                                job.name,
                                run.answer,
                            )));
                        }
                        if round >= warm_up {
                            cell.runs.push(run);
                        }
                    }
                    Err(reason) => {
                        cell.runs.clear();
                        cell.failed = Some(reason);
                    }
                }
            }
            if round == 0 && fixed.is_none() {
                let each = start.elapsed().as_secs_f64().max(0.001);
                let possible = (allowed.as_secs_f64() / each) as usize;
                rounds = possible.saturating_sub(1);
                rounds = rounds.clamp(self.plan.least_runs, self.plan.most_runs);
            }
            round += 1;
            show(round as f64 / (rounds + warm_up) as f64);
        }
        Ok(())
    }

    /// One run. `Ok(Err(sentence))` where the peer failed at it.
    fn once(&self, job: &Job<'_>, spec: &Spec) -> Result<Result<Outcome, String>> {
        let mut run = Command::new(&job.command[0]);
        run.args(&job.command[1..]);
        settings::forget(&mut run);
        let finished = command::captured(&mut run, self.plan.limit)?;
        let told = String::from_utf8_lossy(&finished.stderr);
        if finished.status.code() == Some(CORRUPTED) {
            bail!(WrongAnswer(format!(
                "{}: {}: {}",
                spec.title(),
                job.name,
                told.trim()
            )));
        }
        if !finished.success() {
            let last = command::tail(told.trim(), 1);
            let colon = if last.is_empty() { "" } else { ": " };
            return Ok(Err(format!("{}{colon}{last}", finished.ending())));
        }
        let text = String::from_utf8_lossy(&finished.stdout);
        let line = text.lines().last().unwrap_or_default();
        let run: Outcome = match serde_json::from_str(line) {
            Ok(run) => run,
            Err(error) => return Ok(Err(format!("its result is no result ({error}): {line}"))),
        };
        if !matches!(spec.kind, Kind::Preload(_)) && run.peer != job.name {
            return Ok(Err(format!(
                "its program was built with {} instead",
                run.peer
            )));
        }
        Ok(Ok(run))
    }

    /// Adds `instructions` to the runs, where callgrind is there.
    fn count_instructions(&self, jobs: &[Job<'_>], row: &mut Row) {
        for job in jobs {
            let Some(cell) = row.cells.get_mut(job.name) else {
                continue;
            };
            if cell.failed.is_some() {
                continue;
            }
            match callgrind::per_operation(&job.command, self.folder) {
                Ok(count) => {
                    for run in &mut cell.runs {
                        run.metrics.insert("instructions".to_owned(), count);
                    }
                }
                Err(error) => cell.note = Some(format!("instructions not counted: {error:#}")),
            }
        }
    }
}

impl Spec {
    /// The row's share of the budget.
    fn share(&self) -> f64 {
        self.weight * self.rounds.map_or(1.0, |rounds| rounds as f64 / 5.0)
    }
}

/// The order in which a number of peers take their turns in a round of a row.
///
/// Shuffled, so that a peer follows other ones in other rounds: what the one before leaves behind,
/// in caches and in free memory, is not always the same one's. A row has the same orders each time
/// it is measured.
fn order(row: &str, round: usize, peers: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..peers).collect();
    order.sort_by_cached_key(|peer| {
        let mut hasher = DefaultHasher::new();
        (row, round, peer).hash(&mut hasher);
        hasher.finish()
    });
    order
}

/// The peers' libraries, where a row needs them.
pub fn library(specs: &[Spec], peer: &super::peers::Chosen) -> Result<Option<PathBuf>, String> {
    if !specs
        .iter()
        .any(|spec| matches!(spec.kind, Kind::Preload(_)))
    {
        return Ok(None);
    }
    if peer.slowed {
        return Err("the slowed peers are only built into the bench program".to_owned());
    }
    preload::library(peer.peer)
}

#[cfg(test)]
mod tests {
    use super::super::catalog;
    use super::*;

    /// A program in place of a bench program: `text` is a shell's. Another process writes
    /// it: a file that this one had open for writing could still be open in a child that
    /// another test is just starting, and then the kernel would not run it.
    fn contender(name: &str, folder: &Path, text: &str) -> Contender {
        let path = folder.join(name);
        let written = Command::new("sh")
            .args([
                "-c",
                r#"printf '#!/bin/sh\n%s\n' "$1" > "$2" && chmod +x "$2""#,
                "sh",
            ])
            .args([text, path.to_str().unwrap()])
            .status()
            .unwrap();
        assert!(written.success());
        Contender {
            name: name.to_owned(),
            program: Ok(path),
            library: Ok(None),
        }
    }

    fn answering(name: &str, folder: &Path, answer: u64) -> Contender {
        let run = Outcome {
            peer: name.to_owned(),
            answer,
            ops: 1,
            seconds: 1.0,
            cpu_seconds: 1.0,
            minor_faults: 0,
            peak_rss: 1,
            end_rss: 1,
            metrics: BTreeMap::new(),
            series: BTreeMap::new(),
        };
        let line = serde_json::to_string(&run).unwrap();
        contender(name, folder, &format!("echo '{line}'"))
    }

    fn measure(contenders: &[Contender], folder: &Path) -> Result<Vec<Row>> {
        let plan = Plan {
            mode: Mode::Quick,
            runs: Some(2),
            most_runs: 2,
            least_runs: 2,
            budget: Duration::from_secs(60),
            limit: Duration::from_secs(20),
            all_instructions: false,
            base: contenders[0].name.clone(),
        };
        let mut specs = catalog::choose(Mode::Quick, &["json".to_owned()]).unwrap();
        specs[0].needs_bytes = 0;
        let measurement = Measurement {
            plan: &plan,
            contenders,
            folder,
            watcher: &Err("none is needed".to_owned()),
        };
        let mut rows = Vec::new();
        measurement.run(&specs, |row| {
            rows.push(row);
            Ok(())
        })?;
        Ok(rows)
    }

    #[test]
    fn a_wrong_answer_stops_the_run_with_the_name_of_the_row() {
        let folder = tempfile::tempdir().unwrap();
        let contenders = [
            answering("a", folder.path(), 1),
            answering("b", folder.path(), 2),
        ];
        let error = measure(&contenders, folder.path()).unwrap_err();
        assert!(error.is::<WrongAnswer>(), "{error}");
        let text = error.to_string();
        assert!(text.contains("json") && text.contains('b'), "{text}");
    }

    #[test]
    fn a_corrupted_block_stops_the_run_with_the_name_of_the_row() {
        let folder = tempfile::tempdir().unwrap();
        let bad = contender("a", folder.path(), "echo overwritten >&2; exit 3");
        let error = measure(&[bad], folder.path()).unwrap_err();
        assert!(error.is::<WrongAnswer>(), "{error}");
        assert!(
            error.to_string().contains("json: a: overwritten"),
            "{error}"
        );
    }

    #[test]
    fn a_peer_that_crashes_has_cells_that_say_so_and_the_rest_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let contenders = [
            answering("a", folder.path(), 1),
            contender("b", folder.path(), "kill -SEGV $$"),
            answering("c", folder.path(), 1),
        ];
        let rows = measure(&contenders, folder.path()).unwrap();
        let cells = &rows[0].cells;
        assert_eq!(cells["a"].runs.len(), 2);
        assert_eq!(cells["c"].runs.len(), 2);
        let reason = cells["b"].failed.as_deref().unwrap();
        assert!(reason.contains("signal 11"), "{reason}");
        assert!(
            rows[0]
                .figures
                .iter()
                .all(|figure| !figure.values.contains_key("b"))
        );
    }

    #[test]
    fn a_peer_follows_different_ones_over_the_rounds() {
        for row in ["larson/small-4", "json", "sqlite3"] {
            let mut before = vec![std::collections::BTreeSet::new(); 9];
            for round in 0..5 {
                let turns = order(row, round, 9);
                assert_eq!(turns, order(row, round, 9));
                before[turns[0]].insert(None);
                for pair in turns.windows(2) {
                    before[pair[1]].insert(Some(pair[0]));
                }
                let mut all = turns;
                all.sort_unstable();
                assert_eq!(all, (0..9).collect::<Vec<_>>());
            }
            // A rotation would have two: the peer on the left, and none.
            for (peer, others) in before.iter().enumerate() {
                assert!(others.len() >= 3, "{row}: {peer} only follows {others:?}");
            }
        }
    }

    #[test]
    fn a_program_of_another_peer_is_not_counted() {
        let folder = tempfile::tempdir().unwrap();
        let mut liar = answering("a", folder.path(), 1);
        liar.name = "b".to_owned();
        let rows = measure(&[liar], folder.path()).unwrap();
        let reason = rows[0].cells["b"].failed.as_deref().unwrap();
        assert!(reason.contains("built with a"), "{reason}");
    }
}
