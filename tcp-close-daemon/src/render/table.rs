//! The tables of `watch`, `list` and `ports`.

use std::net::SocketAddr;

use jiff::tz::TimeZone;

use super::measure::Measure;
use crate::{
    clock::Anchor,
    closing::ClosingSocket,
    event::{Monotonic, Pair, Process, TcpState},
    lifecycle::{
        Observation,
        observation::{Closed, Manner, MinisockEnded, States, Story, Then, Transition},
    },
    owner::{Home, Owner},
    ports::Pressure,
};

/// Width of `255.255.255.255:65535`.
const IPV4_WIDTH: usize = 21;

/// Width of `[2001:db8:ffff:ffff:ffff:ffff:ffff:ffff]:65535`.
const IPV6_WIDTH: usize = 47;

/// Width of `COMM/PID` for most names and process numbers; a longer name is cut, a number never.
const OWNER_WIDTH: usize = 20;

/// Width of `:65535`.
const PORT_WIDTH: usize = 6;

/// Width of most names of network namespaces; a longer one is cut.
const NETNS_WIDTH: usize = 10;

/// What is not over yet.
const GOES_ON: &str = "…";

/// Where something was cut.
const CUT: char = '…';

/// What is not known, or does not apply.
const NOTHING: &str = "-";

/// Renders observations as lines of a table.
pub struct Table {
    address_width: usize,
    zone: TimeZone,
}

impl Table {
    /// A table with times of this zone, `wide` enough for IPv6 or not: then long addresses are cut in the middle.
    pub const fn new(wide: bool, zone: TimeZone) -> Self {
        Self { address_width: if wide { IPV6_WIDTH } else { IPV4_WIDTH }, zone }
    }

    /// Names of the columns.
    pub fn header(&self) -> String {
        self.row([
            "TIME", "EVENT", "ROLE", "OWNER", "LOCAL", "REMOTE", "HOW", "FIN1", "FIN2", "CWAIT", "LACK",
            "TW", "END",
        ])
    }

    /// Names of the columns of state changes.
    pub fn transitions_header(&self) -> String {
        self.transitions_row(["TIME", "OWNER", "LOCAL", "REMOTE", "OLDSTATE", "", "NEWSTATE", "DWELL"])
    }

    /// Names of the columns of a list.
    pub fn list_header(&self) -> String {
        self.list_row(["STATE", "OWNER", "LOCAL", "REMOTE", "AGE", "LEFT"])
    }

    /// The line of a socket that is closing.
    pub fn closing(&self, socket: &ClosingSocket) -> String {
        let Pair { local, remote } = socket.pair();
        let seconds = |seconds: Option<f64>| {
            let duration = seconds.and_then(|seconds| std::time::Duration::try_from_secs_f64(seconds).ok());
            dwell(duration)
        };
        let known = socket.processes().into_iter().flatten().next();
        let Owner { unit, container, .. } = &socket.owner;
        self.list_row([
            socket.state.ss_name(),
            &owned_by(known, unit.as_deref().or(container.as_deref())),
            &self.address(local),
            &self.address(remote),
            &seconds(socket.age_seconds),
            &seconds(socket.left_seconds),
        ])
    }

    fn list_row(&self, columns: [&str; 6]) -> String {
        let [state, owner, local, remote, age, left] = columns;
        let width = self.address_width;
        format!("{state:<10} {owner:<OWNER_WIDTH$} {local:<width$} {remote:<width$} {age:<6} {left}")
    }

    /// Names of the columns of ports.
    pub fn ports_header(&self) -> String {
        self.ports_row(
            ["NETNS", "SOURCE", "DESTINATION"],
            ["USED", "TW", "REUSE", "AVAIL", "RANGE", "CONN/S", "FREE/S", "EMPTY"],
        )
    }

    /// The line of a route.
    pub fn ports(&self, pressure: &Pressure) -> String {
        let Pressure { used, reusable, available, range, .. } = pressure;
        let time_wait = pressure.states.get(&TcpState::TimeWait).copied().unwrap_or_default();
        let rate = |rate: Option<f64>| rate.map_or_else(|| NOTHING.to_owned(), |rate| format!("{rate:.0}"));
        let left = pressure.exhaustion_seconds.map(std::time::Duration::try_from_secs_f64);
        self.ports_row(
            [
                &without_end(&pressure.netns_name, NETNS_WIDTH),
                &without_middle(&pressure.source.to_string(), self.address_width - PORT_WIDTH),
                &self.address(pressure.destination.into()),
            ],
            [
                &used.to_string(),
                &time_wait.to_string(),
                &reusable.to_string(),
                &available.to_string(),
                &range.to_string(),
                &rate(pressure.connects_per_second),
                &rate(pressure.releases_per_second),
                &match left {
                    Some(Ok(left)) => Measure(left).to_string(),
                    _ => NOTHING.to_owned(),
                },
            ],
        )
    }

