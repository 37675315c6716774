//! `cargo xtask run`: any program, on hakmem.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Result, bail};

use crate::{library, workspace};

/// Build the release libhakmem.so and run a program with it as its malloc
#[derive(clap::Args)]
pub struct Args {
    /// The program and its arguments
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "PROG ARGS"
    )]
    program: Vec<OsString>,
}

/// Becomes the program: returns only when it could not be started.
pub fn run(args: &Args) -> Result<()> {
    let library = library::build()?;
    let (program, arguments) = args.program.split_first().expect("clap asks for one");
    let mut command = Command::new(program);
    command.args(arguments);
    workspace::forget_cargo(&mut command);
    library::preload(&mut command, &library);
    let error = command.exec();
    bail!(
        "{} could not be started: {error}; is it installed and on PATH?",
        program.display()
    );
}
