//! Drives the probes' records through decoder, sequencer and tracker, and hands out what they mean.
//!
//! In: the probes. Out: observations, a turn at a time. [`Pipeline::run`] is the one loop of every command that
//! follows events, and `Input` is everything that can wake it.

use std::{collections::HashMap, io, ops::ControlFlow, os::fd::OwnedFd, time::Duration};

use tcp_close_abi::Counters;
use tokio::{
    io::unix::AsyncFd,
    sync::{mpsc, oneshot},
    time::sleep,
};

use crate::{
    clock,
    decode::Decoder,
    event::{ConnectionId, Event, EventKind, Monotonic, Process},
    lifecycle::{Closing, Entry, Left, Limits, Observation, Sees, Sequencer, Stats, Tracker, Wait},
    probe::{Diagnostics, Hook, Preflight, Probe, Rung},
    recording::{Recorder, Step},
    shutdown::{Shutdown, StopReason},
    snapshot::Snapshot,
};

mod complete;
mod listing;
mod missed;
mod pace;

use complete::{Complete, MARGIN, Mark};
use listing::Listing;
use missed::Missed;
use pace::{Pace, TICK, Waits};

/// How soon it goes on with a table of the kernel's, or looks again at a record that is being written. In between the processor is
/// for others.
const GOES_ON: Duration = Duration::from_millis(10);

/// How often the kernel is asked at rest what the programs have missed.
const ASKED_AT_REST: Duration = Duration::from_secs(1);

/// By then a turn tells whatever the kernel's table shows, unless a program is interrupted for longer before it tells it.
pub const EVENTS_COME_IN: Duration = MARGIN.saturating_mul(2);

/// How long whoever asks waits for a record that a program is interrupted in, how long the end does, and how often it looks.
const PATIENCE: Duration = EVENTS_COME_IN;
const PATIENCE_AT_THE_END: Duration = Duration::from_millis(100);
const LOOKS_AGAIN: Duration = Duration::from_millis(1);

/// TIME-WAIT by the kernel's source (`TCP_TIMEWAIT_LEN`), until one is seen to start.
const TIME_WAIT: Duration = Duration::from_secs(60);

/// Records that are taken in at a turn: what becomes of them stays in the processor's caches until all have seen it.
const RECORDS_PER_TURN: usize = 512;

/// Scrapes that may wait at once; one more is turned away.
pub const MOST_SCRAPES: usize = 8;

/// What others may ask of the loop.
pub enum Request {
    /// Figures of this moment. Who asks waits for word that they are there.
    Figures(oneshot::Sender<()>),
    /// Everything that closes now in these namespaces, or in all; minisocks too, or full sockets only.
    Entries {
        /// Inode numbers of the namespaces.
        netns: Vec<u32>,
        /// Minisocks too.
        minisocks: bool,
        /// Takes the answer.
        answer: oneshot::Sender<Vec<Entry>>,
    },
    /// What is known of these, of those that still close.
    Closing(Vec<Entry>, oneshot::Sender<Vec<Closing>>),
    /// Sockets that have been in CLOSE-WAIT for this long; at most so many.
    LeftInCloseWait(Duration, usize, oneshot::Sender<Vec<Left>>),
    /// Processes that were found to hold these sockets open.
    Held(Vec<(ConnectionId, Process)>),
    /// How many minisocks are followed in each network namespace.
    Minisocks(oneshot::Sender<HashMap<u32, u64>>),
    /// Minisocks that are followed, less those that the kernel counts, where the two have differed for some time.
    Difference(i64),
    /// The kernel is about to be asked for its table. Who does so waits for word that this is known.
    ListingBegins(oneshot::Sender<()>),
    /// The kernel's table as it was since then. Before the next one begins, this one has to be taken in, which is waited
    /// for.
    Listing {
        /// The table.
        snapshot: Snapshot,
        /// All namespaces that are watched were looked for.
        of_all: bool,
        /// Told when it is taken in.
        done: oneshot::Sender<()>,
    },
    /// There is no table: nothing has to be remembered for it any more.
    ListingFailed,
}

/// Everything that can wake the loop.
enum Input {
    /// The kernel side asks for the ring to be drained.
    Ring,
    /// Time to look by itself.
    Tick,
    /// Somebody wants something.
    Request(Request),
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
    /// What happened before is taken in, and what of it was lost in the kernel is counted, unless it was the last for a second:
    /// at rest, whoever asks for no figures has these counts read that seldom. A close that is taken in is told
    /// once what may still belong to it had its time.
    pub complete: Monotonic,
    /// Somebody waits for the figures of this turn.
    pub scraped: bool,
    /// When the kernel's table was last taken in; `None` before the first time.
    pub last_listing: Option<Monotonic>,
    /// How often it was.
    pub listings: u64,
    /// Minisocks that are followed, less those that the kernel counts, when somebody last looked.
    pub difference: Option<i64>,
}

