//! Events and observations as text.
//!
//! A line is an event: when, in seconds, then to which connection, then what.
//!
//! ```text
//! 0.0     a  1>4 by=42/curl write=1000 rcv=500   # a full socket changes its state
//! 0.2     a  again 4                             # a FIN is sent again from this state
//! 0.3     a  sent 7 active reason=12             # a reset is sent by a socket in this state
//! 0.3     a  received 1                          # a reset is received
//! 0.4     a  start fw2                           # a minisock's timer starts
//! 5.0     a  cancel restart tw                   # it is cancelled from this place in the kernel
//! 5.0     a  start tw
//! 5.0     a  segment fin seq=500                 # the minisock has dealt with a segment
//! 67.0    a  cancel expiry
//! 67.0    a  expire                              # it expires
//! 0.4     a  begin fw2                           # a function tells that a minisock begins,
//! 5.0     a  wait tw                             # that it waits anew,
//! 5.0     a  end connect                         # and that it ends
//! 0.4     a  missed                              # a minisock may have begun unseen
//! 68.0    -  gap                                 # events are known to be lost
//! 68.1    -  listing                             # the kernel is asked for its table,
//! 68.2    a  listed 8                            # has this full socket in it,
//! 68.2    b  listed tw left=20                   # and this minisock,
//! 68.2    -  listed all                          # and no other;
//! 68.2    -  listed over                         # that was it
//! 69.0    b  cancel connect by=43/wget           # while this process runs
//! ```
//!
//! States are numbers of the kernel or any name of theirs; `fw2` and `tw` are short for two of them. What is
//! not said is zero, or nothing, but for `una`, which is `write`; `in` and `out` count segments, `tx` and `rx`
//! bytes. A timer runs for 60 s unless `left=` says otherwise; what is left at a later line, and the substate,
//! follow from the lines before, as does the moment of the kernel's own stamp once `stamp=` says it. With `fires=`
//! a start tells how long it is to the end of the bucket. A segment carries ACK, unless it carries `syn` or `rst`, and
//! takes no more sequence numbers than its flags, `fin` and `syn`, unless `end=` says where it ends. A minisock lies
//! at an address of its own, or, with `at=b`, at that of b's; `cookie=` replaces the name's own cookie, `local=` its
//! port. Where nothing else runs, `7/current` does.
//!
//! Connections may be told one after the other; their events are applied in the order of their times.
//!
//! What stands in parentheses happens in the kernel, and is not seen: it leaves no record, or the record is lost.

