//! The last that was told, packed: an observation of some 700 bytes takes some 150 here.

use std::{
    collections::{HashMap, VecDeque, vec_deque},
    sync::Arc,
};

use jiff::Timestamp;

use crate::{
    clock::Anchor,
    event::{ConnectionId, Monotonic},
    lifecycle::{Observation, observation::Then},
    owner::Home,
};

use super::Told;

/// Bytes that an entry may take on average, so that a bound of entries is one of bytes too.
const BYTES_PER_ENTRY: usize = 512;

/// The last that was told, bounded in number and in bytes. The oldest makes room.
pub struct Memory {
    entries: VecDeque<Entry>,
    /// Connections that go on in a minisock, by the number of what was told of them.
    going_on: HashMap<ConnectionId, u64>,
    most: usize,
    bytes: usize,
    /// How much was told, ever.
    told: u64,
    forgotten: u64,
}

/// How a memory is doing. Counters only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Remembered {
    /// Entries now.
    pub entries: usize,
    /// How many there may be.
    pub limit: usize,
    /// Entries that had to make room.
    pub forgotten: u64,
}

/// Something told, packed.
#[derive(Clone)]
pub(super) struct Entry {
    pub(super) number: u64,
    /// More was told of the same connection later, its end.
    pub(super) superseded: bool,
    at: Monotonic,
    id: ConnectionId,
    home: Option<Arc<Home>>,
    anchor: Anchor,
    packed: Arc<[u8]>,
}

impl Entry {
    /// Unpacked. What was packed here can be unpacked.
    pub(super) fn told(self) -> Option<Told> {
        let observation = postcard::from_bytes(&self.packed).ok()?;
        Some(Told { number: self.number, observation, home: self.home, anchor: self.anchor })
    }

    fn bytes(&self) -> usize {
        size_of::<Self>() + self.packed.len()
    }
}

impl Memory {
    /// Room for so many.
    pub fn of(most: usize) -> Self {
        Self { entries: VecDeque::new(), going_on: HashMap::new(), most, bytes: 0, told: 0, forgotten: 0 }
    }

    /// Remembers one more.
    pub fn add(&mut self, observation: &Observation, home: Option<Arc<Home>>, anchor: Anchor) {
        self.told += 1;
        let Ok(packed) = postcard::to_allocvec(observation) else {
            // Plain structures of numbers can be packed.
            return;
        };
        let (at, id) = when_and_which(observation);
        self.supersede(id, observation);
        let entry =
            Entry { number: self.told, superseded: false, at, id, home, anchor, packed: packed.into() };
        self.bytes += entry.bytes();
        self.entries.push_back(entry);
        while self.entries.len() > self.most || self.bytes > self.most.saturating_mul(BYTES_PER_ENTRY) {
            let Some(oldest) = self.entries.pop_front() else {
                return;
            };
            self.bytes -= oldest.bytes();
            self.forgotten += 1;
            if self.going_on.get(&oldest.id) == Some(&oldest.number) {
                self.going_on.remove(&oldest.id);
            }
        }
    }

    /// Notes that a connection goes on, or that what was told of one is not the last any more.
    fn supersede(&mut self, id: ConnectionId, observation: &Observation) {
        match observation {
            Observation::Closed(closed) if matches!(closed.then, Some(Then::TimeWait | Then::FinWait2)) => {
                self.going_on.insert(id, self.told);
            }
            Observation::MinisockEnded(_) => {
                let place = self
                    .going_on
                    .remove(&id)
                    .and_then(|number| self.entries.binary_search_by_key(&number, |entry| entry.number).ok());
                if let Some(entry) = place.and_then(|place| self.entries.get_mut(place)) {
                    entry.superseded = true;
                }
            }
            _ => {}
        }
    }

    /// Forgets all of it, which nobody wants any more.
    pub(super) fn clear(&mut self) {
        *self = Self { told: self.told, ..Self::of(self.most) };
    }

    /// Before this moment nothing is remembered though something was told; `None` if nothing was forgotten.
    pub(super) fn begins(&self) -> Option<Timestamp> {
        let oldest = self.entries.front().filter(|_| self.forgotten > 0)?;
        Some(oldest.anchor.wall(oldest.at))
    }

    /// How much was told, ever.
    pub(super) const fn told(&self) -> u64 {
        self.told
    }

    /// Those after this number, in order, at most so many.
    pub(super) fn after(&self, number: u64, most: usize) -> Vec<Entry> {
        let from = self.entries.partition_point(|entry| entry.number <= number);
        self.entries.range(from..).take(most).cloned().collect()
    }

    /// Number of the last that happened before, of those in a row at the beginning; what is forgotten is before.
    pub(super) fn last_before(&self, at: Monotonic) -> u64 {
        let oldest = |mut entries: vec_deque::Iter<'_, Entry>| {
            entries.find(|entry| entry.at >= at).map(|entry| entry.number)
        };
        oldest(self.entries.iter()).map_or(self.told, |number| number - 1)
    }

    /// How it is doing.
    pub fn stats(&self) -> Remembered {
        Remembered { entries: self.entries.len(), limit: self.most, forgotten: self.forgotten }
    }
}

/// When it happened, and to which connection.
fn when_and_which(observation: &Observation) -> (Monotonic, ConnectionId) {
    match observation {
        Observation::Closed(closed) => (closed.at, closed.story.id),
        // It may be known by another name than its full socket was.
        Observation::MinisockEnded(ended) => (ended.at, ended.story.map_or(ended.id, |story| story.id)),
        Observation::Transition(transition) => (transition.at, transition.id),
        _ => (Monotonic::default(), ConnectionId { netns: 0, socket: 0 }),
    }
}
