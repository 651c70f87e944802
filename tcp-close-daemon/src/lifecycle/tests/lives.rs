//! Lives of connections as the kernel leads them, made up at random together with what is to be said of them.

use std::{net::Ipv4Addr, time::Duration};

use proptest::{collection::vec, option, prelude::*, sample::select};

use super::notation::WAIT;
use crate::{
    event::{
        Cancel, CancelSite, Comm, ConnectionId, Event, EventKind, MinisockTimer, Monotonic, Pair, Process,
        ResetSent, Segment, SocketError, StateChange, TcpState,
    },
    lifecycle::observation::{EndCause, Manner, Role, Then},
};

const MICROSECOND: u64 = 1_000;
const MILLISECOND: u64 = 1_000 * MICROSECOND;
const SECOND: u64 = 1_000 * MILLISECOND;

/// A life of one connection: what is seen of it, and what is to be said of it.
#[derive(Clone, Debug)]
pub(super) struct Life {
    pub(super) events: Vec<Event>,
    pub(super) id: ConnectionId,
    pub(super) role: Role,
    pub(super) manner: Manner,
    pub(super) then: Then,
    /// Closing states of the full socket, each with its end but for one that goes on in the minisock.
    pub(super) states: Vec<(TcpState, Option<Duration>)>,
    pub(super) fin_retransmits: u32,
    pub(super) minisock: Option<MinisockLife>,
}

/// What is to be said of a minisock.
#[derive(Clone, Copy, Debug)]
pub(super) struct MinisockLife {
    pub(super) cause: EndCause,
    pub(super) lasts: Duration,
    /// The process behind the end.
    pub(super) by: Option<Process>,
    pub(super) time_wait: Option<TimeWaitLife>,
}

/// What is to be said of a TIME-WAIT.
#[derive(Clone, Copy, Debug)]
pub(super) struct TimeWaitLife {
    /// From its true beginning, and from the last restart.
    pub(super) dwell: Duration,
    pub(super) since_last_restart: Duration,
    /// Its beginning was a flip that the kernel stamped and that left no trace.
    pub(super) stamped: bool,
    /// Restarts that leave a trace, and all of them.
    pub(super) restarts: (u32, u32),
    pub(super) fins_again: u32,
    pub(super) strays: u32,
    /// From the beginning to the peer's last FIN.
    pub(super) last_fin: Duration,
}

/// By which hooks a minisock is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hooks {
    /// Its timer's, which some starts leave no trace at.
    Timers,
    /// The functions that deal with it.
    Functions,
    /// The same where nobody may ask for cookies: a minisock has none.
    FunctionsWithoutCookies,
}

/// Several lives at once, their events in the order of their times, no two of which are the same.
pub(super) fn lives() -> impl Strategy<Value = Vec<Life>> {
    lives_by(Hooks::Timers)
}

/// [`lives`], followed by these hooks.
pub(super) fn lives_by(hooks: Hooks) -> impl Strategy<Value = Vec<Life>> {
    vec(plan(), 1..12).prop_map(move |plans| {
        (0..).zip(plans).map(|(number, plan)| Writer::new(number, &plan, hooks).write(&plan)).collect()
    })
}

/// The events of several lives in the order of their times.
pub(super) fn in_order(lives: &[Life]) -> Vec<Event> {
    let mut events: Vec<Event> = lives.iter().flat_map(|life| &life.events).copied().collect();
    events.sort_by_key(|event| event.at);
    events
}

/// The events that are left where segments are not seen.
pub(super) fn without_segments(mut events: Vec<Event>) -> Vec<Event> {
    events.retain(|event| !matches!(event.kind, EventKind::Segment(..)));
    events
}

/// How a life is to go.
#[derive(Clone, Debug)]
struct Plan {
    begins: u64,
    /// The state it ends from, and how.
    state: TcpState,
    ending: Ending,
    /// Time in each state, used in turn.
    dwells: Vec<u64>,
    retransmits: u32,
    closed_again: bool,
    minisock: MinisockPlan,
}

#[derive(Clone, Copy, Debug)]
enum Ending {
    Orderly,
    Refused,
    ResetReceived,
    Aborted,
    KeepaliveTimedOut,
    TimedOut { soft_error: bool },
    Killed,
    DataAfterClose,
}

