//! The command `tcp-close`.

use std::{
    io::Write as _,
    panic,
    process::{self, ExitCode},
};

use tcp_close::{
    cli::{Cli, Command},
    commands,
    telemetry::{self, Reader},
};
use tracing_subscriber::filter::LevelFilter;

fn main() -> ExitCode {
    end_by_panic();
    give_back_what_tables_outgrow();
    let cli = match Cli::read() {
        Ok(cli) => cli,
        Err(usage) => {
            // Help that nobody reads, as in `--help | head`, is no error.
            let _nobody_reads = usage.print();
            return ExitCode::from(u8::try_from(usage.exit_code()).unwrap_or(2));
        }
    };
    let is_service = matches!(cli.command, Command::Daemon(_));
    let level = match cli.verbose {
        0 if is_service => LevelFilter::INFO,
        0 => LevelFilter::WARN,
        1 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    telemetry::start(level, if is_service { Reader::Operator } else { Reader::Person }, cli.color);
    match commands::run(cli) {
        Ok(code) => code,
        Err(failure) => {
            // With stderr gone too there is nobody left to tell.
            let _nobody_listens = writeln!(std::io::stderr(), "tcp-close: {failure}");
            failure.exit_code()
        }
    }
}

/// A table that grows moves into a block of twice the size. Those of more than a megabyte come from the system one by one,
/// and go back to it at once; the C library would keep ever larger ones for later.
fn give_back_what_tables_outgrow() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes no pointer (mallopt(3)). Where it is refused, the program only takes more memory.
    let _is_set = unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, 1 << 20) };
}

/// A panic is a mistake of ours, and ends the program in whichever thread it happens: whoever manages the service starts it
/// anew, and nobody goes on with half of it.
fn end_by_panic() {
    let tell = panic::take_hook();
    panic::set_hook(Box::new(move |what| {
        tell(what);
        process::abort();
    }));
}
