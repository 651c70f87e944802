//! The tables of `watch`, `list` and `ports`.

use std::{net::SocketAddr, time::Duration};

use jiff::tz::TimeZone;

use super::{measure::Measure, printable};
use crate::{
    closing::{ClosingSocket, Group, GroupKey},
    event::{Pair, Process, TcpState},
    lifecycle::observation::{EndCause, Manner, Then},
    line::{
        ClosedLine, FinWait2EndedLine, Head, Line, StateLine, StoryLine, TimeWaitEndedLine, TimeWaitLine,
        TransitionLine,
    },
    owner::Owner,
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

/// Renders lines of a table.
pub struct Table {
    address_width: usize,
    owner_width: usize,
    netns_width: usize,
    zone: TimeZone,
}

impl Table {
    /// A table with times of this zone, `wide` enough for IPv6 or not: then long addresses are cut in the middle.
    pub const fn new(wide: bool, zone: TimeZone) -> Self {
        Self {
            address_width: if wide { IPV6_WIDTH } else { IPV4_WIDTH },
            owner_width: OWNER_WIDTH,
            netns_width: NETNS_WIDTH,
            zone,
        }
    }

    /// The same for a list of which all is known: no column is wider than these sockets need.
    #[must_use]
    pub fn fitted_to(self, sockets: &[ClosingSocket]) -> Self {
        let addresses = |socket: &ClosingSocket| {
            let Pair { local, remote } = socket.pair();
            [local, remote].map(|address| address.to_string().len())
        };
        let owner = |socket: &ClosingSocket| listed_owner(socket).chars().count();
        Self {
            address_width: fitted("REMOTE", sockets.iter().flat_map(addresses), self.address_width),
            owner_width: fitted("OWNER", sockets.iter().map(owner), self.owner_width),
            ..self
        }
    }

    /// The same for these routes.
    #[must_use]
    pub fn fitted_to_routes(self, routes: &[&Pressure]) -> Self {
        let addresses = |route: &&Pressure| {
            let destination = SocketAddr::from(route.destination).to_string().len();
            [destination, route.source.to_string().len() + PORT_WIDTH]
        };
        let netns = |route: &&Pressure| route.netns_name.chars().count();
        Self {
            // The source has the same column without a port.
            address_width: fitted("SOURCE:65535", routes.iter().flat_map(addresses), self.address_width),
            netns_width: fitted("NETNS", routes.iter().map(netns), self.netns_width),
            ..self
        }
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
        self.list_row([
            socket.state.ss_name(),
            &listed_owner(socket),
            &self.address(local),
            &self.address(remote),
            &measured(socket.age_seconds),
            &measured(socket.left_seconds),
        ])
    }

    fn list_row(&self, columns: [&str; 6]) -> String {
        let [state, owner, local, remote, age, left] = columns;
        let (width, owner_width) = (self.address_width, self.owner_width);
        format!("{state:<10} {owner:<owner_width$} {local:<width$} {remote:<width$} {age:<6} {left}")
    }

    /// Names of the columns of groups of sockets that have this in common.
    pub fn groups_header(key: GroupKey) -> String {
        let key = match key {
            GroupKey::Owner => "OWNER",
            GroupKey::Remote => "REMOTE",
            GroupKey::State => "STATE",
            GroupKey::Unit => "UNIT",
        };
        groups_row(["SOCKETS", "FIN1", "FIN2", "TW", "CWAIT", "LACK", "CLOSING"], "OLDEST", key)
    }

    /// The line of a group of sockets.
    pub fn group(group: &Group) -> String {
        let count = |state| group.states.get(&state).copied().unwrap_or_default().to_string();
        let [fin1, fin2, time_wait, close_wait, last_ack, closing] = TcpState::CLOSING.map(count);
        let sockets = group.sockets.to_string();
        groups_row(
            [&sockets, &fin1, &fin2, &time_wait, &close_wait, &last_ack, &closing],
            &measured(group.oldest_seconds),
            &printable(group.key.as_deref().unwrap_or(NOTHING)),
        )
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
        self.ports_row(
            [
                &without_end(&printable(&pressure.netns_name), NETNS_WIDTH),
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
                &measured(pressure.exhaustion_seconds),
            ],
        )
    }

    fn ports_row(&self, names: [&str; 3], counts: [&str; 8]) -> String {
        let [netns, source, destination] = names;
        let [used, time_wait, reusable, available, range, connects, releases, left] = counts;
        let (width, netns_width) = (self.address_width, self.netns_width);
        let source_width = width - PORT_WIDTH;
        format!(
            "{netns:<netns_width$} {source:<source_width$} {destination:<width$} {used:>5} {time_wait:>5} {reusable:>5} {available:>5} {range:>5} {connects:>6} {releases:>6} {left}"
        )
    }

    /// The line of what became of a connection.
    pub fn line(&self, line: &Line) -> String {
        match line {
            Line::Closed(closed) => self.closed(closed),
            Line::TimeWaitEnded(ended) => self.time_wait_ended(ended),
            Line::FinWait2Ended(ended) => self.fin_wait2_ended(ended),
            Line::Transition(transition) => self.transition(transition),
        }
    }

    fn closed(&self, closed: &ClosedLine) -> String {
        let ClosedLine { head, story, then, .. } = closed;
        let [fin1, fin2, close_wait, last_ack] = dwells(&story.states);
        let end = match then {
            Some(Then::Closed) => "closed",
            Some(Then::TimeWait) => "time-wait",
            Some(Then::FinWait2) => "fin-wait-2",
            Some(Then::Refused) => "refused",
            None => "unknown",
        };
        self.row([
            &self.time(head),
            "closed",
            role(story),
            &owner(&story.owner),
            &self.address(head.local.into()),
            &self.address(head.remote.into()),
            story.manner.map_or("unknown", manner_word),
            &fin1,
            if *then == Some(Then::FinWait2) { GOES_ON } else { &fin2 },
            &close_wait,
            &last_ack,
            if *then == Some(Then::TimeWait) { GOES_ON } else { NOTHING },
            end,
        ])
    }

    fn time_wait_ended(&self, ended: &TimeWaitEndedLine) -> String {
        let TimeWaitLine { cause, by, seconds, verdict, .. } = &ended.time_wait;
        let end = format!("{} ({})", end(*cause, by.as_ref()), verdict.label());
        self.minisock_ended("tw-ended", &ended.head, &ended.story, &measured(Some(*seconds)), &end)
    }

    fn fin_wait2_ended(&self, ended: &FinWait2EndedLine) -> String {
        let end = end(ended.cause, ended.by.as_ref());
        self.minisock_ended("fw2-ended", &ended.head, &ended.story, NOTHING, &end)
    }

    fn minisock_ended(
        &self,
        event: &str,
        head: &Head,
        story: &StoryLine,
        time_wait: &str,
        end: &str,
    ) -> String {
        let [fin1, fin2, ..] = dwells(&story.states);
        self.row([
            &self.time(head),
            event,
            role(story),
            &owner(&story.owner),
            &self.address(head.local.into()),
            &self.address(head.remote.into()),
            NOTHING,
            &fin1,
            &fin2,
            NOTHING,
            NOTHING,
            time_wait,
            end,
        ])
    }

    fn transition(&self, transition: &TransitionLine) -> String {
        let head = &transition.head;
        self.transitions_row([
            &self.time(head),
            &transition.owner.closer.map_or_else(|| NOTHING.to_owned(), process),
            &self.address(head.local.into()),
            &self.address(head.remote.into()),
            &kernel_name(transition.from),
            "->",
            &kernel_name(transition.to),
            &measured(transition.seconds),
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
    fn time(&self, head: &Head) -> String {
        head.time.to_zoned(self.zone.clone()).strftime("%H:%M:%S%.3f").to_string()
    }
}

fn groups_row(counts: [&str; 7], oldest: &str, key: &str) -> String {
    let [sockets, fin1, fin2, time_wait, close_wait, last_ack, closing] = counts;
    format!(
        "{sockets:>7} {fin1:>6} {fin2:>6} {time_wait:>6} {close_wait:>6} {last_ack:>6} {closing:>7} {oldest:>6}  {key}"
    )
}

/// Who closed first.
fn role(story: &StoryLine) -> &'static str {
    story.role.map_or("unknown", |role| role_word(role.label()))
}

/// Why a minisock ended, and who was behind it.
fn end(cause: EndCause, by: Option<&Process>) -> String {
    let by = by.map_or_else(String::new, |by| format!(" by {}/{}", by.comm, by.pid));
    format!("{}{by}", cause.label().replace('_', "-"))
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
fn owner(owner: &Owner) -> String {
    owned_by(owner.closer.or(owner.opener), owner)
}

/// Who has closed, opened or holds it.
fn listed_owner(socket: &ClosingSocket) -> String {
    owned_by(socket.processes().into_iter().flatten().next(), &socket.owner)
}

/// As wide as the widest of these and the name of the column, but no wider than there is room.
fn fitted(name: &str, widths: impl Iterator<Item = usize>, room: usize) -> usize {
    widths.max().unwrap_or_default().clamp(name.len(), room)
}

fn owned_by(known: Option<Process>, Owner { unit, container, .. }: &Owner) -> String {
    let home = || {
        let name = unit.as_deref().or(container.as_deref());
        name.map_or_else(|| NOTHING.to_owned(), |name| without_end(&printable(name), OWNER_WIDTH))
    };
    known.map_or_else(home, process)
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
fn dwells(states: &[StateLine]) -> [String; 4] {
    [TcpState::FinWait1, TcpState::FinWait2, TcpState::CloseWait, TcpState::LastAck].map(|state| {
        match states.iter().find(|visited| visited.state == state) {
            // Passed through, but for an unknown time.
            Some(StateLine { seconds: None, .. }) => "?".to_owned(),
            visited => measured(visited.and_then(|visited| visited.seconds)),
        }
    })
}

fn measured(seconds: Option<f64>) -> String {
    let duration = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    duration.map_or_else(|| NOTHING.to_owned(), |duration| Measure(duration).to_string())
}

/// A state as bcc's tools print it.
fn kernel_name(state: TcpState) -> String {
    state.label().to_uppercase()
}