    fn ports_row(&self, names: [&str; 3], counts: [&str; 8]) -> String {
        let [netns, source, destination] = names;
        let [used, time_wait, reusable, available, range, connects, releases, left] = counts;
        let width = self.address_width;
        let source_width = width - PORT_WIDTH;
        format!(
            "{netns:<NETNS_WIDTH$} {source:<source_width$} {destination:<width$} {used:>5} {time_wait:>5} {reusable:>5} {available:>5} {range:>5} {connects:>6} {releases:>6} {left}"
        )
    }

    /// The line of an observation; `None` for one that has none.
    pub fn line(&self, observation: &Observation, home: Option<&Home>, anchor: &Anchor) -> Option<String> {
        match observation {
            Observation::Closed(closed) => Some(self.closed(closed, home, anchor)),
            Observation::MinisockEnded(ended) => Some(self.minisock_ended(ended, home, anchor)),
            Observation::Transition(transition) => Some(self.transition(transition, anchor)),
            _ => None,
        }
    }

    fn closed(&self, closed: &Closed, home: Option<&Home>, anchor: &Anchor) -> String {
        let Story { role, manner, pair, states, .. } = &closed.story;
        let [fin1, fin2, close_wait, last_ack] = dwells(states);
        let end = match closed.then {
            Some(Then::Closed) => "closed",
            Some(Then::TimeWait) => "time-wait",
            Some(Then::FinWait2) => "fin-wait-2",
            Some(Then::Refused) => "refused",
            None => "unknown",
        };
        self.row([
            &self.time(closed.at, anchor),
            "closed",
            role_word(role.label()),
            &owner(Some(&closed.story), home),
            &self.address(pair.local),
            &self.address(pair.remote),
            manner.map_or("unknown", manner_word),
            &fin1,
            if closed.then == Some(Then::FinWait2) { GOES_ON } else { &fin2 },
            &close_wait,
            &last_ack,
            if closed.then == Some(Then::TimeWait) { GOES_ON } else { NOTHING },
            end,
        ])
    }

    fn minisock_ended(&self, ended: &MinisockEnded, home: Option<&Home>, anchor: &Anchor) -> String {
        let story = ended.story.as_ref();
        let [fin1, ..] = dwells(&story.map(|story| story.states).unwrap_or_default());
        let fin2 = ended.fin_wait2.map_or_else(|| NOTHING.to_owned(), |dwell| Measure(dwell).to_string());
        let time_wait = ended
            .time_wait
            .map_or_else(|| NOTHING.to_owned(), |time_wait| Measure(time_wait.dwell).to_string());
        let cause = ended.cause.label().replace('_', "-");
        let by = ended.by.as_ref().map_or_else(String::new, |by| format!(" by {}/{}", by.comm, by.pid));
        let verdict = ended.time_wait.map_or_else(String::new, |wait| format!(" ({})", wait.verdict.label()));
        let end = format!("{cause}{by}{verdict}");
        self.row([
            &self.time(ended.at, anchor),
            if ended.time_wait.is_some() { "tw-ended" } else { "fw2-ended" },
            story.map_or("unknown", |story| role_word(story.role.label())),
            &owner(story, home),
            &self.address(ended.pair.local),
            &self.address(ended.pair.remote),
            NOTHING,
            &fin1,
            &fin2,
            NOTHING,
            NOTHING,
            &time_wait,
            &end,
        ])
    }

    fn transition(&self, transition: &Transition, anchor: &Anchor) -> String {
        self.transitions_row([
            &self.time(transition.at, anchor),
            &transition.process.map_or_else(|| NOTHING.to_owned(), process),
            &self.address(transition.pair.local),
            &self.address(transition.pair.remote),
            &kernel_name(transition.from),
            "->",
            &kernel_name(transition.to),
            &dwell(transition.dwell),
        ])
    }

