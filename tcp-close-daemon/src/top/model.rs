//! What is known of the closes of late.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    time::Duration,
};

use super::histogram::Histogram;
use crate::{
    closing::ClosingSocket,
    event::{Monotonic, TcpState},
    filter::{Expression, Subject},
    lifecycle::observation::{Manner, Role},
    line::{Line, StoryLine},
    ports::Pressure,
};

/// Seconds that are drawn.
pub(super) const SECONDS: usize = 120;

/// How many seconds old may be what is called present: two and a half looks.
const PRESENT: u64 = 5;

/// Seconds that a rate is of.
const RATE: usize = 10;

/// Closes that are kept to be looked at, slow ones and the last ones.
const KEPT: usize = 200;

/// Owners and peers that are counted each; those with the fewest closes make room for others.
const COUNTED: usize = 1000;

/// What is known.
#[derive(Clone, Debug, Default)]
pub struct Model {
    /// Which connections are looked at.
    filter: Expression,
    /// Closes in each of the last seconds, the present one last.
    seconds: VecDeque<u64>,
    /// The second that the last of them is.
    second: u64,
    closed: u64,
    by_manner: BTreeMap<(&'static str, &'static str), u64>,
    owners: HashMap<String, Tally>,
    remotes: HashMap<String, Tally>,
    sockets: Option<Vec<ClosingSocket>>,
    /// Those that were seen with them and are not looked at.
    others: Vec<ClosingSocket>,
    /// The second in which they were seen.
    seen_in: u64,
    routes: Option<Vec<Pressure>>,
    causes: BTreeMap<&'static str, u64>,
    verdicts: BTreeMap<&'static str, u64>,
    dwells: Histogram,
    /// The slowest first.
    slow: Vec<Line>,
    missed: u64,
}

/// What one owner, or one peer, has to do with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) closed: u64,
    pub(super) active: u64,
    pub(super) resets: u64,
    pub(super) time_waits: u64,
    /// Sockets that are closing now, by state.
    pub(super) now: BTreeMap<TcpState, u64>,
}

impl Model {
    /// Of those connections of which this is so.
    pub fn new(filter: Expression) -> Self {
        Self { filter, ..Self::default() }
    }

    /// The same, begun anew with another filter, but for what was seen last.
    pub fn set_filter(&mut self, filter: Expression) {
        let last = std::mem::replace(self, Self::new(filter));
        (self.routes, self.second, self.seen_in) = (last.routes, last.second, last.seen_in);
        if let Some(sockets) = last.sockets {
            self.pick(sockets.into_iter().chain(last.others));
        }
    }

    /// What is asked of connections.
    pub const fn filter(&self) -> &Expression {
        &self.filter
    }

    /// Time has come so far.
    pub fn advance(&mut self, now: Monotonic) {
        let second = now.as_nanos() / 1_000_000_000;
        if self.seconds.is_empty() {
            self.second = second;
        }
        // A host may have slept.
        let passed = usize::try_from(second.saturating_sub(self.second)).unwrap_or(SECONDS).min(SECONDS);
        self.seconds.extend(std::iter::repeat_n(0, passed));
        if self.seconds.is_empty() {
            self.seconds.push_back(0);
        }
        let old = self.seconds.len().saturating_sub(SECONDS);
        self.seconds.drain(..old);
        self.second = self.second.max(second);
    }

    /// Something ended.
    pub fn add(&mut self, line: Line) {
        if !Subject::of_line(&line).is_some_and(|subject| self.filter.holds(&subject)) {
            return;
        }
        match &line {
            Line::Closed(closed) => {
                self.closed += 1;
                // Of somebody who was away some are told late.
                let ago = self.second.saturating_sub(line.head().monotonic_ns / 1_000_000_000);
                if let Some(second) =
                    self.seconds.iter_mut().rev().nth(usize::try_from(ago).unwrap_or(usize::MAX))
                {
                    *second += 1;
                }
                let role = closed.story.role.map_or("unknown", Role::label);
                let manner = closed.story.manner.map_or("unknown", Manner::label);
                *self.by_manner.entry((role, manner)).or_default() += 1;
                self.tally(&line, &closed.story);
                self.keep(line);
            }
            Line::TimeWaitEnded(ended) => {
                *self.causes.entry(ended.time_wait.cause.label()).or_default() += 1;
                *self.verdicts.entry(ended.time_wait.verdict.label()).or_default() += 1;
                if let Ok(dwell) = Duration::try_from_secs_f64(ended.time_wait.seconds) {
                    self.dwells.add(dwell);
                }
            }
            Line::FinWait2Ended(ended) => *self.causes.entry(ended.cause.label()).or_default() += 1,
            Line::Transition(_) => {}
        }
    }

    fn tally(&mut self, line: &Line, story: &StoryLine) {
        let remote = line.head().remote.addr.to_string();
        let owner = story.owner.name().unwrap_or_else(|| "-".to_owned());
        for (tallies, name) in [(&mut self.owners, owner), (&mut self.remotes, remote)] {
            make_room(tallies, &name);
            let tally = tallies.entry(name).or_default();
            tally.closed += 1;
            tally.active += u64::from(story.role == Some(Role::Active));
            tally.resets +=
                u64::from(matches!(story.manner, Some(Manner::ResetSent | Manner::ResetReceived)));
            tally.time_waits += u64::from(matches!(
                line,
                Line::Closed(closed) if closed.then == Some(crate::lifecycle::observation::Then::TimeWait)
            ));
        }
    }

