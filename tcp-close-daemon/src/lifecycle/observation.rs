//! What the core has to say: one observation for each thing a person or a metric may care about.

use std::{num::NonZeroU32, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    event::{CgroupId, ConnectionId, Monotonic, Pair, Process, TcpState},
    lifecycle::owners::OwnerKey,
};

mod minisock;
pub(super) mod packed;

pub use minisock::{
    Absorbed, EndCause, LINUX_MSL, MinisockBegan, MinisockEnded, RFC_9293_2MSL, Restarted, TimeWait, Verdict,
    Witness,
};
pub use packed::PackedObservation;

/// Something that happened to a connection, or became known about it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[expect(
    clippy::large_enum_variant,
    reason = "few at a time, and gone at the end of a turn: no allocation for each"
)]
pub enum Observation {
    /// A full socket changed its state.
    Transition(Transition),
    /// A FIN was sent again from this state.
    FinRetransmitted(TcpState),
    /// The kernel went through the motions of a received reset, though none was received.
    ResetNotReceived,
    /// A full socket's life is over.
    Closed(Closed),
    /// A minisock began, in this substate.
    MinisockBegan(MinisockBegan),
    /// A minisock's wait began again.
    Restarted(Restarted),
    /// A minisock in TIME-WAIT dealt with a segment.
    Absorbed(Absorbed),
    /// A minisock's life is over.
    MinisockEnded(MinisockEnded),
}

impl Observation {
    /// What is known of the full socket whose life, or whose minisock's, is over.
    pub const fn story(&self) -> Option<&Story> {
        match self {
            Self::Closed(closed) => Some(&closed.story),
            Self::MinisockEnded(ended) => ended.story.as_ref(),
            _ => None,
        }
    }
}

/// A full socket changed its state.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Transition {
    /// When.
    pub at: Monotonic,
    /// Which connection.
    pub id: ConnectionId,
    /// Its socket pair.
    pub pair: Pair,
    /// State left.
    pub from: TcpState,
    /// State entered; the same for `close()` after `shutdown()`.
    pub to: TcpState,
    /// How long it was in the state it left; `None` where its entry was not seen or not recorded.
    pub dwell: Option<Duration>,
    /// The process that made the change, where one did.
    pub process: Option<Process>,
    /// User of the socket.
    pub uid: u32,
}

/// Everything known of one end of one connection, from its first closing state on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Story {
    /// Which connection.
    pub id: ConnectionId,
    /// Its socket pair.
    pub pair: Pair,
    /// Who sent the first FIN.
    pub role: Role,
    /// How it ended; `None` where that is not known.
    pub manner: Option<Manner>,
    /// Segments of the close, 3 or 4; `None` where it is not known or has no meaning.
    pub segments: Option<u8>,
    /// The process that called `connect()`, or `listen()` for a connection that was accepted.
    pub opener: Option<Process>,
    /// The process that sent our FIN, or aborted.
    pub closer: Option<Process>,
    /// Where the socket was made, an accepted one its listener.
    pub cgroup: Option<CgroupId>,
    /// User of the socket.
    pub uid: Option<u32>,
    /// Closing states of the full socket, in order.
    pub states: States,
    /// The two FINs.
    pub fin: Fin,
    /// Payload.
    pub bytes: Bytes,
    /// The reset that ended it.
    pub reset: Option<ResetSeen>,
    /// Events were lost while it closed, so parts of it may be missing.
    pub gap: bool,
}

/// Who sent the first FIN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// This end.
    Active,
    /// The peer.
    Passive,
    /// Both, before either's arrived.
    Simultaneous,
    /// Nobody: it was aborted before any FIN.
    None,
}

impl Story {
    /// What the owner is known by.
    pub fn owner(&self) -> OwnerKey {
        OwnerKey { cgroup: self.cgroup, comm: self.closer.or(self.opener).map(|process| process.comm) }
    }

    /// The processes that closed and opened it, as far as they are known.
    pub const fn processes(&self) -> [Option<Process>; 2] {
        [self.closer, self.opener]
    }
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 4] = [Self::Active, Self::Passive, Self::Simultaneous, Self::None];

    /// Name in labels, JSON and tables.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Passive => "passive",
            Self::Simultaneous => "simultaneous",
            Self::None => "none",
        }
    }
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Manner {
    /// FINs were exchanged.
    Graceful,
    /// This end sent a reset.
    ResetSent,
    /// The peer sent a reset.
    ResetReceived,
    /// Nobody answered any more.
    TimedOut,
    /// An operator, as by `ss -K`.
    Killed,
}

impl Manner {
    /// Every manner.
    pub const ALL: [Self; 5] =
        [Self::Graceful, Self::ResetSent, Self::ResetReceived, Self::TimedOut, Self::Killed];

