//! What is closing at a moment: how many sockets are in each closing state, and for how long they have been.
//!
//! In: where every socket stands, and a moment. Out: figures of that moment, which are gone with the next.

use std::{collections::HashMap, time::Duration};

use hashbrown::hash_map::Entry;

use crate::{
    event::{ConnectionId, Monotonic, TcpState},
    lifecycle::{
        owners::{ByState, OwnerKey, Owners},
        roster::Stand,
        tracker::Sees,
    },
};

/// Upper edges of the ranges that ages are counted in. Seconds for what a round trip ends, a minute for what a timer
/// of the kernel does, hours and days for what a process forgot.
pub const AGE_EDGES: [Duration; 12] = [
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(15),
    Duration::from_secs(30),
    Duration::from_secs(60),
    Duration::from_secs(120),
    Duration::from_secs(300),
    Duration::from_secs(900),
    Duration::from_secs(3_600),
    Duration::from_secs(21_600),
    Duration::from_secs(86_400),
    Duration::from_secs(604_800),
];

/// The sockets in one state. Of a minisock's age, to the millisecond that it began in is enough.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InState {
    /// How many there are, those whose age is not known among them.
    pub sockets: u64,
    /// Age of the oldest, of those that were seen to enter the state.
    pub oldest: Option<Duration>,
    /// Ages of those that were seen to enter the state, taken together.
    pub ages_sum: Duration,
    /// How many of them are in each range: up to and including the edge of [`AGE_EDGES`], and beyond the last.
    pub ages: [u64; AGE_EDGES.len() + 1],
}

impl InState {
    /// So many of the same age.
    fn add(&mut self, age: Option<Duration>, sockets: u64) {
        self.sockets += sockets;
        let Some(age) = age else {
            return;
        };
        self.oldest = self.oldest.max(Some(age));
        let together = age.as_nanos().saturating_mul(sockets.into());
        let together = Duration::from_nanos(u64::try_from(together).unwrap_or(u64::MAX));
        self.ages_sum = self.ages_sum.saturating_add(together);
        let range = AGE_EDGES.iter().position(|&edge| age <= edge).unwrap_or(AGE_EDGES.len());
        if let Some(count) = self.ages.get_mut(range) {
            *count += sockets;
        }
    }

    fn add_all(&mut self, other: &Self) {
        self.sockets += other.sockets;
        self.oldest = self.oldest.max(other.oldest);
        self.ages_sum = self.ages_sum.saturating_add(other.ages_sum);
        for (count, more) in self.ages.iter_mut().zip(other.ages) {
            *count += more;
        }
    }
}

/// How many minisocks entered a substate in each millisecond and are still there: kept up with every change, so that nobody
/// has to be visited for a census.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Of those that were seen to enter it, by whole milliseconds of `CLOCK_MONOTONIC`.
    entered: hashbrown::HashMap<u64, u64>,
    /// The others.
    unseen: u64,
}

impl Tally {
    pub(super) fn enter(&mut self, since: Option<Monotonic>) {
        match since {
            Some(since) => *self.entered.entry(millisecond(since)).or_default() += 1,
            None => self.unseen += 1,
        }
    }

    pub(super) fn leave(&mut self, since: Option<Monotonic>) {
        let Some(millisecond) = since.map(millisecond) else {
            self.unseen -= 1;
            return;
        };
        if let Entry::Occupied(mut count) = self.entered.entry(millisecond) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }

    /// Gives back the room that is not in use.
    pub(super) fn give_back(&mut self) {
        self.entered.shrink_to_fit();
    }

    /// As they are now.
    pub(super) fn in_state(&self, now: Monotonic) -> InState {
        let mut in_state = InState::default();
        in_state.add(None, self.unseen);
        for (&millisecond, &count) in &self.entered {
            in_state.add(Some(now.since(began(millisecond))), count);
        }
        in_state
    }
}

const fn millisecond(time: Monotonic) -> u64 {
    time.as_nanos() / 1_000_000
}

/// When a millisecond began.
pub(super) const fn began(millisecond: u64) -> Monotonic {
    Monotonic::from_nanos(millisecond * 1_000_000)
}

/// The sockets in each closing state at one moment, of those that were seen to close.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// When.
    pub at: Monotonic,
    /// By the state's number; what is no closing state stays empty.
    states: [InState; TcpState::ALL.len() + 1],
    /// Sockets of each owner, by the state's number; `None` stands for owners that are too many.
    pub by_owner: HashMap<Option<OwnerKey>, ByState>,
    /// Minisocks that were last seen in FIN-WAIT-2 and may have gone over to TIME-WAIT since, for all that events tell.
    /// Zero where every segment is seen and no event was lost.
    pub unsure: u64,
    /// Every minisock is counted where it is: events tell, or something else did. If not, the unsure ones are counted
    /// in FIN-WAIT-2.
    pub knows_substates: bool,
}

/// A look at what the kernel says of FIN-WAIT-2.
pub(super) struct Look<'a> {
    /// When it began.
    pub(super) at: Monotonic,
    /// Whether a connection was there, if that can be told.
    pub(super) was_in_fin_wait2: &'a dyn Fn(ConnectionId) -> Option<bool>,
}

impl Look<'_> {
    /// Whether a socket is in FIN-WAIT-2 that entered it then; one that did so after the look is, for all that is known.
    fn tells(&self, id: ConnectionId, since: Option<Monotonic>) -> Option<bool> {
        if since.is_some_and(|since| since > self.at) { Some(true) } else { (self.was_in_fin_wait2)(id) }
    }
}

impl Census {
    /// The sockets in a state; FIN-WAIT-2 is over full sockets and minisocks.
    pub fn in_state(&self, state: TcpState) -> InState {
        self.states.get(state as usize).copied().unwrap_or_default()
    }

    /// Counts these one by one, of which a minisock may have left FIN-WAIT-2: `look` tells whether it is there, if it can.
    /// `together` are all others.
    pub(super) fn of(
        stands: impl Iterator<Item = (ConnectionId, Stand)>,
        together: &[(TcpState, InState)],
        owners: &Owners,
        sees: Sees,
        now: Monotonic,
        look: Option<&Look<'_>>,
    ) -> Self {
        let knows_substates = sees.minisocks && (sees.flips() || look.is_some());
        let mut census = Self { at: now, knows_substates, ..Self::default() };
        let mut by_owner = owners.sockets();
        for (id, Stand { state, since, sure, owner }) in stands {
            let still = if sure { Some(true) } else { look.and_then(|look| look.tells(id, since)) };
            census.unsure += u64::from(!sure);
            census.knows_substates &= still.is_some();
            if still == Some(false) {
                census.states[TcpState::TimeWait as usize].add(None, 1);
                let sockets = &mut by_owner[owner as usize];
                sockets[state as usize] -= 1;
                sockets[TcpState::TimeWait as usize] += 1;
            } else {
                census.states[state as usize].add(since.map(|since| now.since(since)), 1);
            }
        }
        for (state, in_state) in together {
            census.states[*state as usize].add_all(in_state);
        }
        let counted = by_owner.into_iter().enumerate().map(|(number, states)| (owners.get(number), states));
        census.by_owner = counted.filter(|(_, states)| states.iter().any(|&count| count > 0)).collect();
        census
    }
}
