//! Follows every closing connection: joins full sockets with the minisocks that replace them.

use std::{collections::VecDeque, num::NonZeroUsize, time::Duration};

use lru::LruCache;
use serde::{Deserialize, Serialize};

use crate::{
    event::{ConnectionId, Event, EventKind, Monotonic, Pair, ResetSent, StateChange, TcpState},
    lifecycle::{
        census::{Census, Look},
        close::Close,
        listeners::Listeners,
        minisock::Wait,
        observation::{Observation, Transition},
        owners::Owners,
        roster::Roster,
        table::MinisockTable,
    },
};

use listing::Listings;

#[cfg(test)]
use crate::lifecycle::{census, roster::Stand};

mod closing;
mod listing;
mod minisocks;

pub use closing::{Closing, Entry, Left, PackedClosings};
pub use listing::Corrections;

/// What follows an entry into CLOSE, such as the reset that an abort sends, follows within the same system call
/// or softirq. A process may be preempted between the two, so they get far more time than that takes.
const CLOSE_SETTLES: Duration = Duration::from_millis(50);

/// A timer that was cancelled to expire, or to be restarted, does so at once. If nothing of the kind shows in
/// this time, the event was lost, or kernel addresses are hidden and something else ended the minisock.
const CANCEL_SETTLES: Duration = Duration::from_secs(1);

/// A reset that comes before its change of state comes microseconds before.
const RESET_SETTLES: Duration = Duration::from_secs(1);

/// What follows an event in the same function of the kernel follows in less than that, interrupts included.
const NEXT_EVENT: Duration = Duration::from_millis(1);

/// How often minisocks are looked for whose end was lost: there are few, and to look takes milliseconds.
const SWEEP: Duration = Duration::from_secs(60);

/// Room for what came first of two things that come microseconds apart: a reset before the change of state it
/// leads to, a minisock before the entry into CLOSE of a socket that was not followed.
const EARLY: NonZeroUsize = NonZeroUsize::new(1024).expect("not zero");

/// Room to wait in beyond what the tables hold, for what is settled otherwise before its turn comes.
const SPARE: usize = 1024;

/// How many entries the tables may hold; the least recently touched one makes room, and is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Full sockets that close.
    pub sockets: usize,
    /// Minisocks.
    pub minisocks: usize,
}

impl Limits {
    /// As much as may be followed within so many bytes of memory, of which more than a third is left for everything else.
    pub fn within(memory: u64) -> Self {
        /// With what stands beside it.
        const SOCKET: u64 = 1024;
        /// 160 bytes over IPv4 and 300 over IPv6, as much again while the kernel's table is taken in, and for each of
        /// two lists of all.
        const MINISOCK: u64 = 1024;
        Self { sockets: room(memory / 8, SOCKET), minisocks: room(memory / 2, MINISOCK) }
    }
}

/// As many as fit, within reason.
fn room(memory: u64, each: u64) -> usize {
    usize::try_from(memory / each).unwrap_or(usize::MAX).clamp(1 << 10, 1 << 22)
}

/// How the tables are doing. Counters only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Full sockets that close, now.
    pub sockets: usize,
    /// Minisocks, now.
    pub minisocks: usize,
    /// Full sockets forgotten because the table was full.
    pub sockets_evicted: u64,
    /// Minisocks forgotten because the table was full.
    pub minisocks_evicted: u64,
    /// Events that fit nothing known: their counterpart was lost, evicted, or before our time.
    pub unmatched: u64,
    /// What the kernel's table has put right.
    pub corrections: Corrections,
}

/// What kinds of events come in: without them, there is a difference between what was not and what was not seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sees {
    /// Minisocks: else a TIME-WAIT that was refused cannot be told from one unseen.
    pub minisocks: bool,
    /// Every start of their timers, also one that the timer wheel hides: else flips and restarts are inferred, unless
    /// segments tell.
    pub starts: bool,
    /// Segments that minisocks deal with.
    pub segments: bool,
}

impl Sees {
    /// Whether a minisock's flip from FIN-WAIT-2 to TIME-WAIT is seen as it happens.
    pub const fn flips(self) -> bool {
        self.starts || self.segments
    }
}