#[derive(Clone, Debug)]
struct MinisockPlan {
    in_fin_wait2: bool,
    /// Whether its flip leaves a trace, if it flips; and so for each restart.
    flip: Option<bool>,
    /// Whether the peer's FIN carries timestamps, so that the kernel stamps the flip.
    stamps: bool,
    arrivals: Vec<Arrival>,
    pauses: Vec<u64>,
    end: CancelSite,
}

/// What comes in TIME-WAIT.
#[derive(Clone, Copy, Debug)]
enum Arrival {
    /// The peer's FIN, which restarts the wait.
    Fin { leaves_trace: bool },
    /// Another segment, which restarts it.
    Ack { leaves_trace: bool },
    /// A reset that is ignored (RFC 1337), or whatever else restarts nothing.
    Ignored { rst: bool },
}

fn arrival() -> impl Strategy<Value = Arrival> {
    prop_oneof![
        any::<bool>().prop_map(|leaves_trace| Arrival::Fin { leaves_trace }),
        any::<bool>().prop_map(|leaves_trace| Arrival::Ack { leaves_trace }),
        any::<bool>().prop_map(|rst| Arrival::Ignored { rst }),
    ]
}

fn plan() -> impl Strategy<Value = Plan> {
    let pauses = vec(50 * MILLISECOND..3 * SECOND, 5);
    let ends = select(vec![
        CancelSite::Expiry,
        CancelSite::Connect,
        CancelSite::Receive,
        CancelSite::Reset,
        CancelSite::Purge,
        CancelSite::Abort,
    ]);
    let minisock = (any::<[bool; 2]>(), option::of(any::<bool>()), vec(arrival(), 0..4), pauses, ends)
        .prop_map(|([in_fin_wait2, stamps], flip, arrivals, pauses, end)| MinisockPlan {
            in_fin_wait2,
            flip,
            stamps,
            arrivals,
            pauses,
            end,
        });
    let dwells = vec(MICROSECOND..5 * SECOND, 3);
    (0..5 * SECOND, select(endings()), dwells, 0..4_u32, any::<bool>(), minisock).prop_map(
        |(begins, (state, ending), dwells, retransmits, closed_again, minisock)| Plan {
            begins,
            state,
            ending,
            dwells,
            retransmits,
            closed_again,
            minisock,
        },
    )
}

/// Every way to end, with each state it is possible in.
fn endings() -> Vec<(TcpState, Ending)> {
    use TcpState::{CloseWait, Closing, Established, FinWait1, FinWait2, LastAck};
    let everywhere = [Established, FinWait1, FinWait2, Closing, CloseWait, LastAck];
    let possible: [(Ending, &[TcpState]); 9] = [
        (Ending::Orderly, &[FinWait2, Closing, LastAck]),
        (Ending::Refused, &[FinWait2, Closing]),
        (Ending::ResetReceived, &everywhere),
        (Ending::Aborted, &[Established, FinWait1, FinWait2, CloseWait]),
        (Ending::KeepaliveTimedOut, &[Established, CloseWait, FinWait2]),
        (Ending::TimedOut { soft_error: false }, &[Established, FinWait1, Closing, CloseWait, LastAck]),
        (Ending::TimedOut { soft_error: true }, &[Established, FinWait1, Closing, CloseWait, LastAck]),
        (Ending::Killed, &everywhere),
        (Ending::DataAfterClose, &[FinWait1, FinWait2]),
    ];
    possible.iter().flat_map(|&(ending, states)| states.iter().map(move |&state| (state, ending))).collect()
}

/// The states from ESTABLISHED on.
const fn way_to(state: TcpState) -> &'static [TcpState] {
    match state {
        TcpState::FinWait1 => &[TcpState::FinWait1],
        TcpState::FinWait2 => &[TcpState::FinWait1, TcpState::FinWait2],
        TcpState::Closing => &[TcpState::FinWait1, TcpState::Closing],
        TcpState::CloseWait => &[TcpState::CloseWait],
        TcpState::LastAck => &[TcpState::CloseWait, TcpState::LastAck],
        _ => &[],
    }
}

/// Writes the events of a life, one after the other.
struct Writer {
    hooks: Hooks,
    id: ConnectionId,
    pair: Pair,
    now: u64,
    events: Vec<Event>,
    /// Substate and nominal end of the minisock's timer.
    timer: (TcpState, u64),
    /// When the kernel stamped the minisock.
    stamp: u64,
}