    /// Name in labels, JSON and tables.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Graceful => "graceful",
            Self::ResetSent => "reset_sent",
            Self::ResetReceived => "reset_received",
            Self::TimedOut => "timed_out",
            Self::Killed => "killed",
        }
    }
}

/// Most closing states a full socket passes through.
const MOST_STATES: usize = 4;

/// The closing states a full socket passed through, in order, with the time it spent in each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct States {
    visits: [Option<(TcpState, Option<Duration>)>; MOST_STATES],
}

impl States {
    /// Adds a state to the end. Past four, which no path of RFC 9293 reaches, it changes nothing.
    pub fn push(&mut self, state: TcpState, dwell: Option<Duration>) {
        if let Some(free) = self.visits.iter_mut().find(|visit| visit.is_none()) {
            *free = Some((state, dwell));
        }
    }

    /// Sets the time spent in `state`, if that is the last one.
    pub fn set_last_of(&mut self, state: TcpState, dwell: Option<Duration>) {
        if let Some(last) = self.visits.iter_mut().flatten().last()
            && last.0 == state
        {
            last.1 = dwell;
        }
    }

    /// The states with the time spent in each; `None` for one that is not over or whose beginning was not seen.
    pub fn iter(&self) -> impl Iterator<Item = (TcpState, Option<Duration>)> + '_ {
        self.visits.iter().flatten().copied()
    }

    /// Time spent in `state`.
    pub fn dwell(&self, state: TcpState) -> Option<Duration> {
        self.iter().find(|&(visited, _)| visited == state).and_then(|(_, dwell)| dwell)
    }

    /// Whether it passed through `state`.
    pub fn contains(&self, state: TcpState) -> bool {
        self.iter().any(|(visited, _)| visited == state)
    }
}

/// Sequence numbers of the two FINs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fin {
    /// Of our FIN.
    pub seq: Option<u32>,
    /// What the peer acknowledged our FIN with.
    pub ack_of_fin: Option<u32>,
    /// Of the peer's FIN.
    pub peer_seq: Option<u32>,
    /// How often our FIN was sent again.
    pub retransmits: u32,
    /// When it was sent again, after it was sent first: the schedule of its retransmission timer.
    pub schedule: Schedule,
}

/// Most retransmissions whose time is kept: `tcp_retries2`, by default, gives up after 15.
const MOST_RETRANSMITS: usize = 16;

/// Times after a first moment, to the microsecond; the first sixteen, none longer than 71 minutes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    microseconds: [Option<NonZeroU32>; MOST_RETRANSMITS],
}

impl Schedule {
    /// Adds a time, if there is room.
    pub fn push(&mut self, after: Duration) {
        let microseconds = u32::try_from(after.as_micros()).unwrap_or(u32::MAX);
        if let Some(free) = self.microseconds.iter_mut().find(|time| time.is_none()) {
            *free = NonZeroU32::new(microseconds.max(1));
        }
    }

    /// The times, in order.
    pub fn iter(&self) -> impl Iterator<Item = Duration> + '_ {
        self.microseconds.iter().flatten().map(|time| Duration::from_micros(u64::from(time.get())))
    }
}

/// Payload of a connection; `None` for what was not seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bytes {
    /// Sent, each byte counted once.
    pub sent: Option<u64>,
    /// Received.
    pub received: Option<u64>,
    /// Received after our FIN: the half-close in which the peer went on.
    pub after_our_fin: Option<u64>,
    /// Sent for the first time after the peer's FIN: the half-close in which we went on.
    pub after_peer_fin: Option<u64>,
}

/// The reset that ended a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResetSeen {
    /// Sent by this end, not received.
    pub sent: bool,
    /// The kernel's reason for one sent; `None` where it gives none.
    pub reason: Option<u32>,
}

/// A full socket's life is over.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Closed {
    /// When it entered CLOSE.
    pub at: Monotonic,
    /// All that is known of it.
    pub story: Story,
    /// Where it went; `None` where it may have gone over to a minisock that was not seen: none can be, or events
    /// were lost.
    pub then: Option<Then>,
}

/// Where a full socket goes when its life is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Then {
    /// Nothing is left of it.
    Closed,
    /// A minisock in TIME-WAIT.
    TimeWait,
    /// A minisock that still waits for the peer's FIN.
    FinWait2,
    /// A minisock was due, and the kernel refused it.
    Refused,
}

impl Then {
    /// Every way.
    pub const ALL: [Self; 4] = [Self::Closed, Self::TimeWait, Self::FinWait2, Self::Refused];

    /// Name in JSON.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::TimeWait => "time_wait",
            Self::FinWait2 => "fin_wait2",
            Self::Refused => "refused",
        }
    }
}