/// Follows closing connections from events to observations.
pub struct Tracker {
    sees: Sees,
    limits: Limits,
    /// The TIME-WAIT this kernel gives, as last seen.
    wait: Wait,
    sockets: LruCache<ConnectionId, Close>,
    /// Full sockets in each closing state, by its number.
    sockets_in: [usize; TcpState::ALL.len() + 1],
    /// By the minisock's kernel address, which is unique while it lives.
    minisocks: MinisockTable,
    /// Where every full socket stands.
    roster: Roster,
    /// Whose all of them are.
    owners: Owners,
    /// Sockets that entered CLOSE, in that order, until everything about it has come in.
    settling: VecDeque<(Monotonic, ConnectionId)>,
    /// Minisocks whose timer was cancelled, in that order, until it shows what for.
    cancelled: VecDeque<(Monotonic, u64)>,
    /// Minisocks that replace a socket nobody followed, by namespace and socket pair: when each began, and where.
    /// The entry of the socket into CLOSE, its first event and its last, comes next.
    unclaimed: LruCache<(u32, Pair), (Monotonic, u64)>,
    listeners: Listeners,
    /// Resets of sockets that are not followed yet.
    early_resets: LruCache<ConnectionId, (Monotonic, EarlyReset)>,
    listings: Listings,
    /// The end of the last interval in which events were lost.
    gap_until: Option<Monotonic>,
    /// When minisocks whose end was lost are looked for next.
    next_sweep: Monotonic,
    stats: Stats,
}

impl Tracker {
    /// An empty tracker; `wait` is what TIME-WAIT takes by the kernel's source, until one is seen to start.
    pub fn new(limits: Limits, wait: Wait, sees: Sees) -> Self {
        Self {
            sees,
            limits,
            wait,
            sockets: LruCache::unbounded(),
            sockets_in: [0; TcpState::ALL.len() + 1],
            minisocks: MinisockTable::new(),
            roster: Roster::default(),
            owners: Owners::default(),
            settling: VecDeque::new(),
            cancelled: VecDeque::new(),
            unclaimed: LruCache::new(EARLY),
            listeners: Listeners::new(),
            early_resets: LruCache::new(EARLY),
            listings: Listings::default(),
            gap_until: None,
            next_sweep: Monotonic::default(),
            stats: Stats::default(),
        }
    }

    /// How the tables are doing.
    pub fn stats(&self) -> Stats {
        let corrections = self.listings.corrections;
        Stats { sockets: self.sockets.len(), minisocks: self.minisocks.len(), corrections, ..self.stats }
    }

    /// Full sockets now in a closing state.
    pub fn sockets_in(&self, state: TcpState) -> usize {
        self.sockets_in.get(state as usize).copied().unwrap_or_default()
    }

    /// How many minisocks are followed in each network namespace.
    pub fn minisocks_by_netns(&self) -> std::collections::HashMap<u32, u64> {
        self.minisocks.by_netns().clone()
    }

    /// The sockets that close now, as the events tell it.
    pub fn census(&self, now: Monotonic) -> Census {
        self.census_by(now, None)
    }

    /// The sockets that close now. Of a minisock whose flip to TIME-WAIT may have left no trace, `was_in_fin_wait2` tells
    /// whether it was in FIN-WAIT-2 at `looked`, if it can.
    pub fn census_with(
        &self,
        now: Monotonic,
        looked: Monotonic,
        was_in_fin_wait2: impl Fn(ConnectionId) -> Option<bool>,
    ) -> Census {
        let look = Look { at: looked, was_in_fin_wait2: &was_in_fin_wait2 };
        self.census_by(now, Some(&look))
    }

    fn census_by(&self, now: Monotonic, look: Option<&Look<'_>>) -> Census {
        let one_by_one = self.roster.stands().chain(self.minisocks.unsure());
        let together = self.minisocks.together(now);
        Census::of(one_by_one, &together, &self.owners, self.sees, now, look)
    }