impl Writer {
    /// Its moments differ from those of every other life: all are its number past a microsecond.
    fn new(number: u16, plan: &Plan, hooks: Hooks) -> Self {
        let address = |last| Ipv4Addr::new(10, 0, 0, last);
        Self {
            hooks,
            id: ConnectionId { netns: 1, socket: u64::from(number) + 1 },
            pair: Pair { local: (address(1), 1000 + number).into(), remote: (address(2), 80).into() },
            // Long after boot, so that a minisock may be older than what was seen.
            now: 1000 * SECOND + plan.begins / MICROSECOND * MICROSECOND + u64::from(number),
            events: Vec::new(),
            timer: (TcpState::TimeWait, 0),
            stamp: 0,
        }
    }

    fn wait(&mut self, nanoseconds: u64) {
        self.now += nanoseconds.div_ceil(MICROSECOND) * MICROSECOND;
    }

    fn see(&mut self, kind: EventKind) {
        self.events.push(Event { at: Monotonic::from_nanos(self.now), id: self.id, kind });
        self.wait(MICROSECOND);
    }

    /// Something about the minisock, which may have no cookie to say whose it is.
    fn see_minisock(&mut self, kind: EventKind) {
        let without = self.hooks == Hooks::FunctionsWithoutCookies;
        let id = if without { ConnectionId { socket: 0, ..self.id } } else { self.id };
        self.events.push(Event { at: Monotonic::from_nanos(self.now), id, kind });
        self.wait(MICROSECOND);
    }

    fn change(&mut self, from: TcpState, to: TcpState, error: SocketError, acknowledged: bool) {
        let write_seq = 1000 + u32::from(from != TcpState::Established && from != TcpState::CloseWait);
        self.see(EventKind::StateChange(StateChange {
            pair: self.pair,
            from,
            to,
            error,
            uid: 0,
            process: None,
            opener: None,
            cgroup: None,
            write_seq,
            snd_nxt: write_seq,
            snd_una: if acknowledged { write_seq } else { 1000 },
            rcv_nxt: 500,
            segs_in: 0,
            segs_out: 0,
            bytes_sent: 0,
            bytes_received: 499,
        }));
    }

    fn write(mut self, plan: &Plan) -> Life {
        let mut states = Vec::new();
        let mut state = TcpState::Established;
        let mut fin_retransmits = 0;
        for (&next, &dwell) in way_to(plan.state).iter().zip(&plan.dwells) {
            let entered = self.now;
            self.change(state, next, SocketError::None, true);
            if matches!(next, TcpState::FinWait1 | TcpState::LastAck) {
                for _ in 0..plan.retransmits {
                    self.see(EventKind::FinRetransmitted(next));
                    fin_retransmits += 1;
                }
            }
            if plan.closed_again && next != TcpState::CloseWait {
                self.change(next, next, SocketError::None, true);
            }
            self.wait(dwell);
            states.push((next, entered));
            state = next;
        }
        let replaced = self.end(state, plan);
        let left = states.iter().skip(1).map(|&(_, entered)| entered).chain([replaced.closed]);
        let states = states.iter().zip(left).map(|(&(state, entered), left)| {
            let goes_on = state == TcpState::FinWait2 && replaced.then == Then::FinWait2;
            (state, (!goes_on).then(|| Duration::from_nanos(left - entered)))
        });
        Life {
            id: self.id,
            role: match plan.state {
                TcpState::FinWait1 | TcpState::FinWait2 => Role::Active,
                TcpState::CloseWait | TcpState::LastAck => Role::Passive,
                TcpState::Closing => Role::Simultaneous,
                _ => Role::None,
            },
            manner: match plan.ending {
                Ending::Orderly | Ending::Refused => Manner::Graceful,
                Ending::ResetReceived => Manner::ResetReceived,
                Ending::Aborted | Ending::DataAfterClose => Manner::ResetSent,
                Ending::KeepaliveTimedOut | Ending::TimedOut { .. } => Manner::TimedOut,
                Ending::Killed => Manner::Killed,
            },
            then: replaced.then,
            states: states.collect(),
            fin_retransmits,
            minisock: replaced.minisock,
            events: self.events,
        }
    }

