//! A line of `watch`: what became of a connection, with the names and the wall time that belong to it.
//!
//! In: observations. Out: one [`Line`] for each that a person may care about. It is what `-o json` prints and what travels
//! over the daemon's socket: one object per line, every key always there, unknown is `null`.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    clock::Anchor,
    event::{Address, AddressFamily, ConnectionId, Monotonic, Pair, Process, TcpState},
    lifecycle::{
        Observation,
        observation::{
            Bytes, Closed, EndCause, Fin, Manner, MinisockEnded, RFC_9293_2MSL, ResetSeen, Role, States,
            Story, Then, TimeWait, Transition, Verdict, Witness,
        },
    },
    owner::{Home, Owner},
};

/// What became of a connection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Line {
    /// Its full socket is no more.
    Closed(ClosedLine),
    /// Its TIME-WAIT is over.
    TimeWaitEnded(TimeWaitEndedLine),
    /// Its minisock ended and never saw the peer's FIN.
    FinWait2Ended(FinWait2EndedLine),
    /// It changed its state.
    Transition(TransitionLine),
}

/// What every line begins with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Head {
    /// Wall time.
    #[serde(with = "nanoseconds")]
    pub time: Timestamp,
    /// The same moment on `CLOCK_MONOTONIC`, in nanoseconds.
    pub monotonic_ns: u64,
    /// Inode number of the network namespace.
    pub netns: u32,
    /// Address family; an IPv4 address mapped into IPv6 counts as IPv4.
    pub family: AddressFamily,
    /// Our address.
    pub local: Address,
    /// The peer's address.
    pub remote: Address,
    /// The socket's cookie, as `ss -e` shows it.
    pub cookie: Option<u64>,
}

/// A state that it passed through.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct StateLine {
    /// The state.
    pub state: TcpState,
    /// Time in it; `None` where it is not over, or its beginning was not seen.
    pub seconds: Option<f64>,
}

/// The two FINs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FinLine {
    /// Sequence number of ours.
    pub seq: Option<u32>,
    /// What the peer acknowledged it with.
    pub ack_of_fin: Option<u32>,
    /// Sequence number of the peer's.
    pub peer_seq: Option<u32>,
    /// How often ours was sent again.
    pub retransmits: Option<u32>,
    /// When, in seconds after it was sent first.
    pub retransmitted_after: Option<Vec<f64>>,
}

/// Payload, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BytesLine {
    /// Sent, each byte counted once.
    pub sent: Option<u64>,
    /// Received.
    pub received: Option<u64>,
    /// Received after our FIN.
    pub after_our_fin: Option<u64>,
    /// Sent for the first time after the peer's FIN.
    pub after_peer_fin: Option<u64>,
}

/// The reset that ended it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ResetLine {
    /// Which way it went.
    pub direction: Direction,
    /// The kernel's reason for one that was sent, by the name in `enum sk_rst_reason`.
    pub reason: Option<String>,
}

/// Which way a segment went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "they say it")]
pub enum Direction {
    Sent,
    Received,
}

/// What is known of the full socket.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StoryLine {
    /// Who sent the first FIN.
    pub role: Option<Role>,
    /// How it ended.
    pub manner: Option<Manner>,
    /// Segments of the close, 3 or 4.
    pub segments: Option<u8>,
    /// Whose it was.
    pub owner: Owner,
    /// The closing states, in order.
    pub states: Vec<StateLine>,
    /// The two FINs.
    pub fin: FinLine,
    /// Payload.
    pub bytes: BytesLine,
    /// The reset that ended it.
    pub reset: Option<ResetLine>,
}

/// A full socket is no more.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClosedLine {
    /// When, and which.
    #[serde(flatten)]
    pub head: Head,
    /// What is known of it.
    #[serde(flatten)]
    pub story: StoryLine,
    /// Where it went; `None` where that was not seen.
    pub then: Option<Then>,
    /// Events were lost while it closed.
    pub gap: bool,
}

/// A TIME-WAIT is over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TimeWaitEndedLine {
    /// When, and which.
    #[serde(flatten)]
    pub head: Head,
    /// What is known of the full socket before it.
    #[serde(flatten)]
    pub story: StoryLine,
    /// The TIME-WAIT.
    pub time_wait: TimeWaitLine,
    /// Events were lost while it lived.
    pub gap: bool,
}

/// A minisock ended and never saw the peer's FIN.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FinWait2EndedLine {
    /// When, and which.
    #[serde(flatten)]
    pub head: Head,
    /// What is known of the full socket before it.
    #[serde(flatten)]
    pub story: StoryLine,
    /// Why it ended.
    pub cause: EndCause,
    /// The process behind the cause: who took the socket pair, or killed it.
    pub by: Option<Process>,
    /// From the minisock's beginning to its end, in seconds.
    pub minisock_seconds: Option<f64>,
    /// Events were lost while it lived.
    pub gap: bool,
}

