//! One command of a smoke program, and what of its doings is compared.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use regex::Regex;

use crate::command::Finished;
use crate::{command, library, workspace};

/// A step takes a minute at most on its own; this is for a machine under load.
const LIMIT: Duration = Duration::from_secs(600);

/// What of a step is compared: its output, or a file it wrote.
#[derive(PartialEq, Eq)]
pub struct Evidence {
    /// Where it comes from.
    pub name: String,
    /// What it says.
    pub bytes: Vec<u8>,
}

/// What of a step's outputs is compared.
#[derive(Clone, Copy)]
enum Answer {
    /// All of its standard output.
    Output,
    /// The parts of either output that this expression matches.
    Matches(&'static str),
}

/// One command, run in the program's folder.
pub struct Step {
    arguments: Vec<String>,
    variables: Vec<(String, String)>,
    input: Option<String>,
    answer: Answer,
    files: Vec<String>,
    tries: u32,
}

/// A step that runs `arguments[0]` and compares its standard output.
pub fn step<S: Into<String>>(arguments: impl IntoIterator<Item = S>) -> Step {
    Step {
        arguments: arguments.into_iter().map(Into::into).collect(),
        variables: Vec::new(),
        input: None,
        answer: Answer::Output,
        files: Vec::new(),
        tries: 1,
    }
}

impl Step {
    /// Adds an environment variable.
    pub fn variable(mut self, name: &str, value: impl Into<String>) -> Self {
        self.variables.push((name.to_owned(), value.into()));
        self
    }

    /// Reads its standard input from a file of the folder.
    pub fn input(mut self, file: &str) -> Self {
        self.input = Some(file.to_owned());
        self
    }

    /// Compares a file the step wrote, too.
    pub fn writes(mut self, file: &str) -> Self {
        self.files.push(file.to_owned());
        self
    }

    /// Allows it to fail, but not to crash, all but once in so many tries: for tests with
    /// time limits of their own, which a loaded machine may miss with any allocator.
    pub fn tries(mut self, tries: u32) -> Self {
        self.tries = tries;
        self
    }

    /// Compares only what this expression matches, in either output.
    pub fn answers(mut self, expression: &'static str) -> Self {
        self.answer = Answer::Matches(expression);
        self
    }

    /// Runs the step; the inner error is a sentence about the program.
    pub fn run(
        &self,
        folder: &Path,
        library: Option<&Path>,
    ) -> Result<Result<Vec<Evidence>, String>> {
        let mut finished = self.start(folder, library)?;
        for _ in 1..self.tries {
            // Status 1 is how a test runner says that a test failed.
            if finished.status.code() != Some(1) || report(&finished).is_some() {
                break;
            }
            let last = command::tail(&finished.text(), 12);
            println!("    `{}` failed, trying again:\n{last}", self.line());
            finished = self.start(folder, library)?;
        }
        Ok(self.judge(&finished, folder))
    }

    fn start(&self, folder: &Path, library: Option<&Path>) -> Result<Finished> {
        let mut command = Command::new(&self.arguments[0]);
        command.args(&self.arguments[1..]).current_dir(folder);
        workspace::forget_cargo(&mut command);
        // Answers must not depend on the user's language.
        command.env("LC_ALL", "C");
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.stdin(match &self.input {
            Some(file) => Stdio::from(
                File::open(folder.join(file)).with_context(|| format!("no input {file}"))?,
            ),
            None => Stdio::null(),
        });
        if let Some(library) = library {
            library::preload(&mut command, library);
        }
        command::captured(&mut command, LIMIT)
    }

    fn judge(&self, finished: &Finished, folder: &Path) -> Result<Vec<Evidence>, String> {
        let line = self.line();
        if let Some(report) = report(finished) {
            return Err(format!("`{line}` was told: {report}"));
        }
        if !finished.success() {
            return Err(format!(
                "`{line}` {}: {}",
                finished.ending(),
                command::tail(&finished.text(), 20)
            ));
        }
        let mut evidence = Vec::new();
        match self.answer {
            Answer::Output => evidence.push(Evidence {
                name: self.arguments[0].clone(),
                bytes: finished.stdout.clone(),
            }),
            Answer::Matches(expression) => {
                let expression = Regex::new(expression).expect("a valid expression");
                let text = finished.text();
                let found: Vec<&str> = expression
                    .find_iter(&text)
                    .map(|found| found.as_str())
                    .collect();
                if found.is_empty() {
                    return Err(format!(
                        "`{line}` ended well, but without its answer: {}",
                        command::tail(&text, 3)
                    ));
                }
                evidence.push(Evidence {
                    name: self.arguments[0].clone(),
                    bytes: found.join("\n").into_bytes(),
                });
            }
        }
        for file in &self.files {
            match std::fs::read(folder.join(file)) {
                Ok(bytes) => evidence.push(Evidence {
                    name: file.clone(),
                    bytes,
                }),
                Err(error) => return Err(format!("`{line}` left no {file}: {error}")),
            }
        }
        Ok(evidence)
    }

    /// The command, short enough for a message.
    fn line(&self) -> String {
        let line = self.arguments.join(" ");
        match line.char_indices().nth(100) {
            Some((end, _)) => format!("{}...", &line[..end]),
            None => line,
        }
    }
}

/// What the allocator had to say, if anything.
fn report(finished: &Finished) -> Option<String> {
    String::from_utf8_lossy(&finished.stderr)
        .lines()
        .find(|line| line.starts_with("hakmem:"))
        .map(str::to_owned)
}
