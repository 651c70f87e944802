//! JSON lines: one object per line, every key always there, unknown is `null`.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;

use crate::{
    clock::Anchor,
    event::{Address, AddressFamily, ConnectionId, Monotonic, Pair, Process},
    lifecycle::{
        Observation,
        observation::{
            Bytes, Closed, Fin, Manner, MinisockEnded, RFC_9293_2MSL, ResetSeen, States, Story, Then,
            TimeWait, Transition,
        },
    },
    owner::{Home, Owner},
};

/// Renders observations as lines of JSON.
pub struct Json {
    reset_reasons: BTreeMap<u32, String>,
    sees_fin_retransmits: bool,
}

/// What every line begins with.
#[derive(Serialize)]
struct Head {
    event: &'static str,
    time: String,
    monotonic_ns: u64,
    netns: u32,
    family: AddressFamily,
    local: Address,
    remote: Address,
    cookie: Option<u64>,
}

#[derive(Serialize)]
struct State {
    state: &'static str,
    seconds: Option<f64>,
}

#[derive(Serialize)]
struct FinLine {
    seq: Option<u32>,
    ack_of_fin: Option<u32>,
    peer_seq: Option<u32>,
    retransmits: Option<u32>,
    /// Seconds after it was sent first.
    retransmitted_after: Option<Vec<f64>>,
}

#[derive(Serialize)]
struct BytesLine {
    sent: Option<u64>,
    received: Option<u64>,
    after_our_fin: Option<u64>,
    after_peer_fin: Option<u64>,
}

#[derive(Serialize)]
struct ResetLine {
    direction: &'static str,
    reason: Option<String>,
}

/// What is known of a full socket.
#[derive(Serialize)]
struct StoryLine {
    role: Option<&'static str>,
    manner: Option<&'static str>,
    segments: Option<u8>,
    owner: Owner,
    states: Vec<State>,
    fin: FinLine,
    bytes: BytesLine,
    reset: Option<ResetLine>,
}

#[derive(Serialize)]
struct ClosedLine {
    #[serde(flatten)]
    head: Head,
    #[serde(flatten)]
    story: StoryLine,
    then: Option<&'static str>,
    gap: bool,
}

#[derive(Serialize)]
struct TimeWaitEndedLine {
    #[serde(flatten)]
    head: Head,
    #[serde(flatten)]
    story: StoryLine,
    time_wait: TimeWaitLine,
    gap: bool,
}

#[derive(Serialize)]
struct FinWait2EndedLine {
    #[serde(flatten)]
    head: Head,
    #[serde(flatten)]
    story: StoryLine,
    cause: &'static str,
    by: Option<Process>,
    minisock_seconds: Option<f64>,
    gap: bool,
}

#[derive(Serialize)]
struct TimeWaitLine {
    cause: &'static str,
    /// The process behind the cause: who took the socket pair, or killed it.
    by: Option<Process>,
    seconds: f64,
    minisock_seconds: Option<f64>,
    nominal_seconds: f64,
    slack_seconds: f64,
    ratio_of_nominal: Option<f64>,
    ratio_of_rfc_2msl: Option<f64>,
    restarts: u32,
    since_last_restart_seconds: f64,
    final_ack_lost: Option<u32>,
    stray_segments: Option<u32>,
    needed_seconds: Option<f64>,
    witness: &'static str,
    verdict: &'static str,
}

#[derive(Serialize)]
struct TransitionLine {
    #[serde(flatten)]
    head: Head,
    owner: Owner,
    from: &'static str,
    to: &'static str,
    seconds: Option<f64>,
}

impl Json {
    /// With the kernel's names for the reasons of a reset. Where retransmissions are not seen, their number is not
    /// known either.
    pub const fn new(reset_reasons: BTreeMap<u32, String>, sees_fin_retransmits: bool) -> Self {
        Self { reset_reasons, sees_fin_retransmits }
    }

