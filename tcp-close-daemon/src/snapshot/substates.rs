//! Which sockets are in FIN-WAIT-2 and which in TIME-WAIT: what events alone do not tell on every kernel.

use std::collections::HashSet;

use super::{BlindSpot, Snapshot, SnapshotError};
use crate::event::{ConnectionId, Monotonic, TcpState};

/// The sockets in FIN-WAIT-2 and TIME-WAIT, at about one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Substates {
    at: Monotonic,
    in_fin_wait2: HashSet<ConnectionId>,
    /// Namespaces of which not every cookie could be had.
    nameless: HashSet<u32>,
    time_wait: u64,
}

impl Substates {
    /// Reads them, as [`Snapshot::take`] does. With a blind spot there is no telling how many there are.
    pub fn read(wanted: &[u32]) -> Result<Result<Self, BlindSpot>, SnapshotError> {
        let snapshot = Snapshot::take(wanted, &[TcpState::FinWait2, TcpState::TimeWait])?;
        Ok(snapshot.blind_spot.map_or_else(|| Ok(Self::of(&snapshot)), Err))
    }

    /// Those of a snapshot.
    pub fn of(snapshot: &Snapshot) -> Self {
        let mut substates = Self { at: snapshot.at, ..Self::default() };
        for row in &snapshot.rows {
            if row.id.cookie().is_none() {
                substates.nameless.insert(row.id.netns);
            }
            match row.state {
                TcpState::FinWait2 => _ = substates.in_fin_wait2.insert(row.id),
                TcpState::TimeWait => substates.time_wait += 1,
                _ => {}
            }
        }
        substates
    }

    /// When the reading began.
    pub const fn at(&self) -> Monotonic {
        self.at
    }

    /// Whether a connection was in FIN-WAIT-2; `None` for one that is not known by its cookie.
    pub fn is_in_fin_wait2(&self, id: ConnectionId) -> Option<bool> {
        let is_named = id.cookie().is_some() && !self.nameless.contains(&id.netns);
        is_named.then(|| self.in_fin_wait2.contains(&id))
    }

    /// Sockets in FIN-WAIT-2, full ones and minisocks.
    pub fn fin_wait2(&self) -> u64 {
        self.in_fin_wait2.len() as u64
    }

    /// Minisocks in TIME-WAIT.
    pub const fn time_wait(&self) -> u64 {
        self.time_wait
    }
}