/// A TIME-WAIT, measured. Times are in seconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TimeWaitLine {
    /// Why it ended.
    pub cause: EndCause,
    /// The process behind the cause: who took the socket pair, or killed it.
    pub by: Option<Process>,
    /// From its beginning to its end.
    pub seconds: f64,
    /// From the minisock's beginning to its end.
    pub minisock_seconds: Option<f64>,
    /// The wait that the kernel set.
    pub nominal_seconds: f64,
    /// How far past that is still nominal.
    pub slack_seconds: f64,
    /// Its length against the wait that the kernel set.
    pub ratio_of_nominal: Option<f64>,
    /// Its length against RFC 9293's 2MSL.
    pub ratio_of_rfc_2msl: Option<f64>,
    /// How often it began again; a minimum where the witness is `inferred`.
    pub restarts: u32,
    /// From the last beginning to its end.
    pub since_last_restart_seconds: f64,
    /// FINs of the peer that came again.
    pub final_ack_lost: Option<u32>,
    /// Other segments that came.
    pub stray_segments: Option<u32>,
    /// What the first of its two purposes alone would have taken.
    pub needed_seconds: Option<f64>,
    /// How its beginning and its restarts are known.
    pub witness: Witness,
    /// Its length since the last beginning, judged.
    pub verdict: Verdict,
}

/// A full socket changed its state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TransitionLine {
    /// When, and which.
    #[serde(flatten)]
    pub head: Head,
    /// Who changed it, as `closer`, and whose it is.
    pub owner: Owner,
    /// State left.
    pub from: TcpState,
    /// State entered.
    pub to: TcpState,
    /// Time in the state that it left.
    pub seconds: Option<f64>,
}

