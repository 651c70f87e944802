//! What has become known, packed into few bytes, for whoever keeps it.

use std::{sync::Arc, time::Duration};

use super::{
    Bytes, Closed, EndCause, Fin, Manner, MinisockEnded, Observation, ResetSeen, Role, States, Story, Then,
    TimeWait, Transition, Verdict, Witness,
};
use crate::{
    event::{CgroupId, ConnectionId, Pair, TcpState},
    lifecycle::packing::{self, NEVER, NO_PAIR, NOBODY, Way, Writer},
};

/// An observation of those that are kept: how a full socket or a minisock ended, or a change of state.
#[derive(Clone, Debug)]
pub struct PackedObservation {
    kind: Kind,
    /// As many bytes of bits are in front of the others.
    bits: u8,
    bytes: Arc<[u8]>,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Closed,
    MinisockEnded,
    Transition,
}

impl PackedObservation {
    /// Packs it; `None` of those that are not kept.
    pub fn of(observation: &Observation) -> Option<Self> {
        let mut writer = Writer::new(NEVER);
        // To write and to read are one: what is written is not changed.
        let kind = match *observation {
            Observation::Closed(mut told) => {
                closed(&mut writer, &mut told);
                Kind::Closed
            }
            Observation::MinisockEnded(mut told) => {
                minisock_ended(&mut writer, &mut told);
                Kind::MinisockEnded
            }
            Observation::Transition(mut told) => {
                transition(&mut writer, &mut told);
                Kind::Transition
            }
            _ => return None,
        };
        let (bits, bytes) = writer.written();
        Some(Self { kind, bits, bytes: bytes.into() })
    }

    /// The same, unpacked.
    pub fn unpacked(&self) -> Observation {
        match self.kind {
            Kind::Closed => {
                let mut told = Closed { at: NEVER, story: untold(NO_ID, NO_PAIR), then: None };
                packing::read_exact(self.bits, &self.bytes, NEVER, |reader| closed(reader, &mut told));
                Observation::Closed(told)
            }
            Kind::MinisockEnded => {
                let mut told = NO_MINISOCK;
                packing::read_exact(self.bits, &self.bytes, NEVER, |reader| {
                    minisock_ended(reader, &mut told);
                });
                Observation::MinisockEnded(told)
            }
            Kind::Transition => {
                let mut told = NO_TRANSITION;
                packing::read_exact(self.bits, &self.bytes, NEVER, |reader| transition(reader, &mut told));
                Observation::Transition(told)
            }
        }
    }

    /// Bytes that it takes beside its own.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }
}

fn closed(way: &mut impl Way, closed: &mut Closed) {
    way.time(&mut closed.at);
    way.id(&mut closed.story.id);
    way.pair(&mut closed.story.pair);
    story(way, &mut closed.story, Duration::ZERO);
    way.option(&mut closed.then, Then::Closed, |way, then| {
        way.one_of(then, &Then::ALL, |then| then as u8, 2);
    });
}

fn minisock_ended(way: &mut impl Way, ended: &mut MinisockEnded) {
    way.time(&mut ended.at);
    way.id(&mut ended.id);
    way.pair(&mut ended.pair);
    let (id, pair) = (ended.id, ended.pair);
    way.option(&mut ended.began_in, TcpState::TimeWait, Way::state);
    way.option(&mut ended.minisock, Duration::ZERO, Way::duration);
    way.option(&mut ended.fin_wait2, Duration::ZERO, Way::duration);
    let fin_wait2 = ended.fin_wait2.unwrap_or_default();
    story_of(way, &mut ended.story, (id, pair), fin_wait2);
    way.one_of(&mut ended.cause, &EndCause::ALL, |cause| cause as u8, 4);
    way.option(&mut ended.by, NOBODY, Way::process);
    let minisock = ended.minisock.unwrap_or_default();
    way.option(&mut ended.time_wait, NO_TIME_WAIT, |way, told| time_wait(way, told, minisock));
    let peer_fin = ended.story.and_then(|story| story.fin.peer_seq).unwrap_or_default();
    way.option(&mut ended.peer_fin, 0, |way, seq| way.usually(seq, peer_fin, Way::sequence));
    way.flag(&mut ended.flip_is_told);
    way.flag(&mut ended.gap);
}

/// The minisock took about as long as its TIME-WAIT.
fn time_wait(way: &mut impl Way, told: &mut TimeWait, minisock: Duration) {
    way.usually(&mut told.dwell, minisock, Way::duration);
    let dwell = told.dwell;
    way.usually(&mut told.since_last_restart, dwell, Way::duration);
    way.duration(&mut told.nominal);
    way.duration(&mut told.slack);
    way.count(&mut told.restarts);
    way.option(&mut told.final_acks_lost, 0, Way::count);
    way.option(&mut told.strays, 0, Way::count);
    way.option(&mut told.needed, Duration::ZERO, Way::duration);
    way.one_of(&mut told.witness, &Witness::ALL, |witness| witness as u8, 1);
    way.one_of(&mut told.verdict, &Verdict::ALL, |verdict| verdict as u8, 2);
}