    /// An event, not earlier than any before it; what it means goes to the end of `out`.
    pub fn apply(&mut self, event: &Event, out: &mut Vec<Observation>) {
        self.advance(event.at, out);
        self.touch(event);
        match event.kind {
            EventKind::StateChange(change) => self.state_change(event, &change, out),
            EventKind::FinRetransmitted(state) => {
                out.push(Observation::FinRetransmitted(state));
                match self.sockets.get_mut(&event.id) {
                    Some(close) => close.fin_retransmitted(event.at),
                    None => self.stats.unmatched += 1,
                }
            }
            EventKind::ResetSent(reset) => self.reset(event, reset.state, EarlyReset::Sent(reset), out),
            EventKind::ResetReceived(state) => self.reset(event, state, EarlyReset::Received, out),
            EventKind::TimerStarted(timer) => self.timer_started(event, &timer, out),
            EventKind::TimerCancelled(timer, cancel) => self.timer_cancelled(event, &timer, &cancel, out),
            EventKind::TimerExpired(timer) => self.timer_expired(event, &timer, out),
            EventKind::Segment(timer, segment) => self.segment(event, &timer, &segment, out),
            EventKind::MinisockBegan(timer, socket) => self.minisock_began(event, &timer, socket, out),
            EventKind::MinisockMissed => match self.sockets.get_mut(&event.id) {
                Some(close) => close.mark_gap(),
                // Its entry into CLOSE, the first event of it, comes next.
                None => self.gap_until = self.gap_until.max(Some(event.at + NEXT_EVENT)),
            },
            EventKind::MinisockRestarted(timer) => self.minisock_restarted(event, &timer, out),
            EventKind::MinisockEnded(timer, cancel) => self.minisock_ended(event, &timer, &cancel, out),
            EventKind::Held(holder) => self.held(event.id, holder),
            EventKind::ListingBegan => self.listing_began(),
            EventKind::Listed(row) => self.listed(event, &row),
            EventKind::NamespaceListed => self.namespace_listed(event.id.netns),
            EventKind::ListingEnded => self.listing_ended(),
        }
    }

    /// No event before `now` is missing: what was waiting for one is settled.
    pub fn advance(&mut self, now: Monotonic, out: &mut Vec<Observation>) {
        // What does not fit is settled before its time: nothing waits in numbers that no table holds.
        let room = self.limits.sockets.saturating_add(SPARE);
        while let Some(&(at, id)) = self.settling.front()
            && (at + CLOSE_SETTLES <= now || self.settling.len() > room)
        {
            self.settling.pop_front();
            self.settle_closed(id, at, out);
        }
        let room = self.limits.minisocks.saturating_add(SPARE);
        while let Some(&(at, address)) = self.cancelled.front()
            && (at + CANCEL_SETTLES <= now || self.cancelled.len() > room)
        {
            self.cancelled.pop_front();
            self.settle_cancelled(address, at, out);
        }
        if self.next_sweep < now {
            self.next_sweep = now + SWEEP;
            self.forget_overdue(now);
            if !self.listings.is_preparing() {
                self.minisocks.give_back();
            }
        }
    }

    /// When [`advance`](Self::advance) settles the next of those that wait.
    pub fn settles_next(&self) -> Option<Monotonic> {
        let closed = self.settling.front().map(|&(at, _)| at + CLOSE_SETTLES);
        let cancelled = self.cancelled.front().map(|&(at, _)| at + CANCEL_SETTLES);
        [closed, cancelled].into_iter().flatten().min()
    }

    /// There will be no more events: everything that was waiting is settled.
    pub fn finish(&mut self, out: &mut Vec<Observation>) {
        // Time has not passed: what is followed still goes on.
        self.next_sweep = Monotonic::from_nanos(u64::MAX);
        self.advance(Monotonic::from_nanos(u64::MAX), out);
        self.unclaimed.clear();
        self.early_resets.clear();
    }

    /// Events up to `until` were lost: what is followed now, or begins up to then, may lack some.
    pub fn gap(&mut self, until: Monotonic) {
        self.gap_until = Some(until);
        for (_, close) in &mut self.sockets {
            close.mark_gap();
        }
        self.minisocks.gap();
    }

