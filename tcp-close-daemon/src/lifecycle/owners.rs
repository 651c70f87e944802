//! Whose sockets there are: each owner is kept once, however many sockets it has, with how many are in each state.
//!
//! In: what is known of the owner of a socket that comes, changes or goes, and its state. Out: a number for the owner, small
//! enough to stand beside each socket.

use hashbrown::HashMap;

use crate::event::{CgroupId, Comm, TcpState};

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

/// Sockets by the number of the state that they are in.
pub type ByState = [u64; TcpState::ALL.len() + 1];

/// Owners of sockets that are there.
#[derive(Debug)]
pub(super) struct Owners {
    numbers: HashMap<OwnerKey, u32>,
    /// By number.
    slots: Vec<Owner>,
    /// Numbers that nobody has.
    free: Vec<u32>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Owner {
    key: OwnerKey,
    sockets: ByState,
}

impl Default for Owners {
    fn default() -> Self {
        Self { numbers: HashMap::new(), slots: vec![Owner::default()], free: Vec::new() }
    }
}

impl Owners {
    /// Stands for all owners that are too many.
    pub(super) const THE_REST: u32 = 0;

    /// A socket of this owner comes, in this state: the owner's number.
    pub(super) fn enter(&mut self, key: OwnerKey, state: TcpState) -> u32 {
        let number = self.number_of(key);
        self.slots[number as usize].sockets[state as usize] += 1;
        number
    }

    /// A socket of the owner with this number goes, from this state.
    pub(super) fn leave(&mut self, number: u32, state: TcpState) {
        let owner = &mut self.slots[number as usize];
        owner.sockets[state as usize] -= 1;
        if number != Self::THE_REST && owner.sockets == ByState::default() {
            self.numbers.remove(&owner.key);
            self.free.push(number);
        }
    }

    /// A socket of the owner with this number, in this state, has that owner and that state now: the owner's number.
    pub(super) fn pass(&mut self, from: (u32, TcpState), (key, state): (OwnerKey, TcpState)) -> u32 {
        if self.get(from.0 as usize) == Some(key) {
            let sockets = &mut self.slots[from.0 as usize].sockets;
            sockets[from.1 as usize] -= 1;
            sockets[state as usize] += 1;
            return from.0;
        }
        let number = self.enter(key, state);
        self.leave(from.0, from.1);
        number
    }

    /// The owner with this number; `None` for those that were too many.
    pub(super) fn get(&self, number: usize) -> Option<OwnerKey> {
        self.slots.get(number).filter(|_| number != Self::THE_REST as usize).map(|owner| owner.key)
    }

    /// How many sockets each owner has, by its number.
    pub(super) fn sockets(&self) -> Vec<ByState> {
        self.slots.iter().map(|owner| owner.sockets).collect()
    }

    fn number_of(&mut self, key: OwnerKey) -> u32 {
        if let Some(&number) = self.numbers.get(&key) {
            return number;
        }
        if self.numbers.len() >= MOST {
            return Self::THE_REST;
        }
        let number = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Owner::default());
            u32::try_from(self.slots.len() - 1).unwrap_or(Self::THE_REST)
        });
        self.slots[number as usize].key = key;
        self.numbers.insert(key, number);
        number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATE: TcpState = TcpState::TimeWait;

    fn named(number: usize) -> OwnerKey {
        let mut name = [0; 16];
        name[..8].copy_from_slice(&number.to_le_bytes());
        OwnerKey { cgroup: None, comm: Some(Comm::from_bytes(name)) }
    }

    #[test]
    fn an_owner_keeps_its_number_while_it_has_sockets() {
        let mut owners = Owners::default();
        let one = owners.enter(named(1), STATE);
        let two = owners.enter(named(2), STATE);
        assert_ne!(one, two);
        assert_eq!(owners.enter(named(1), TcpState::FinWait2), one);
        owners.leave(one, STATE);
        assert_eq!(owners.get(one as usize), Some(named(1)));
        owners.leave(one, TcpState::FinWait2);
        assert_eq!(owners.enter(named(3), STATE), one, "a number that is free is given again");
        assert_eq!(owners.get(one as usize), Some(named(3)));
    }

    #[test]
    fn a_socket_passes_from_owner_to_owner() {
        let mut owners = Owners::default();
        let one = owners.enter(named(1), TcpState::FinWait2);
        assert_eq!(owners.pass((one, TcpState::FinWait2), (named(1), STATE)), one);
        let two = owners.pass((one, STATE), (named(2), STATE));
        assert_eq!((owners.get(one as usize), owners.get(two as usize)), (Some(named(1)), Some(named(2))));
        let of = |owners: &Owners, number: u32| owners.sockets()[number as usize].iter().sum::<u64>();
        assert_eq!((of(&owners, one), of(&owners, two)), (0, 1));
        assert_eq!(owners.enter(named(3), STATE), one, "the first has no socket any more");
    }

    #[test]
    fn there_are_only_so_many_owners() {
        let mut owners = Owners::default();
        let numbers: Vec<u32> = (0..MOST).map(|number| owners.enter(named(number), STATE)).collect();
        assert_eq!(owners.enter(named(MOST), STATE), Owners::THE_REST);
        assert_eq!(owners.get(Owners::THE_REST as usize), None);
        owners.leave(Owners::THE_REST, STATE);
        owners.leave(numbers[7], STATE);
        assert_eq!(owners.enter(named(MOST), STATE), numbers[7], "there is room again");
        assert_eq!(owners.sockets().len(), MOST + 1);
    }
}
