//! `tcp-close watch`: a line per close as it ends, and per TIME-WAIT as it ends: as the daemon tells it, if there is one,
//! else as it is seen here.

use std::{io, ops::ControlFlow, process::ExitCode};

use tokio::time::{MissedTickBehavior, interval};

use super::{
    Failure, listen_for_signals, printed,
    printer::{LOOK, Printer, reader_is_gone},
    runtime,
    seen::{self, Seen},
    warn_of, warn_of_missing,
};
use crate::{
    api::{self, AskError, Client, Question},
    kernel::capabilities,
    settings::WatchSettings,
    shutdown::Shutdown,
};

pub(super) fn run(settings: WatchSettings) -> Result<ExitCode, Failure> {
    if settings.since.is_none() {
        warn_of_missing(&settings.wanted.probe.netns);
    }
    runtime()?.block_on(watch(settings))
}

async fn watch(settings: WatchSettings) -> Result<ExitCode, Failure> {
    let mut shutdown = listen_for_signals(settings.duration)?;
    let lines = tokio::select! {
        biased;
        _ = shutdown.reason() => return Ok(ExitCode::SUCCESS),
        lines = daemon(&settings) => lines?,
    };
    printed(match lines {
        Some(lines) => from_daemon(&settings, lines, &mut shutdown).await?,
        None => from_kernel(&settings, &mut shutdown).await?,
    })
}

/// What the daemon has to tell, if it is to be asked and there is one.
async fn daemon(settings: &WatchSettings) -> Result<Option<api::Lines>, Failure> {
    // How connections are opened is told by nobody else.
    let sees_more_itself = settings.wanted.transitions && !settings.daemon.named && capabilities::are_held();
    if settings.standalone || sees_more_itself {
        return Ok(None);
    }
    match ask(settings).await {
        Ok(lines) => Ok(Some(lines)),
        Err(AskError::NoDaemon(_)) if !settings.daemon.named && settings.since.is_none() => Ok(None),
        Err(AskError::NotAllowed(_)) if !settings.daemon.named && capabilities::are_held() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

async fn ask(settings: &WatchSettings) -> Result<api::Lines, AskError> {
    let question = Question {
        filter: settings.wanted.filter.clone(),
        since: settings.since,
        follow: true,
        ..Question::default()
    };
    let client = Client::connect(&settings.daemon).await?;
    if settings.wanted.transitions {
        client.transitions(&question).await
    } else {
        client.ends(&question).await
    }
}

/// Prints what the daemon tells.
async fn from_daemon(
    settings: &WatchSettings,
    mut lines: api::Lines,
    shutdown: &mut Shutdown,
) -> Result<io::Result<()>, Failure> {
    warn_of(lines.blind_spot.as_deref());
    let mut printer = Printer::new(settings.lines, settings.count);
    if let Err(error) = printer.header(settings.wanted.transitions) {
        return Ok(Err(error));
    }
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            _ = shutdown.reason() => return Ok(Ok(())),
            told = lines.next_told() => {
                let Some(told) = told? else {
                    return Err(Failure::Other(anyhow::anyhow!("the daemon stopped")));
                };
                let missed = lines.missed();
                if missed > 0 {
                    tracing::warn!("at most {missed} lines are missing: they came faster than they were read");
                }
                match printer.told(&told)? {
                    Ok(ControlFlow::Continue(())) => {}
                    Ok(ControlFlow::Break(())) => return Ok(Ok(())),
                    Err(error) => return Ok(Err(error)),
                }
            }
            _ = look.tick() => {
                if reader_is_gone() {
                    return Ok(Ok(()));
                }
            }
        }
    }
}

/// Prints what is seen here.
async fn from_kernel(settings: &WatchSettings, shutdown: &mut Shutdown) -> Result<io::Result<()>, Failure> {
    let mut printer = Printer::new(settings.lines, settings.count);
    let mut failed = None;
    let print = |seen: Seen| {
        printer.seen(seen, settings.wanted.transitions).unwrap_or_else(|error| {
            failed = Some(error);
            ControlFlow::Break(())
        })
    };
    seen::follow("watch", &settings.wanted, shutdown, None, print).await?;
    Ok(failed.map_or(Ok(()), Err))
}
