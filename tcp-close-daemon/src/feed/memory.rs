//! The last that was told, packed: an observation of some 700 bytes takes some 150 here.

use std::{
    collections::{VecDeque, vec_deque},
    sync::Arc,
};

use crate::{clock::Anchor, event::Monotonic, lifecycle::Observation, owner::Home};

use super::Told;

/// Bytes that an entry may take on average, so that a bound of entries is one of bytes too.
const BYTES_PER_ENTRY: usize = 512;

/// The last that was told, bounded in number and in bytes. The oldest makes room.
pub struct Memory {
    entries: VecDeque<Entry>,
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
    at: Monotonic,
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
    pub const fn of(most: usize) -> Self {
        Self { entries: VecDeque::new(), most, bytes: 0, told: 0, forgotten: 0 }
    }

    /// Remembers one more.
    pub fn add(&mut self, observation: &Observation, home: Option<Arc<Home>>, anchor: Anchor) {
        self.told += 1;
        let Ok(packed) = postcard::to_allocvec(observation) else {
            // Plain structures of numbers can be packed.
            return;
        };
        let entry =
            Entry { number: self.told, at: happened(observation), home, anchor, packed: packed.into() };
        self.bytes += entry.bytes();
        self.entries.push_back(entry);
        while self.entries.len() > self.most || self.bytes > self.most.saturating_mul(BYTES_PER_ENTRY) {
            let Some(oldest) = self.entries.pop_front() else {
                return;
            };
            self.bytes -= oldest.bytes();
            self.forgotten += 1;
        }
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

/// When it happened.
const fn happened(observation: &Observation) -> Monotonic {
    match observation {
        Observation::Closed(closed) => closed.at,
        Observation::MinisockEnded(ended) => ended.at,
        Observation::Transition(transition) => transition.at,
        _ => Monotonic::from_nanos(0),
    }
}
