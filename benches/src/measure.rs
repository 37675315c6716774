//! What one run reports, and the clocks and counters it reads.
//!
//! Reading `/proc` goes through a buffer on the stack: the measurement must not
//! move the memory it measures.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

pub use crate::outcome::Outcome;
use crate::peer;

impl Outcome {
    /// A result from what the workload knows; memory is read by [`Outcome::print`].
    pub fn new(answer: u64, ops: u64, timed: Timed) -> Self {
        Self {
            peer: peer::name(),
            answer,
            ops,
            seconds: timed.wall.as_secs_f64(),
            cpu_seconds: timed.cpu.as_secs_f64(),
            minor_faults: timed.minor_faults,
            peak_rss: 0,
            end_rss: 0,
            metrics: BTreeMap::new(),
            series: BTreeMap::new(),
        }
    }

    /// Adds a figure.
    #[must_use]
    pub fn with(mut self, name: &str, value: f64) -> Self {
        self.metrics.insert(name.to_owned(), value);
        self
    }

    /// Adds a curve.
    #[must_use]
    pub fn with_series(mut self, name: &str, points: Vec<(f64, f64)>) -> Self {
        self.series.insert(name.to_owned(), points);
        self
    }

    /// Prints the result as one JSON line, memory figures included.
    pub fn print(mut self) {
        let memory = Memory::now();
        self.peak_rss = memory.peak;
        self.end_rss = memory.resident;
        self.print_line();
    }

    /// As [`Outcome::print`], of another program whose resident set was at most
    /// `peak` bytes. It has ended, so it holds nothing.
    pub fn print_with_memory(mut self, peak: u64) {
        self.peak_rss = peak;
        self.print_line();
    }

    /// Prints the result as it is.
    pub fn print_line(&self) {
        let line = serde_json::to_string(self).expect("a result has only plain fields");
        println!("{line}");
    }
}

/// Time, processor time and page faults of one part of a run.
#[derive(Clone, Copy, Default)]
pub struct Timed {
    /// Wall-clock time.
    pub wall: Duration,
    /// User and system time of all threads.
    pub cpu: Duration,
    /// Page faults that needed no disk.
    pub minor_faults: i64,
}

impl std::ops::AddAssign for Timed {
    fn add_assign(&mut self, other: Self) {
        self.wall += other.wall;
        self.cpu += other.cpu;
        self.minor_faults += other.minor_faults;
    }
}

/// A running measurement.
pub struct Clock {
    start: Instant,
    usage: Usage,
}

impl Clock {
    /// Starts measuring.
    pub fn start() -> Self {
        let usage = Usage::of_this_process();
        Self {
            start: Instant::now(),
            usage,
        }
    }

    /// What has passed since the start.
    pub fn stop(&self) -> Timed {
        let wall = self.start.elapsed();
        let usage = Usage::of_this_process();
        Timed {
            wall,
            cpu: usage.cpu.saturating_sub(self.usage.cpu),
            minor_faults: usage.minor_faults - self.usage.minor_faults,
        }
    }
}

/// Measures one call.
pub fn timed<T>(work: impl FnOnce() -> T) -> (T, Timed) {
    let clock = Clock::start();
    let value = work();
    (value, clock.stop())
}

/// What the kernel has charged to a process.
pub struct Usage {
    /// User and system time of all threads.
    pub cpu: Duration,
    /// Page faults that needed no disk.
    pub minor_faults: i64,
    /// Largest resident set, in bytes.
    pub peak_rss: u64,
}

impl Usage {
    /// Of this process so far.
    pub fn of_this_process() -> Self {
        Self::read(libc::RUSAGE_SELF)
    }

    /// Of all children that have ended and were waited for; the resident set
    /// is that of the largest.
    pub fn of_children() -> Self {
        Self::read(libc::RUSAGE_CHILDREN)
    }

    fn read(who: libc::c_int) -> Self {
        // SAFETY: all-zero is a valid `rusage`.
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        // SAFETY: `usage` is valid for the write. With these two constants the
        // call cannot fail.
        unsafe { libc::getrusage(who, &raw mut usage) };
        Self {
            cpu: duration(usage.ru_utime) + duration(usage.ru_stime),
            minor_faults: usage.ru_minflt,
            peak_rss: usage.ru_maxrss as u64 * 1024,
        }
    }
}

fn duration(time: libc::timeval) -> Duration {
    Duration::new(time.tv_sec as u64, time.tv_usec as u32 * 1000)
}

/// The resident set of this process, in bytes.
#[derive(Clone, Copy)]
pub struct Memory {
    /// The largest so far (`VmHWM`).
    pub peak: u64,
    /// Now (`VmRSS`).
    pub resident: u64,
    /// Now, heap and stacks only (`RssAnon`).
    pub anonymous: u64,
}

impl Memory {
    /// Reads `/proc/self/status`.
    pub fn now() -> Self {
        let mut buffer = [0; 8192];
        let text = read_proc("/proc/self/status", &mut buffer);
        Self {
            peak: field(text, "VmHWM:"),
            resident: field(text, "VmRSS:"),
            anonymous: field(text, "RssAnon:"),
        }
    }
}

/// Resident bytes less those the process has already offered back with
/// `MADV_FREE` and the kernel has not taken yet (`LazyFree` in `smaps_rollup`).
pub fn resident_less_lazy() -> u64 {
    let mut buffer = [0; 4096];
    let text = read_proc("/proc/self/smaps_rollup", &mut buffer);
    field(text, "Rss:").saturating_sub(field(text, "LazyFree:"))
}

fn read_proc<'a>(path: &str, buffer: &'a mut [u8]) -> &'a str {
    use std::io::Read;
    let mut used = 0;
    let file = std::fs::File::open(path);
    let mut file = file.unwrap_or_else(|error| panic!("cannot open {path}: {error}"));
    while used < buffer.len() {
        match file.read(&mut buffer[used..]) {
            Ok(0) => break,
            Ok(count) => used += count,
            Err(error) => panic!("cannot read {path}: {error}"),
        }
    }
    std::str::from_utf8(&buffer[..used]).unwrap_or_else(|_| panic!("{path} is not text"))
}

fn field(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    number.unwrap_or_else(|| panic!("/proc has no line {name}")) * 1024
}