    /// The full socket ends, from this state.
    fn end(&mut self, from: TcpState, plan: &Plan) -> Replaced {
        let close = |writer: &mut Self, error, acknowledged| {
            let closed = writer.now;
            writer.change(from, TcpState::Close, error, acknowledged);
            Replaced { closed, then: Then::Closed, minisock: None }
        };
        let sent = |state, active| EventKind::ResetSent(ResetSent { state, active, reason: None });
        match plan.ending {
            Ending::Orderly if from == TcpState::LastAck => close(self, SocketError::None, true),
            Ending::Orderly => self.replace(from, &plan.minisock),
            Ending::Refused => Replaced { then: Then::Refused, ..close(self, SocketError::None, true) },
            Ending::ResetReceived => {
                self.see(EventKind::ResetReceived(from));
                close(self, SocketError::Reset, false)
            }
            Ending::Aborted => {
                let replaced = close(self, SocketError::None, false);
                self.see(sent(TcpState::Close, true));
                replaced
            }
            Ending::KeepaliveTimedOut => {
                self.see(sent(from, true));
                close(self, SocketError::TimedOut, false)
            }
            Ending::TimedOut { soft_error: true } => close(self, SocketError::Other(113), false),
            Ending::TimedOut { soft_error: false } => close(self, SocketError::TimedOut, false),
            Ending::Killed => {
                self.see(sent(from, true));
                close(self, SocketError::Aborted, false)
            }
            Ending::DataAfterClose => {
                self.see(EventKind::ResetReceived(from));
                let replaced = close(self, SocketError::Reset, false);
                self.see(sent(TcpState::Close, false));
                replaced
            }
        }
    }

    /// A minisock takes its place.
    fn replace(&mut self, from: TcpState, plan: &MinisockPlan) -> Replaced {
        let in_fin_wait2 = plan.in_fin_wait2 && from == TcpState::FinWait2;
        let (substate, then) = if in_fin_wait2 {
            (TcpState::FinWait2, Then::FinWait2)
        } else {
            (TcpState::TimeWait, Then::TimeWait)
        };
        let began = self.now;
        self.set(substate);
        self.stamp = began;
        self.see_minisock(match self.hooks {
            Hooks::Timers => EventKind::TimerStarted(self.timer()),
            _ => EventKind::MinisockBegan(self.timer(), self.id),
        });
        let closed = self.now;
        self.change(from, TcpState::Close, SocketError::None, true);

        let mut pauses = plan.pauses.iter().copied();
        let mut time_wait = (!in_fin_wait2).then(|| Passing::begun(began));
        if in_fin_wait2 && let Some(leaves_trace) = plan.flip {
            self.wait(pauses.next().unwrap_or_default());
            let entered = self.restart(leaves_trace);
            if plan.stamps {
                self.stamp = entered;
            }
            self.segment(true, false, true);
            let stamped = plan.stamps && !leaves_trace;
            time_wait = Some(Passing { stamped, ..Passing::begun(entered) });
        }
        if let Some(time_wait) = &mut time_wait {
            for (&arrival, pause) in plan.arrivals.iter().zip(pauses.by_ref()) {
                self.wait(pause);
                self.arrive(arrival, time_wait);
            }
        }
        self.wait(pauses.next().unwrap_or(SECOND));
        let (ended, cause, by) = self.end_minisock(plan.end);
        let since = |start: u64| Duration::from_nanos(ended - start);
        Replaced {
            closed,
            then,
            minisock: Some(MinisockLife {
                cause,
                lasts: since(began),
                by,
                time_wait: time_wait.map(|passing| passing.over(ended)),
            }),
        }
    }

    /// Something comes in TIME-WAIT.
    fn arrive(&mut self, arrival: Arrival, time_wait: &mut Passing) {
        match arrival {
            Arrival::Fin { leaves_trace } | Arrival::Ack { leaves_trace } => {
                time_wait.last_start = self.restart(leaves_trace);
                time_wait.restarts.0 += u32::from(leaves_trace);
                time_wait.restarts.1 += 1;
            }
            Arrival::Ignored { .. } => {}
        }
        match arrival {
            Arrival::Fin { .. } => {
                time_wait.last_fin = self.segment(true, false, true);
                time_wait.fins_again += 1;
            }
            Arrival::Ack { .. } => {
                self.segment(false, false, true);
                time_wait.strays += 1;
            }
            Arrival::Ignored { rst } => {
                self.segment(false, rst, false);
                time_wait.strays += 1;
            }
        }
    }

    /// The minisock has dealt with a segment; when that was.
    fn segment(&mut self, fin: bool, rst: bool, ack: bool) -> u64 {
        let at = self.now;
        let segment = Segment { seq: 500, end_seq: 500 + u32::from(fin), fin, syn: false, rst, ack };
        self.see_minisock(EventKind::Segment(self.timer(), segment));
        at
    }

