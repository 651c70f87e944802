//! Drives the probes' records through decoder, sequencer and tracker, and hands out what they mean.
//!
//! In: the probes. Out: observations, a turn at a time. [`Pipeline::run`] is the one loop of every command that
//! follows events, and `Input` is everything that can wake it.

use std::{io, ops::ControlFlow, os::fd::OwnedFd, time::Duration};

use tcp_close_abi::Counters;
use tokio::{
    io::unix::AsyncFd,
    sync::{mpsc, oneshot},
    time::{Interval, MissedTickBehavior, interval},
};

use crate::{
    clock,
    decode::Decoder,
    event::Monotonic,
    lifecycle::{Limits, Observation, Sees, Sequencer, Stats, Tracker, Wait},
    probe::{Diagnostics, Hook, Preflight, Probe, ProbeError, Rung},
    shutdown::{Shutdown, StopReason},
};

/// How often the ring is looked into when the kernel side does not ask for it.
const TICK: Duration = Duration::from_millis(100);

/// A record takes its place in the ring before it takes its time, so what was stamped before a drain began is
/// in the ring by then; a program that is interrupted in between may hold up what lies behind it this long.
const HOLD_BACK: Duration = Duration::from_millis(10);

/// TIME-WAIT by the kernel's source (`TCP_TIMEWAIT_LEN`), until one is seen to start.
const TIME_WAIT: Duration = Duration::from_secs(60);

/// Scrapes that may wait at once; one more is turned away.
pub const MOST_SCRAPES: usize = 8;

/// Everything that can wake the loop.
enum Input {
    /// The kernel side asks for the ring to be drained.
    Ring,
    /// Time to look by itself.
    Tick,
    /// Somebody wants up-to-date figures, and waits for word that they are.
    Scrape(oneshot::Sender<()>),
    /// It is over.
    Stop(StopReason),
}

/// What the loop reports after every turn.
pub struct Turn<'a> {
    /// What became known, in order.
    pub observations: &'a [Observation],
    /// The kernel side's counts.
    pub counters: &'a Counters,
    /// The losses of the user side.
    pub losses: Losses,
    /// How the core's tables are doing.
    pub tracker: &'a Tracker,
    /// The probes.
    pub probe: &'a Probe,
    /// Time of the last event; `None` before the first.
    pub last_event: Option<Monotonic>,
    /// Somebody waits for the figures of this turn.
    pub scraped: bool,
}

/// What was lost on this side of the border. Counters only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Records that could not be decoded.
    pub undecodable: u64,
    /// Events for which a program of the kernel side was not run, because it was running on that CPU already.
    pub skipped: u64,
    /// Events that came too late to be put into order; they were used all the same.
    pub late: u64,
}

/// The way from the ring to observations.
pub struct Pipeline {
    probe: Probe,
    diagnostics: Option<Diagnostics>,
    decoder: Decoder,
    sequencer: Sequencer,
    tracker: Tracker,
    counters: Counters,
    undecodable: u64,
    skipped: u64,
    last_event: Option<Monotonic>,
    observations: Vec<Observation>,
    usual_wait: Wait,
}

impl Pipeline {
    /// Puts the parts together around attached probes.
    pub fn new(mut probe: Probe, preflight: &Preflight, limits: Limits) -> Self {
        let wait = Wait { nominal: TIME_WAIT, slack: preflight.hz().slack(TIME_WAIT) };
        let minisocks = probe.rung(Hook::Minisock);
        let sees = Sees {
            minisocks: minisocks.is_some(),
            starts: minisocks.is_some_and(Rung::is_function),
            segments: probe.has(Hook::Witness),
        };
        Self {
            diagnostics: probe.take_diagnostics(),
            decoder: Decoder::new(preflight.hz(), preflight.cancel_sites().clone()),
            sequencer: Sequencer::default(),
            tracker: Tracker::new(limits, wait, sees),
            counters: Counters::ZERO,
            undecodable: 0,
            skipped: 0,
            last_event: None,
            observations: Vec::new(),
            usual_wait: wait,
            probe,
        }
    }

    /// TIME-WAIT as the kernel's source and tick rate have it.
    pub const fn usual_wait(&self) -> Wait {
        self.usual_wait
    }

