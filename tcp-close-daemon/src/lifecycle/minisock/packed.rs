//! A minisock at rest, packed into few bytes.
//!
//! In: a minisock to which nothing is happening. Out: its bytes, and from them the same minisock, but for what the
//! [table](crate::lifecycle::table) keeps beside them. Rationale: a TIME-WAIT waits for a minute in which nothing happens
//! to most, and there may be a million of them. What is not known of one takes a bit, and a number as many bytes as it
//! needs. One list of the fields serves to write them and to read them.

use std::time::Duration;

use super::{AbsorbedSegments, Minisock, Wait};
use crate::{
    event::{ConnectionId, Monotonic, Pair, TcpState},
    lifecycle::{
        observation::{Story, packed},
        owners::OwnerKey,
        packing::{self, NEVER, NO_PAIR, Reader, SPARE, Way, Writer},
    },
};

/// Bytes that lie in the table itself: enough for nearly all over IPv4. What takes more lies elsewhere.
const SHORT: usize = 86;

/// A minisock at rest: bits, of which there are so many bytes, and everything else behind them.
#[derive(Debug)]
pub(in crate::lifecycle) enum Packed {
    Short { bits: u8, bytes: [u8; SHORT] },
    Long { bits: u8, bytes: Box<[u8]> },
}

impl Packed {
    /// Packs a minisock to which nothing is happening; `None` of another. Its times are told by how far they are from
    /// `since`. It stays as it is: to write and to read are one.
    pub(in crate::lifecycle) fn of(minisock: &mut Minisock, since: Monotonic) -> Option<Self> {
        if !minisock.is_at_rest() {
            return None;
        }
        let mut writer = Writer::new(since);
        fields(&mut writer, minisock);
        let (bits, all) = writer.written();
        let mut bytes = [0; SHORT];
        let Some(place) = bytes.get_mut(..all.len()) else {
            return Some(Self::Long { bits, bytes: all.into() });
        };
        place.copy_from_slice(all);
        Some(Self::Short { bits, bytes })
    }

    /// The minisock that it was, packed with the same `since`, known by this, and events of its life lost or not.
    pub(in crate::lifecycle) fn unpacked(&self, since: Monotonic, id: ConnectionId, gap: bool) -> Minisock {
        let mut minisock = blank(id);
        self.read(since, |reader| fields(reader, &mut minisock));
        minisock.gap = gap;
        minisock.owner = minisock.owner_by_story();
        minisock
    }

    /// Its socket pair, and whether it began without a cookie.
    pub(in crate::lifecycle) fn identity(&self) -> (Pair, bool) {
        let (mut pair, mut nameless) = (NO_PAIR, false);
        self.read(NEVER, |reader| identity(reader, &mut pair, &mut nameless));
        (pair, nameless)
    }

    fn read(&self, since: Monotonic, read: impl FnOnce(&mut Reader<'_>)) {
        match self {
            Self::Short { bits, bytes } => {
                let mut padded = [0; SHORT + SPARE];
                padded[..SHORT].copy_from_slice(bytes);
                read(&mut Reader::new(&padded, *bits, since));
            }
            Self::Long { bits, bytes } => packing::read_exact(*bits, bytes, since, read),
        }
    }
}

impl Minisock {
    /// Nothing is happening to it: all there is to know of its full socket is known, and no event is waited for.
    fn is_at_rest(&self) -> bool {
        let waits_for_nothing = !self.story_is_due && self.cancelled.is_none() && !self.syn_is_due;
        // A recording may tell of any time at all.
        let fits = self.wait.is_none_or(|wait| wait.slack < LONGEST && wait.nominal < LONGEST);
        waits_for_nothing && fits && self.owner == self.owner_by_story()
    }

    fn owner_by_story(&self) -> OwnerKey {
        self.story.as_ref().map(Story::owner).unwrap_or_default()
    }
}

/// All that is packed, for either way.
fn fields(way: &mut impl Way, minisock: &mut Minisock) {
    identity(way, &mut minisock.pair, &mut minisock.nameless);
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
    packed::story_of(way, &mut minisock.story, (id, pair), fin_wait2);
}

fn identity(way: &mut impl Way, pair: &mut Pair, nameless: &mut bool) {
    way.pair(pair);
    way.flag(nameless);
}

fn absorbed(way: &mut impl Way, absorbed: &mut AbsorbedSegments) {
    way.count(&mut absorbed.fins_again);
    way.count(&mut absorbed.strays);
    way.flag(&mut absorbed.restart_awaits_segment);
    way.flag(&mut absorbed.flip_awaits_fin);
    way.flag(&mut absorbed.first_fin_due);
    way.option(&mut absorbed.last_fin, NEVER, Way::time);
}

/// To be read.
const fn blank(id: ConnectionId) -> Minisock {
    Minisock::blank(id, NO_PAIR, TcpState::TimeWait)
}

/// Longer than any wait.
const LONGEST: Duration = Duration::from_secs(1 << 32);

const NO_WAIT: Wait = Wait { nominal: Duration::ZERO, slack: Duration::ZERO };

#[cfg(test)]
mod tests;
