//! The program's own log: sentences on stderr, with data as fields.

use std::{
    env,
    io::{self, IsTerminal as _},
    str::FromStr as _,
};

use tracing_subscriber::{
    EnvFilter,
    filter::{Directive, LevelFilter},
};

use crate::probe::SILENCED;

/// Starts logging to stderr at `level`, unless `TCP_CLOSE_LOG` says otherwise; with the time, or for somebody who is there
/// as it happens.
pub fn start(level: LevelFilter, with_time: bool) {
    let filter = EnvFilter::builder()
        .with_default_directive(level.into())
        .with_env_var("TCP_CLOSE_LOG")
        .from_env_lossy()
        .add_directive(Directive::from_str(SILENCED).unwrap_or_else(|_| level.into()));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_target(false)
        .with_ansi(io::stderr().is_terminal() && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()))
        // It would tell of a stderr that is full on that same stderr, and panic over it.
        .log_internal_errors(false);
    if with_time { log.init() } else { log.without_time().init() }
}
