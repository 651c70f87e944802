//! Who is in which closing state, and since when: the few bytes of each socket that a census needs.
//!
//! In: sockets and minisocks after each change. Out: the same in a few tables of their own, close together in
//! memory. Rationale: the tracker's entries are large and lie scattered, and to visit a hundred thousand of them holds
//! up the pipeline for 15 ms; to visit these, for about one.

use hashbrown::HashMap;

use crate::{
    event::{ConnectionId, Monotonic, TcpState},
    lifecycle::{close::Close, minisock::Minisock},
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
}

impl Stand {
    /// Of a full socket, if it is one that closes. One that a minisock replaces stands there, and nowhere else.
    pub(super) fn of_socket(close: &Close) -> Option<Self> {
        let state = close.closing_state().filter(|state| state.is_closing())?;
        let is_replaced = close.minisock().is_some();
        (!is_replaced).then(|| Self { state, since: close.entered(), sure: true })
    }

    /// Of a minisock. The flip from FIN-WAIT-2 may leave no trace, on some rungs; nothing leads back.
    pub(super) fn of_minisock(minisock: &Minisock, sees_flips: bool) -> Self {
        let state = minisock.substate();
        let sure = state != TcpState::FinWait2 || (sees_flips && minisock.is_whole());
        Self { state, since: minisock.in_substate_since(), sure }
    }
}

/// Everything that closes.
#[derive(Debug, Default)]
pub(super) struct Roster {
    sockets: HashMap<ConnectionId, Stand>,
    /// By address, with the connection.
    minisocks: HashMap<u64, (ConnectionId, Stand)>,
}

impl Roster {
    /// A full socket has changed, or is not followed any more.
    pub(super) fn socket(&mut self, id: ConnectionId, close: Option<&Close>) {
        match close.and_then(Stand::of_socket) {
            Some(stand) => self.sockets.insert(id, stand),
            None => self.sockets.remove(&id),
        };
    }

    /// A minisock has changed, or is not followed any more.
    pub(super) fn minisock(&mut self, address: u64, minisock: Option<&Minisock>, sees_flips: bool) {
        match minisock {
            Some(minisock) => {
                let stand = Stand::of_minisock(minisock, sees_flips);
                self.minisocks.insert(address, (minisock.id(), stand));
            }
            None => drop(self.minisocks.remove(&address)),
        }
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
