//! One minisock, from the start of its timer on; what segments tell of it and how it ends are in files of their own.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    event::{CancelSite, ConnectionId, MinisockTimer, Monotonic, Pair, TcpState},
    lifecycle::{
        close::Close,
        observation::{Restarted, Story, Witness},
        owners::OwnerKey,
        tracker::Sees,
    },
};

mod end;
mod packed;
mod segments;

pub(super) use end::cause_of;
pub(super) use packed::Packed;
use segments::AbsorbedSegments;

/// The TIME-WAIT a kernel gives: how long, and how far past that its timer may fire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wait {
    /// Nominal length.
    pub nominal: Duration,
    /// Slack of the timer wheel.
    pub slack: Duration,
}

/// A timer counts whole ticks, so two readings of one moment may differ by almost two, 20 ms at most on any kernel.
const TWO_TICKS: Duration = Duration::from_millis(20);

/// A start that leaves no trace moves the end by less than this, and no softirq is put off for so long.
const LONG_AFTER: Duration = Duration::from_secs(10);

/// What is known so far of a minisock.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a thing that is known or not")]
pub(super) struct Minisock {
    /// The connection; that of the full socket, once it is known, for one that began without a cookie.
    id: ConnectionId,
    pair: Pair,
    /// It began without a cookie; a reader of `sock_diag` may have given it one since, which means nothing.
    nameless: bool,
    /// When and in which substate it began; `None` if that was before we looked.
    began: Option<(Monotonic, TcpState)>,
    substate: TcpState,
    /// When the full socket entered FIN-WAIT-2.
    fin_wait2_since: Option<Monotonic>,
    /// When TIME-WAIT began, if a timer event showed it.
    entered: Option<Monotonic>,
    /// The last start of its timer that is known of.
    last_start: Option<Monotonic>,
    /// The nominal end, as its timer last said it.
    nominal_end: Option<Monotonic>,
    /// When the timer's bucket ends, as the kernel said at its last start that was seen. A start that leaves no trace
    /// is one that leaves the timer in its bucket, so it holds for that too.
    fires_at: Option<Monotonic>,
    /// The wait of its TIME-WAIT as the kernel set it, once that was seen.
    wait: Option<Wait>,
    /// Restarts that are known of.
    restarts: u32,
    /// No start of its timer goes unseen.
    sees_starts: bool,
    /// Its segments are told before what they lead to, so that a SYN may be what ends it.
    tells_segments_first: bool,
    /// The beginning of its TIME-WAIT was told when it was.
    flip_is_told: bool,
    /// Segments that came in TIME-WAIT, if segments are seen.
    absorbed: Option<AbsorbedSegments>,
    /// A SYN came last, which may be about to take the socket pair.
    syn_is_due: bool,
    /// Its timer was cancelled, and what for is not known yet.
    cancelled: Option<Cancelled>,
    /// A full socket was there that it replaces, and its story is told once it is settled.
    story_is_due: bool,
    story: Option<Story>,
    /// What the owner of the full socket is known by.
    owner: OwnerKey,
    gap: bool,
}

/// A timer that was cancelled then and there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cancelled {
    pub(super) at: Monotonic,
    pub(super) timer: MinisockTimer,
    pub(super) site: CancelSite,
}

impl Minisock {
    /// Its timer has started for the first time. From here on all of what is seen at all is seen.
    pub(super) fn begun(at: Monotonic, id: ConnectionId, timer: &MinisockTimer, sees: Sees) -> Self {
        let mut minisock = Self::seen_late(id, timer, sees);
        minisock.began = Some((at, timer.substate));
        minisock.started(at, timer);
        minisock
    }

    /// It was there before we looked.
    pub(super) fn seen_late(id: ConnectionId, timer: &MinisockTimer, sees: Sees) -> Self {
        Self {
            nameless: id.socket == 0,
            sees_starts: sees.starts || sees.segments,
            tells_segments_first: sees.starts,
            absorbed: sees.segments.then(AbsorbedSegments::default),
            ..Self::blank(id, timer.pair, timer.substate)
        }
    }

    /// Nothing else is known of it.
    const fn blank(id: ConnectionId, pair: Pair, substate: TcpState) -> Self {
        Self {
            id,
            pair,
            nameless: false,
            began: None,
            substate,
            fin_wait2_since: None,
            entered: None,
            last_start: None,
            nominal_end: None,
            fires_at: None,
            wait: None,
            restarts: 0,
            sees_starts: false,
            tells_segments_first: false,
            flip_is_told: false,
            absorbed: None,
            syn_is_due: false,
            cancelled: None,
            story_is_due: false,
            story: None,
            owner: OwnerKey { cgroup: None, comm: None },
            gap: false,
        }
    }