use std::{
    collections::HashMap,
    fmt::{self, Write as _},
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use expect_test::Expect;

use crate::{
    event::{
        Cancel, CancelSite, CgroupId, Comm, ConnectionId, Event, EventKind, Listed, MinisockTimer, Monotonic,
        Pair, Process, ResetSent, Segment, SocketError, StateChange, TcpState,
    },
    lifecycle::{
        Limits, Observation, Sees, Tracker, Wait,
        observation::{Absorbed, Closed, MinisockEnded, Restarted, Story, TimeWait, Transition},
    },
};

/// Wait and slack of a kernel with 250 ticks per second.
pub(super) const WAIT: Wait = Wait { nominal: Duration::from_secs(60), slack: Duration::from_millis(2056) };

/// More than any case here fills.
pub(super) const LIMITS: Limits = Limits { sockets: 1000, minisocks: 1000 };

/// What is seen before Linux 6.12: no segments.
pub(super) const WITHOUT_WITNESS: Sees = Sees { minisocks: true, starts: false, segments: false };

/// Everything is seen.
pub(super) const WITH_WITNESS: Sees = Sees { minisocks: true, starts: false, segments: true };

/// The functions that deal with minisocks tell everything.
pub(super) const BY_FUNCTION: Sees = Sees { minisocks: true, starts: true, segments: true };

/// A tracker that sees no segments.
pub(super) fn tracker() -> Tracker {
    Tracker::new(LIMITS, WAIT, WITHOUT_WITNESS)
}

/// A tracker that sees segments.
pub(super) fn witness() -> Tracker {
    Tracker::new(LIMITS, WAIT, WITH_WITNESS)
}

/// Checks what a tracker that sees no segments makes of events, to the end.
#[track_caller]
pub(super) fn check(text: &str, expected: &Expect) {
    check_with(tracker(), text, expected);
}

/// Checks what a tracker that sees segments makes of events, to the end.
#[track_caller]
pub(super) fn check_witnessed(text: &str, expected: &Expect) {
    check_with(witness(), text, expected);
}

/// Checks what a tracker makes of events, to the end; where it counts some of them as lost, that is told last.
#[track_caller]
pub(super) fn check_with(mut tracker: Tracker, text: &str, expected: &Expect) {
    let mut script = Script::default();
    let mut out = Vec::new();
    script.follow(&mut tracker, text, &mut out);
    tracker.finish(&mut out);
    expected.assert_eq(&script.tell(&out, &tracker));
}

/// A tracker that was told of events, and waits for more.
pub(super) fn follow(mut tracker: Tracker, text: &str) -> Tracker {
    Script::default().follow(&mut tracker, text, &mut Vec::new());
    tracker
}

/// The events of a text, for a test that does more with them than apply them in order.
pub(super) fn events(text: &str) -> Vec<Event> {
    let mut script = Script::default();
    let event = |line| match script.read(line)? {
        Line::Event(event) => Some(event),
        Line::Gap(_) => panic!("a gap is no event"),
    };
    text.lines().filter_map(event).collect()
}

/// A line, read.
enum Line {
    Event(Event),
    Gap(Monotonic),
}

impl Line {
    const fn at(&self) -> Monotonic {
        match self {
            Self::Event(event) => event.at,
            Self::Gap(at) => *at,
        }
    }
}

/// What the lines so far have said.
#[derive(Default)]
struct Script {
    names: Vec<String>,
    timers: HashMap<u64, Timer>,
}

/// A minisock's timer, as the kernel has it.
#[derive(Clone, Copy)]
struct Timer {
    substate: TcpState,
    /// Nanoseconds.
    nominal_end: i64,
    /// `tw_entry_stamp`, in nanoseconds.
    stamp: Option<i64>,
}

impl Script {
    /// Tells a tracker of the events of a text.
    fn follow(&mut self, tracker: &mut Tracker, text: &str, out: &mut Vec<Observation>) {
        let mut lines: Vec<_> = text.lines().filter_map(|line| self.read(line)).collect();
        lines.sort_by_key(Line::at);
        for line in lines {
            match line {
                Line::Event(event) => tracker.apply(&event, out),
                Line::Gap(at) => tracker.gap(at),
            }
        }
    }

    /// The event of a line; `None` where there is none to be seen.
    fn read(&mut self, line: &str) -> Option<Line> {
        let text = line.split('#').next().unwrap_or_default().trim();
        let unseen = text.contains('(');
        let plain = text.replace(['(', ')'], " ");
        let mut words = plain.split_whitespace();
        let at = nanoseconds(words.next()?);
        let name = words.next().expect("a name");
        let what = words.next().expect("an event");
        if what == "gap" {
            return Some(Line::Gap(Monotonic::from_nanos(at.unsigned_abs())));
        }
        let number = self.number(name);
        let (rest, said): (Vec<&str>, Vec<&str>) = words.partition(|word| !word.contains('='));
        let said: HashMap<&str, &str> = said.iter().filter_map(|word| word.split_once('=')).collect();
        for key in said.keys() {
            assert!(KEYS.contains(key), "{key} is no key: {line}");
        }
        let arguments = Arguments { number, said };
        let kind = match (what, rest.as_slice()) {
            ("again", [from]) => EventKind::FinRetransmitted(state(from)),
            ("received", [from]) => EventKind::ResetReceived(state(from)),
            ("sent", [from, more @ ..]) => EventKind::ResetSent(ResetSent {
                state: state(from),
                active: more.contains(&"active"),
                reason: arguments.get("reason").map(decimal),
            }),
            ("start", [substate]) => {
                let left = arguments.get("left").map_or(60_000_000_000, nanoseconds);
                let address = self.address(&arguments);
                let stamp = self.timers.get(&address).and_then(|timer| timer.stamp);
                let timer = Timer { substate: state(substate), nominal_end: at + left, stamp };
                EventKind::TimerStarted(self.timer(at, &arguments, timer))
            }
            ("cancel", [place, substate @ ..]) => {
                let process = process(arguments.get("by").unwrap_or("7/current"));
                let cancel = Cancel { site: site(place), process };
                EventKind::TimerCancelled(self.timer_now(at, &arguments, substate.first()), cancel)
            }
            ("expire", substate) => EventKind::TimerExpired(self.timer_now(at, &arguments, substate.first())),
            ("segment", flags) => {
                EventKind::Segment(self.timer_now(at, &arguments, None), arguments.segment(flags))
            }
            ("begin", [substate]) => {
                let left = arguments.get("left").map_or(60_000_000_000, nanoseconds);
                let timer = Timer { substate: state(substate), nominal_end: at + left, stamp: None };
                let socket = ConnectionId { netns: 1, socket: number };
                EventKind::MinisockBegan(self.timer(at, &arguments, timer), socket)
            }
            ("wait", [substate]) => {
                let timer =
                    Timer { substate: state(substate), nominal_end: at + 60_000_000_000, stamp: None };
                EventKind::MinisockRestarted(self.timer(at, &arguments, timer))
            }
            ("end", [place]) => {
                let process = process(arguments.get("by").unwrap_or("7/current"));
                let cancel = Cancel { site: site(place), process };
                EventKind::MinisockEnded(self.timer_now(at, &arguments, None), cancel)
            }
            ("missed", []) => EventKind::MinisockMissed,
            ("listing", []) => EventKind::ListingBegan,
            ("listed", ["all"]) => EventKind::NamespaceListed,
            ("listed", ["over"]) => EventKind::ListingEnded,
            ("listed", [in_state]) => EventKind::Listed(Listed {
                pair: arguments.pair(),
                state: state(in_state),
                uid: None,
                cgroup: arguments.get("cgroup").and_then(|id| CgroupId::new(decimal(id))),
                nominal_end: arguments
                    .get("left")
                    .map(|left| Monotonic::from_nanos((at + nanoseconds(left)).unsigned_abs())),
            }),
            (change, []) => EventKind::StateChange(arguments.change(change)),
            _ => panic!("what is this: {line}"),
        };
        if unseen {
            return None;
        }
        let cookie = arguments.get("cookie").map_or(number, decimal);
        let at = Monotonic::from_nanos(at.unsigned_abs());
        Some(Line::Event(Event { at, id: ConnectionId { netns: 1, socket: cookie }, kind }))
    }

    /// The cookie of a name, counted from 1.
    fn number(&mut self, name: &str) -> u64 {
        let index = self.names.iter().position(|known| known == name).unwrap_or_else(|| {
            self.names.push(name.to_owned());
            self.names.len() - 1
        });
        index as u64 + 1
    }

    fn address(&mut self, arguments: &Arguments<'_>) -> u64 {
        0xf000 + arguments.get("at").map_or(arguments.number, |name| self.number(name)) * 0x100
    }

    /// A timer that was started before, as it is now, but for a substate that was just set.
    fn timer_now(&mut self, at: i64, arguments: &Arguments<'_>, substate: Option<&&str>) -> MinisockTimer {
        let address = self.address(arguments);
        let known = self.timers.get(&address).copied();
        let mut timer = known.unwrap_or(Timer { substate: TcpState::TimeWait, nominal_end: at, stamp: None });
        if let Some(left) = arguments.get("left") {
            timer.nominal_end = at + nanoseconds(left);
        }
        if let Some(substate) = substate {
            timer.substate = state(substate);
        }
        self.timer(at, arguments, timer)
    }

    fn timer(&mut self, at: i64, arguments: &Arguments<'_>, mut timer: Timer) -> MinisockTimer {
        let minisock = self.address(arguments);
        timer.stamp = arguments.get("stamp").map(nanoseconds).or(timer.stamp);
        self.timers.insert(minisock, timer);
        MinisockTimer {
            pair: arguments.pair(),
            minisock,
            substate: timer.substate,
            remaining: timer.nominal_end - at,
            slack: WAIT.slack,
            fires_in: arguments.get("fires").map(|left| since(nanoseconds(left))),
            rcv_nxt: arguments.get("rcv").map_or(1, decimal),
            since_stamp: timer
                .stamp
                .map(|stamp| since((at / MILLISECOND - stamp / MILLISECOND) * MILLISECOND)),
        }
    }

    fn tell(&self, observations: &[Observation], tracker: &Tracker) -> String {
        let mut text = String::new();
        for observation in observations {
            let told = Told { names: &self.names, observation };
            writeln!(text, "{told}").expect("a string takes it");
        }
        let stats = tracker.stats();
        for (number, what) in [
            (stats.sockets as u64, "sockets left"),
            (stats.minisocks as u64, "minisocks left"),
            (stats.sockets_evicted, "sockets evicted"),
            (stats.minisocks_evicted, "minisocks evicted"),
            (stats.unmatched, "unmatched"),
            (stats.corrections.added, "added"),
            (stats.corrections.removed, "removed"),
            (stats.corrections.changed, "changed"),
        ] {
            if number != 0 {
                writeln!(text, "{number} {what}").expect("a string takes it");
            }
        }
        text
    }
}

/// Every key there is; a misspelled one would go unnoticed otherwise.
const KEYS: [&str; 21] = [
    "at", "by", "cgroup", "cookie", "end", "err", "fires", "in", "left", "local", "opener", "out", "rcv",
    "reason", "rx", "seq", "stamp", "tx", "uid", "una", "write",
];

/// In nanoseconds.
const MILLISECOND: i64 = 1_000_000;

/// What a line says of an event, as key and value.
struct Arguments<'a> {
    number: u64,
    said: HashMap<&'a str, &'a str>,
}

