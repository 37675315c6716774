//! `cargo xtask bench`: every peer, every workload, one page.
//!
//! The bench program (`benches/`) is built once for each allocator. Each run is a
//! process of its own; within a round the peers take turns, and a figure is the median over
//! the rounds. What is measured is in [`catalog`] (the rows) and [`peers`], and what of it cannot be here in
//! [`needs`]; [`measure`] runs it, [`stats`] makes figures of it, and [`table`], [`report`] and [`publish`] show
//! them.

mod build;
mod callgrind;
mod catalog;
mod charts;
mod compare;
mod machine;
mod measure;
mod needs;
#[path = "../../../benches/src/outcome.rs"]
mod outcome;
mod peers;
mod preload;
mod publish;
mod report;
mod results;
mod settings;
mod stats;
mod summary;
mod table;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use self::build::Programs;
use self::catalog::{Kind, Mode, Spec};
use self::measure::{Contender, Measurement, Plan, WrongAnswer};
use self::peers::Chosen;
use self::results::{PeerInfo, Results};
use self::table::Against;
use crate::{command, workspace};

/// The peer whose bench program watches other programs. It is the same one whoever takes part,
/// as its size is the least that can be seen of theirs.
const WATCHER: &str = "system";

/// Shown with every wrong option, so it names all of them.
const USAGE: &str = "\
cargo xtask bench [--quick | --full] [--peers PEER,...] [--runs N] [--minutes N] [--base PEER]
                         [--pin CPUS] [--out FOLDER] [--publish] [--list] [WORKLOAD]... [-- ARGS...]
       cargo xtask bench compare A.json B.json [--peers PEER,...]
       cargo xtask bench report RESULTS.json [--publish]
       cargo xtask bench check-report REPORT.html";

/// Measure hakmem against other allocators, on every workload.
#[derive(Debug, clap::Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of the command line"
)]
#[command(args_conflicts_with_subcommands = true, override_usage = USAGE)]
pub struct Args {
    #[command(subcommand)]
    chore: Option<Chore>,

    /// Workloads to run, or single rows of them (`larson/small-4`); all when none is named.
    workloads: Vec<String>,

    /// Peers to compare, separated by commas; all when none is named.
    #[arg(long, value_delimiter = ',', value_name = "PEER,...")]
    peers: Vec<String>,

    /// Measured runs per row and peer, besides the warm-up run; left to the time budget
    /// when not given.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    runs: Option<u16>,

    /// Time for all rows together, after the builds: what is left to it are the rounds. Rows
    /// have at least three (--quick) or five (--full) all the same.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1440))]
    minutes: Option<u16>,

    /// End within ten minutes after the builds, on two cores (this is the default).
    #[arg(long, conflicts_with = "full")]
    quick: bool,

    /// More rows, more work in each, more rounds: within ninety minutes.
    #[arg(long)]
    full: bool,

    /// Keep all runs on these processors, as in 0,1 or 2-3.
    #[arg(long, value_name = "CPUS")]
    pin: Option<String>,

    /// Give the ratios in the terminal against this peer instead of the best of each row;
    /// the page can show both, against the system's allocator when this is not given.
    #[arg(long, value_name = "PEER")]
    base: Option<String>,

    /// Where results.json and report.html go; target/bench when not given.
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,

    /// Also write docs/benchmarks.md and its picture; for all workloads and peers, unpinned,
    /// where all is installed that they use.
    #[arg(long)]
    publish: bool,

    /// Only list the peers and the rows.
    #[arg(long)]
    list: bool,

    /// Arguments for the one workload that is named, in place of its usual rows: as in
    /// `bench larson -- --threads 3 --min 16 --max 64`.
    #[arg(last = true, value_name = "ARGS")]
    arguments: Vec<String>,
}

#[derive(Debug, clap::Subcommand)]
enum Chore {
    /// Say what changed beyond noise between two results.
    Compare(compare::Args),
    /// Show the tables of an earlier result and write its page again.
    Report {
        /// A results.json.
        results: PathBuf,
        /// Also write docs/benchmarks.md, and its picture where a browser is installed.
        #[arg(long)]
        publish: bool,
    },
    /// Open an earlier result's page in a headless browser and check what it shows.
    CheckReport {
        /// A report.html.
        page: PathBuf,
    },
}

