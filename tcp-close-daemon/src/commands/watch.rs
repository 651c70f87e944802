//! `tcp-close watch`: a line per close as it ends, and per TIME-WAIT as it ends.

use std::{
    io::{self, BufWriter, ErrorKind, StdoutLock, Write as _},
    ops::ControlFlow,
    process::ExitCode,
};

use jiff::tz::TimeZone;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{Failure, LossLog, attach, runtime};
use crate::{
    cli::Output,
    clock::{self, Anchor},
    lifecycle::Observation,
    owner::Homes,
    pipeline::{Pipeline, Turn},
    probe::Hook,
    render::{Json, Table},
    settings::WatchSettings,
    shutdown::Shutdown,
};

pub(super) fn run(settings: WatchSettings) -> Result<ExitCode, Failure> {
    runtime()?.block_on(watch(settings))
}

async fn watch(settings: WatchSettings) -> Result<ExitCode, Failure> {
    let mut shutdown = Shutdown::listen(settings.duration)
        .map_err(|error| Failure::Other(anyhow::Error::new(error).context("cannot listen for signals")))?;
    let (preflight, probe) = attach("watch", &settings.probe)?;
    let json = Json::new(preflight.reset_reasons().clone(), probe.has(Hook::FinRetransmit));
    let pipeline = Pipeline::new(probe, &preflight, settings.limits);
    // What it knows of the kernel's types takes megabytes.
    drop(preflight);
    let mut lines = Lines::new(settings, json);
    if let Err(error) = lines.header() {
        return ended(error);
    }
    let mut losses = LossLog::default();
    let mut failed = None;
    let turn = |turn: Turn<'_>| {
        losses.look(turn.lost_total(), clock::monotonic_now());
        match lines.write(turn.observations) {
            Ok(flow) => flow,
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        }
    };
    pipeline.run(&mut shutdown, None, turn).await?;
    match failed {
        Some(error) => ended(error),
        None => Ok(ExitCode::SUCCESS),
    }
}

/// A reader that has seen enough, such as `head`, is no error.
fn ended(error: io::Error) -> Result<ExitCode, Failure> {
    match error.kind() {
        ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        _ => Err(Failure::Stdout(error)),
    }
}

/// Whether stdout is a pipe that nobody reads any more; on a quiet host it may be long until a write tells.
fn reader_is_gone() -> bool {
    let stdout = io::stdout();
    let mut polled = [PollFd::new(&stdout, PollFlags::empty())];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut polled, Some(&now)).is_ok() && polled.iter().any(|fd| fd.revents().contains(PollFlags::ERR))
}

/// Writes the lines that are wanted, until there are enough.
struct Lines {
    settings: WatchSettings,
    table: Table,
    json: Json,
    homes: Homes,
    out: BufWriter<StdoutLock<'static>>,
    left: Option<u64>,
}

impl Lines {
    fn new(settings: WatchSettings, json: Json) -> Self {
        Self {
            table: Table::new(settings.lines.wide, TimeZone::system()),
            json,
            homes: Homes::of_this_host(),
            out: BufWriter::new(io::stdout().lock()),
            left: settings.count,
            settings,
        }
    }

    fn header(&mut self) -> io::Result<()> {
        if self.settings.lines.output == Output::Table && self.settings.lines.header {
            let header = if self.settings.transitions.is_some() {
                self.table.transitions_header()
            } else {
                self.table.header()
            };
            writeln!(self.out, "{header}")?;
        }
        self.out.flush()
    }

    /// Writes a line for each observation that is wanted, and flushes what was written.
    fn write(&mut self, observations: &[Observation]) -> io::Result<ControlFlow<()>> {
        if reader_is_gone() {
            return Err(ErrorKind::BrokenPipe.into());
        }
        let anchor = Anchor::now();
        let mut written = false;
        for observation in observations {
            if self.left == Some(0) {
                break;
            }
            if self.is_wanted(observation) && self.line(observation, &anchor)? {
                written = true;
                self.left = self.left.map(|left| left - 1);
            }
        }
        if written {
            self.out.flush()?;
        }
        Ok(if self.left == Some(0) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    }

    fn is_wanted(&self, observation: &Observation) -> bool {
        let filter = &self.settings.filter;
        match (observation, &self.settings.transitions) {
            (Observation::Transition(transition), Some(states)) => {
                let touched = [transition.from, transition.to];
                (states.is_empty() || states.iter().any(|state| touched.contains(state)))
                    && filter.matches(&transition.pair, &[transition.process])
            }
            (Observation::Closed(closed), None) => {
                filter.matches(&closed.story.pair, &closed.story.processes())
            }
            (Observation::MinisockEnded(ended), None) => {
                filter.matches(&ended.pair, &ended.story.map_or([None; 2], |story| story.processes()))
            }
            _ => false,
        }
    }

    /// Writes the line of an observation, if it has one.
    fn line(&mut self, observation: &Observation, anchor: &Anchor) -> io::Result<bool> {
        let cgroup = observation.story().and_then(|story| story.cgroup);
        let home = cgroup.and_then(|cgroup| self.homes.get(cgroup, clock::monotonic_now));
        let line = match self.settings.lines.output {
            Output::Table => self.table.line(observation, home.as_deref(), anchor),
            Output::Json => self.json.line(observation, home.as_deref(), anchor),
        };
        match line {
            Some(line) => writeln!(self.out, "{line}").map(|()| true),
            None => Ok(false),
        }
    }
}
