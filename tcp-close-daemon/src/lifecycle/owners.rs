//! Whose sockets there are: each owner is kept once, however many sockets it has.
//!
//! In: what is known of the owner of a socket that comes or goes. Out: a number for it, small enough to stand beside each
//! socket.

use hashbrown::HashMap;

use crate::event::{CgroupId, Comm};

/// Most owners that are told apart at a time: a process may give itself any name, and another one each time.
const MOST: usize = 4096;

/// What an owner is known by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct OwnerKey {
    /// Where its sockets were made.
    pub cgroup: Option<CgroupId>,
    /// The process that closed them, holds them or opened them.
    pub comm: Option<Comm>,
}

/// Owners of sockets that are there.
#[derive(Debug)]
pub(super) struct Owners {
    numbers: HashMap<OwnerKey, u32>,
    /// By number: the owner, and how many sockets it has.
    slots: Vec<(OwnerKey, usize)>,
    /// Numbers that nobody has.
    free: Vec<u32>,
}

impl Default for Owners {
    fn default() -> Self {
        Self { numbers: HashMap::new(), slots: vec![(OwnerKey::default(), 0)], free: Vec::new() }
    }
}

impl Owners {
    /// Stands for all owners that are too many.
    pub(super) const THE_REST: u32 = 0;

    /// A socket of this owner comes: the owner's number.
    pub(super) fn enter(&mut self, key: OwnerKey) -> u32 {
        if let Some(&number) = self.numbers.get(&key) {
            self.count(number).1 += 1;
            return number;
        }
        if self.numbers.len() >= MOST {
            return Self::THE_REST;
        }
        let number = self.free.pop().unwrap_or_else(|| {
            self.slots.push((key, 0));
            u32::try_from(self.slots.len() - 1).unwrap_or(Self::THE_REST)
        });
        *self.count(number) = (key, 1);
        self.numbers.insert(key, number);
        number
    }

    /// A socket of the owner with this number goes.
    pub(super) fn leave(&mut self, number: u32) {
        if number == Self::THE_REST {
            return;
        }
        let (key, sockets) = self.count(number);
        *sockets -= 1;
        if *sockets == 0 {
            let key = *key;
            self.numbers.remove(&key);
            self.free.push(number);
        }
    }

    /// A socket of the owner with this number has this one now: the owner's number.
    pub(super) fn pass(&mut self, from: u32, key: OwnerKey) -> u32 {
        if self.get(from as usize) == Some(key) {
            return from;
        }
        let number = self.enter(key);
        self.leave(from);
        number
    }

    /// One more than the highest number there is.
    pub(super) const fn end(&self) -> usize {
        self.slots.len()
    }

    /// The owner with this number; `None` for those that were too many.
    pub(super) fn get(&self, number: usize) -> Option<OwnerKey> {
        self.slots.get(number).filter(|_| number != Self::THE_REST as usize).map(|&(key, _)| key)
    }

    fn count(&mut self, number: u32) -> &mut (OwnerKey, usize) {
        &mut self.slots[number as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(number: usize) -> OwnerKey {
        let mut name = [0; 16];
        name[..8].copy_from_slice(&number.to_le_bytes());
        OwnerKey { cgroup: None, comm: Some(Comm::from_bytes(name)) }
    }

    #[test]
    fn an_owner_keeps_its_number_while_it_has_sockets() {
        let mut owners = Owners::default();
        let one = owners.enter(named(1));
        let two = owners.enter(named(2));
        assert_ne!(one, two);
        assert_eq!(owners.enter(named(1)), one);
        owners.leave(one);
        assert_eq!(owners.get(one as usize), Some(named(1)));
        owners.leave(one);
        assert_eq!(owners.enter(named(3)), one, "a number that is free is given again");
        assert_eq!(owners.get(one as usize), Some(named(3)));
    }

    #[test]
    fn a_socket_passes_from_owner_to_owner() {
        let mut owners = Owners::default();
        let one = owners.enter(named(1));
        assert_eq!(owners.pass(one, named(1)), one);
        let two = owners.pass(one, named(2));
        assert_eq!((owners.get(one as usize), owners.get(two as usize)), (Some(named(1)), Some(named(2))));
        assert_eq!(owners.enter(named(3)), one, "the first has no socket any more");
        assert_eq!(owners.pass(Owners::THE_REST, named(2)), two, "whoever it was of before");
    }

    #[test]
    fn there_are_only_so_many_owners() {
        let mut owners = Owners::default();
        let numbers: Vec<u32> = (0..MOST).map(|number| owners.enter(named(number))).collect();
        assert_eq!(owners.enter(named(MOST)), Owners::THE_REST);
        assert_eq!(owners.get(Owners::THE_REST as usize), None);
        owners.leave(Owners::THE_REST);
        owners.leave(numbers[7]);
        assert_eq!(owners.enter(named(MOST)), numbers[7], "there is room again");
        assert_eq!(owners.end(), MOST + 1);
    }
}