    /// Keeps a close if it is slow.
    fn keep(&mut self, line: Line) {
        let Some(slowness) = slowness(&line) else {
            return;
        };
        let place = self.slow.partition_point(|kept| self::slowness(kept) >= Some(slowness));
        if place < KEPT {
            self.slow.insert(place, line);
            self.slow.truncate(KEPT);
        }
    }

    /// Everything that closes now.
    pub fn set_sockets(&mut self, sockets: Vec<ClosingSocket>) {
        self.seen_in = self.second;
        self.pick(sockets);
    }

    /// How old that is, in seconds, where it is too old to be called present: looking takes long on a host that has many
    /// sockets, or much else to do, and is done seldom then.
    pub fn staleness(&self) -> Option<u64> {
        let age = self.second.saturating_sub(self.seen_in);
        (self.sockets.is_some() && age > PRESENT).then_some(age)
    }

    fn pick(&mut self, sockets: impl IntoIterator<Item = ClosingSocket>) {
        let wanted = |socket: &ClosingSocket| self.filter.holds(&Subject::of_socket(socket));
        let (sockets, others): (Vec<_>, Vec<_>) = sockets.into_iter().partition(wanted);
        self.others = others;
        for tallies in [&mut self.owners, &mut self.remotes] {
            for tally in tallies.values_mut() {
                tally.now.clear();
            }
        }
        for socket in &sockets {
            let owner = socket.owner_name().unwrap_or_else(|| "-".to_owned());
            let remote = socket.remote.addr.to_string();
            for (tallies, name) in [(&mut self.owners, owner), (&mut self.remotes, remote)] {
                make_room(tallies, &name);
                *tallies.entry(name).or_default().now.entry(socket.state).or_default() += 1;
            }
        }
        self.sockets = Some(sockets);
    }

    /// How far ports are used up.
    pub fn set_routes(&mut self, routes: Vec<Pressure>) {
        self.routes = Some(routes);
    }

    /// So many were told and not heard.
    pub const fn add_missed(&mut self, missed: u64) {
        self.missed += missed;
    }

    pub(super) const fn closed(&self) -> u64 {
        self.closed
    }

    pub(super) const fn missed(&self) -> u64 {
        self.missed
    }

    /// Closes per second, over the last whole seconds.
    pub(super) fn rate(&self) -> f64 {
        let whole: Vec<u64> = self.seconds.iter().rev().skip(1).take(RATE).copied().collect();
        let (sum, seconds) = (whole.iter().sum::<u64>(), whole.len().max(1));
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let rate = sum as f64 / seconds as f64;
        rate
    }

    pub(super) fn seconds(&self) -> Vec<u64> {
        self.seconds.iter().copied().collect()
    }

    pub(super) fn by_manner(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> + '_ {
        self.by_manner.iter().map(|(&(role, manner), &count)| (role, manner, count))
    }

    /// Sockets in each closing state and the age of the oldest in seconds; `None` before the first look.
    pub(super) fn states(&self) -> Option<Vec<(TcpState, u64, Option<f64>)>> {
        let sockets = self.sockets.as_ref()?;
        let state = |state: TcpState| {
            let of_it = || sockets.iter().filter(|socket| socket.state == state);
            let oldest = of_it().filter_map(|socket| socket.age_seconds).reduce(f64::max);
            (state, of_it().count() as u64, oldest)
        };
        Some(TcpState::CLOSING.map(state).to_vec())
    }

    pub(super) const fn owners(&self) -> &HashMap<String, Tally> {
        &self.owners
    }

    pub(super) const fn remotes(&self) -> &HashMap<String, Tally> {
        &self.remotes
    }

    pub(super) fn routes(&self) -> Option<&[Pressure]> {
        self.routes.as_deref()
    }

    pub(super) fn causes(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.causes.iter().map(|(&cause, &count)| (cause, count))
    }

    pub(super) fn verdicts(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.verdicts.iter().map(|(&verdict, &count)| (verdict, count))
    }

    pub(super) const fn dwells(&self) -> &Histogram {
        &self.dwells
    }

    pub(super) fn slow(&self) -> &[Line] {
        &self.slow
    }
}

impl Tally {
    pub(super) fn now(&self, state: TcpState) -> u64 {
        self.now.get(&state).copied().unwrap_or_default()
    }

    pub(super) fn all_now(&self) -> u64 {
        self.now.values().sum()
    }
}

/// Where there are too many names, half of them go, those with the fewest closes.
fn make_room(tallies: &mut HashMap<String, Tally>, name: &str) {
    if tallies.len() < COUNTED || tallies.contains_key(name) {
        return;
    }
    let mut counts: Vec<u64> = tallies.values().map(|tally| tally.closed).collect();
    counts.sort_unstable();
    let median = counts.get(counts.len() / 2).copied().unwrap_or_default();
    tallies.retain(|_, tally| tally.closed > median);
}

/// The longest time in one state of the full socket, in nanoseconds; `None` where none is known.
pub(super) fn slowness(line: &Line) -> Option<u64> {
    let Line::Closed(closed) = line else {
        return None;
    };
    let seconds = closed.story.states.iter().filter_map(|state| state.seconds).reduce(f64::max)?;
    let dwell = Duration::try_from_secs_f64(seconds).ok()?;
    u64::try_from(dwell.as_nanos()).ok()
}