impl Arguments<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.said.get(key).copied()
    }

    fn number<T: std::str::FromStr + Default>(&self, key: &str) -> T {
        self.get(key).map(decimal).unwrap_or_default()
    }

    fn pair(&self) -> Pair {
        let of_name = || 1000 + u16::try_from(self.number).expect("few names");
        let port = self.get("local").map_or_else(of_name, decimal);
        Pair {
            local: SocketAddr::new(Ipv4Addr::new(192, 0, 2, 1).into(), port),
            remote: SocketAddr::new(Ipv4Addr::new(192, 0, 2, 2).into(), 80),
        }
    }

    fn segment(&self, flags: &[&str]) -> Segment {
        assert!(flags.iter().all(|flag| ["fin", "syn", "rst"].contains(flag)), "{flags:?} are no flags");
        let [fin, syn, rst] = ["fin", "syn", "rst"].map(|flag| flags.contains(&flag));
        let seq: u32 = self.number("seq");
        let end_seq = self.get("end").map_or(seq.wrapping_add(u32::from(fin || syn)), decimal);
        Segment { seq, end_seq, fin, syn, rst, ack: !syn && !rst }
    }

    fn change(&self, states: &str) -> StateChange {
        let (from, to) = states.split_once('>').unwrap_or_else(|| panic!("{states} is no change of state"));
        let write_seq = self.number("write");
        StateChange {
            pair: self.pair(),
            from: state(from),
            to: state(to),
            error: self.get("err").map_or(SocketError::None, error),
            uid: self.number("uid"),
            process: self.get("by").map(process),
            opener: self.get("opener").map(process),
            cgroup: self.get("cgroup").and_then(|id| CgroupId::new(decimal(id))),
            write_seq,
            snd_nxt: write_seq,
            snd_una: self.get("una").map_or(write_seq, decimal),
            rcv_nxt: self.number("rcv"),
            segs_in: self.number("in"),
            segs_out: self.number("out"),
            bytes_sent: self.number("tx"),
            bytes_received: self.number("rx"),
        }
    }
}