    /// It was in the kernel's table, to end then.
    pub(super) fn listed(
        id: ConnectionId,
        pair: Pair,
        substate: TcpState,
        nominal_end: Monotonic,
        sees: Sees,
    ) -> Self {
        let timer = MinisockTimer {
            pair,
            minisock: 0,
            substate,
            remaining: 0,
            slack: Duration::ZERO,
            fires_in: None,
            rcv_nxt: 0,
            since_stamp: None,
        };
        Self { nominal_end: Some(nominal_end), ..Self::seen_late(id, &timer, sees) }
    }

    /// Its flip from FIN-WAIT-2 to TIME-WAIT was lost: its wait is up then.
    pub(super) fn has_flipped(&mut self, nominal_end: Monotonic, usual: Wait) {
        self.gap = true;
        self.substate = TcpState::TimeWait;
        let began = self.began.map_or(Monotonic::default(), |(began, _)| began);
        let start = (nominal_end - self.wait.unwrap_or(usual).nominal).max(began);
        self.entered = Some(start);
        self.last_start = self.last_start.max(Some(start));
        self.nominal_end = Some(nominal_end);
    }

    /// The same minisock, now that its cookie is known.
    pub(super) const fn known_as(self, id: ConnectionId) -> Self {
        Self { id, ..self }
    }

    /// Its socket pair.
    pub(super) const fn pair(&self) -> Pair {
        self.pair
    }

    /// Its socket pair, and whether it began without a cookie.
    pub(super) const fn identity(&self) -> (Pair, bool) {
        (self.pair, self.nameless)
    }

    /// Whether an event at its address speaks of it, and not of another minisock that came to lie there.
    pub(super) fn is(&self, id: ConnectionId, timer: &MinisockTimer) -> bool {
        is_of((self.id, self.pair, self.nameless), id, timer.pair)
    }

    /// Whether a timer that starts at its address is its own, started again. FIN-WAIT-2 is never restarted.
    pub(super) fn is_restarted_by(&self, id: ConnectionId, timer: &MinisockTimer) -> bool {
        let own = self.cancelled.is_some() || !self.nameless;
        own && timer.substate == TcpState::TimeWait && self.is(id, timer)
    }

    /// Its timer starts again.
    pub(super) fn restarted(&mut self, at: Monotonic, timer: &MinisockTimer) -> Restarted {
        let flipped = self.substate == TcpState::FinWait2 && timer.substate == TcpState::TimeWait;
        // A restart of a TIME-WAIT that flipped unseen does not tell when it flipped.
        let entered = self.entered;
        self.started(at, timer);
        if !flipped {
            self.entered = entered;
            self.restarts = self.restarts.saturating_add(1);
        }
        if let Some(absorbed) = &mut self.absorbed {
            absorbed.restart_awaits_segment |= !flipped;
            absorbed.flip_awaits_fin |= flipped;
            absorbed.first_fin_due |= flipped;
        }
        self.cancelled = None;
        self.flip_is_told |= flipped;
        Restarted { at, flipped, witness: self.witness() }
    }

    /// Whether every start of its timer has been seen.
    const fn witness(&self) -> Witness {
        if self.sees_starts && self.began.is_some() && !self.gap { Witness::Exact } else { Witness::Inferred }
    }

    fn started(&mut self, at: Monotonic, timer: &MinisockTimer) {
        self.substate = timer.substate;
        self.last_start = Some(at);
        self.nominal_end = Some(nominal_end(at, timer));
        self.fires_at = timer.fires_in.map(|left| at + left);
        if timer.substate == TcpState::TimeWait {
            self.entered = Some(at);
            let nominal = Duration::from_nanos(timer.remaining.max(0).unsigned_abs());
            self.wait = Some(Wait { nominal, slack: timer.slack });
        }
    }

    /// Takes in what its timer says, and what that tells of a start that left no trace: the flip from FIN-WAIT-2,
    /// and a restart into the same bucket of the timer wheel, only move `timer->expires`.
    fn look(&mut self, at: Monotonic, timer: &MinisockTimer, usual: Wait) {
        let end = nominal_end(at, timer);
        let before = *self.nominal_end.get_or_insert(end);
        let moved = end.since(before) > TWO_TICKS;
        if moved || before.since(end) > TWO_TICKS {
            // Not for less: starts in quick succession each move it by less, and would never be noticed.
            self.nominal_end = Some(end);
        }
        if !moved || timer.substate != TcpState::TimeWait {
            return;
        }
        let start = self.last_start_by_timer(at, timer, usual);
        if self.substate == TcpState::FinWait2 {
            self.substate = TcpState::TimeWait;
            self.entered = Some(start);
        } else {
            self.restarts = self.restarts.saturating_add(1);
        }
        self.last_start = self.last_start.max(Some(start));
    }

