//! The last that was told, packed: an observation takes 680 bytes, and some 100 when it is packed.

use std::{
    collections::{VecDeque, vec_deque},
    hash::BuildHasher as _,
    sync::Arc,
};

use hashbrown::{DefaultHashBuilder, HashMap};
use jiff::Timestamp;

use crate::{
    clock::Anchor,
    event::{ConnectionId, Monotonic, Pair},
    lifecycle::{
        Observation,
        observation::{PackedObservation, Then},
    },
    owner::Home,
};

use super::Told;

/// Bytes that an entry may take on average, so that a bound of entries is one of bytes too.
const BYTES_PER_ENTRY: usize = 512;

/// The last that was told, bounded in number and in bytes. The oldest makes room.
pub struct Memory {
    entries: VecDeque<Entry>,
    /// Connections that go on in a minisock, by the number of what was told of them.
    going_on: HashMap<Which, u64>,
    hasher: DefaultHashBuilder,
    most: usize,
    bytes: usize,
    /// How much was told, ever. What is remembered has numbers in a row, of which this is the last.
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

/// Which connection, as a hash of its id and its socket pair: a socket that has no cookie is known by its address, which the
/// next one may have before this one's minisock is gone. Of as many as are remembered no two are the same by chance.
type Which = u64;

/// Something told, packed.
#[derive(Clone)]
pub(super) struct Entry {
    pub(super) number: u64,
    /// More was told of the same connection later, its end.
    pub(super) superseded: bool,
    at: Monotonic,
    which: Which,
    home: Option<Arc<Home>>,
    anchor: Anchor,
    packed: PackedObservation,
}

impl Entry {
    /// Unpacked.
    pub(super) fn told(self) -> Told {
        let observation = self.packed.unpacked();
        Told { number: self.number, observation, home: self.home, anchor: self.anchor }
    }

    fn bytes(&self) -> usize {
        size_of::<Self>() + self.packed.bytes()
    }
}

impl Memory {
    /// Room for so many.
    pub fn of(most: usize) -> Self {
        Self {
            entries: VecDeque::new(),
            going_on: HashMap::new(),
            hasher: DefaultHashBuilder::default(),
            most,
            bytes: 0,
            told: 0,
            forgotten: 0,
        }
    }

    /// Remembers one more, of those that [are kept](PackedObservation::of).
    pub fn add(&mut self, observation: &Observation, home: Option<Arc<Home>>, anchor: Anchor) {
        let Some(packed) = PackedObservation::of(observation) else {
            return;
        };
        self.told += 1;
        let (at, id, pair) = when_and_which(observation);
        let which = self.hasher.hash_one((id, pair));
        self.supersede(which, observation);
        let entry = Entry { number: self.told, superseded: false, at, which, home, anchor, packed };
        self.bytes += entry.bytes();
        self.entries.push_back(entry);
        while self.entries.len() > self.most || self.bytes > self.most.saturating_mul(BYTES_PER_ENTRY) {
            let Some(oldest) = self.entries.pop_front() else {
                return;
            };
            self.bytes -= oldest.bytes();
            self.forgotten += 1;
            if self.going_on.get(&oldest.which) == Some(&oldest.number) {
                self.going_on.remove(&oldest.which);
            }
        }
    }

    /// Notes that a connection goes on, or that what was told of one is not the last any more.
    fn supersede(&mut self, which: Which, observation: &Observation) {
        match observation {
            Observation::Closed(closed) if matches!(closed.then, Some(Then::TimeWait | Then::FinWait2)) => {
                self.going_on.insert(which, self.told);
            }
            Observation::MinisockEnded(_) => {
                let number = self.going_on.remove(&which);
                if let Some(entry) = number.and_then(|number| self.numbered(number)) {
                    entry.superseded = true;
                }
            }
            _ => {}
        }
    }

    /// The one with this number, if it is remembered.
    fn numbered(&mut self, number: u64) -> Option<&mut Entry> {
        let place = number.checked_sub(self.entries.front()?.number)?;
        self.entries.get_mut(usize::try_from(place).ok()?)
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
fn when_and_which(observation: &Observation) -> (Monotonic, Option<ConnectionId>, Option<Pair>) {
    let of = |at, id, pair| (at, Some(id), Some(pair));
    match observation {
        Observation::Closed(closed) => of(closed.at, closed.story.id, closed.story.pair),
        // It may be known by another name than its full socket was.
        Observation::MinisockEnded(ended) => {
            of(ended.at, ended.story.as_ref().map_or(ended.id, |story| story.id), ended.pair)
        }
        Observation::Transition(transition) => of(transition.at, transition.id, transition.pair),
        _ => (Monotonic::default(), None, None),
    }
}
