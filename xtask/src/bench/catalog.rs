//! The rows: every workload with the arguments it is measured with.

use anyhow::{Result, bail};

/// How long a run of the whole may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Ten minutes on two cores.
    Quick,
    /// Ninety.
    Full,
}

impl Mode {
    /// The mode's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Quick => "quick",
            Self::Full => "full",
        }
    }
}

/// A figure's unit.
#[derive(Clone, Copy, Debug)]
pub enum Unit {
    /// Nanoseconds.
    Nanoseconds,
    /// Milliseconds.
    Milliseconds,
    /// Bytes.
    Bytes,
    /// A part or a multiple of something.
    Ratio,
    /// How many of something.
    Count,
    /// Ticks of the processor's time counter.
    Cycles,
    /// Instructions.
    Instructions,
}

impl Unit {
    /// The unit's name in `results.json`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nanoseconds => "ns",
            Self::Milliseconds => "ms",
            Self::Bytes => "bytes",
            Self::Ratio => "ratio",
            Self::Count => "count",
            Self::Cycles => "cycles",
            Self::Instructions => "instructions",
        }
    }
}

/// A figure that a row shows. Smaller is better in all of them.
#[derive(Clone, Copy, Debug)]
pub struct FigureSpec {
    /// `ns_per_op`, `ms`, `peak_rss` and so on, or the name of a metric.
    pub key: &'static str,
    /// What it is, for the tables.
    pub label: &'static str,
    /// Its unit.
    pub unit: Unit,
    /// The table it belongs to: `speed`, `memory` or `detail`.
    pub table: &'static str,
}

const fn speed(key: &'static str, label: &'static str, unit: Unit) -> FigureSpec {
    FigureSpec {
        key,
        label,
        unit,
        table: "speed",
    }
}

const fn memory(key: &'static str, label: &'static str, unit: Unit) -> FigureSpec {
    FigureSpec {
        key,
        label,
        unit,
        table: "memory",
    }
}

const PER_OP: FigureSpec = speed("ns_per_op", "time per operation", Unit::Nanoseconds);
const WHOLE: FigureSpec = speed("ms", "time", Unit::Milliseconds);
const PEAK: FigureSpec = memory("peak_rss", "peak RSS", Unit::Bytes);

/// What every row has besides its own figures, in a table of its own.
const DETAILS: [FigureSpec; 3] = [
    FigureSpec {
        key: "cpu_ms",
        label: "processor time",
        unit: Unit::Milliseconds,
        table: "detail",
    },
    FigureSpec {
        key: "minor_faults",
        label: "page faults",
        unit: Unit::Count,
        table: "detail",
    },
    FigureSpec {
        key: "end_rss",
        label: "RSS at the end",
        unit: Unit::Bytes,
        table: "detail",
    },
];

/// What runs, and how.
#[derive(Clone, Debug)]
pub enum Kind {
    /// The bench program of each peer.
    Bench,
    /// The bench program of each peer, without an allocator in it: the row does
    /// not depend on the peer and only the first one runs it.
    Once,
    /// Each peer's empty bench program, started many times and timed from outside.
    Start,
    /// A program of the system with each peer's library preloaded.
    Preload(super::preload::Program),
}

/// One row.
#[derive(Clone, Debug)]
pub struct Spec {
    /// The workload's name.
    pub group: &'static str,
    /// The row's name within its group; empty for a group's only row.
    pub label: String,
    /// Arguments of the bench program.
    pub args: Vec<String>,
    /// What runs, and how.
    pub kind: Kind,
    /// The figures, the most telling one first.
    pub figures: Vec<FigureSpec>,
    /// Place on the group's chart.
    pub x: Option<f64>,
    /// The line on the group's chart.
    pub line: Option<&'static str>,
    /// Fewer rounds than the other rows: what it measures hardly varies, or it takes
    /// long by its nature.
    pub rounds: Option<usize>,
    /// Count instructions as well.
    pub callgrind: bool,
    /// Bytes of memory that must be available.
    pub needs_bytes: u64,
    /// About how long one run takes, in seconds: the row's share of the budget.
    pub weight: f64,
}

