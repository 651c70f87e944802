//! `tcp-close watch`: a line per close as it ends, and per TIME-WAIT as it ends: as the daemon tells it, if there is one,
//! else as it is seen here.

use std::{
    io::{self, ErrorKind},
    ops::ControlFlow,
    process::ExitCode,
    time::Duration,
};

use tokio::time::{MissedTickBehavior, interval};

use super::{
    Failure,
    printer::{Printer, reader_is_gone},
    runtime,
    seen::{self, Seen},
};
use crate::{
    api::{self, AskError, Client, Question},
    kernel::capabilities,
    settings::WatchSettings,
    shutdown::Shutdown,
};

/// How often it is looked whether anybody reads what is printed.
const LOOK: Duration = Duration::from_millis(100);

pub(super) fn run(settings: WatchSettings) -> Result<ExitCode, Failure> {
    runtime()?.block_on(watch(settings))
}

async fn watch(settings: WatchSettings) -> Result<ExitCode, Failure> {
    let mut shutdown = Shutdown::listen(settings.duration)
        .map_err(|error| Failure::Other(anyhow::Error::new(error).context("cannot listen for signals")))?;
    let printed = match daemon(&settings).await? {
        Some(lines) => from_daemon(&settings, lines, &mut shutdown).await?,
        None => from_kernel(&settings, &mut shutdown).await?,
    };
    match printed {
        // A reader that has seen enough, such as `head`, is no error.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Failure::Stdout(error)),
        _ => Ok(ExitCode::SUCCESS),
    }
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
    if let Some(blind_spot) = &lines.blind_spot {
        tracing::warn!("there may be more: {blind_spot}");
    }
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
            came = lines.next_bytes() => {
                let Some(came) = came? else {
                    return Err(Failure::Other(anyhow::anyhow!("the daemon stopped")));
                };
                match printer.told(&came)? {
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