    fn state_change(&mut self, event: &Event, change: &StateChange, out: &mut Vec<Observation>) {
        let Event { at, id, .. } = *event;
        self.begin_new_life(id, change, out);
        if let (TcpState::Listen, Some(process)) = (change.to, change.process) {
            self.listeners.began(id.netns, change.pair.local, process);
        }
        let followed = self.sockets.peek(&id);
        let state_before = followed.map(Close::state);
        out.push(Observation::Transition(Transition {
            at,
            id,
            pair: change.pair,
            from: change.from,
            to: change.to,
            dwell: followed
                .filter(|close| close.state() == change.from && change.from != change.to)
                .and_then(|close| close.dwell(at)),
            process: change.process,
            uid: change.uid,
        }));
        let belongs_to_a_close =
            change.to.is_closing() || (change.to == TcpState::Close && may_end(change.from));
        if !belongs_to_a_close {
            return;
        }
        let claimed = self.claim_minisock(at, id, change);
        let early_reset = self.early_resets.pop(&id).filter(|&(seen, _)| at.since(seen) < RESET_SETTLES);
        let close = self.sockets.get_or_insert_mut(id, || {
            let mut close = Close::new(id, change);
            close.accepted_by(|local, _| self.listeners.opener(id.netns, local, change.process));
            close
        });
        if let Some((address, substate)) = claimed {
            close.replaced_by(address, substate);
        }
        if let Some((_, reset)) = early_reset {
            reset.apply(close);
        }
        close.change(at, change);
        if Some(at) <= self.gap_until {
            close.mark_gap();
        }
        let (ended, state_now) = (close.ended().is_some(), close.closing_state());
        self.roster.note(id, Some(close), &mut self.owners);
        if let Some((address, _)) = claimed {
            self.note_minisock(address);
        }
        self.count_state(state_before, state_now);
        if ended {
            self.settling.push_back((at, id));
        }
        self.bound_sockets();
    }

    /// Forgets the full socket that nothing was heard of for longest, if there are too many.
    fn bound_sockets(&mut self) {
        if self.sockets.len() > self.limits.sockets
            && let Some((evicted_id, mut evicted)) = self.sockets.pop_lru()
        {
            if let Some(address) = self.minisock_of(evicted_id, &evicted) {
                evicted.mark_gap();
                self.hand_over(address, &evicted.story());
            }
            self.roster.note(evicted_id, None, &mut self.owners);
            self.count_state(evicted.closing_state(), None);
            self.stats.sockets_evicted += 1;
        }
    }

    /// A socket that is connected anew, after it was disconnected, keeps its cookie: its last life is settled.
    fn begin_new_life(&mut self, id: ConnectionId, change: &StateChange, out: &mut Vec<Observation>) {
        match self.sockets.peek(&id).map(Close::ended) {
            Some(Some(ended)) => self.settle_closed(id, ended, out),
            // No state of a close leads back: the entry into CLOSE was lost.
            Some(None) if !change.from.is_closing() => self.abandon(id),
            _ => {}
        }
    }

    /// The minisock that began a moment ago for the socket that now enters CLOSE, if the socket was not followed
    /// then, or the minisock did not tell its cookie: where it lies, and the substate it began in.
    fn claim_minisock(
        &mut self,
        at: Monotonic,
        id: ConnectionId,
        change: &StateChange,
    ) -> Option<(u64, TcpState)> {
        let goes_over =
            matches!((change.from, change.to), (TcpState::FinWait2 | TcpState::Closing, TcpState::Close));
        if !goes_over || self.unclaimed.is_empty() {
            return None;
        }
        let (began, address) = self.unclaimed.pop(&(id.netns, change.pair))?;
        let substate = self.minisocks.peek(address)?.began_as(began, id);
        let substate = substate.filter(|_| at.since(began) < CLOSE_SETTLES)?;
        self.minisocks.get_mut(address)?.replaces(id, self.sockets.peek(&id));
        Some((address, substate))
    }