/// Runs the command. The exit status says whether something failed.
///
/// # Errors
/// One sentence that says what cannot be done.
#[expect(clippy::needless_pass_by_value, reason = "the shape every chore has")]
pub fn run(args: Args) -> Result<ExitCode> {
    match &args.chore {
        Some(Chore::Compare(files)) => return compare::run(files),
        Some(Chore::Report { results, publish }) => {
            let found = results::read(results)?;
            table::print(&found, Against::Best);
            return show(&found, &results.with_file_name("report.html"), *publish);
        }
        Some(Chore::CheckReport { page }) => {
            println!("{}", report::check(page)?);
            return Ok(ExitCode::SUCCESS);
        }
        None => {}
    }
    refuse_to_publish_a_part(&args)?;
    let mode = if args.full { Mode::Full } else { Mode::Quick };
    let specs = specs(&args, mode)?;
    let mut chosen = peers::choose(&args.peers)?;
    if specs.iter().all(|spec| matches!(spec.kind, Kind::Once)) {
        // No allocator has a part in these rows: one build will do.
        chosen.truncate(1);
    }
    let base = base(&args, &chosen)?;
    if args.list {
        list(&specs);
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(processors) = &args.pin {
        // Checked before the builds; in force after them, as the builds want all processors.
        check_pin(processors)?;
    }
    measure_all(&args, mode, &specs, &chosen, base)
}

/// The published page is of every row and peer, with all processors: nobody could see from its
/// tables what was left out.
fn refuse_to_publish_a_part(args: &Args) -> Result<()> {
    if !args.publish {
        return Ok(());
    }
    let parts = [
        (!args.workloads.is_empty(), "the names of workloads"),
        (!args.peers.is_empty(), "--peers"),
        (args.pin.is_some(), "--pin"),
    ];
    if let Some((_, part)) = parts.iter().find(|(given, _)| *given) {
        bail!(
            "--publish writes docs/benchmarks.md, which is of a whole measurement: leave out {part}, or \
             --publish"
        );
    }
    Ok(())
}

fn specs(args: &Args, mode: Mode) -> Result<Vec<Spec>> {
    if args.arguments.is_empty() {
        return catalog::choose(mode, &args.workloads);
    }
    let [group] = args.workloads.as_slice() else {
        bail!("arguments after `--` are for one workload: name that one");
    };
    Ok(vec![catalog::custom(mode, group, &args.arguments)?])
}

/// The base that was asked for; else the system's allocator, if it takes part, or the first
/// peer.
fn base(args: &Args, chosen: &[Chosen]) -> Result<String> {
    let takes_part = |name: &str| chosen.iter().any(|one| one.name() == name);
    match &args.base {
        Some(name) if takes_part(name) => Ok(name.clone()),
        Some(name) => {
            peers::find(name)?;
            bail!("--base {name}: it is not among the peers of this run");
        }
        None if takes_part("system") => Ok("system".to_owned()),
        None => Ok(chosen.first().context("no peer is chosen")?.name()),
    }
}

fn list(specs: &[Spec]) {
    println!("peers:");
    for peer in &peers::PEERS {
        println!("  {}", peer.name);
    }
    println!("rows:");
    for spec in specs {
        println!("  {:28} {}", spec.id(), spec.args.join(" "));
    }
}

fn measure_all(
    args: &Args,
    mode: Mode,
    specs: &[Spec],
    chosen: &[Chosen],
    base: String,
) -> Result<ExitCode> {
    let folder = workspace::target_dir()?.join("bench");
    let out = args.out.clone().unwrap_or_else(|| folder.clone());
    std::fs::create_dir_all(&out)
        .with_context(|| format!("{} could not be made", out.display()))?;
    let missing = needs::missing(specs, chosen, args.publish);
    needs::tell(&missing, args.publish)?;
    let machine = machine::machine();
    warn_of_load(machine.load, machine.cores);

    let settings = settings::set();
    if !settings.is_empty() {
        println!("not passed on to what is measured: {}", settings.join(", "));
    }

    let programs = build::build(&to_build(chosen, specs), &folder)?;
    let (contenders, peers) = contenders(chosen, specs, &programs);
    if contenders.iter().all(|one| one.program.is_err()) {
        bail!(
            "no peer could be built: the logs are in {}",
            folder.join("bin").display()
        );
    }
    if let Some(processors) = &args.pin {
        pin(processors)?;
    }
    let plan = plan(args, mode, base.clone());
    let mut results = Results {
        schema: results::SCHEMA,
        date: jiff::Timestamp::now()
            .strftime("%Y-%m-%dT%H:%M:%SZ")
            .to_string(),
        mode: mode.name().to_owned(),
        commit: machine::commit(),
        machine,
        build: build::how(),
        pin: args.pin.clone(),
        base,
        peers,
        rows: Vec::new(),
    };
    let file = out.join("results.json");
    let measurement = Measurement {
        plan: &plan,
        contenders: &contenders,
        folder: &folder,
        watcher: &program(&programs, WATCHER),
    };
    let measured = measurement.run(specs, |row| {
        results.rows.push(row);
        // Kept row by row: what was measured before an interruption is not lost.
        results::write(&file, &results)
    });
    if let Err(error) = &measured
        && !error.is::<WrongAnswer>()
    {
        return Err(measured.unwrap_err());
    }
    let against = if args.base.is_some() {
        Against::Base
    } else {
        Against::Best
    };
    table::print(&results, against);
    println!("results: {}", file.display());
    let code = show(
        &results,
        &out.join("report.html"),
        args.publish && measured.is_ok(),
    )?;
    measured.context("the run stopped at a wrong answer")?;
    Ok(code)
}

/// The peers to build: those that take part, and [`WATCHER`] where a row is watched.
fn to_build(chosen: &[Chosen], specs: &[Spec]) -> Vec<Chosen> {
    let mut all = chosen.to_vec();
    let is_watched = |spec: &Spec| matches!(spec.kind, Kind::Start | Kind::Preload(_));
    if specs.iter().any(is_watched) && !all.iter().any(|one| one.name() == WATCHER) {
        all.extend(peers::find(WATCHER));
    }
    all
}

/// A peer's bench program, or why there is none.
fn program(programs: &Programs, name: &str) -> Result<PathBuf, String> {
    let program = programs.get(name).cloned();
    program.unwrap_or_else(|| Err("not built".to_owned()))
}

/// Who can take part, and in which version.
fn contenders(
    chosen: &[Chosen],
    specs: &[Spec],
    programs: &Programs,
) -> (Vec<Contender>, Vec<PeerInfo>) {
    let versions = build::crate_versions().unwrap_or_else(|error| {
        println!("the crates' versions are not known: {error:#}");
        BTreeMap::new()
    });
    let mut contenders = Vec::new();
    let mut peers = Vec::new();
    for one in chosen {
        let name = one.name();
        let program = program(programs, &name);
        let library = measure::library(specs, one);
        let own = program.as_ref().ok().and_then(|path| own_version(path));
        let crates = one
            .peer
            .packages
            .iter()
            .filter_map(|package| Some(format!("{package} {}", versions.get(*package)?)));
        let version: Vec<String> = own.into_iter().chain(crates).collect();
        let preload = match &library {
            Ok(Some(path)) => {
                Some(preload::version(one.peer).unwrap_or_else(|| path.display().to_string()))
            }
            _ => None,
        };
        let missing = program.as_ref().err().cloned();
        println!(
            "{name}: {}",
            missing.clone().unwrap_or_else(|| version.join(", "))
        );
        peers.push(PeerInfo {
            name: name.clone(),
            version: version.join(", "),
            preload,
            missing,
        });
        contenders.push(Contender {
            name,
            program,
            library,
        });
    }
    (contenders, peers)
}

/// What the program says of its allocator's version; `None` where it knows none.
fn own_version(program: &Path) -> Option<String> {
    let mut ask = std::process::Command::new(program);
    ask.arg("peer");
    let finished = command::captured(&mut ask, Duration::from_secs(10)).ok()?;
    let text = String::from_utf8_lossy(&finished.stdout).into_owned();
    let (_, version) = text.trim_end_matches('\n').split_once(' ')?;
    (finished.success() && !version.is_empty()).then(|| version.to_owned())
}

fn plan(args: &Args, mode: Mode, base: String) -> Plan {
    let named = !args.workloads.is_empty();
    let (most_runs, least_runs, minutes) = match mode {
        Mode::Quick => (if named { 7 } else { 5 }, 3, 9),
        Mode::Full => (11, 5, 85),
    };
    Plan {
        mode,
        runs: args.runs.map(usize::from),
        most_runs,
        least_runs,
        budget: Duration::from_secs(u64::from(args.minutes.unwrap_or(minutes)) * 60),
        limit: Duration::from_secs(120),
        all_instructions: mode == Mode::Full || named,
        base,
    }
}

fn warn_of_load(load: f64, cores: usize) {
    if load > 0.3 * cores as f64 {
        println!(
            "warning: the machine is busy (load {load:.1} on {cores} processors): times will be noise"
        );
    }
}

/// Prints where things are; the exit status says whether a cell failed.
fn show(results: &Results, page: &Path, publish: bool) -> Result<ExitCode> {
    report::write(results, page)?;
    println!("report: {}", page.display());
    if publish {
        publish::write(results, page)?;
    }
    let broken = results.peers.iter().any(|peer| {
        peer.missing
            .as_ref()
            .is_some_and(|reason| !reason.starts_with("skipped"))
    });
    let failed = broken || !table::failures(results).is_empty();
    Ok(if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// Keeps this process, and so all it starts, on some processors.
fn pin(processors: &str) -> Result<()> {
    rustix::thread::sched_setaffinity(None, &processor_set(processors)?)
        .with_context(|| format!("the runs cannot be kept on processors {processors}"))
}

fn check_pin(processors: &str) -> Result<()> {
    let wanted = processor_set(processors)?;
    let usable = rustix::thread::sched_getaffinity(None)
        .context("the system does not say which processors may be used")?;
    for processor in 0..rustix::thread::CpuSet::MAX_CPU {
        if wanted.is_set(processor) && !usable.is_set(processor) {
            bail!("--pin {processors}: there is no processor {processor} to run on");
        }
    }
    Ok(())
}

fn processor_set(processors: &str) -> Result<rustix::thread::CpuSet> {
    let wrong =
        || format!("--pin {processors}: give processors as numbers and ranges, as in 0,2 or 0-3");
    let mut set = rustix::thread::CpuSet::new();
    for part in processors.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let first: usize = first.trim().parse().with_context(wrong)?;
        let last: usize = last.trim().parse().with_context(wrong)?;
        if first > last || last >= rustix::thread::CpuSet::MAX_CPU {
            bail!(wrong());
        }
        (first..=last).for_each(|processor| set.set(processor));
    }
    Ok(set)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_are_numbers_and_ranges() {
        let set = processor_set("0,2-3").unwrap();
        assert!(set.is_set(0) && !set.is_set(1) && set.is_set(2) && set.is_set(3));
        for wrong in ["", "a", "3-1", "0,,1", "99999999"] {
            let error = processor_set(wrong).unwrap_err().to_string();
            assert!(error.contains("as in 0,2"), "{wrong}: {error}");
        }
    }

    #[derive(clap::Parser)]
    struct CommandLine {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn a_part_of_the_measurement_is_not_published() {
        let refused = |line: &str| {
            let words = line.split_whitespace();
            let CommandLine { args } = clap::Parser::try_parse_from(words).unwrap();
            refuse_to_publish_a_part(&args).map_err(|error| error.to_string())
        };
        for (line, part) in [
            ("bench --publish larson", "names of workloads"),
            (
                "bench --publish larson -- --threads 3",
                "names of workloads",
            ),
            ("bench --publish --peers system", "--peers"),
            ("bench --publish --pin 0", "--pin"),
        ] {
            let error = refused(line).unwrap_err();
            assert!(error.contains(part), "{line}: {error}");
        }
        refused("bench --publish --full --minutes 30").unwrap();
        refused("bench larson --peers system --pin 0").unwrap();
    }

    #[test]
    fn the_watcher_is_built_where_a_row_is_watched() {
        let built = |peers: &str, row: &str| -> Vec<String> {
            let chosen = peers::choose(&[peers.to_owned()]).unwrap();
            let specs = catalog::choose(Mode::Quick, &[row.to_owned()]).unwrap();
            to_build(&chosen, &specs).iter().map(Chosen::name).collect()
        };
        assert_eq!(built("hakmem", "sqlite3"), ["hakmem", WATCHER]);
        assert_eq!(built("hakmem", "start"), ["hakmem", WATCHER]);
        assert_eq!(built("hakmem", "json"), ["hakmem"]);
        assert_eq!(built(WATCHER, "sqlite3"), [WATCHER]);
        assert_eq!(built("system-slow", "start"), ["system-slow", WATCHER]);
    }

    #[test]
    fn an_unknown_peer_is_answered_with_the_known_ones() {
        let error = peers::choose(&["hoard".to_owned()])
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("hoard") && error.contains("system, mimalloc3"),
            "{error}"
        );
    }
}
