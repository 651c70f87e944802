//! What is seen here, where no daemon is asked: lines of those observations that are wanted; recorded, if somebody wants
//! that.

use std::{
    cell::RefCell,
    collections::HashMap,
    io::{self, Write},
    ops::ControlFlow,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use super::{Failure, LossLog, attach};
use crate::{
    clock::{self, Anchor},
    event::{CgroupId, Monotonic},
    filter::{Expression, Subject},
    lifecycle::Observation,
    line::{Line, Teller},
    owner::{Home, Homes},
    pipeline::{Pipeline, Turn},
    probe::Hook,
    recording::{Header, Host, Step, Writer},
    settings::Wanted,
    shutdown::Shutdown,
};

/// What is seen.
pub(super) enum Seen {
    /// The hooks are attached: from now on, everything.
    Attached,
    /// What became known in a turn.
    Lines(Vec<Line>),
}

/// Attaches on behalf of `command`, and hands out what is seen until `take` has enough.
pub(super) async fn follow(
    command: &'static str,
    wanted: &Wanted,
    shutdown: &mut Shutdown,
    recording: Option<Recording>,
    mut take: impl FnMut(Seen) -> ControlFlow<()>,
) -> Result<(), Failure> {
    let (preflight, probe) = attach(command, &wanted.probe)?;
    let sees_fin_retransmits = probe.has(Hook::FinRetransmit);
    let teller = Teller::new(preflight.reset_reasons().clone(), sees_fin_retransmits);
    let mut pipeline = Pipeline::new(probe, &preflight, wanted.limits);
    if let Some(recording) = &recording {
        let core = (wanted.limits, pipeline.usual_wait(), pipeline.sees());
        let reasons = preflight.reset_reasons().clone();
        recording.begin(|host| Header::new(host, clock::now(), core, sees_fin_retransmits, reasons));
        let recording = recording.clone();
        pipeline = pipeline.recorded(Box::new(move |step| recording.add(&step)));
    }
    preflight.forget();
    if take(Seen::Attached).is_break() {
        return Ok(());
    }
    let mut homes = Homes::of_this_host();
    let mut losses = LossLog::default();
    let turn = |turn: Turn<'_>| {
        losses.look(turn.lost_total(), clock::monotonic_now());
        let anchor = Anchor::now();
        let mut lines = Vec::new();
        for observation in turn.observations {
            let cgroup = observation.story().and_then(|story| story.cgroup);
            let home = cgroup.and_then(|cgroup| homes.get(cgroup, clock::monotonic_now));
            if let Some(recording) = &recording {
                recording.home(cgroup, home.as_ref());
            }
            lines.extend(line(
                (&wanted.filter, wanted.transitions),
                &teller,
                observation,
                home.as_deref(),
                &anchor,
            ));
        }
        let flow = take(Seen::Lines(lines));
        match &recording {
            Some(recording) if recording.turn_ends(turn.observations, &anchor).is_break() => {
                ControlFlow::Break(())
            }
            _ => flow,
        }
    };
    Box::pin(pipeline.run(shutdown, None, turn)).await?;
    Ok(())
}

/// The line of an observation, if it is wanted.
pub(super) fn line(
    (filter, transitions): (&Expression, bool),
    teller: &Teller,
    observation: &Observation,
    home: Option<&Home>,
    anchor: &Anchor,
) -> Option<Line> {
    if matches!(observation, Observation::Transition(_)) != transitions {
        return None;
    }
    let subject = Subject::of(observation, home)?;
    if !filter.holds(&subject) {
        return None;
    }
    teller.line(observation, home, anchor)
}

/// A recording that is being made. Clones make the same one.
#[derive(Clone)]
pub(super) struct Recording {
    inner: Rc<RefCell<Inner>>,
}

struct Inner {
    state: State,
    /// What was recorded of each cgroup.
    homes: HashMap<CgroupId, Option<Arc<Home>>>,
    /// When what there is is written, full block or not.
    next_flush: Monotonic,
}

enum State {
    /// Nothing is known yet of what it is of.
    New(Option<(Box<dyn Write>, Host)>),
    Begun(Writer<Box<dyn Write>>),
    /// The file cannot be written.
    Failed(Option<io::Error>),
}

/// Whoever stops it with force loses no more than that.
const FLUSH: Duration = Duration::from_secs(1);

impl Recording {
    pub(super) fn new(out: Box<dyn Write>, host: Host) -> Self {
        let inner = Inner {
            state: State::New(Some((out, host))),
            homes: HashMap::new(),
            next_flush: Monotonic::default(),
        };
        Self { inner: Rc::new(RefCell::new(inner)) }
    }

    fn begin(&self, header: impl FnOnce(Host) -> Header) {
        let state = &mut self.inner.borrow_mut().state;
        if let State::New(begun) = state
            && let Some((out, host)) = begun.take()
        {
            *state = match Writer::new(out, &header(host)) {
                Ok(writer) => State::Begun(writer),
                Err(error) => State::Failed(Some(error)),
            };
        }
    }

    fn write(&self, write: impl FnOnce(&mut Writer<Box<dyn Write>>) -> io::Result<()>) {
        let state = &mut self.inner.borrow_mut().state;
        if let State::Begun(writer) = state
            && let Err(error) = write(writer)
        {
            *state = State::Failed(Some(error));
        }
    }

    fn add(&self, step: &Step) {
        self.write(|writer| writer.add(step));
    }

    /// Where a cgroup was found to be, unless that is recorded already.
    fn home(&self, cgroup: Option<CgroupId>, home: Option<&Arc<Home>>) {
        let Some(cgroup) = cgroup else {
            return;
        };
        let known = self.inner.borrow_mut().homes.insert(cgroup, home.cloned());
        if known.as_ref().map(Option::as_ref) != Some(home) && (known.is_some() || home.is_some()) {
            self.add(&Step::Home(cgroup, home.map(|home| Home::clone(home))));
        }
    }

    fn turn_ends(&self, observations: &[Observation], anchor: &Anchor) -> ControlFlow<()> {
        if !observations.is_empty() {
            self.add(&Step::turn_ends(anchor));
        }
        let now = anchor.monotonic();
        let is_time = now >= self.inner.borrow().next_flush;
        if is_time {
            self.inner.borrow_mut().next_flush = now + FLUSH;
            self.write(Writer::flush);
        }
        match self.inner.borrow().state {
            State::Failed(_) => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    }

    /// Events and bytes so far.
    pub(super) fn so_far(&self) -> (u64, u64) {
        match &self.inner.borrow().state {
            State::Begun(writer) => (writer.events(), writer.bytes()),
            _ => (0, 0),
        }
    }

    /// Writes what is left, and tells how many events it has and bytes it takes.
    pub(super) fn finish(&self) -> io::Result<(u64, u64)> {
        self.write(Writer::flush);
        if let State::Failed(error) = &mut self.inner.borrow_mut().state
            && let Some(error) = error.take()
        {
            return Err(error);
        }
        Ok(self.so_far())
    }
}
