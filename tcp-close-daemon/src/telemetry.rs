//! The program's own log: sentences, with data as fields, on stderr or in the journal.

use std::{
    env,
    io::{self, IsTerminal as _},
    str::FromStr as _,
};

use clap::ColorChoice;
use tracing_subscriber::{
    EnvFilter,
    filter::{Directive, LevelFilter},
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

use crate::probe::SILENCED;

/// Who reads the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// Somebody who is there as it happens.
    Person,
    /// Somebody later.
    Operator,
}

/// Starts logging at `level`, unless `TCP_CLOSE_LOG` says otherwise.
pub fn start(level: LevelFilter, reader: Reader, color: ColorChoice) {
    let filter = EnvFilter::builder()
        .with_default_directive(level.into())
        .with_env_var("TCP_CLOSE_LOG")
        .from_env_lossy()
        .add_directive(Directive::from_str(SILENCED).unwrap_or_else(|_| level.into()));
    // The journal takes fields as such, and has its own time; where it cannot be had, stderr leads to it as well.
    if reader == Reader::Operator
        && stderr_is_the_journal()
        && let Ok(journal) = tracing_journald::layer()
    {
        let journal = journal
            .with_syslog_identifier("tcp-close".to_owned())
            .with_field_prefix(Some("TCP_CLOSE".to_owned()));
        tracing_subscriber::registry().with(filter).with(journal).init();
        return;
    }
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_target(false)
        .with_ansi(has_colors(color))
        // It would tell of a stderr that is full on that same stderr, and panic over it.
        .log_internal_errors(false);
    match reader {
        Reader::Person => log.without_time().init(),
        Reader::Operator => log.init(),
    }
}

/// Whether the log on stderr has colors (<https://no-color.org>).
fn has_colors(color: ColorChoice) -> bool {
    match color {
        ColorChoice::Always => true,
        ColorChoice::Never => false,
        ColorChoice::Auto => {
            io::stderr().is_terminal() && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        }
    }
}

/// Whether stderr leads to the journal, as it says itself: `$JOURNAL_STREAM` names it by device and inode
/// (systemd.exec(5)).
fn stderr_is_the_journal() -> bool {
    let Ok(stderr) = rustix::fs::fstat(io::stderr()) else {
        return false;
    };
    let named = env::var("JOURNAL_STREAM").unwrap_or_default();
    named == format!("{}:{}", stderr.st_dev, stderr.st_ino)
}