impl Spec {
    /// The row's name in `results.json`.
    pub fn id(&self) -> String {
        if self.label.is_empty() {
            return self.group.to_owned();
        }
        format!("{}/{}", self.group, self.label.replace(' ', "-"))
    }

    /// The row's name in the tables.
    pub fn title(&self) -> String {
        if self.label.is_empty() {
            return self.group.to_owned();
        }
        format!("{} {}", self.group, self.label)
    }

    fn at(mut self, line: &'static str, x: f64) -> Self {
        self.line = Some(line);
        self.x = Some(x);
        self
    }

    fn showing(mut self, figures: &[FigureSpec]) -> Self {
        self.figures = figures.to_vec();
        self
    }

    fn rounds(mut self, rounds: usize) -> Self {
        self.rounds = Some(rounds);
        self
    }

    fn taking(mut self, seconds: f64) -> Self {
        self.weight = seconds;
        self
    }
}

/// Collects rows; knows the mode.
struct Rows {
    mode: Mode,
    rows: Vec<Spec>,
}

impl Rows {
    fn pick<T>(&self, quick: T, full: T) -> T {
        match self.mode {
            Mode::Quick => quick,
            Mode::Full => full,
        }
    }

    /// A row of the bench program, in the usual figures; `ops` as (quick, full).
    fn bench(
        &self,
        group: &'static str,
        label: impl Into<String>,
        args: &str,
        ops: (u64, u64),
    ) -> Spec {
        let ops = self.pick(ops.0, ops.1).to_string();
        let mut all: Vec<String> = args.split_whitespace().map(str::to_owned).collect();
        all.extend(["--ops".to_owned(), ops]);
        Spec {
            args: all,
            ..self.plain(group, label)
        }
    }

    fn plain(&self, group: &'static str, label: impl Into<String>) -> Spec {
        Spec {
            group,
            label: label.into(),
            args: Vec::new(),
            kind: Kind::Bench,
            figures: vec![PER_OP, PEAK],
            x: None,
            line: None,
            rounds: None,
            callgrind: false,
            needs_bytes: 512 << 20,
            weight: self.pick(0.25, 0.5),
        }
    }

    fn add(&mut self, mut row: Spec) {
        row.figures.extend(DETAILS);
        self.rows.push(row);
    }
}

/// Every row of a mode.
pub fn rows(mode: Mode) -> Vec<Spec> {
    let mut rows = Rows {
        mode,
        rows: Vec::new(),
    };
    steady_state(&mut rows);
    beyond_the_bins(&mut rows);
    between_threads(&mut rows);
    heaps(&mut rows);
    memory_over_time(&mut rows);
    kinds_of_request(&mut rows);
    costs(&mut rows);
    programs(&mut rows);
    rows.rows
}