/// What was lost on this side of the border. Counters only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Records that could not be decoded.
    pub undecodable: u64,
    /// Events that the programs of the kernel side missed, because they were running on that CPU already, and that no other
    /// took.
    pub missed: u64,
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
    missed: Missed,
    /// How many of these are counted.
    counted_missed: u64,
    asked_what_was_missed: Monotonic,
    last_event: Option<Monotonic>,
    complete: Complete,
    /// Who is about to ask for a table of the kernel's, once that is prepared.
    listing_begins: Option<oneshot::Sender<()>>,
    /// A table of the kernel's that is being taken in.
    listing: Option<Listing>,
    last_listing: Option<Monotonic>,
    listings: u64,
    difference: Option<i64>,
    observations: Vec<Observation>,
    usual_wait: Wait,
    sees: Sees,
    pace: Pace,
    recorder: Option<Recorder>,
}

/// What a turn found in the ring.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Found {
    /// All that had been written when the turns began, but for what a record holds up that is still being written.
    AllThereIs,
    /// As much as a turn takes in: more waits.
    Part,
}

/// Whether somebody asks for the figures of a turn, which then are of its moment.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    Yes,
    No,
}

/// What is about no socket.
const NOBODY: ConnectionId = ConnectionId { netns: 0, socket: 0 };

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
            missed: Missed::default(),
            counted_missed: 0,
            asked_what_was_missed: Monotonic::default(),
            last_event: None,
            complete: Complete::default(),
            listing_begins: None,
            listing: None,
            last_listing: None,
            listings: 0,
            difference: None,
            observations: Vec::new(),
            usual_wait: wait,
            sees,
            pace: Pace::new(),
            recorder: None,
            probe,
        }
    }

    /// With somebody who takes in all that the core is told.
    #[must_use]
    pub fn recorded(self, recorder: Recorder) -> Self {
        Self { recorder: Some(recorder), ..self }
    }

    /// With somebody who wants to see a turn taken this often, however little there is to do.
    #[must_use]
    pub fn heard_every(self, interval: Duration) -> Self {
        Self { pace: self.pace.heard_every(interval), ..self }
    }

    /// What kinds of events there can be.
    pub const fn sees(&self) -> Sees {
        self.sees
    }

    /// TIME-WAIT as the kernel's source and tick rate have it.
    pub const fn usual_wait(&self) -> Wait {
        self.usual_wait
    }

    /// Takes turns until something stops it: a signal, or `each_turn`. Everything that was seen by then is told.
    pub async fn run(
        mut self,
        shutdown: &mut Shutdown,
        mut requests: Option<mpsc::Receiver<Request>>,
        mut each_turn: impl FnMut(Turn<'_>) -> ControlFlow<()>,
    ) -> Result<StopReason, RunError> {
        let ring = self.probe.readiness().map_err(RunError::Wait)?;
        let mut pause = TICK;
        loop {
            let input = next(&ring, pause, requests.as_mut(), shutdown).await?;
            let rested =
                Pace::is_rest(self.last_event, clock::monotonic_now()) && !self.complete.is_held_up();
            if rested {
                // What came before is drained now. If that ends the rest, this wakes it once more: what comes next is soon told.
                self.probe.rest();
            }
            match input {
                Input::Stop(reason) => {
                    let told = self.turns_up_to_now(PATIENCE_AT_THE_END, &mut each_turn).await;
                    if let ControlFlow::Continue(all_is_in) = told {
                        if !all_is_in {
                            tracing::warn!(
                                "a record is still being written; what came after it may not be told"
                            );
                        }
                        self.finish();
                        let _stopping_anyway = each_turn(self.report(false));
                    }
                    return Ok(reason);
                }
                Input::Request(request) => {
                    if self.turns_up_to_now(PATIENCE, &mut each_turn).await.is_break() {
                        return Ok(StopReason::Done);
                    }
                    let scraper = self.answer(request);
                    if each_turn(self.report(scraper.is_some())).is_break() {
                        return Ok(StopReason::Done);
                    }
                    // The reader may have gone away meanwhile.
                    let _gone = scraper.map(|done| done.send(()));
                }
                Input::Ring | Input::Tick => {
                    let told = self.turns(Asked::No, &mut each_turn);
                    if told.is_break() || each_turn(self.report(false)).is_break() {
                        return Ok(StopReason::Done);
                    }
                }
            }
            self.observations.clear();
            pause = self.pause(rested);
        }
    }

    /// Takes as many turns as there are records for in the ring. The last one is not told yet.
    fn turns(
        &mut self,
        asked: Asked,
        each_turn: &mut impl FnMut(Turn<'_>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let begins = self.mark();
        let mut ask = Some(asked);
        while self.turn(begins, ask.take()).is_continue() {
            each_turn(self.report(false))?;
            self.observations.clear();
        }
        ControlFlow::Continue(())
    }

    /// [`Self::turns`] for who asks, until all is in that there is when they begin, or that is held up for too long; whether it
    /// is.
    async fn turns_up_to_now(
        &mut self,
        patience: Duration,
        each_turn: &mut impl FnMut(Turn<'_>) -> ControlFlow<()>,
    ) -> ControlFlow<(), bool> {
        let begin = self.mark();
        loop {
            self.turns(Asked::Yes, each_turn)?;
            let all_is_in = self.probe.read() >= begin.written;
            if all_is_in || clock::monotonic_now().since(begin.at) >= patience {
                return ControlFlow::Continue(all_is_in);
            }
            sleep(LOOKS_AGAIN).await;
        }
    }

    fn mark(&self) -> Mark {
        // In this order: what has no place yet takes its time later.
        let at = clock::monotonic_now();
        Mark { at, written: self.probe.written() }
    }

    /// Answers a request; gives back who waits for figures of this turn.
    fn answer(&mut self, request: Request) -> Option<oneshot::Sender<()>> {
        let now = clock::monotonic_now();
        let of_listing = |kind| Event { at: now, id: NOBODY, kind };
        // Whoever asked may have gone away meanwhile.
        match request {
            Request::Figures(done) => return Some(done),
            Request::Entries { netns, minisocks, answer } => {
                let _gone = answer.send(self.tracker.entries(&netns, minisocks));
            }
            Request::Closing(entries, answer) => {
                let closing = entries.into_iter().filter_map(|entry| self.tracker.closing(entry, now));
                let _gone = answer.send(closing.collect());
            }
            Request::LeftInCloseWait(after, most, answer) => {
                let _gone = answer.send(self.tracker.left_in_close_wait(now, after, most));
            }
            Request::Held(holders) => {
                for (id, holder) in holders {
                    self.sequencer.push(Event { at: now, id, kind: EventKind::Held(holder) });
                }
            }
            Request::Minisocks(counts) => {
                let _gone = counts.send(self.tracker.minisocks_by_netns());
            }
            Request::Difference(minisocks) => self.difference = Some(minisocks),
            Request::ListingBegins(known) => {
                self.listing_begins = Some(known);
                self.prepare_listing(now);
            }
            Request::Listing { snapshot, of_all, done } => {
                self.listing = Some(Listing::new(now, snapshot, of_all, done));
            }
            Request::ListingFailed => self.sequencer.push(of_listing(EventKind::ListingEnded)),
        }
        None
    }

    fn apply(&mut self, at: Monotonic, id: ConnectionId, kind: EventKind) {
        let event = Event { at, id, kind };
        record(&mut self.recorder, || Step::Event(event));
        self.tracker.apply(&event, &mut self.observations);
    }

    /// What was lost before now, as the kernel side counts it: what is told from here on may lack some of it. What all of several
    /// equal programs missed is certain a turn later, and what that turn told does not show that it may lack it.
    fn count_what_was_lost(&mut self) {
        let counters = self.probe.counters();
        let missed = self.missed.certain();
        if counters.lost_total() > self.counters.lost_total() || missed > self.counted_missed {
            // That was counted after the turn began.
            let counted = clock::monotonic_now();
            record(&mut self.recorder, || Step::Gap(counted));
            self.tracker.gap(counted);
        }
        self.counters = counters;
        self.counted_missed = missed;
    }

    /// Takes records out of the ring; what is certain by now is appended to `observations`. It goes on if more records
    /// wait that were there when the turns began. The first turn counts what was lost.
    fn turn(&mut self, begins: Mark, asked: Option<Asked>) -> ControlFlow<()> {
        let found = self.take_in(begins);
        if let Some(asked) = asked {
            self.ask_what_was_missed(begins.at, asked);
            self.count_what_was_lost();
        }
        let complete = self.complete.up_to();
        self.sequencer.release(complete, |event| {
            record(&mut self.recorder, || Step::Event(*event));
            self.tracker.apply(event, &mut self.observations);
        });
        record(&mut self.recorder, || Step::Advance(complete));
        self.tracker.advance(complete, &mut self.observations);
        if found == Found::Part {
            return ControlFlow::Continue(());
        }
        self.prepare_listing(begins.at);
        self.take_in_listing(complete);
        if let Some(diagnostics) = &mut self.diagnostics {
            diagnostics.flush();
        }
        ControlFlow::Break(())
    }

    /// Takes in as many records as a turn does at most.
    fn take_in(&mut self, begins: Mark) -> Found {
        let (mut oldest, mut newest) = (None, None);
        let records = self.probe.drain(RECORDS_PER_TURN, |record| match self.decoder.decode(record) {
            Ok(event) => {
                oldest = Some(oldest.map_or(event.at, |oldest: Monotonic| oldest.min(event.at)));
                newest = newest.max(Some(event.at));
                self.sequencer.push(event);
            }
            Err(error) => {
                self.undecodable += 1;
                tracing::debug!(%error, "a record was dropped");
            }
        });
        self.last_event = self.last_event.max(newest);
        let read = self.probe.read();
        if records == RECORDS_PER_TURN && read < begins.written {
            if let Some(oldest) = oldest {
                self.complete.part_read(oldest);
            }
            return Found::Part;
        }
        self.complete.read_up_to(read, begins);
        Found::AllThereIs
    }

    /// How long it may be until it looks again; it rested before this turn, or not.
    fn pause(&mut self, rested: bool) -> Duration {
        let next = [self.sequencer.next(), self.tracker.settles_next()].into_iter().flatten().min();
        let waits = Waits { held: self.sequencer.held(), next: next.map(|next| next + MARGIN) };
        let pause = self.pace.pause(clock::monotonic_now(), self.last_event, rested, waits);
        let goes_on = self.listing_begins.is_some() || self.listing.is_some() || self.complete.is_held_up();
        if goes_on { GOES_ON } else { pause }
    }

    /// Asks what the programs have missed by now, which is to read a file for each of them: where nobody asks for figures, and
    /// nothing waits for what may have been missed, that is put off for a while.
    fn ask_what_was_missed(&mut self, now: Monotonic, asked: Asked) {
        let rests = asked == Asked::No
            && Pace::is_rest(self.last_event, now)
            && self.missed.suspected_since().is_none();
        if !rests || now.since(self.asked_what_was_missed) >= ASKED_AT_REST {
            self.asked_what_was_missed = now;
            self.missed.read(now, self.probe.missed());
        }
    }

    /// Tells the core what is left, and that this is all.
    fn finish(&mut self) {
        let end = self.mark();
        while self.take_in(end) == Found::Part {}
        self.missed.settle(self.probe.missed());
        self.count_what_was_lost();
        self.sequencer.finish(|event| {
            record(&mut self.recorder, || Step::Event(*event));
            self.tracker.apply(event, &mut self.observations);
        });
        record(&mut self.recorder, || Step::Finish);
        self.tracker.finish(&mut self.observations);
    }

    fn report(&self, scraped: bool) -> Turn<'_> {
        let complete = self.complete.up_to();
        Turn {
            scraped,
            observations: &self.observations,
            counters: &self.counters,
            losses: Losses {
                undecodable: self.undecodable,
                missed: self.counted_missed,
                late: self.sequencer.late(),
            },
            tracker: &self.tracker,
            probe: &self.probe,
            last_event: self.last_event,
            complete: self.missed.suspected_since().map_or(complete, |since| complete.min(since)),
            last_listing: self.last_listing,
            listings: self.listings,
            difference: self.difference,
        }
    }
}

fn record(recorder: &mut Option<Recorder>, step: impl FnOnce() -> Step) {
    if let Some(recorder) = recorder {
        recorder(step());
    }
}

/// The loop cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The ring cannot be waited for.
    #[error("cannot wait for the ring of the kernel side")]
    Wait(#[source] io::Error),
}

async fn next(
    ring: &AsyncFd<OwnedFd>,
    pause: Duration,
    requests: Option<&mut mpsc::Receiver<Request>>,
    shutdown: &mut Shutdown,
) -> Result<Input, RunError> {
    let request = async {
        match requests {
            Some(requests) => requests.recv().await,
            None => None,
        }
    };
    tokio::select! {
        biased;
        reason = shutdown.reason() => Ok(Input::Stop(reason)),
        Some(request) = request => Ok(Input::Request(request)),
        ready = ring.readable() => {
            ready.map_err(RunError::Wait)?.clear_ready();
            Ok(Input::Ring)
        }
        () = sleep(pause) => Ok(Input::Tick),
    }
}

impl Turn<'_> {
    /// Events lost, wherever that was.
    pub fn lost_total(&self) -> u64 {
        self.counters.lost_total() + self.losses.missed + self.losses.undecodable
    }

    /// How the core's tables are doing.
    pub fn stats(&self) -> Stats {
        self.tracker.stats()
    }
}
