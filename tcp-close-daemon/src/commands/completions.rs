//! `tcp-close completions`: what a shell has to know to complete what is typed.

use std::{
    io::{self, ErrorKind, Write as _},
    process::ExitCode,
};

use clap::CommandFactory as _;

use super::Failure;
use crate::cli::{Cli, CompletionsArgs};

pub(super) fn run(args: &CompletionsArgs) -> Result<ExitCode, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "tcp-close", &mut script);
    match io::stdout().lock().write_all(&script) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Failure::Stdout(error)),
        _ => Ok(ExitCode::SUCCESS),
    }
}
