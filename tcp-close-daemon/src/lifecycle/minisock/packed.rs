//! A minisock at rest, packed into few bytes.
//!
//! In: a minisock to which nothing is happening. Out: its bytes, and from them the same minisock, but for what the
//! [table](crate::lifecycle::table) keeps beside them. Rationale: a TIME-WAIT waits for a minute in which nothing happens
//! to most, and there may be a million of them. What is not known of one takes a bit, and a number as many bytes as it
//! needs. One list of the fields serves to write them and to read them.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use self::way::{Reader, Way, Writer};
use super::{AbsorbedSegments, Minisock, Wait};
use crate::{
    event::{CgroupId, Comm, ConnectionId, Monotonic, Pair, Process, TcpState},
    lifecycle::{
        observation::{Bytes, Fin, Manner, ResetSeen, Role, States, Story},
        owners::OwnerKey,
    },
};

mod way;

/// Bytes that lie in the table itself: enough for nearly all over IPv4. What takes more lies elsewhere.
const SHORT: usize = 86;

/// A minisock at rest.
#[derive(Debug)]
pub(in crate::lifecycle) enum Packed {
    /// It takes so many of these.
    Short { length: u8, bytes: [u8; SHORT] },
    /// It takes more.
    Long(Box<[u8]>),
}

impl Packed {
    /// Packs a minisock to which nothing is happening; `None` of another. Its times are told by how far they are from
    /// `since`.
    pub(in crate::lifecycle) fn of(minisock: &Minisock, since: Monotonic) -> Option<Self> {
        if !minisock.is_at_rest() {
            return None;
        }
        let mut writer = Writer::new(since);
        // Written, it stays as it is.
        fields(&mut writer, &mut minisock.clone());
        Some(writer.packed())
    }

    /// The minisock that it was, packed with the same `since`, known by this, and events of its life lost or not.
    pub(in crate::lifecycle) fn unpacked(&self, since: Monotonic, id: ConnectionId, gap: bool) -> Minisock {
        let mut minisock = blank(id);
        fields(&mut Reader::new(self.bytes(), since), &mut minisock);
        minisock.gap = gap;
        minisock.owner = minisock.owner_by_story();
        minisock
    }

    /// Its socket pair.
    pub(in crate::lifecycle) fn pair(&self) -> Pair {
        let mut pair = NO_PAIR;
        Reader::new(self.bytes(), NEVER).pair(&mut pair);
        pair
    }

    fn from_bytes(whole: &[u8]) -> Self {
        let mut bytes = [0; SHORT];
        match (bytes.get_mut(..whole.len()), u8::try_from(whole.len())) {
            (Some(place), Ok(length)) => {
                place.copy_from_slice(whole);
                Self::Short { length, bytes }
            }
            _ => Self::Long(whole.into()),
        }
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::Short { length, bytes } => &bytes[..usize::from(*length)],
            Self::Long(bytes) => bytes,
        }
    }
}

impl Minisock {
    /// Nothing is happening to it: all there is to know of its full socket is known, and no event is waited for.
    fn is_at_rest(&self) -> bool {
        let is_settled = self.story.is_some() || self.began.is_none();
        is_settled && self.cancelled.is_none() && !self.syn_is_due && self.owner == self.owner_by_story()
    }

    fn owner_by_story(&self) -> OwnerKey {
        self.story.as_ref().map(Story::owner).unwrap_or_default()
    }
}

/// All that is packed, for either way; first what [`Packed::pair`] reads.
fn fields(way: &mut impl Way, minisock: &mut Minisock) {
    way.pair(&mut minisock.pair);
    way.flag(&mut minisock.nameless);
    way.flag(&mut minisock.sees_starts);
    way.flag(&mut minisock.tells_segments_first);
    way.flag(&mut minisock.flip_is_told);
    way.state(&mut minisock.substate);
    way.option(&mut minisock.began, (NEVER, TcpState::TimeWait), |way, (at, substate)| {
        way.time(at);
        way.state(substate);
    });
    way.option(&mut minisock.fin_wait2_since, NEVER, Way::time);
    way.option(&mut minisock.entered, NEVER, Way::time);
    way.option(&mut minisock.last_start, NEVER, Way::time);
    way.option(&mut minisock.nominal_end, NEVER, Way::time);
    way.option(&mut minisock.fires_at, NEVER, Way::time);
    way.option(&mut minisock.wait, NO_WAIT, |way, Wait { nominal, slack }| {
        way.duration(nominal);
        way.duration(slack);
    });
    way.count(&mut minisock.restarts);
    way.option(&mut minisock.absorbed, AbsorbedSegments::default(), absorbed);
    let (id, pair) = (minisock.id, minisock.pair);
    let began_after = minisock.began.zip(minisock.fin_wait2_since);
    let fin_wait2 = began_after.map_or(Duration::ZERO, |((began, _), since)| began.since(since));
    way.option(&mut minisock.story, untold(id, pair), |way, told| {
        way.usually(&mut told.id, id, Way::id);
        way.usually(&mut told.pair, pair, Way::pair);
        story(way, told, fin_wait2);
    });
}

fn absorbed(way: &mut impl Way, absorbed: &mut AbsorbedSegments) {
    way.count(&mut absorbed.fins_again);
    way.count(&mut absorbed.strays);
    way.flag(&mut absorbed.restart_awaits_segment);
    way.flag(&mut absorbed.flip_awaits_fin);
    way.flag(&mut absorbed.first_fin_due);
    way.option(&mut absorbed.last_fin, NEVER, Way::time);
}

/// FIN-WAIT-2 took about as long as that.
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

/// A minisock of which nothing is known yet, to be read.
const fn blank(id: ConnectionId) -> Minisock {
    Minisock {
        id,
        pair: NO_PAIR,
        nameless: false,
        began: None,
        substate: TcpState::TimeWait,
        fin_wait2_since: None,
        entered: None,
        last_start: None,
        nominal_end: None,
        fires_at: None,
        wait: None,
        restarts: 0,
        sees_starts: false,
        tells_segments_first: false,
        flip_is_told: false,
        absorbed: None,
        syn_is_due: false,
        cancelled: None,
        story: None,
        owner: OwnerKey { cgroup: None, comm: None },
        gap: false,
    }
}

/// The same of a full socket.
fn untold(id: ConnectionId, pair: Pair) -> Story {
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

const NEVER: Monotonic = Monotonic::from_nanos(0);

const NO_WAIT: Wait = Wait { nominal: Duration::ZERO, slack: Duration::ZERO };

const NO_ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

const NO_PAIR: Pair = Pair { local: NO_ADDRESS, remote: NO_ADDRESS };

const NOBODY: Process = Process { pid: 0, comm: Comm::from_bytes([0; 16]) };

#[cfg(test)]
mod tests;