    /// A reset. The first sign of an abort comes before the change of state it leads to, when the socket is not
    /// followed yet: it is kept for that.
    fn reset(&mut self, event: &Event, state: TcpState, reset: EarlyReset, out: &mut Vec<Observation>) {
        let Event { at, id, .. } = *event;
        match self.sockets.get_mut(&id) {
            Some(close) if close.ended().is_none() || state == TcpState::Close => reset.apply(close),
            followed => {
                // A socket that ended and is alive was connected anew.
                if let Some(ended) = followed.and_then(|close| close.ended()) {
                    self.settle_closed(id, ended, out);
                }
                if may_end(state)
                    && let Some((evicted, _)) = self.early_resets.push(id, (at, reset))
                    && evicted != id
                {
                    self.stats.unmatched += 1;
                }
            }
        }
    }

    /// Everything about a socket that entered CLOSE then has come in. One that was settled before, or closed
    /// again since, is left alone.
    fn settle_closed(&mut self, id: ConnectionId, at: Monotonic, out: &mut Vec<Observation>) {
        if self.sockets.peek(&id).and_then(Close::ended) != Some(at) {
            return;
        }
        let Some(mut close) = self.sockets.pop(&id) else {
            return;
        };
        close.accepted_by(|local, closer| self.listeners.opener(id.netns, local, closer));
        if close.reset_was_not_received() {
            out.push(Observation::ResetNotReceived);
        }
        if let Some(closed) = close.closed(self.sees.minisocks) {
            if let Some(address) = self.minisock_of(id, &close) {
                self.hand_over(address, &closed.story);
            }
            out.push(Observation::Closed(closed));
        }
    }

    /// The entry of a socket into CLOSE was lost.
    pub(super) fn abandon(&mut self, id: ConnectionId) {
        let Some(mut close) = self.sockets.pop(&id) else {
            return;
        };
        self.count_state(close.closing_state(), None);
        self.roster.note(id, None, &mut self.owners);
        self.stats.unmatched += 1;
        close.accepted_by(|local, closer| self.listeners.opener(id.netns, local, closer));
        close.mark_gap();
        if let Some(address) = self.minisock_of(id, &close) {
            self.hand_over(address, &close.story());
        }
    }

    /// What waits to be settled: sockets, and minisocks.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> (usize, usize) {
        (self.settling.len(), self.cancelled.len())
    }

    /// [`Self::census`] from the entries themselves, which is slow.
    #[cfg(test)]
    pub(super) fn census_one_by_one(&self, now: Monotonic) -> Census {
        let sockets = self
            .sockets
            .iter()
            .filter_map(|(&id, close)| Some((id, Stand::of_socket(close)?, close.owner())));
        let minisocks = self.minisocks.iter().map(|minisock| {
            let stand = Stand::of_minisock(&minisock, self.sees.flips());
            let whole = |since: Monotonic| census::began(since.as_nanos() / 1_000_000);
            let since = if stand.sure { stand.since.map(whole) } else { stand.since };
            (minisock.id(), Stand { since, ..stand }, minisock.owner())
        });
        let mut owners = Owners::default();
        let stands: Vec<_> = sockets
            .chain(minisocks)
            .map(|(id, stand, owner)| (id, stand.owned(owners.enter(owner, stand.state))))
            .collect();
        Census::of(stands.into_iter(), &[], &owners, self.sees, now, None)
    }

    /// Full sockets that close and have not ended, counted one by one.
    #[cfg(test)]
    pub(super) fn closing_sockets(&self) -> usize {
        self.sockets.iter().filter(|(_, close)| close.ended().is_none()).count()
    }

    /// A full socket left one closing state, if it was in one, and entered another, if it did.
    const fn count_state(&mut self, left: Option<TcpState>, entered: Option<TcpState>) {
        if let Some(state) = left {
            self.sockets_in[state as usize] -= 1;
        }
        if let Some(state) = entered {
            self.sockets_in[state as usize] += 1;
        }
    }
}

/// A reset that was seen before its socket was followed.
#[derive(Clone, Copy, Debug)]
enum EarlyReset {
    Sent(ResetSent),
    Received,
}

impl EarlyReset {
    const fn apply(self, close: &mut Close) {
        match self {
            Self::Sent(reset) => close.reset_sent(reset),
            Self::Received => close.reset_received(),
        }
    }
}

/// Whether leaving this state for CLOSE ends a connection: a listener or a failed attempt ends none.
const fn may_end(state: TcpState) -> bool {
    state.is_closing() || matches!(state, TcpState::Established)
}