    /// The line of an observation, made in this home; `None` for one that has none.
    pub fn line(&self, observation: &Observation, home: Option<&Home>, anchor: &Anchor) -> Option<String> {
        let line = match observation {
            Observation::Closed(closed) => serde_json::to_string(&self.closed(closed, home, anchor)),
            Observation::MinisockEnded(ended) => match ended.time_wait {
                Some(time_wait) => {
                    serde_json::to_string(&self.time_wait_ended(ended, &time_wait, home, anchor))
                }
                None => serde_json::to_string(&self.fin_wait2_ended(ended, home, anchor)),
            },
            Observation::Transition(transition) => {
                serde_json::to_string(&transition_line(transition, anchor))
            }
            _ => return None,
        };
        // Plain structures of numbers and strings cannot fail to serialize.
        line.ok()
    }

    fn closed(&self, closed: &Closed, home: Option<&Home>, anchor: &Anchor) -> ClosedLine {
        let story = &closed.story;
        let mut line = self.story(story, home);
        // Where the peer's FIN has yet to come, it may never.
        line.segments = line.segments.filter(|_| closed.then != Some(Then::FinWait2));
        ClosedLine {
            head: head("closed", closed.at, story.id, &story.pair, anchor),
            story: line,
            then: closed.then.map(Then::label),
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
        story.states.push(State { state: "time_wait", seconds: Some(time_wait.dwell.as_secs_f64()) });
        TimeWaitEndedLine {
            head: head("time_wait_ended", ended.at, ended.id, &ended.pair, anchor),
            story,
            time_wait: TimeWaitLine {
                cause: ended.cause.label(),
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
                witness: time_wait.witness.label(),
                verdict: time_wait.verdict.label(),
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
            head: head("fin_wait2_ended", ended.at, ended.id, &ended.pair, anchor),
            story: self.minisock_story(ended, home),
            cause: ended.cause.label(),
            by: ended.by,
            minisock_seconds: ended.minisock.map(|minisock| minisock.as_secs_f64()),
            gap: ended.gap,
        }
    }

    /// The story of the full socket, with what its minisock came to know.
    fn minisock_story(&self, ended: &MinisockEnded, home: Option<&Home>) -> StoryLine {
        let mut line = match &ended.story {
            Some(story) => self.story(story, home),
            None => unknown_story(),
        };
        line.fin.peer_seq = line.fin.peer_seq.or(ended.peer_fin);
        line
    }

    fn story(&self, story: &Story, home: Option<&Home>) -> StoryLine {
        StoryLine {
            role: Some(story.role.label()),
            manner: story.manner.map(Manner::label),
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
            direction: if reset.sent { "sent" } else { "received" },
            reason: reset.reason.and_then(|reason| self.reset_reasons.get(&reason).cloned()),
        }
    }
}

fn transition_line(transition: &Transition, anchor: &Anchor) -> TransitionLine {
    TransitionLine {
        head: head("transition", transition.at, transition.id, &transition.pair, anchor),
        owner: Owner { closer: transition.process, uid: Some(transition.uid), ..Owner::default() },
        from: transition.from.label(),
        to: transition.to.label(),
        seconds: transition.dwell.map(|dwell| dwell.as_secs_f64()),
    }
}

fn head(event: &'static str, at: Monotonic, id: ConnectionId, pair: &Pair, anchor: &Anchor) -> Head {
    Head {
        event,
        time: anchor.wall(at).strftime("%Y-%m-%dT%H:%M:%S%.9fZ").to_string(),
        monotonic_ns: at.as_nanos(),
        netns: id.netns,
        family: pair.family(),
        local: Address::from(pair.local),
        remote: Address::from(pair.remote),
        cookie: id.cookie(),
    }
}

fn states(states: &States) -> Vec<State> {
    states
        .iter()
        .map(|(state, dwell)| State { state: state.label(), seconds: dwell.map(|dwell| dwell.as_secs_f64()) })
        .collect()
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

/// A minisock whose full socket closed unseen.
fn unknown_story() -> StoryLine {
    StoryLine {
        role: None,
        manner: None,
        segments: None,
        owner: Owner::default(),
        states: Vec::new(),
        fin: FinLine {
            seq: None,
            ack_of_fin: None,
            peer_seq: None,
            retransmits: None,
            retransmitted_after: None,
        },
        bytes: bytes(&Bytes::default()),
        reset: None,
    }
}

fn ratio(part: Duration, whole: Duration) -> Option<f64> {
    (!whole.is_zero()).then(|| part.as_secs_f64() / whole.as_secs_f64())
}
