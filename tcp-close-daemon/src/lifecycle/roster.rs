//! Who is in which closing state, and since when: the few bytes of each socket that a census needs.
//!
//! In: sockets and minisocks after each change. Out: the same in a few tables of their own, close together in
//! memory. Rationale: the tracker's entries are large and lie scattered, and to visit a hundred thousand of them holds
//! up the pipeline for 15 ms; to visit these, for about one.

use hashbrown::HashMap;

use crate::{
    event::{ConnectionId, Monotonic, TcpState},
    lifecycle::{close::Close, minisock::Minisock, owners::Owners, tracker::Entry},
};

/// Where a socket stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stand {
    /// State it was last seen in.
    pub(super) state: TcpState,
    /// When it entered that, if that was seen.
    pub(super) since: Option<Monotonic>,
    /// It cannot have left that state without being seen, but for events that are lost and not known to be.
    pub(super) sure: bool,
    /// Number of its owner.
    pub(super) owner: u32,
}

impl Stand {
    /// Of a full socket, if it is one that closes. One that a minisock replaces stands there, and nowhere else.
    pub(super) fn of_socket(close: &Close) -> Option<Self> {
        let state = close.closing_state().filter(|state| state.is_closing())?;
        let is_replaced = close.minisock().is_some();
        (!is_replaced).then(|| Self { state, since: close.entered(), sure: true, owner: 0 })
    }

    /// Of a minisock. The flip from FIN-WAIT-2 may leave no trace, on some rungs; nothing leads back.
    pub(super) fn of_minisock(minisock: &Minisock, sees_flips: bool) -> Self {
        let state = minisock.substate();
        let sure = state != TcpState::FinWait2 || (sees_flips && minisock.is_whole());
        Self { state, since: minisock.in_substate_since(), sure, owner: 0 }
    }

    pub(super) const fn owned(self, owner: u32) -> Self {
        Self { owner, ..self }
    }
}

/// Everything that closes.
#[derive(Debug, Default)]
pub(super) struct Roster {
    sockets: HashMap<ConnectionId, Stand>,
    /// By address, with the connection.
    minisocks: HashMap<u64, (ConnectionId, Stand)>,
    owners: Owners,
}

impl Roster {
    /// A full socket has changed, or is not followed any more.
    pub(super) fn socket(&mut self, id: ConnectionId, close: Option<&Close>) {
        let stand = close.and_then(|close| Some((Stand::of_socket(close)?, close.owner())));
        let before = match stand {
            Some((stand, owner)) => self.sockets.insert(id, stand.owned(self.owners.enter(owner))),
            None => self.sockets.remove(&id),
        };
        self.leave(before);
    }

    /// A minisock has changed, or is not followed any more.
    pub(super) fn minisock(&mut self, address: u64, minisock: Option<&Minisock>, sees_flips: bool) {
        let before = match minisock {
            Some(minisock) => {
                let owner = self.owners.enter(minisock.owner());
                let stand = Stand::of_minisock(minisock, sees_flips).owned(owner);
                self.minisocks.insert(address, (minisock.id(), stand))
            }
            None => self.minisocks.remove(&address),
        };
        self.leave(before.map(|(_, stand)| stand));
    }

    /// Only now, after whatever follows: an owner that stays keeps its number.
    fn leave(&mut self, stand: Option<Stand>) {
        if let Some(stand) = stand {
            self.owners.leave(stand.owner);
        }
    }

    /// Owners by their numbers.
    pub(super) const fn owners(&self) -> &Owners {
        &self.owners
    }

    /// Everything by what leads to it, in no order.
    pub(super) fn entries(&self) -> impl Iterator<Item = (Entry, ConnectionId, Stand)> {
        let sockets = self.sockets.iter().map(|(&id, &stand)| (Entry::Socket(id), id, stand));
        let minisocks = self.minisocks.iter();
        sockets.chain(minisocks.map(|(&address, &(id, stand))| (Entry::Minisock(address), id, stand)))
    }

    /// Events were lost: the flip of any minisock may be among them.
    pub(super) fn gap(&mut self) {
        for (_, stand) in self.minisocks.values_mut() {
            stand.sure &= stand.state != TcpState::FinWait2;
        }
    }

    /// How many minisocks there are in each network namespace.
    pub(super) fn minisocks_by_netns(&self) -> std::collections::HashMap<u32, u64> {
        let mut counts = std::collections::HashMap::new();
        for (id, _) in self.minisocks.values() {
            *counts.entry(id.netns).or_default() += 1;
        }
        counts
    }

    /// Everybody, in no order.
    pub(super) fn stands(&self) -> impl Iterator<Item = (ConnectionId, Stand)> {
        let sockets = self.sockets.iter().map(|(&id, &stand)| (id, stand));
        sockets.chain(self.minisocks.values().copied())
    }
}