    /// Its timer is cancelled from this place, or it ends there, while some process runs; which one.
    fn cancel(&mut self, site: CancelSite) -> Process {
        let process = Process { pid: 42, comm: Comm::from_bytes(*b"current\0\0\0\0\0\0\0\0\0") };
        let cancel = Cancel { site, process };
        self.see_minisock(match self.hooks {
            Hooks::Timers => EventKind::TimerCancelled(self.timer(), cancel),
            _ => EventKind::MinisockEnded(self.timer(), cancel),
        });
        process
    }

    /// Sets its timer to run for as long as it takes, now.
    fn set(&mut self, substate: TcpState) {
        let wait = u64::try_from(WAIT.nominal.as_nanos()).expect("a minute");
        self.timer = (substate, self.now + wait);
    }

    /// Its timer, now.
    fn timer(&self) -> MinisockTimer {
        let (substate, nominal_end) = self.timer;
        MinisockTimer {
            pair: self.pair,
            minisock: 0xf000 + self.id.socket * 0x100,
            substate,
            remaining: nominal_end.cast_signed() - self.now.cast_signed(),
            slack: WAIT.slack,
            fires_in: None,
            rcv_nxt: 501,
            since_stamp: Some(Duration::from_millis(self.now / MILLISECOND - self.stamp / MILLISECOND)),
        }
    }

    /// TIME-WAIT begins, again or by a flip; when that was.
    fn restart(&mut self, leaves_trace: bool) -> u64 {
        if self.hooks != Hooks::Timers {
            self.set(TcpState::TimeWait);
            let restarted = self.now;
            self.see_minisock(EventKind::MinisockRestarted(self.timer()));
            return restarted;
        }
        if leaves_trace {
            self.timer.0 = TcpState::TimeWait;
            self.cancel(CancelSite::Restart);
        }
        self.set(TcpState::TimeWait);
        let restarted = self.now;
        if leaves_trace {
            self.see(EventKind::TimerStarted(self.timer()));
        }
        restarted
    }

    fn end_minisock(&mut self, site: CancelSite) -> (u64, EndCause, Option<Process>) {
        let flipped = self.timer.0 == TcpState::TimeWait;
        if site == CancelSite::Expiry {
            self.now = self.now.max(self.timer.1 / MICROSECOND * MICROSECOND + self.now % MICROSECOND);
            self.wait(SECOND);
        }
        let process = self.cancel(site);
        let by = matches!(site, CancelSite::Connect | CancelSite::Abort).then_some(process);
        let cause = match (site, flipped) {
            (CancelSite::Connect, _) => EndCause::Reused,
            (CancelSite::Receive, true) => EndCause::Recycled,
            (CancelSite::Receive, false) => EndCause::ResetByUs,
            (CancelSite::Reset, true) => EndCause::Assassinated,
            (CancelSite::Reset, false) => EndCause::ResetInFinWait2,
            (CancelSite::Purge, _) => EndCause::Purged,
            (CancelSite::Abort, _) => EndCause::Killed,
            (_, true) => EndCause::Expired,
            (_, false) => EndCause::FinWait2Timeout,
        };
        let mut ended = self.now - MICROSECOND;
        if self.hooks != Hooks::Timers {
            return (ended, cause, by);
        }
        if site == CancelSite::Expiry {
            ended = self.now;
            self.see(EventKind::TimerExpired(self.timer()));
        }
        if site == CancelSite::Reset {
            // The segment that ended it: told already.
            self.segment(false, true, false);
        }
        (ended, cause, by)
    }
}

/// A TIME-WAIT that is not over.
struct Passing {
    entered: u64,
    last_start: u64,
    last_fin: u64,
    stamped: bool,
    restarts: (u32, u32),
    fins_again: u32,
    strays: u32,
}

impl Passing {
    const fn begun(at: u64) -> Self {
        Self {
            entered: at,
            last_start: at,
            last_fin: at,
            stamped: false,
            restarts: (0, 0),
            fins_again: 0,
            strays: 0,
        }
    }

    const fn over(&self, ended: u64) -> TimeWaitLife {
        TimeWaitLife {
            dwell: Duration::from_nanos(ended - self.entered),
            since_last_restart: Duration::from_nanos(ended - self.last_start),
            stamped: self.stamped,
            restarts: self.restarts,
            fins_again: self.fins_again,
            strays: self.strays,
            last_fin: Duration::from_nanos(self.last_fin - self.entered),
        }
    }
}

/// How a full socket was replaced, and when.
struct Replaced {
    closed: u64,
    then: Then,
    minisock: Option<MinisockLife>,
}
