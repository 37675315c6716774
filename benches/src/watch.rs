//! Runs another program and reports its time and memory as one JSON line.
//!
//! The kernel counts the resident set a process had before `exec` as its own,
//! so a program started straight from the runner would seem at least as large as
//! the runner. This process is small, and the runner takes the same build of it for all, that for
//! the system's allocator: what it has itself is the least that can be seen of any program. It
//! watches the whole tree of processes that the program starts and waits for: time is their sum,
//! memory that of the largest.

use std::hash::{DefaultHasher, Hasher};
use std::process::{Command, ExitCode, Stdio};

use crate::measure::{Clock, Outcome, Usage};

#[derive(clap::Args)]
pub struct Args {
    /// Library to preload into the program. The dynamic linker only warns of one that it cannot
    /// load, and takes the path apart at spaces and colons: the runner checks it first.
    #[arg(long)]
    preload: Option<std::path::PathBuf>,
    /// A variable to set for the program, as `NAME=value`.
    #[arg(long, value_name = "NAME=VALUE", value_parser = variable)]
    env: Option<(String, String)>,
    /// Run it this many times and report the mean.
    #[arg(long, default_value_t = 1)]
    repeat: u32,
    /// The program is this one: take the memory figures from its own result, and
    /// only the time from outside.
    #[arg(long)]
    own_figures: bool,
    /// Program and arguments.
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

fn variable(text: &str) -> Result<(String, String), String> {
    let (name, value) = text
        .split_once('=')
        .ok_or_else(|| "a variable is given as NAME=value".to_owned())?;
    Ok((name.to_owned(), value.to_owned()))
}

pub fn run(args: &Args) -> ExitCode {
    let repeat = args.repeat.max(1);
    let clock = Clock::start();
    let mut last = Vec::new();
    for _ in 0..repeat {
        match once(args) {
            Ok(output) => last = output,
            Err((status, sentence)) => {
                eprintln!("hakmem-bench: {sentence}");
                return ExitCode::from(status);
            }
        }
    }
    let mut timed = clock.stop();
    let children = Usage::of_children();
    timed.wall /= repeat;
    timed.cpu = children.cpu / repeat;
    timed.minor_faults = children.minor_faults / i64::from(repeat);
    if !args.own_figures {
        // All that the program printed counts as its answer.
        let mut hasher = DefaultHasher::new();
        hasher.write(&last);
        Outcome::new(hasher.finish(), 1, timed).print_with_memory(children.peak_rss);
        return ExitCode::SUCCESS;
    }
    match serde_json::from_slice::<Outcome>(&last) {
        Ok(mut own) => {
            own.seconds = timed.wall.as_secs_f64();
            own.cpu_seconds = timed.cpu.as_secs_f64();
            own.minor_faults = timed.minor_faults;
            own.print_line();
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!(
                "hakmem-bench: {} printed no result: {error}",
                args.command[0]
            );
            ExitCode::from(2)
        }
    }
}

/// Runs the program once; returns what it printed, or an exit status and a sentence.
fn once(args: &Args) -> Result<Vec<u8>, (u8, String)> {
    let [program, arguments @ ..] = args.command.as_slice() else {
        return Err((2, "name the program to watch after `--`".to_owned()));
    };
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit());
    if let Some((name, value)) = &args.env {
        command.env(name, value);
    }
    if let Some(library) = &args.preload {
        command.env("LD_PRELOAD", library);
    }
    let output = command
        .output()
        .map_err(|error| (2, format!("cannot run {program}: {error}")))?;
    if !output.status.success() {
        return Err((4, format!("{program} ended with {}", output.status)));
    }
    Ok(output.stdout)
}
