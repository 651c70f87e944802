//! `tcp-close completions`: what a shell has to know to complete what is typed.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use clap::CommandFactory as _;

use super::{Failure, printed};
use crate::cli::{Cli, CompletionsArgs};

pub(super) fn run(args: &CompletionsArgs) -> Result<ExitCode, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "tcp-close", &mut script);
    printed(io::stdout().lock().write_all(&script))
}
