//! `cargo xtask loom`: the models of every lock-free protocol, and proof that they see.
//!
//! A model is a file `crates/*/tests/loom_<protocol>.rs`. It runs under loom with at most
//! three preemptions, or with `N` where the file has a line `//! preemptions: N`.
//!
//! A line `//! mutation: <name>` names a weakening of the code (a relaxed ordering, a step
//! left out) that the file's models must catch. The code has it under
//! `cfg(hakmem_mutation = "<name>")`. `--mutations` builds each one and requires the
//! file that names it to fail, so a model that cannot fail does not pass for one.

mod model;
mod mutant;

use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::Result;
use regex::Regex;

use crate::tally::{Outcome, Tally};
use crate::{command, workspace};
use model::Model;
pub use mutant::compile_if_asked;

/// What one model file may take, as it is or with a mutation.
const MODEL_LIMIT: Duration = Duration::from_secs(600);

/// Run the loom models of every box
#[derive(clap::Args)]
pub struct Args {
    /// Also build every named mutation and require its model to fail
    #[arg(long)]
    mutations: bool,

    /// Only the model files, or with --mutations also the mutations, whose name contains this
    #[arg(value_name = "NAME")]
    name: Option<String>,
}

/// The command: succeeds when every model holds and, if asked, every mutation is caught.
pub fn run(args: &Args) -> Result<ExitCode> {
    let wanted = args.name.as_deref().unwrap_or("");
    let mut tally = check_models(wanted)?;
    if args.mutations {
        tally += check_mutations(wanted)?;
    }
    if tally == Tally::default() {
        anyhow::bail!("no model file and no mutation has {wanted} in its name");
    }
    println!("{tally}");
    Ok(if tally.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Runs the model files whose name contains `wanted`.
pub fn check_models(wanted: &str) -> Result<Tally> {
    let models: Vec<Model> = model::all()?
        .into_iter()
        .filter(|model| model.file.contains(wanted))
        .collect();
    let mut tally = Tally::default();
    for (index, model) in models.iter().enumerate() {
        println!("  [{}/{}] {model}", index + 1, models.len());
        let start = Instant::now();
        let outcome = Outcome::of(model_holds(model));
        println!("    {outcome} ({:.1} s)", start.elapsed().as_secs_f64());
        tally.count(&outcome);
    }
    Ok(tally)
}

/// Builds the mutations whose name, or whose model's, contains `wanted`, and requires the
/// models to fail. Also checks that every mutation in the code has a model.
pub fn check_mutations(wanted: &str) -> Result<Tally> {
    let models = model::all()?;
    let pairs: Vec<(&Model, &String)> = models
        .iter()
        .flat_map(|model| model.mutations.iter().map(move |name| (model, name)))
        .filter(|(model, name)| name.contains(wanted) || model.file.contains(wanted))
        .collect();
    mutant::remove_wrappers(&folder()?)?;
    let mut tally = Tally::default();
    for (index, (model, name)) in pairs.iter().enumerate() {
        println!(
            "  [{}/{}] mutation {name}, for {model}",
            index + 1,
            pairs.len()
        );
        let start = Instant::now();
        let outcome = Outcome::of(mutation_is_caught(model, name));
        println!("    {outcome} ({:.1} s)", start.elapsed().as_secs_f64());
        tally.count(&outcome);
    }
    mutant::remove_wrappers(&folder()?)?;
    if wanted.is_empty() {
        let outcome = Outcome::of(every_mutation_is_named(&models));
        println!("  every mutation in the code is named by a model\n    {outcome}");
        tally.count(&outcome);
    }
    Ok(tally)
}

fn model_holds(model: &Model) -> Result<Outcome> {
    let mut test = cargo_test(model)?;
    // Where a model was started by `loom::model`, loom then says how many executions there
    // were; not where it was started by a `Builder`.
    test.env("LOOM_LOG", "loom::model=info");
    test.args(["--", "--nocapture"]);
    let finished = command::captured(&mut test, MODEL_LIMIT)?;
    let text = finished.text();
    if !finished.success() {
        return Ok(Outcome::Failed(format!(
            "{}:\n{}",
            finished.ending(),
            command::tail(&text, 40)
        )));
    }
    let passed = command::passed_tests(&text);
    Ok(if passed == 0 {
        Outcome::Failed("the file has no model: nothing ran".to_owned())
    } else if executions(&text)?.contains(&1) {
        Outcome::Failed(
            "loom found a single execution of one of its models: the threads never meet, so the \
             model says nothing"
                .to_owned(),
        )
    } else {
        Outcome::Passed(format!("{passed} models"))
    })
}

fn mutation_is_caught(model: &Model, name: &str) -> Result<Outcome> {
    let wrapper = mutant::wrapper(name, &folder()?)?;
    let mut build = cargo_test(model)?;
    build
        .arg("--no-run")
        .env("RUSTC_WORKSPACE_WRAPPER", &wrapper);
    let built = command::captured(&mut build, MODEL_LIMIT)?;
    if !built.success() {
        return Ok(Outcome::Failed(format!(
            "the mutation does not compile:\n{}",
            command::tail(&built.text(), 30)
        )));
    }
    let mut test = cargo_test(model)?;
    test.env("RUSTC_WORKSPACE_WRAPPER", &wrapper);
    let finished = command::captured(&mut test, MODEL_LIMIT)?;
    Ok(if finished.out_of_time {
        Outcome::Failed(format!(
            "the model was not done after {} s, so it says nothing",
            MODEL_LIMIT.as_secs()
        ))
    } else if finished.success() {
        Outcome::Failed("the models hold all the same: they do not see it".to_owned())
    } else {
        Outcome::Passed("caught".to_owned())
    })
}

fn every_mutation_is_named(models: &[Model]) -> Result<Outcome> {
    let named: Vec<&String> = models.iter().flat_map(|model| &model.mutations).collect();
    let expression = Regex::new(r#"hakmem_mutation\s*=\s*"([^"]+)""#)?;
    let mut in_code = Vec::new();
    for source in model::sources()? {
        let text = std::fs::read_to_string(&source)?;
        in_code.extend(
            expression
                .captures_iter(&text)
                .map(|found| found[1].to_owned()),
        );
    }
    let unnamed: Vec<&str> = in_code
        .iter()
        .filter(|name| !named.contains(name))
        .map(String::as_str)
        .collect();
    let absent: Vec<&str> = named
        .iter()
        .filter(|name| !in_code.contains(name))
        .map(|name| name.as_str())
        .collect();
    Ok(match (unnamed.is_empty(), absent.is_empty()) {
        (true, true) => Outcome::Passed(format!("{} mutations", named.len())),
        (false, _) => Outcome::Failed(format!(
            "no model names {}: add a line `//! mutation: ...` to the file that catches it",
            unnamed.join(", ")
        )),
        (true, false) => Outcome::Failed(format!(
            "models name {}, which no box has",
            absent.join(", ")
        )),
    })
}

/// The build folder of the models: their flags would otherwise rebuild everything else.
fn folder() -> Result<std::path::PathBuf> {
    Ok(workspace::target_dir()?.join("loom"))
}

fn cargo_test(model: &Model) -> Result<Command> {
    let mut cargo = workspace::cargo();
    cargo.args(["test", "--release", "--package", &model.package]);
    cargo.args(["--test", &model.file]);
    cargo.env("CARGO_TARGET_DIR", folder()?);
    cargo.env("RUSTFLAGS", "--cfg loom");
    cargo.env("LOOM_MAX_PREEMPTIONS", model.preemptions.to_string());
    // Models are built often and run briefly: link-time optimisation does not pay.
    for (option, value) in [
        ("LTO", "off"),
        ("CODEGEN_UNITS", "16"),
        ("DEBUG", "false"),
        ("INCREMENTAL", "false"),
    ] {
        cargo.env(format!("CARGO_PROFILE_RELEASE_{option}"), value);
    }
    Ok(cargo)
}

/// How many executions loom says it has explored of each model.
fn executions(text: &str) -> Result<Vec<u64>> {
    Ok(Regex::new(r"Completed in ([0-9]+) iterations")?
        .captures_iter(text)
        .filter_map(|found| found[1].parse().ok())
        .collect())
}

/// Whether a file is a model.
fn is_model(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "rs")
        && path
            .file_stem()
            .is_some_and(|stem| stem.to_string_lossy().starts_with("loom_"))
}

#[cfg(test)]
mod tests {
    use super::{executions, is_model};
    use std::path::Path;

    #[test]
    fn executions_are_read_model_by_model() {
        let text = " INFO loom::model: Completed in 12 iterations\ntest a ... ok\n\
                    INFO loom::model: Completed in 1 iterations\n";
        assert_eq!(executions(text).unwrap(), [12, 1]);
    }

    #[test]
    fn only_rust_files_that_start_with_loom_are_models() {
        assert!(is_model(Path::new("tests/loom_push.rs")));
        assert!(!is_model(Path::new("tests/push.rs")));
        assert!(!is_model(Path::new("tests/loom_push.md")));
    }
}
