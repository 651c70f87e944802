//! `tcp-close show`: one close as a ladder. The daemon remembers those that are over; the next one may be waited for, with
//! a daemon or without.

use std::{
    io::{self, Write as _},
    ops::ControlFlow,
    process::ExitCode,
};

use super::{
    Failure, listen_for_signals, printed, runtime,
    seen::{self, Seen},
    warn_of,
};
use crate::{
    api::{self, AskError, Client, Question},
    cli::Output,
    closing::ClosingSocket,
    kernel::capabilities,
    line::Line,
    render::{Signs, ladder},
    settings::ShowSettings,
    shutdown::Shutdown,
};

pub(super) fn run(settings: &ShowSettings) -> Result<ExitCode, Failure> {
    let shown = runtime()?.block_on(show(settings))?;
    let Some(line) = shown else {
        return Ok(ExitCode::SUCCESS);
    };
    let text = match settings.output {
        Output::Json => line.json() + "\n",
        Output::Table => {
            let signs = if settings.ascii { Signs::ASCII } else { Signs::UNICODE };
            ladder(&line, signs).unwrap_or_default()
        }
    };
    printed(io::stdout().lock().write_all(text.as_bytes()))
}

/// What is to be shown; `None` if somebody did not want to wait for it.
async fn show(settings: &ShowSettings) -> Result<Option<Line>, Failure> {
    let mut shutdown = listen_for_signals(None)?;
    if settings.standalone {
        return next_here(settings, &mut shutdown).await;
    }
    let asked = tokio::select! {
        biased;
        _ = shutdown.reason() => return Ok(None),
        asked = ask(settings) => asked,
    };
    match asked {
        Err(AskError::NoDaemon(_)) if !settings.daemon.named && settings.follow => {
            next_here(settings, &mut shutdown).await
        }
        Err(AskError::NotAllowed(_))
            if !settings.daemon.named && settings.follow && capabilities::are_held() =>
        {
            next_here(settings, &mut shutdown).await
        }
        asked => {
            let (line, blind_spot) = asked?;
            if line.is_some() {
                return Ok(line);
            }
            warn_of(blind_spot.as_deref());
            tokio::select! {
                biased;
                _ = shutdown.reason() => Ok(None),
                why = not_there(settings) => Err(why),
            }
        }
    }
}

/// The last that the daemon remembers, or the next that it tells; and why there may be more.
async fn ask(settings: &ShowSettings) -> Result<(Option<Line>, Option<String>), AskError> {
    let filter = settings.wanted.filter.clone();
    let question = Question { filter, follow: settings.follow, ..Question::default() };
    let mut lines = Client::connect(&settings.daemon).await?.ends(&question).await?;
    let mut last = None;
    while let Some(told) = lines.next_told().await? {
        if settings.follow && !told.is_empty() {
            last = told.into_iter().next();
            break;
        }
        last = told.into_iter().next_back().or(last);
    }
    let line = last.as_deref().map(api::told).transpose()?;
    Ok((line, lines.blind_spot))
}

/// Why there is nothing to show.
async fn not_there(settings: &ShowSettings) -> Failure {
    if settings.follow {
        return Failure::Other(anyhow::anyhow!("the daemon stopped"));
    }
    match still_closing(settings).await {
        Err(error) => error.into(),
        Ok(None) => Failure::Other(anyhow::anyhow!(
            "the daemon remembers no close of which this is so; --follow waits for the next"
        )),
        Ok(Some(socket)) => {
            let pair = socket.pair();
            let since = socket.age_seconds.map_or_else(String::new, |age| format!(", for {age:.1} s now"));
            Failure::Other(anyhow::anyhow!(
                "{} > {} is not over: it is in {}{since}; `tcp-close list` says more",
                pair.local,
                pair.remote,
                socket.state.ss_name()
            ))
        }
    }
}

/// The first socket that is wanted and still closes.
async fn still_closing(settings: &ShowSettings) -> Result<Option<ClosingSocket>, AskError> {
    let question = Question { filter: settings.wanted.filter.clone(), ..Question::default() };
    let mut lines = Client::connect(&settings.daemon).await?.closing(&question).await?;
    Ok(lines.next::<ClosingSocket>().await?.and_then(|sockets| sockets.into_iter().next()))
}

/// The next that is seen here.
async fn next_here(settings: &ShowSettings, shutdown: &mut Shutdown) -> Result<Option<Line>, Failure> {
    if !settings.follow {
        return Err(Failure::Other(anyhow::anyhow!(
            "only a daemon remembers what is over; --follow waits for the next"
        )));
    }
    let mut next = None;
    let take = |seen: Seen| {
        if let Seen::Lines(lines) = seen {
            next = lines.into_iter().next();
        }
        if next.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    seen::follow("show", &settings.wanted, shutdown, None, take).await?;
    Ok(next)
}