fn decimal<T: std::str::FromStr>(text: &str) -> T {
    text.parse().unwrap_or_else(|_| panic!("{text} is no number"))
}

fn nanoseconds(seconds: &str) -> i64 {
    let (sign, digits) = seconds.strip_prefix('-').map_or((1, seconds), |digits| (-1, digits));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    assert!(fraction.len() <= 9, "{seconds} is finer than a nanosecond");
    sign * (decimal::<i64>(whole) * 1_000_000_000 + decimal::<i64>(&format!("{fraction:0<9}")))
}

/// Nanoseconds that have passed; none, if they have yet to.
fn since(nanoseconds: i64) -> Duration {
    Duration::from_nanos(nanoseconds.max(0).unsigned_abs())
}

fn state(name: &str) -> TcpState {
    match name {
        "fw2" => TcpState::FinWait2,
        "tw" => TcpState::TimeWait,
        _ => name
            .parse()
            .ok()
            .and_then(TcpState::from_kernel)
            .or_else(|| name.parse().ok())
            .unwrap_or_else(|| panic!("{name} is no state")),
    }
}

fn error(name: &str) -> SocketError {
    match name {
        "timeout" => SocketError::TimedOut,
        "reset" => SocketError::Reset,
        "aborted" => SocketError::Aborted,
        number => SocketError::Other(decimal(number)),
    }
}

