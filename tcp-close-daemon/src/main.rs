//! The command `tcp-close`.

use std::{io::Write as _, process::ExitCode};

use tcp_close::{
    cli::{Cli, Command},
    commands, telemetry,
};
use tracing_subscriber::filter::LevelFilter;

fn main() -> ExitCode {
    let cli = match Cli::read() {
        Ok(cli) => cli,
        Err(usage) => {
            // Help that nobody reads, as in `--help | head`, is no error.
            let _nobody_reads = usage.print();
            return ExitCode::from(u8::try_from(usage.exit_code()).unwrap_or(2));
        }
    };
    telemetry::start(match (cli.verbose, &cli.command) {
        (0, Command::Daemon(_)) => LevelFilter::INFO,
        (0, _) => LevelFilter::WARN,
        (1, _) => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    });
    match commands::run(cli) {
        Ok(code) => code,
        Err(failure) => {
            // With stderr gone too there is nobody left to tell.
            let _nobody_listens = writeln!(std::io::stderr(), "tcp-close: {failure}");
            failure.exit_code()
        }
    }
}