    /// Whatever was seen, the last start of a TIME-WAIT is its nominal end less the wait.
    fn last_start_by_timer(&self, at: Monotonic, timer: &MinisockTimer, usual: Wait) -> Monotonic {
        let began = self.began.map_or(Monotonic::default(), |(began, _)| began);
        let wait = self.wait.unwrap_or(usual);
        (nominal_end(at, timer) - wait.nominal).max(began).min(at)
    }

    pub(super) const fn id(&self) -> ConnectionId {
        self.id
    }

    /// Substate it was last seen in.
    pub(super) const fn substate(&self) -> TcpState {
        self.substate
    }

    /// When the connection entered the state it is in, FIN-WAIT-2 with the full socket, if that was seen.
    pub(super) const fn in_substate_since(&self) -> Option<Monotonic> {
        match self.substate {
            TcpState::FinWait2 => self.fin_wait2_since,
            _ => self.entered,
        }
    }

    /// Whether no event of its life was lost; one that was there before we looked has lost none since.
    pub(super) const fn is_whole(&self) -> bool {
        !self.gap
    }

    /// The wait of its TIME-WAIT, if it was seen to be set.
    pub(super) const fn wait(&self) -> Option<Wait> {
        self.wait
    }

    /// Its timer was cancelled, and what for will show.
    pub(super) fn cancel(&mut self, cancelled: Cancelled, usual: Wait) {
        self.look(cancelled.at, &cancelled.timer, usual);
        self.cancelled = Some(cancelled);
    }

    /// When and how its timer was cancelled, if what for is still open.
    pub(super) const fn cancelled(&self) -> Option<Cancelled> {
        self.cancelled
    }

    /// Its timer was cancelled to be restarted, and the start was lost. The timer itself will tell when that was.
    pub(super) const fn start_was_lost(&mut self) {
        self.cancelled = None;
        self.gap = true;
    }

    /// It replaces the full socket with this id, of which this much is known.
    pub(super) fn replaces(&mut self, id: ConnectionId, close: Option<&Close>) {
        self.id = id;
        self.fin_wait2_since = close.and_then(Close::fin_wait2_since);
        self.owner = close.map(Close::owner).unwrap_or_default();
        self.story_is_due = true;
    }

    /// The substate it began in, if it is the one that began then and may replace this full socket.
    pub(super) fn began_as(&self, at: Monotonic, id: ConnectionId) -> Option<TcpState> {
        let fits = self.nameless || self.id == id;
        self.began.filter(|&(began, _)| fits && began == at).map(|(_, substate)| substate)
    }

    /// All there is to know of the full socket.
    pub(super) fn hand_over(&mut self, story: &Story) {
        self.story_is_due = false;
        self.story = Some(*story);
        self.owner = story.owner();
    }

    /// All there is to know of the full socket, once it has closed.
    pub(super) const fn story(&self) -> Option<&Story> {
        self.story.as_ref()
    }

    /// What the owner of the full socket is known by.
    pub(super) const fn owner(&self) -> OwnerKey {
        self.owner
    }

    /// Whether it was seen to begin; if not, it was there already.
    pub(super) const fn is_observed(&self) -> bool {
        self.began.is_some()
    }

    /// When its wait is nominally up; past that, when its bucket of the timer wheel ends, if that is known.
    pub(super) fn ends(&self, now: Monotonic) -> Option<Monotonic> {
        let nominal = self.nominal_end?;
        Some(if nominal > now { nominal } else { self.fires_at.unwrap_or(nominal).max(nominal) })
    }

    /// When its wait is nominally up, if that is known.
    pub(super) const fn nominal_end(&self) -> Option<Monotonic> {
        self.nominal_end
    }

    pub(super) const fn mark_gap(&mut self) {
        self.gap = true;
    }

    /// Whether its timer must have fired long ago: its end was lost.
    pub(super) fn is_overdue(&self, now: Monotonic, usual: Wait) -> bool {
        let slack = self.wait.unwrap_or(usual).slack;
        self.nominal_end.is_some_and(|end| end + slack + LONG_AFTER < now)
    }
}

/// Whether an event of this socket and pair speaks of a minisock that is known by this, and may have begun without a cookie.
pub(super) fn is_of(
    (known, known_pair, nameless): (ConnectionId, Pair, bool),
    id: ConnectionId,
    pair: Pair,
) -> bool {
    (nameless || known.socket == id.socket) && known.netns == id.netns && known_pair == pair
}

/// When the wait is up by what its timer says, to the tick.
fn nominal_end(at: Monotonic, timer: &MinisockTimer) -> Monotonic {
    let remaining = Duration::from_nanos(timer.remaining.unsigned_abs());
    if timer.remaining < 0 { at - remaining } else { at + remaining }
}