fn steady_state(rows: &mut Rows) {
    let profiles: [(&'static str, &str, (u64, u64)); 4] = [
        ("tiny", "--min 8 --max 128", (1_500_000, 3_000_000)),
        ("small", "--min 8 --max 1024", (1_200_000, 2_500_000)),
        (
            "mid",
            "--min 2048 --max 32768 --blocks 500 --touch",
            (200_000, 400_000),
        ),
        (
            "large",
            "--min 65536 --max 1048576 --blocks 50 --touch",
            (6000, 10_000),
        ),
    ];
    for (name, sizes, ops) in profiles {
        let threads: &[u32] = match (rows.mode, name) {
            (Mode::Full, "small") => &[1, 2, 4, 8, 16, 64],
            (Mode::Full, _) | (_, "small") => &[1, 2, 4, 8, 16],
            (_, "large") => &[1],
            _ => &[1, 4],
        };
        for &threads in threads {
            let args = format!("larson {sizes} --threads {threads}");
            let mut row = rows
                .bench("larson", format!("{name} {threads}"), &args, ops)
                .at(name, f64::from(threads));
            match (name, threads) {
                ("large", _) => row.needs_bytes = 2 << 30,
                ("small", 64) | ("mid", 16) => row.needs_bytes = 768 << 20,
                _ => {}
            }
            rows.add(row);
        }
    }
    for max in [128, 256, 512, 1024, 4096] {
        let args = format!("random-mixed --min 8 --max {max}");
        rows.add(rows.bench(
            "random-mixed",
            format!("to {max}"),
            &args,
            (2_000_000, 5_000_000),
        ));
    }
    let exactly = "random-mixed --min 1024 --max 1024";
    rows.add(rows.bench(
        "random-mixed",
        "exactly 1024",
        exactly,
        (2_000_000, 5_000_000),
    ));
    let wide = "random-mixed --min 16 --max 131072";
    rows.add(rows.bench("random-mixed", "to 128 KiB", wide, (300_000, 1_000_000)));
    for threads in [1, 4] {
        let args = format!("mid-mt --threads {threads}");
        rows.add(rows.bench("mid-mt", threads.to_string(), &args, (300_000, 750_000)));
    }
    for threads in [1, 4] {
        let args = format!("large-mt --threads {threads}");
        rows.add(rows.bench("large-mt", threads.to_string(), &args, (6000, 15_000)));
    }
}

/// Structures that are built and dropped, with more blocks than bins hold.
fn beyond_the_bins(rows: &mut Rows) {
    let small = (2_000_000, 5_000_000);
    let bursts: [(&str, &str, (u64, u64)); 5] = [
        ("10000 of 64", "--blocks 10000 --size 64", small),
        (
            "10000 of 64 at random",
            "--blocks 10000 --size 64 --order random",
            small,
        ),
        ("500 of 1 KiB", "--blocks 500 --size 1024", small),
        (
            "100 of 8 KiB",
            "--blocks 100 --size 8192",
            (800_000, 2_000_000),
        ),
        (
            "20 of 64 KiB",
            "--blocks 20 --size 65536",
            (300_000, 1_000_000),
        ),
    ];
    for (label, args, ops) in bursts {
        let args = format!("bursts {args}");
        rows.add(rows.bench("bursts", label, &args, ops));
    }
    for threads in [1, 4] {
        let args = format!("trees --threads {threads}");
        rows.add(rows.bench("trees", threads.to_string(), &args, (4_000_000, 10_000_000)));
    }
}

fn between_threads(rows: &mut Rows) {
    for (label, args) in [
        ("1 to 1", "--shape one-to-one --threads 2"),
        ("1 to 1 twice", "--shape one-to-one --threads 4"),
        ("1 to n", "--shape one-to-many --threads 4"),
        ("n to 1", "--shape many-to-one --threads 4"),
        ("ring", "--shape ring --threads 4"),
    ] {
        let args = format!("producer-consumer {args}");
        rows.add(rows.bench("producer-consumer", label, &args, (1_500_000, 3_000_000)));
    }
    for threads in [4, 16] {
        let args = format!("exchange --threads {threads}");
        rows.add(rows.bench("exchange", threads.to_string(), &args, (600_000, 1_500_000)));
    }
    for kind in ["active", "passive"] {
        let args = format!("false-sharing --kind {kind}");
        rows.add(rows.bench("false-sharing", kind, &args, (100_000, 250_000)));
    }
}

fn heaps(rows: &mut Rows) {
    rows.add(
        rows.bench("fresh-heap", "small", "fresh-heap", (1_000_000, 2_000_000))
            .showing(&[PER_OP, PEAK]),
    );
    let mid = "fresh-heap --min 1024 --max 32768";
    rows.add(
        rows.bench("fresh-heap", "mid", mid, (10_000, 20_000))
            .showing(&[PER_OP, PEAK]),
    );
    for (label, args, ops) in [
        ("small", "teardown", (100_000, 500_000)),
        (
            "one size",
            "teardown --min 512 --max 512",
            (200_000, 1_000_000),
        ),
        ("mid", "teardown --min 1025 --max 8192", (20_000, 100_000)),
    ] {
        rows.add(
            rows.bench("teardown", label, args, ops)
                .showing(&[PER_OP, PEAK]),
        );
    }
    let less_touch = speed(
        "ns_less_touch",
        "replace, less the touch",
        Unit::Nanoseconds,
    );
    let sizes: &[(u64, &str, f64)] = rows.pick(
        &[
            (1, "1 MiB", 0.1),
            (8, "8 MiB", 0.15),
            (64, "64 MiB", 0.3),
            (512, "512 MiB", 1.2),
        ],
        &[
            (1, "1 MiB", 0.3),
            (8, "8 MiB", 0.4),
            (64, "64 MiB", 0.8),
            (512, "512 MiB", 3.0),
            (4096, "4 GiB", 12.0),
        ],
    );
    for &(mib, label, seconds) in sizes {
        let args = format!("big-heap --mib {mib}");
        let mut row = rows
            .bench("big-heap", label, &args, (500_000, 1_000_000))
            .at("live", mib as f64 * 1_048_576.0)
            .showing(&[less_touch, PEAK])
            .taking(seconds);
        row.needs_bytes = (mib << 20) * 2 + (512 << 20);
        if mib >= 4096 {
            row = row.rounds(3);
        }
        rows.add(row);
    }
}

fn memory_over_time(rows: &mut Rows) {
    let mib = rows.pick("8", "32");
    let mut row = rows.plain("fragmentation", "");
    row.args = ["fragmentation", "--mib", mib].map(str::to_owned).to_vec();
    rows.add(
        row.showing(&[
            PER_OP,
            memory("held_over_live", "held over live", Unit::Ratio),
            memory("peak_over_live", "peak over live", Unit::Ratio),
            PEAK,
        ])
        .taking(rows.pick(0.5, 2.0)),
    );
    for (mib, turns, seconds) in rows.pick(
        &[("8", "1", 0.3)][..],
        &[("8", "2", 0.6), ("64", "1", 1.5)][..],
    ) {
        let mut row = rows.plain("phases", format!("{mib} MiB"));
        row.args = ["phases", "--mib", mib, "--turns", turns]
            .map(str::to_owned)
            .to_vec();
        rows.add(
            row.showing(&[
                PER_OP,
                memory(
                    "peak_over_one_thread",
                    "peak over one thread's need",
                    Unit::Ratio,
                ),
                memory(
                    "idle_over_one_thread",
                    "held asleep over one thread's need",
                    Unit::Ratio,
                ),
            ])
            .taking(*seconds),
        );
    }
    let mut row = rows.plain("idle", "");
    let watch = rows.pick("3000", "10000");
    row.args = ["idle", "--watch-ms", watch].map(str::to_owned).to_vec();
    rows.add(
        row.showing(&[
            memory(
                "held_at_once_bytes",
                "held after the last free",
                Unit::Bytes,
            ),
            memory("held_at_end_bytes", "held after idling", Unit::Bytes),
        ])
        .rounds(rows.pick(1, 2))
        .taking(rows.pick(3.2, 10.3)),
    );
}

fn kinds_of_request(rows: &mut Rows) {
    for (label, args, quick, full, needs_mib) in [
        ("push", "--kind push --kib 256", "6", "12", 512),
        (
            "chain to 256 KiB",
            "--kind chain --kib 256",
            "16",
            "32",
            512,
        ),
        (
            "chain to 16 MiB",
            "--kind chain --kib 16384 --count 4",
            "1",
            "4",
            512,
        ),
        (
            "side by side to 16 MiB",
            "--kind side --count 64 --kib 16384",
            "1",
            "2",
            1280,
        ),
    ] {
        let mut row = rows.plain("growth", label);
        row.needs_bytes = needs_mib << 20;
        let args = format!("growth {args} --repeat {}", rows.pick(quick, full));
        row.args = args.split_whitespace().map(str::to_owned).collect();
        rows.add(row);
    }
    rows.add(rows.bench("zeroed", "small", "zeroed", (800_000, 2_000_000)));
    let large = "zeroed --min 65536 --max 4194304 --step 4096 --slots 8";
    rows.add(rows.bench("zeroed", "large", large, (500, 1250)));
    rows.add(rows.bench("aligned", "", "aligned", (600_000, 1_250_000)));
    for (label, args) in [
        ("32 of 8 KiB", "--columns 32 --bytes 8192"),
        ("128 of 16 KiB", "--columns 128 --bytes 16384"),
        ("512 of 16 KiB", "--columns 512 --bytes 16384"),
        ("128 of 100 KB", "--columns 128 --bytes 100000"),
    ] {
        let args = format!("columns {args}");
        rows.add(rows.bench("columns", label, &args, (10_000_000, 40_000_000)));
    }
}

fn costs(rows: &mut Rows) {
    let per_thread = memory("bytes_per_thread", "memory per thread", Unit::Bytes);
    for (label, args) in [
        ("", "threads"),
        ("2000 blocks", "threads --blocks 2000 --abreast 1 --stay 20"),
    ] {
        rows.add(
            rows.bench("threads", label, args, (2000, 10_000))
                .showing(&[
                    speed("ns_per_op", "time per thread", Unit::Nanoseconds),
                    per_thread,
                    PEAK,
                ]),
        );
    }
    let mut row = rows.plain("start", "");
    row.kind = Kind::Start;
    row.args = vec!["start".to_owned()];
    rows.add(row.showing(&[
        speed("ms", "an empty program", Unit::Milliseconds),
        PEAK,
        memory("anonymous_bytes", "heap and stacks", Unit::Bytes),
    ]));
    rows.add(
        rows.bench("latency", "", "latency", (800_000, 2_000_000))
            .showing(&[
                speed("alloc_p50_ns", "alloc p50", Unit::Nanoseconds),
                speed("alloc_p99_ns", "alloc p99", Unit::Nanoseconds),
                speed("alloc_p999_ns", "alloc p99.9", Unit::Nanoseconds),
                speed("alloc_p9999_ns", "alloc p99.99", Unit::Nanoseconds),
                speed("alloc_max_ns", "alloc max", Unit::Nanoseconds),
                speed("free_p50_ns", "free p50", Unit::Nanoseconds),
                speed("free_p99_ns", "free p99", Unit::Nanoseconds),
                speed("free_p999_ns", "free p99.9", Unit::Nanoseconds),
                speed("free_p9999_ns", "free p99.99", Unit::Nanoseconds),
                speed("free_max_ns", "free max", Unit::Nanoseconds),
            ]),
    );
    let mut row = rows
        .bench("headers", "", "headers", (2_000_000, 4_000_000))
        .showing(&[
            speed(
                "kernel_probe_cycles",
                "kernel probe on each free",
                Unit::Cycles,
            ),
            speed("alignment_only_cycles", "alignment only", Unit::Cycles),
            speed("hybrid_cycles", "hybrid", Unit::Cycles),
            speed("region_map_cycles", "region map", Unit::Cycles),
        ]);
    row.kind = Kind::Once;
    rows.add(row);
    let pair = speed("ns_per_op", "one pair", Unit::Nanoseconds);
    let instructions = speed("instructions", "one pair", Unit::Instructions);
    let sizes: &[u32] = rows.pick(
        &[16, 64, 256, 1024, 4096, 16_384, 32_768, 65_536],
        &[
            8, 16, 32, 48, 64, 96, 128, 256, 512, 1024, 2048, 4096, 8192, 16_384, 32_768, 65_536,
            262_144,
        ],
    );
    for &size in sizes {
        let args = format!("fastpath --size {size}");
        let mut row = rows
            .bench("fastpath", size.to_string(), &args, (4_000_000, 10_000_000))
            .at("pair", f64::from(size))
            .showing(&[pair, instructions])
            .taking(rows.pick(0.1, 0.3));
        row.callgrind = true;
        rows.add(row);
    }
    let burst = "fastpath --size 64 --depth 1000";
    rows.add(
        rows.bench(
            "fastpath",
            "64 by thousands",
            burst,
            (4_000_000, 10_000_000),
        )
        .showing(&[pair]),
    );
}

fn programs(rows: &mut Rows) {
    for (name, ops) in [
        ("json", (4, 10)),
        ("ordered-map", (50_000, 150_000)),
        ("rust-parse", (20, 40)),
        ("regexes", (10, 25)),
        ("async-messages", (2500, 5000)),
        ("sort-group", (80_000, 200_000)),
    ] {
        rows.add(rows.bench(name, "", name, ops).showing(&[WHOLE, PEAK]));
    }
    for program in super::preload::PROGRAMS {
        let mut row = rows.plain(program.name, "");
        row.kind = Kind::Preload(program);
        rows.add(row.showing(&[WHOLE, PEAK]).taking(rows.pick(0.5, 1.5)));
    }
}

/// The rows that `names` asks for (by group or by group and row), or all.
///
/// # Errors
/// A sentence that names the valid workloads when one is unknown.
pub fn choose(mode: Mode, names: &[String]) -> Result<Vec<Spec>> {
    let all = rows(mode);
    if names.is_empty() {
        return Ok(all);
    }
    for name in names {
        if !all.iter().any(|row| is_called(row, name)) {
            bail!(
                "there is no workload called {name}{}: the workloads are {}; \
                 `cargo xtask bench --list` shows the rows of each",
                in_other_mode(mode, name),
                groups(&all).join(", ")
            );
        }
    }
    Ok(all
        .into_iter()
        .filter(|row| names.iter().any(|name| is_called(row, name)))
        .collect())
}

fn is_called(row: &Spec, name: &str) -> bool {
    row.group == name || row.id() == name
}

fn in_other_mode(mode: Mode, name: &str) -> &'static str {
    let known = mode == Mode::Quick && rows(Mode::Full).iter().any(|row| is_called(row, name));
    if known {
        " in --quick (it is part of --full)"
    } else {
        ""
    }
}