    /// Takes turns until something stops it: a signal, or `each_turn`. Everything that was seen by then is told.
    pub async fn run(
        mut self,
        shutdown: &mut Shutdown,
        mut scrapes: Option<mpsc::Receiver<oneshot::Sender<()>>>,
        mut each_turn: impl FnMut(Turn<'_>) -> ControlFlow<()>,
    ) -> Result<StopReason, RunError> {
        let ring = self.probe.readiness().map_err(RunError::Wait)?;
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            match next(&ring, &mut tick, scrapes.as_mut(), shutdown).await? {
                Input::Stop(reason) => {
                    self.turn(clock::monotonic_now())?;
                    self.sequencer.finish(|event| self.tracker.apply(event, &mut self.observations));
                    self.tracker.finish(&mut self.observations);
                    let _stopping_anyway = each_turn(self.report(false));
                    return Ok(reason);
                }
                Input::Scrape(done) => {
                    self.turn(clock::monotonic_now())?;
                    if each_turn(self.report(true)).is_break() {
                        return Ok(StopReason::Done);
                    }
                    // The reader may have gone away meanwhile.
                    let _gone = done.send(());
                }
                Input::Ring | Input::Tick => {
                    self.turn(clock::monotonic_now())?;
                    if each_turn(self.report(false)).is_break() {
                        return Ok(StopReason::Done);
                    }
                }
            }
            self.observations.clear();
        }
    }

    /// Drains the ring; what is certain by now is appended to `observations`.
    fn turn(&mut self, now: Monotonic) -> Result<(), ProbeError> {
        self.probe.drain(|record| match self.decoder.decode(record) {
            Ok(event) => {
                self.last_event = self.last_event.max(Some(event.at));
                self.sequencer.push(event);
            }
            Err(error) => {
                self.undecodable += 1;
                tracing::debug!(%error, "a record was dropped");
            }
        });
        let counters = self.probe.counters()?;
        let skipped = self.probe.skipped();
        if counters.lost_total() > self.counters.lost_total() || skipped > self.skipped {
            // Lost before the counters were read; what was held back since may be part of it.
            self.tracker.gap(clock::monotonic_now());
        }
        self.counters = counters;
        self.skipped = skipped;
        let complete = now - HOLD_BACK;
        self.sequencer.release(complete, |event| {
            self.tracker.apply(event, &mut self.observations);
        });
        self.tracker.advance(complete, &mut self.observations);
        if let Some(diagnostics) = &mut self.diagnostics {
            diagnostics.flush();
        }
        Ok(())
    }

    fn report(&self, scraped: bool) -> Turn<'_> {
        Turn {
            scraped,
            observations: &self.observations,
            counters: &self.counters,
            losses: Losses {
                undecodable: self.undecodable,
                skipped: self.skipped,
                late: self.sequencer.late(),
            },
            tracker: &self.tracker,
            probe: &self.probe,
            last_event: self.last_event,
        }
    }
}

/// The loop cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The ring cannot be waited for.
    #[error("cannot wait for the ring of the kernel side")]
    Wait(#[source] io::Error),
    /// The probes cannot be read.
    #[error(transparent)]
    Probe(#[from] ProbeError),
}

async fn next(
    ring: &AsyncFd<OwnedFd>,
    tick: &mut Interval,
    scrapes: Option<&mut mpsc::Receiver<oneshot::Sender<()>>>,
    shutdown: &mut Shutdown,
) -> Result<Input, RunError> {
    let scrape = async {
        match scrapes {
            Some(scrapes) => scrapes.recv().await,
            None => None,
        }
    };
    tokio::select! {
        biased;
        reason = shutdown.reason() => Ok(Input::Stop(reason)),
        Some(done) = scrape => Ok(Input::Scrape(done)),
        ready = ring.readable() => {
            ready.map_err(RunError::Wait)?.clear_ready();
            Ok(Input::Ring)
        }
        _ = tick.tick() => Ok(Input::Tick),
    }
}

impl Turn<'_> {
    /// Events lost, wherever that was.
    pub fn lost_total(&self) -> u64 {
        self.counters.lost_total() + self.losses.skipped + self.losses.undecodable
    }

    /// How the core's tables are doing.
    pub fn stats(&self) -> Stats {
        self.tracker.stats()
    }
}
