//! `tcp-close watch`: a line per close as it ends, and per TIME-WAIT as it ends: as the daemon tells it, if there is one,
//! else as it is seen here.

use std::{
    io::{self, BufWriter, ErrorKind, StdoutLock, Write as _},
    ops::ControlFlow,
    process::ExitCode,
    time::Duration,
};

use jiff::tz::TimeZone;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::time::{MissedTickBehavior, interval};

use super::{
    Failure, runtime,
    seen::{self, Seen},
};
use crate::{
    api::{self, AskError, Client, Missed, Question},
    cli::Output,
    kernel::capabilities,
    line::Line,
    render::Table,
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
    let mut printer = Printer::new(settings);
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
    let mut printer = Printer::new(settings);
    let mut failed = None;
    let print = |seen: Seen| {
        let printed = match seen {
            Seen::Attached => printer.header(settings.wanted.transitions).map(|()| ControlFlow::Continue(())),
            Seen::Lines(lines) => printer.lines(&lines),
        };
        printed.unwrap_or_else(|error| {
            failed = Some(error);
            ControlFlow::Break(())
        })
    };
    seen::follow("watch", &settings.wanted, shutdown, print).await?;
    Ok(failed.map_or(Ok(()), Err))
}

/// Whether stdout is a pipe that nobody reads any more; on a quiet host it may be long until a write tells.
fn reader_is_gone() -> bool {
    let stdout = io::stdout();
    let mut polled = [PollFd::new(&stdout, PollFlags::empty())];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut polled, Some(&now)).is_ok() && polled.iter().any(|fd| fd.revents().contains(PollFlags::ERR))
}

/// Prints lines, until there are enough.
struct Printer {
    output: Output,
    with_header: bool,
    table: Table,
    out: BufWriter<StdoutLock<'static>>,
    left: Option<u64>,
}

impl Printer {
    fn new(settings: &WatchSettings) -> Self {
        Self {
            output: settings.lines.output,
            with_header: settings.lines.header,
            table: Table::new(settings.lines.wide, TimeZone::system()),
            out: BufWriter::new(io::stdout().lock()),
            left: settings.count,
        }
    }

    fn header(&mut self, transitions: bool) -> io::Result<()> {
        if self.output == Output::Table && self.with_header {
            let header = if transitions { self.table.transitions_header() } else { self.table.header() };
            writeln!(self.out, "{header}")?;
        }
        self.out.flush()
    }

    /// Prints lines, if anybody reads them, and tells whether that is enough.
    fn lines(&mut self, lines: &[Line]) -> io::Result<ControlFlow<()>> {
        if reader_is_gone() {
            return Err(ErrorKind::BrokenPipe.into());
        }
        lines.iter().try_for_each(|line| self.line(line))?;
        self.flush()
    }

    /// Prints a line, if there have not been enough.
    fn line(&mut self, line: &Line) -> io::Result<()> {
        if self.is_enough() {
            return Ok(());
        }
        match self.output {
            Output::Table => writeln!(self.out, "{}", self.table.line(line))?,
            Output::Json => writeln!(self.out, "{}", line.json())?,
        }
        self.left = self.left.map(|left| left - 1);
        Ok(())
    }

    /// Prints what a daemon has told, one line of JSON after the other; what is to be JSON is printed as it came.
    fn told(&mut self, lines: &[u8]) -> Result<io::Result<ControlFlow<()>>, Failure> {
        for told in lines.split_inclusive(|&byte| byte == b'\n') {
            if let Some(missed) = Missed::read(told) {
                tracing::warn!(
                    "at most {} lines are missing: they came faster than they were read",
                    missed.lines
                );
                continue;
            }
            let printed = if self.output == Output::Table {
                self.line(&serde_json::from_slice(told).map_err(AskError::NotUnderstood)?)
            } else if self.is_enough() {
                Ok(())
            } else {
                self.left = self.left.map(|left| left - 1);
                self.out.write_all(told)
            };
            if let Err(error) = printed {
                return Ok(Err(error));
            }
        }
        Ok(self.flush())
    }

    /// Makes sure that what was printed can be read, and tells whether that is enough.
    fn flush(&mut self) -> io::Result<ControlFlow<()>> {
        self.out.flush()?;
        Ok(if self.is_enough() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    }

    fn is_enough(&self) -> bool {
        self.left == Some(0)
    }
}
