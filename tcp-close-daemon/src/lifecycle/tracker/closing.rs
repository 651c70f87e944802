//! What is known of each socket that closes now, for whoever wants to see them one by one.

use std::time::Duration;

use crate::{
    event::{ConnectionId, Monotonic, Pair, Process, TcpState},
    lifecycle::{close::Close, observation::Story, roster::Stand, tracker::Tracker},
};

mod packed;

pub use packed::PackedClosings;

/// Leads to a socket that closes, for as long as it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A full socket.
    Socket(ConnectionId),
    /// A minisock, by its kernel address, or a number that stands for it.
    Minisock(u64),
}

/// A socket that closes, and all that is known of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Closing {
    /// Which connection.
    pub id: ConnectionId,
    /// Its socket pair.
    pub pair: Pair,
    /// State it was last seen in.
    pub state: TcpState,
    /// When it entered that, if that was seen.
    pub since: Option<Monotonic>,
    /// Of a minisock: when its wait is nominally up, and past that, when its bucket of the timer wheel ends.
    pub ends: Option<Monotonic>,
    /// It was seen to close, or to begin; if not, it was there already.
    pub observed: bool,
    /// What is known of the full socket so far; `None` of a minisock whose full socket closed unseen.
    pub story: Option<Story>,
}

/// A socket that was left in CLOSE-WAIT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left {
    /// Which connection.
    pub id: ConnectionId,
    /// Its socket pair.
    pub pair: Pair,
    /// Who holds it open, if somebody has looked.
    pub holder: Option<Process>,
}

impl Tracker {
    /// Everything that closes now in these namespaces, or in all: full sockets, and minisocks if they are wanted. What ends
    /// meanwhile leads nowhere any more.
    pub fn entries(&self, netns: &[u32], minisocks: bool) -> Vec<Entry> {
        let is_wanted = |id: ConnectionId| netns.is_empty() || netns.contains(&id.netns);
        let sockets = self.roster.stands().map(|(id, _)| (Entry::Socket(id), id));
        let minisocks = minisocks.then(|| self.minisocks.ids()).into_iter().flatten();
        let minisocks = minisocks.map(|(address, id)| (Entry::Minisock(address), id));
        sockets.chain(minisocks).filter(|&(_, id)| is_wanted(id)).map(|(entry, _)| entry).collect()
    }

    /// Full sockets that have been in CLOSE-WAIT for this long, with their holders if somebody has looked: at most `most` of
    /// them. Of one that was there already, it is not known for how long before.
    pub fn left_in_close_wait(&self, now: Monotonic, after: Duration, most: usize) -> Vec<Left> {
        let in_close_wait = self.roster.stands().filter(|(_, stand)| stand.state == TcpState::CloseWait);
        let left = |(id, _): (ConnectionId, Stand)| {
            let close =
                self.sockets.peek(&id).filter(|close| now.since(close.known_in_state_since()) >= after)?;
            Some(Left { id, pair: close.pair(), holder: close.holder() })
        };
        in_close_wait.filter_map(left).take(most).collect()
    }

    /// A process was found to hold this socket open.
    pub(super) fn held(&mut self, id: ConnectionId, holder: Process) {
        if let Some(close) = self.sockets.peek_mut(&id) {
            close.held_by(holder);
            self.roster.note(id, Some(close), &mut self.owners);
        }
    }

    /// What is known of a socket that closes; `None` if it does so no more.
    pub fn closing(&self, entry: Entry, now: Monotonic) -> Option<Closing> {
        match entry {
            Entry::Socket(id) => self.sockets.peek(&id).map(|close| Closing {
                id,
                pair: close.pair(),
                state: close.state(),
                since: close.entered(),
                ends: None,
                observed: close.is_observed(),
                story: Some(close.story()),
            }),
            Entry::Minisock(address) => self.minisocks.peek(address).map(|minisock| {
                // The full socket may have gone a moment ago, and not be settled yet.
                let closing = || {
                    let close = self.sockets.peek(&minisock.id())?;
                    (close.minisock() == Some(address)).then(|| Close::story(close))
                };
                Closing {
                    id: minisock.id(),
                    pair: minisock.pair(),
                    state: minisock.substate(),
                    since: minisock.in_substate_since(),
                    ends: minisock.ends(now),
                    observed: minisock.is_observed(),
                    story: minisock.story().copied().or_else(closing),
                }
            }),
        }
    }
}