/// The groups, each once, in order.
pub fn groups(rows: &[Spec]) -> Vec<&'static str> {
    let mut groups: Vec<&'static str> = Vec::new();
    for row in rows {
        if !groups.contains(&row.group) {
            groups.push(row.group);
        }
    }
    groups
}

/// A row of `group` with the caller's own arguments in place of the usual ones.
///
/// # Errors
/// A sentence when the group's rows are not runs of the bench program.
pub fn custom(mode: Mode, group: &str, args: &[String]) -> Result<Spec> {
    let rows = choose(mode, &[group.to_owned()])?;
    let Some(first) = rows
        .iter()
        .find(|row| matches!(row.kind, Kind::Bench | Kind::Once))
    else {
        bail!("{group} takes no arguments: it runs a whole program");
    };
    let mut row = first.clone();
    row.args.truncate(1);
    row.args.extend(args.iter().cloned());
    args.join(" ")
        .replace("--", "")
        .trim()
        .clone_into(&mut row.label);
    row.x = None;
    row.line = None;
    row.callgrind = false;
    row.figures.retain(|figure| figure.key != "instructions");
    Ok(row)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_has_an_id_of_its_own() {
        for mode in [Mode::Quick, Mode::Full] {
            let mut ids: Vec<String> = rows(mode).iter().map(Spec::id).collect();
            let count = ids.len();
            ids.sort();
            ids.dedup();
            assert_eq!(ids.len(), count);
        }
    }

    #[test]
    fn every_quick_row_is_a_full_row_too() {
        let full = rows(Mode::Full);
        for row in rows(Mode::Quick) {
            assert!(
                full.iter().any(|other| other.id() == row.id()),
                "{}",
                row.id()
            );
        }
    }

    #[test]
    fn an_unknown_workload_is_answered_with_the_known_ones() {
        let error = choose(Mode::Quick, &["larsen".to_owned()])
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("larsen") && error.contains("larson, random-mixed"),
            "{error}"
        );
    }
}