    fn row(&self, columns: [&str; 13]) -> String {
        let [time, event, role, owner, local, remote, how, fin1, fin2, close_wait, last_ack, time_wait, end] =
            columns;
        let width = self.address_width;
        format!(
            "{time:<12} {event:<9} {role:<7} {owner:<OWNER_WIDTH$} {local:<width$} {remote:<width$} {how:<10} {fin1:<6} {fin2:<6} {close_wait:<6} {last_ack:<6} {time_wait:<6} {end}"
        )
    }

    fn transitions_row(&self, columns: [&str; 8]) -> String {
        let [time, owner, local, remote, from, arrow, to, dwell] = columns;
        let width = self.address_width;
        format!(
            "{time:<12} {owner:<OWNER_WIDTH$} {local:<width$} {remote:<width$} {from:<11} {arrow:<2} {to:<11} {dwell}"
        )
    }

    /// An address and its port in its column's width, cut in the middle if it must be: the beginning tells the
    /// network, the end the host, and the port is always there.
    fn address(&self, address: SocketAddr) -> String {
        let full = address.to_string();
        let port = format!("]:{}", address.port());
        match full.strip_suffix(&port) {
            Some(ip) if full.chars().count() > self.address_width => {
                let room = self.address_width.saturating_sub(port.len());
                format!("{}{port}", without_middle(ip, room))
            }
            _ => full,
        }
    }

    /// Time of day, local, to the millisecond.
    fn time(&self, at: Monotonic, anchor: &Anchor) -> String {
        anchor.wall(at).to_zoned(self.zone.clone()).strftime("%H:%M:%S%.3f").to_string()
    }
}

/// A role in its column's seven characters.
fn role_word(role: &'static str) -> &'static str {
    if role == "simultaneous" { "simult." } else { role }
}

/// A manner in its column's ten characters.
const fn manner_word(manner: Manner) -> &'static str {
    match manner {
        Manner::Graceful => "graceful",
        Manner::ResetSent => "reset-sent",
        Manner::ResetReceived => "reset-recv",
        Manner::TimedOut => "timed-out",
        Manner::Killed => "killed",
    }
}

/// Who closed, else who opened; where no process is known, whose service or container it is.
fn owner(story: Option<&Story>, home: Option<&Home>) -> String {
    owned_by(story.and_then(|story| story.closer.or(story.opener)), home.and_then(Home::name))
}

fn owned_by(known: Option<Process>, home: Option<&str>) -> String {
    let or_home = || home.map_or_else(|| NOTHING.to_owned(), |name| without_end(name, OWNER_WIDTH));
    known.map_or_else(or_home, process)
}

/// `comm/pid`, as `ss -p` names a process.
fn process(process: Process) -> String {
    let pid = format!("/{}", process.pid);
    let room = OWNER_WIDTH.saturating_sub(pid.len());
    format!("{}{pid}", without_end(&process.comm.to_string(), room))
}

/// `text` in at most `room` characters, with a sign where something was cut off.
fn without_end(text: &str, room: usize) -> String {
    if text.chars().count() <= room {
        return text.to_owned();
    }
    text.chars().take(room.saturating_sub(1)).chain([CUT]).collect()
}

/// The same, cut in the middle.
fn without_middle(text: &str, room: usize) -> String {
    let length = text.chars().count();
    if length <= room {
        return text.to_owned();
    }
    let kept = room.saturating_sub(1);
    let end = kept / 3;
    let beginning = text.chars().take(kept - end);
    beginning.chain([CUT]).chain(text.chars().skip(length - end)).collect()
}

/// FIN-WAIT-1, FIN-WAIT-2, CLOSE-WAIT, LAST-ACK. CLOSING, which is rare and short, is in the JSON only.
fn dwells(states: &States) -> [String; 4] {
    let of = |state| states.contains(state).then(|| dwell_or_unknown(states.dwell(state)));
    let or_nothing = |text: Option<String>| text.unwrap_or_else(|| NOTHING.to_owned());
    [
        or_nothing(of(TcpState::FinWait1)),
        or_nothing(of(TcpState::FinWait2)),
        or_nothing(of(TcpState::CloseWait)),
        or_nothing(of(TcpState::LastAck)),
    ]
}

fn dwell_or_unknown(dwell: Option<std::time::Duration>) -> String {
    dwell.map_or_else(|| "?".to_owned(), |dwell| Measure(dwell).to_string())
}

fn dwell(dwell: Option<std::time::Duration>) -> String {
    dwell.map_or_else(|| NOTHING.to_owned(), |dwell| Measure(dwell).to_string())
}

/// A state as bcc's tools print it.
fn kernel_name(state: TcpState) -> String {
    state.label().to_uppercase()
}