fn site(name: &str) -> CancelSite {
    match name {
        "expiry" => CancelSite::Expiry,
        "restart" => CancelSite::Restart,
        "connect" => CancelSite::Connect,
        "receive" => CancelSite::Receive,
        "reset" => CancelSite::Reset,
        "purge" => CancelSite::Purge,
        "abort" => CancelSite::Abort,
        "unknown" => CancelSite::Unknown,
        _ => panic!("{name} is no place to cancel a timer from"),
    }
}

fn process(text: &str) -> Process {
    let (pid, name) = text.split_once('/').expect("pid/name");
    let mut comm = [0; 16];
    comm[..name.len()].copy_from_slice(name.as_bytes());
    Process { pid: decimal(pid), comm: Comm::from_bytes(comm) }
}

/// An observation, written out.
struct Told<'a> {
    names: &'a [String],
    observation: &'a Observation,
}

impl Told<'_> {
    fn name(&self, id: ConnectionId) -> &str {
        let index = usize::try_from(id.socket).ok().and_then(|cookie| cookie.checked_sub(1));
        index.and_then(|index| self.names.get(index)).map_or("?", String::as_str)
    }
}

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self.observation {
            Observation::Transition(Transition { at, id, from, to, dwell, process, uid, pair: _ }) => {
                write!(f, "{} {} {} > {}", when(at), self.name(id), from.label(), to.label())?;
                tell_if(f, " after ", dwell.map(seconds))?;
                tell_if(f, " by ", process.map(who))?;
                tell_if(f, " uid ", Some(uid).filter(|&uid| uid != 0))
            }
            Observation::FinRetransmitted(state) => write!(f, "fin retransmitted in {}", state.label()),
            Observation::ResetNotReceived => write!(f, "reset not received"),
            Observation::Closed(Closed { at, story, then }) => {
                let then = then.map_or("?", |then| then.label());
                write!(f, "{} {} closed, then {then}: {}", when(at), self.name(story.id), Of(&story))
            }
            Observation::MinisockBegan(began) => {
                write!(f, "{} minisock began in {}", when(began.at), began.substate.label())?;
                write!(f, " for {} + {}", seconds(began.nominal), seconds(began.slack))
            }
            Observation::Restarted(Restarted { at, flipped, witness }) => {
                let what = if flipped { "flipped" } else { "restarted" };
                write!(f, "{} {what}, {}", when(at), witness.label())
            }
            Observation::Absorbed(Absorbed::FinAgain) => write!(f, "fin again"),
            Observation::Absorbed(Absorbed::Stray) => write!(f, "stray"),
            Observation::MinisockEnded(ended) => self.tell_end(f, &ended),
        }
    }
}

impl Told<'_> {
    fn tell_end(&self, f: &mut fmt::Formatter<'_>, ended: &MinisockEnded) -> fmt::Result {
        write!(f, "{} {} minisock ended, {}", when(ended.at), self.name(ended.id), ended.cause.label())?;
        tell_if(f, " by ", ended.by.map(who))?;
        write!(f, ": began in {}", ended.began_in.map_or("?", TcpState::label))?;
        write!(f, ", minisock {}", or_unknown(ended.minisock))?;
        write!(f, ", fin_wait2 {}", or_unknown(ended.fin_wait2))?;
        if let Some(time_wait) = &ended.time_wait {
            tell_time_wait(f, time_wait)?;
        }
        tell_if(f, ", peer's fin ", ended.peer_fin)?;
        if ended.gap {
            write!(f, ", gap")?;
        }
        match &ended.story {
            Some(story) => write!(f, "\n    {}", Of(story)),
            None => write!(f, "\n    nothing known before"),
        }
    }
}

