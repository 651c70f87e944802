//! Closing sockets, counted by what they have in common.

use std::collections::{BTreeMap, HashMap};

use clap::ValueEnum;
use serde::Serialize;

use super::ClosingSocket;
use crate::event::TcpState;

/// What sockets are counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum GroupKey {
    /// The process, or where none is known its service or container.
    Owner,
    /// The peer's address.
    Remote,
    /// The state.
    State,
    /// The systemd unit.
    Unit,
}

/// Sockets that have something in common.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Group {
    /// What they have in common; `None` for those of which it is not known.
    pub key: Option<String>,
    /// How many there are.
    pub sockets: u64,
    /// How many of them are in each state.
    pub states: BTreeMap<TcpState, u64>,
    /// Age of the oldest, in seconds; `None` where none is known.
    pub oldest_seconds: Option<f64>,
}

/// Counts sockets by `key`, the largest group first.
pub fn groups(sockets: &[ClosingSocket], key: GroupKey) -> Vec<Group> {
    let mut by_key: HashMap<Option<String>, Group> = HashMap::new();
    for socket in sockets {
        let key = common(socket, key);
        let group = by_key.entry(key.clone()).or_insert_with(|| Group {
            key,
            sockets: 0,
            states: TcpState::CLOSING.into_iter().map(|state| (state, 0)).collect(),
            oldest_seconds: None,
        });
        group.sockets += 1;
        *group.states.entry(socket.state).or_default() += 1;
        group.oldest_seconds =
            [group.oldest_seconds, socket.age_seconds].into_iter().flatten().reduce(f64::max);
    }
    let mut groups: Vec<Group> = by_key.into_values().collect();
    groups.sort_by(|a, b| b.sockets.cmp(&a.sockets).then_with(|| a.key.cmp(&b.key)));
    groups
}

fn common(socket: &ClosingSocket, key: GroupKey) -> Option<String> {
    match key {
        GroupKey::Owner => socket.owner_name(),
        GroupKey::Remote => Some(socket.remote.addr.to_string()),
        GroupKey::State => Some(socket.state.ss_name().to_owned()),
        GroupKey::Unit => socket.owner.unit.clone(),
    }
}
