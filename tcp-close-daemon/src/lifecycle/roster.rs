//! Who is in which closing state, and since when: the few bytes of each socket that a census needs.
//!
//! In: full sockets after each change. Out: the same in a table of their own, close together in memory; minisocks are
//! counted as they change, by [their table](crate::lifecycle::table). Rationale: the tracker's entries are large and lie scattered, and to visit a
//! hundred thousand of them holds up the pipeline for 15 ms; to visit these, for about one.

use hashbrown::HashMap;

use crate::{
    event::{ConnectionId, Monotonic, TcpState},
    lifecycle::{close::Close, minisock::Minisock, owners::Owners},
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
        (!is_replaced).then(|| Self { state, since: close.entered(), sure: true, owner: Owners::THE_REST })
    }

    /// Of a minisock. The flip from FIN-WAIT-2 may leave no trace, on some rungs; nothing leads back.
    pub(super) fn of_minisock(minisock: &Minisock, sees_flips: bool) -> Self {
        let state = minisock.substate();
        let sure = state != TcpState::FinWait2 || (sees_flips && minisock.is_whole());
        Self { state, since: minisock.in_substate_since(), sure, owner: Owners::THE_REST }
    }

    /// Whether it is counted where the other is.
    pub(super) fn stands_like(&self, other: &Self) -> bool {
        (self.state, self.since, self.sure) == (other.state, other.since, other.sure)
    }

    pub(super) const fn owned(self, owner: u32) -> Self {
        Self { owner, ..self }
    }
}

/// Every full socket that closes.
#[derive(Debug, Default)]
pub(super) struct Roster {
    stands: HashMap<ConnectionId, Stand>,
}

impl Roster {
    /// A full socket has changed, or is not followed any more.
    pub(super) fn note(&mut self, id: ConnectionId, close: Option<&Close>, owners: &mut Owners) {
        match close.and_then(|close| Some((Stand::of_socket(close)?, close.owner()))) {
            Some((stand, owner)) => match self.stands.get_mut(&id) {
                Some(noted) => {
                    let number = owners.pass((noted.owner, noted.state), (owner, stand.state));
                    *noted = stand.owned(number);
                }
                None => {
                    self.stands.insert(id, stand.owned(owners.enter(owner, stand.state)));
                }
            },
            None => {
                if let Some(noted) = self.stands.remove(&id) {
                    owners.leave(noted.owner, noted.state);
                }
            }
        }
    }

    /// All of them, in no order.
    pub(super) fn stands(&self) -> impl Iterator<Item = (ConnectionId, Stand)> {
        self.stands.iter().map(|(&id, &stand)| (id, stand))
    }
}
