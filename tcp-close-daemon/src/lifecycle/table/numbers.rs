//! Which slot a minisock is in, by its kernel address.
//!
//! A hash table that grows moves all it has, and of a million entries that takes so long that the ring fills up meanwhile.
//! So there are many, each with its share, which grow one by one.

use std::hash::BuildHasher as _;

use hashbrown::{DefaultHashBuilder, HashTable};

use super::Number;

/// Of a million entries each has few enough to move them in a millisecond or two.
const PARTS: usize = 64;

/// Numbers of slots.
pub(super) struct Numbers {
    parts: Box<[HashTable<Number>]>,
    hasher: DefaultHashBuilder,
    len: usize,
}

impl Numbers {
    pub(super) fn new() -> Self {
        Self {
            parts: (0..PARTS).map(|_| HashTable::new()).collect(),
            hasher: DefaultHashBuilder::default(),
            len: 0,
        }
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// The slot of a minisock; `address_of` tells which is in a slot.
    pub(super) fn find(&self, address: u64, address_of: impl Fn(Number) -> u64) -> Option<Number> {
        let hash = self.hasher.hash_one(address);
        self.parts[part(hash)].find(hash, |&number| address_of(number) == address).copied()
    }

    /// A minisock that has none is in this slot from now on.
    pub(super) fn insert(&mut self, address: u64, number: Number, address_of: impl Fn(Number) -> u64) {
        let Self { parts, hasher, len } = self;
        let hash = hasher.hash_one(address);
        parts[part(hash)].insert_unique(hash, number, |&number| hasher.hash_one(address_of(number)));
        *len += 1;
    }

    /// A minisock leaves its slot.
    pub(super) fn remove(&mut self, address: u64, address_of: impl Fn(Number) -> u64) -> Option<Number> {
        let hash = self.hasher.hash_one(address);
        let is_it = |&number: &Number| address_of(number) == address;
        let (number, _) = self.parts[part(hash)].find_entry(hash, is_it).ok()?.remove();
        self.len -= 1;
        Some(number)
    }
}

/// By bits that the tables themselves do not go by: those take the lowest, as many as they need, and the highest.
const fn part(hash: u64) -> usize {
    (hash >> 40) as usize % PARTS
}