/// RFC 3339 in UTC, with all nine digits behind the second.
mod nanoseconds {
    use jiff::Timestamp;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&time.strftime("%Y-%m-%dT%H:%M:%S%.9fZ"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl Line {
    /// When, and which connection.
    pub const fn head(&self) -> &Head {
        match self {
            Self::Closed(line) => &line.head,
            Self::TimeWaitEnded(line) => &line.head,
            Self::FinWait2Ended(line) => &line.head,
            Self::Transition(line) => &line.head,
        }
    }

    /// As JSON, without an end of line.
    pub fn json(&self) -> String {
        // Plain structures of numbers and strings cannot fail to serialize.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// Turns observations into lines.
#[derive(Clone, Debug)]
pub struct Teller {
    reset_reasons: BTreeMap<u32, String>,
    sees_fin_retransmits: bool,
}

impl Teller {
    /// With the kernel's names for the reasons of a reset. Where retransmissions are not seen, their number is not
    /// known either.
    pub const fn new(reset_reasons: BTreeMap<u32, String>, sees_fin_retransmits: bool) -> Self {
        Self { reset_reasons, sees_fin_retransmits }
    }

    /// The line of an observation, made in this home; `None` for one that has none.
    pub fn line(&self, observation: &Observation, home: Option<&Home>, anchor: &Anchor) -> Option<Line> {
        Some(match observation {
            Observation::Closed(closed) => Line::Closed(self.closed(closed, home, anchor)),
            Observation::MinisockEnded(ended) => match ended.time_wait {
                Some(time_wait) => Line::TimeWaitEnded(self.time_wait_ended(ended, &time_wait, home, anchor)),
                None => Line::FinWait2Ended(self.fin_wait2_ended(ended, home, anchor)),
            },
            Observation::Transition(transition) => Line::Transition(transition_line(transition, anchor)),
            _ => return None,
        })
    }

    fn closed(&self, closed: &Closed, home: Option<&Home>, anchor: &Anchor) -> ClosedLine {
        let story = &closed.story;
        let mut line = self.story(story, home);
        // Where the peer's FIN has yet to come, it may never.
        line.segments = line.segments.filter(|_| closed.then != Some(Then::FinWait2));
        ClosedLine {
            head: head(closed.at, story.id, &story.pair, anchor),
            story: line,
            then: closed.then,
            gap: story.gap,
        }
    }

    fn time_wait_ended(
        &self,
        ended: &MinisockEnded,
        time_wait: &TimeWait,
        home: Option<&Home>,
        anchor: &Anchor,
    ) -> TimeWaitEndedLine {
        let mut story = self.minisock_story(ended, home);
        let seconds = Some(time_wait.dwell.as_secs_f64());
        story.states.push(StateLine { state: TcpState::TimeWait, seconds });
        TimeWaitEndedLine {
            head: head(ended.at, ended.id, &ended.pair, anchor),
            story,
            time_wait: TimeWaitLine {
                cause: ended.cause,
                by: ended.by,
                seconds: time_wait.dwell.as_secs_f64(),
                minisock_seconds: ended.minisock.map(|minisock| minisock.as_secs_f64()),
                nominal_seconds: time_wait.nominal.as_secs_f64(),
                slack_seconds: time_wait.slack.as_secs_f64(),
                ratio_of_nominal: ratio(time_wait.dwell, time_wait.nominal),
                ratio_of_rfc_2msl: ratio(time_wait.dwell, RFC_9293_2MSL),
                restarts: time_wait.restarts,
                since_last_restart_seconds: time_wait.since_last_restart.as_secs_f64(),
                final_ack_lost: time_wait.final_acks_lost,
                stray_segments: time_wait.strays,
                needed_seconds: time_wait.needed.map(|needed| needed.as_secs_f64()),
                witness: time_wait.witness,
                verdict: time_wait.verdict,
            },
            gap: ended.gap,
        }
    }

    fn fin_wait2_ended(
        &self,
        ended: &MinisockEnded,
        home: Option<&Home>,
        anchor: &Anchor,
    ) -> FinWait2EndedLine {
        FinWait2EndedLine {
            head: head(ended.at, ended.id, &ended.pair, anchor),
            story: self.minisock_story(ended, home),
            cause: ended.cause,
            by: ended.by,
            minisock_seconds: ended.minisock.map(|minisock| minisock.as_secs_f64()),
            gap: ended.gap,
        }
    }

    /// The story of the full socket, with what its minisock came to know. Where that closed unseen, there is none.
    fn minisock_story(&self, ended: &MinisockEnded, home: Option<&Home>) -> StoryLine {
        let mut line = ended.story.map(|story| self.story(&story, home)).unwrap_or_default();
        line.fin.peer_seq = line.fin.peer_seq.or(ended.peer_fin);
        line
    }

    fn story(&self, story: &Story, home: Option<&Home>) -> StoryLine {
        StoryLine {
            role: Some(story.role),
            manner: story.manner,
            segments: story.segments,
            owner: Owner::of(story, home),
            states: states(&story.states),
            fin: fin(&story.fin, self.sees_fin_retransmits),
            bytes: bytes(&story.bytes),
            reset: story.reset.map(|reset| self.reset(reset)),
        }
    }

    fn reset(&self, reset: ResetSeen) -> ResetLine {
        ResetLine {
            direction: if reset.sent { Direction::Sent } else { Direction::Received },
            reason: reset.reason.and_then(|reason| self.reset_reasons.get(&reason).cloned()),
        }
    }
}

fn transition_line(transition: &Transition, anchor: &Anchor) -> TransitionLine {
    TransitionLine {
        head: head(transition.at, transition.id, &transition.pair, anchor),
        owner: Owner { closer: transition.process, uid: Some(transition.uid), ..Owner::default() },
        from: transition.from,
        to: transition.to,
        seconds: transition.dwell.map(|dwell| dwell.as_secs_f64()),
    }
}

fn head(at: Monotonic, id: ConnectionId, pair: &Pair, anchor: &Anchor) -> Head {
    Head {
        time: anchor.wall(at),
        monotonic_ns: at.as_nanos(),
        netns: id.netns,
        family: pair.family(),
        local: Address::from(pair.local),
        remote: Address::from(pair.remote),
        cookie: id.cookie(),
    }
}

fn states(states: &States) -> Vec<StateLine> {
    let line = |(state, dwell): (TcpState, Option<Duration>)| StateLine {
        state,
        seconds: dwell.map(|dwell| dwell.as_secs_f64()),
    };
    states.iter().map(line).collect()
}

fn fin(fin: &Fin, sees_retransmits: bool) -> FinLine {
    FinLine {
        seq: fin.seq,
        ack_of_fin: fin.ack_of_fin,
        peer_seq: fin.peer_seq,
        retransmits: sees_retransmits.then_some(fin.retransmits),
        // Without the time of the first there is none to count from.
        retransmitted_after: sees_retransmits
            .then(|| fin.schedule.iter().map(|after| after.as_secs_f64()).collect())
            .filter(|times: &Vec<f64>| fin.retransmits == 0 || !times.is_empty()),
    }
}

const fn bytes(bytes: &Bytes) -> BytesLine {
    BytesLine {
        sent: bytes.sent,
        received: bytes.received,
        after_our_fin: bytes.after_our_fin,
        after_peer_fin: bytes.after_peer_fin,
    }
}

fn ratio(part: Duration, whole: Duration) -> Option<f64> {
    (!whole.is_zero()).then(|| part.as_secs_f64() / whole.as_secs_f64())
}
