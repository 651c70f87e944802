//! `tcp-close completions`: what a shell has to know to complete what is typed.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::{Failure, printed};
use crate::cli::{Cli, CompletionsArgs};

pub(super) fn run(args: &CompletionsArgs) -> Result<ExitCode, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "tcp-close", &mut script);
    if args.shell == Shell::Bash {
        script = with_one_name(&String::from_utf8_lossy(&script)).into_bytes();
    }
    printed(io::stdout().lock().write_all(&script))
}

/// The script for bash, with one name for each command: `clap_complete` 4.6 takes the hyphen of `tcp-close` for a step to a
/// subcommand in the one of two places (clap-rs/clap#6421), and then nothing is completed after a subcommand.
fn with_one_name(script: &str) -> String {
    script.replace("tcp__subcmd__close__subcmd__", "tcp__close__subcmd__")
}