fn tell_time_wait(f: &mut fmt::Formatter<'_>, time_wait: &TimeWait) -> fmt::Result {
    let TimeWait {
        dwell,
        since_last_restart,
        nominal,
        slack,
        restarts,
        final_acks_lost,
        strays,
        needed,
        witness,
        verdict,
    } = *time_wait;
    write!(f, ", time_wait {} ({} since last restart", seconds(dwell), seconds(since_last_restart))?;
    write!(f, " of {} + {}, {restarts} restarts", seconds(nominal), seconds(slack))?;
    tell_if(f, ", fins again ", final_acks_lost)?;
    tell_if(f, ", strays ", strays)?;
    tell_if(f, ", needed ", needed.map(seconds))?;
    write!(f, ", {}, {})", witness.label(), verdict.label())
}

/// A story, written out but for the connection.
struct Of<'a>(&'a Story);

impl fmt::Display for Of<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Story {
            id: _,
            pair: _,
            role,
            manner,
            segments,
            opener,
            closer,
            cgroup,
            uid,
            states,
            fin,
            bytes,
            reset,
            gap,
        } = *self.0;
        write!(f, "{} {}", role.label(), manner.map_or("?", |manner| manner.label()))?;
        tell_if(f, " in ", segments)?;
        tell_if(f, " opened by ", opener.map(who))?;
        tell_if(f, " by ", closer.map(who))?;
        tell_if(f, " in cgroup ", cgroup)?;
        tell_if(f, " uid ", uid.filter(|&uid| uid != 0))?;
        for (state, dwell) in states.iter() {
            write!(f, ", {} {}", state.label(), or_unknown(dwell))?;
        }
        if fin.seq.is_some() || fin.ack_of_fin.is_some() || fin.retransmits > 0 {
            write!(f, ", fin {}", fin.seq.map_or_else(|| "?".to_owned(), |seq| seq.to_string()))?;
        }
        tell_if(f, " ack ", fin.ack_of_fin)?;
        tell_if(f, " again ", Some(fin.retransmits).filter(|&times| times > 0))?;
        for (number, after) in fin.schedule.iter().enumerate() {
            write!(f, "{}{}", if number == 0 { " after " } else { " " }, seconds(after))?;
        }
        tell_if(f, ", peer's fin ", fin.peer_seq)?;
        tell_if(f, ", sent ", bytes.sent)?;
        tell_if(f, " after peer's fin ", bytes.after_peer_fin)?;
        tell_if(f, ", received ", bytes.received)?;
        tell_if(f, " after our fin ", bytes.after_our_fin)?;
        if let Some(reset) = reset {
            write!(f, ", reset {}", if reset.sent { "sent" } else { "received" })?;
            tell_if(f, " for reason ", reset.reason)?;
        }
        if gap {
            write!(f, ", gap")?;
        }
        Ok(())
    }
}

fn tell_if(f: &mut fmt::Formatter<'_>, before: &str, value: Option<impl fmt::Display>) -> fmt::Result {
    value.map_or(Ok(()), |value| write!(f, "{before}{value}"))
}

fn who(process: Process) -> String {
    format!("{}/{}", process.pid, process.comm)
}

fn when(at: Monotonic) -> String {
    seconds(Duration::from_nanos(at.as_nanos()))
}

fn or_unknown(duration: Option<Duration>) -> String {
    duration.map_or_else(|| "?".to_owned(), seconds)
}

/// Seconds to the nanosecond, without zeros that say nothing.
pub(super) fn seconds(duration: Duration) -> String {
    let fraction = format!("{:09}", duration.subsec_nanos());
    let fraction = fraction.trim_end_matches('0');
    let dot = if fraction.is_empty() { "" } else { "." };
    format!("{}{dot}{fraction}", duration.as_secs())
}