fn transition(way: &mut impl Way, told: &mut Transition) {
    way.time(&mut told.at);
    way.id(&mut told.id);
    way.pair(&mut told.pair);
    way.state(&mut told.from);
    way.state(&mut told.to);
    way.option(&mut told.dwell, Duration::ZERO, Way::duration);
    way.option(&mut told.process, NOBODY, Way::process);
    way.number(&mut told.uid);
}

/// What is known of the full socket before a minisock, if anything is: mostly it is known by the same.
pub(in crate::lifecycle) fn story_of(
    way: &mut impl Way,
    told: &mut Option<Story>,
    (id, pair): (ConnectionId, Pair),
    fin_wait2: Duration,
) {
    way.option(told, untold(id, pair), |way, told| {
        way.usually(&mut told.id, id, Way::id);
        way.usually(&mut told.pair, pair, Way::pair);
        story(way, told, fin_wait2);
    });
}

/// All that is packed of a full socket but what it is known by; FIN-WAIT-2 took about as long as that.
fn story(way: &mut impl Way, story: &mut Story, fin_wait2: Duration) {
    way.role(&mut story.role);
    way.option(&mut story.manner, Manner::Graceful, Way::manner);
    way.option(&mut story.segments, 0, |way, segments| way.usually(segments, 4, Way::byte));
    way.option(&mut story.opener, NOBODY, Way::process);
    let opener = story.opener.unwrap_or(NOBODY);
    way.option(&mut story.closer, NOBODY, |way, closer| way.usually(closer, opener, Way::process));
    way.option(&mut story.cgroup, CgroupId::MIN, Way::cgroup);
    way.option(&mut story.uid, 0, Way::number);
    way.states(&mut story.states, fin_wait2);
    way.option(&mut story.fin.seq, 0, Way::sequence);
    let next = story.fin.seq.unwrap_or_default().wrapping_add(1);
    way.option(&mut story.fin.ack_of_fin, 0, |way, ack| way.usually(ack, next, Way::sequence));
    way.option(&mut story.fin.peer_seq, 0, Way::sequence);
    way.count(&mut story.fin.retransmits);
    way.schedule(&mut story.fin.schedule);
    let Bytes { sent, received, after_our_fin, after_peer_fin } = &mut story.bytes;
    for bytes in [sent, received, after_our_fin, after_peer_fin] {
        way.option(bytes, 0, Way::long_number);
    }
    way.option(&mut story.reset, ResetSeen { sent: false, reason: None }, |way, reset| {
        way.flag(&mut reset.sent);
        way.option(&mut reset.reason, 0, Way::number);
    });
    way.flag(&mut story.gap);
}

/// A full socket of which nothing is known yet, to be read.
pub(in crate::lifecycle) fn untold(id: ConnectionId, pair: Pair) -> Story {
    Story {
        id,
        pair,
        role: Role::None,
        manner: None,
        segments: None,
        opener: None,
        closer: None,
        cgroup: None,
        uid: None,
        states: States::default(),
        fin: Fin::default(),
        bytes: Bytes::default(),
        reset: None,
        gap: false,
    }
}

const NO_ID: ConnectionId = ConnectionId { netns: 0, socket: 0 };

const NO_MINISOCK: MinisockEnded = MinisockEnded {
    at: NEVER,
    id: NO_ID,
    pair: NO_PAIR,
    story: None,
    began_in: None,
    minisock: None,
    fin_wait2: None,
    cause: EndCause::Unknown,
    by: None,
    time_wait: None,
    peer_fin: None,
    flip_is_told: false,
    gap: false,
};

const NO_TIME_WAIT: TimeWait = TimeWait {
    dwell: Duration::ZERO,
    since_last_restart: Duration::ZERO,
    nominal: Duration::ZERO,
    slack: Duration::ZERO,
    restarts: 0,
    final_acks_lost: None,
    strays: None,
    needed: None,
    witness: Witness::Inferred,
    verdict: Verdict::Nominal,
};

const NO_TRANSITION: Transition = Transition {
    at: NEVER,
    id: NO_ID,
    pair: NO_PAIR,
    from: TcpState::Close,
    to: TcpState::Close,
    dwell: None,
    process: None,
    uid: 0,
};

#[cfg(test)]
pub(in crate::lifecycle) mod tests;
