//! One minisock, from the start of its timer to its end.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    event::{CancelSite, ConnectionId, MinisockTimer, Monotonic, Pair, Process, Segment, TcpState},
    lifecycle::{
        close::Close,
        observation::{
            Absorbed, EndCause, LINUX_MSL, MinisockEnded, Restarted, Story, TimeWait, Verdict, Witness,
        },
        owners::OwnerKey,
        tracker::Sees,
    },
};

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

/// What the kernel's own stamp counts.
const MILLISECOND: Duration = Duration::from_millis(1);

/// What is known so far of a minisock.
#[derive(Clone, Debug)]
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
    story: Option<Story>,
    /// What the owner of the full socket is known by.
    owner: OwnerKey,
    gap: bool,
}

/// The segments a minisock in TIME-WAIT has dealt with.
#[derive(Clone, Copy, Debug, Default)]
struct AbsorbedSegments {
    fins_again: u32,
    strays: u32,
    /// A restart was told; the segment that made it comes next, and is none of its own.
    restart_awaits_segment: bool,
    /// The flip was told; the FIN that made it comes next, and is no restart.
    flip_awaits_fin: bool,
    /// The peer's first FIN comes next.
    first_fin_due: bool,
    /// When the peer's FIN came for the last time.
    last_fin: Option<Monotonic>,
}

/// A timer that was cancelled then and there.
#[derive(Clone, Copy, Debug)]
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
            id,
            pair: timer.pair,
            nameless: id.socket == 0,
            began: None,
            substate: timer.substate,
            fin_wait2_since: None,
            entered: None,
            last_start: None,
            nominal_end: None,
            fires_at: None,
            wait: None,
            restarts: 0,
            sees_starts: sees.starts || sees.segments,
            tells_segments_first: sees.starts,
            flip_is_told: false,
            absorbed: sees.segments.then(AbsorbedSegments::default),
            syn_is_due: false,
            cancelled: None,
            story: None,
            owner: OwnerKey::default(),
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

    /// Whether an event at its address speaks of it, and not of another minisock that came to lie there.
    pub(super) fn is(&self, id: ConnectionId, timer: &MinisockTimer) -> bool {
        let same_socket = self.nameless || self.id.socket == id.socket;
        same_socket && self.id.netns == id.netns && self.pair == timer.pair
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

    /// A segment came, and its timer is as that left it. Tells whether that was a start of the timer which left no
    /// other trace, and what the segment was to a minisock in TIME-WAIT.
    pub(super) fn segment(
        &mut self,
        at: Monotonic,
        timer: &MinisockTimer,
        segment: &Segment,
        usual: Wait,
    ) -> (Option<Restarted>, Option<Absorbed>) {
        if timer.substate == TcpState::FinWait2 {
            return (None, None);
        }
        self.syn_is_due = self.tells_segments_first && segment.syn && !segment.ack;
        let flipped = self.substate == TcpState::FinWait2;
        let started = self.has_started(at, timer, segment, usual);
        self.flip_is_told |= started && flipped;
        let restarted = started.then(|| Restarted {
            at: self.last_start.unwrap_or(at),
            flipped,
            witness: self.witness(),
        });
        (restarted, self.absorb(at, segment, flipped))
    }

    /// Whether a start of the timer shows by this segment alone: the flip, or a restart.
    fn has_started(&mut self, at: Monotonic, timer: &MinisockTimer, segment: &Segment, usual: Wait) -> bool {
        let by_timer = self.last_start_by_timer(at, timer, usual);
        let now = at.since(by_timer) <= TWO_TICKS;
        if self.substate == TcpState::FinWait2 {
            // The peer's FIN made the flip, at a time better known than the timer's ticks tell. Where another segment
            // shows it, the timer tells when it was, unless that is now.
            let entered = if segment.fin || now { at } else { by_timer };
            self.substate = TcpState::TimeWait;
            self.entered = Some(entered);
            self.last_start = Some(entered);
            self.nominal_end = Some(nominal_end(at, timer));
            // If it is another segment's start that is told here, the FIN's is told with the FIN.
            self.absorbed.get_or_insert_default().flip_awaits_fin =
                !(segment.fin || now && segment.restarts());
            return true;
        }
        let seen = self.absorbed.get_or_insert_default();
        let is_told = segment.fin && std::mem::take(&mut seen.flip_awaits_fin)
            || !segment.rst && std::mem::take(&mut seen.restart_awaits_segment);
        if is_told {
            return false;
        }
        if segment.restarts() && now {
            self.last_start = Some(at);
            self.nominal_end = Some(nominal_end(at, timer));
            self.restarts = self.restarts.saturating_add(1);
            return true;
        }
        let before = self.restarts;
        self.look(at, timer, usual);
        self.restarts > before
    }

    /// What a segment is to a minisock in TIME-WAIT; the peer's first FIN is none of its strays.
    fn absorb(&mut self, at: Monotonic, segment: &Segment, flipped: bool) -> Option<Absorbed> {
        let entered = self.entered;
        let seen = self.absorbed.get_or_insert_default();
        if self.syn_is_due {
            return None;
        }
        if !segment.fin {
            // Another CPU deals with the FIN that made the flip, or it was lost.
            seen.first_fin_due |= flipped;
            seen.strays = seen.strays.saturating_add(1);
            return Some(Absorbed::Stray);
        }
        if flipped || std::mem::take(&mut seen.first_fin_due) {
            seen.last_fin = entered;
            return None;
        }
        seen.last_fin = Some(at);
        seen.fins_again = seen.fins_again.saturating_add(1);
        Some(Absorbed::FinAgain)
    }

    /// A SYN that came last has not ended it, so it was a stray.
    pub(super) fn syn_was_absorbed(&mut self) -> Option<Absorbed> {
        std::mem::take(&mut self.syn_is_due).then(|| {
            let seen = self.absorbed.get_or_insert_default();
            seen.strays = seen.strays.saturating_add(1);
            Absorbed::Stray
        })
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

    /// Whether a segment it deals with now may be one it absorbs. One that comes when its timer was cancelled, and
    /// nothing shows what for, is what ended it.
    pub(super) fn may_absorb(&self) -> bool {
        self.cancelled.is_none_or(|cancelled| cancelled.site != CancelSite::Unknown)
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
    }

    /// The substate it began in, if it is the one that began then and may replace this full socket.
    pub(super) fn began_as(&self, at: Monotonic, id: ConnectionId) -> Option<TcpState> {
        let fits = self.nameless || self.id == id;
        self.began.filter(|&(began, _)| fits && began == at).map(|(_, substate)| substate)
    }

    /// All there is to know of the full socket.
    pub(super) fn hand_over(&mut self, story: &Story) {
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

    pub(super) const fn mark_gap(&mut self) {
        self.gap = true;
    }

    /// Whether its timer must have fired long ago: its end was lost.
    pub(super) fn is_overdue(&self, now: Monotonic, usual: Wait) -> bool {
        let slack = self.wait.unwrap_or(usual).slack;
        self.nominal_end.is_some_and(|end| end + slack + LONG_AFTER < now)
    }

    /// What there is to say at its end. `usual` is the TIME-WAIT this kernel gives, for one whose own start left
    /// no trace.
    pub(super) fn ended(
        mut self,
        at: Monotonic,
        timer: &MinisockTimer,
        cause: EndCause,
        by: Option<Process>,
        usual: Wait,
    ) -> MinisockEnded {
        self.look(at, timer, usual);
        self.enter_by_stamp(at, timer);
        let time_wait = (timer.substate == TcpState::TimeWait).then(|| self.time_wait(at, timer, usual));
        // FIN-WAIT-2 ends where TIME-WAIT begins, or with the minisock.
        let fin_wait2_over = time_wait.map_or(at, |time_wait| at - time_wait.dwell);
        let fin_wait2 = self.fin_wait2_since.map(|since| fin_wait2_over.since(since));
        let mut story = self.story;
        if let Some(story) = &mut story {
            if self.began.is_some_and(|(_, substate)| substate == TcpState::FinWait2) {
                story.states.set_last_of(TcpState::FinWait2, fin_wait2);
            }
            // Without the peer's FIN, the close took neither three segments nor four.
            story.segments = story.segments.filter(|_| time_wait.is_some());
        }
        let fin_wait2 = fin_wait2.or_else(|| story.and_then(|story| story.states.dwell(TcpState::FinWait2)));
        // In substate TIME-WAIT the peer's FIN is the last thing that was taken.
        let peer_fin = time_wait.map(|_| timer.rcv_nxt.wrapping_sub(1));
        MinisockEnded {
            at,
            id: self.id,
            pair: timer.pair,
            story,
            began_in: self.began.map(|(_, substate)| substate),
            minisock: self.began.map(|(began, _)| at.since(began)),
            fin_wait2,
            cause,
            by,
            time_wait,
            peer_fin,
            flip_is_told: self.flip_is_told,
            gap: self.gap || story.is_some_and(|story| story.gap),
        }
    }

    /// A flip that nobody saw, dated by the kernel's own stamp, if the peer's FIN refreshed it: to the millisecond,
    /// where the timer tells it to the tick, and whatever restarted the wait since.
    fn enter_by_stamp(&mut self, at: Monotonic, timer: &MinisockTimer) {
        let may_have_flipped_unseen = self.began.is_some_and(|(_, substate)| substate == TcpState::FinWait2)
            && timer.substate == TcpState::TimeWait
            && self.witness() == Witness::Inferred;
        let (true, Some(since), Some((began, _))) = (may_have_flipped_unseen, timer.since_stamp, self.began)
        else {
            return;
        };
        let stamped = at - since;
        let is_of = |event: Monotonic| stamped.since(event).max(event.since(stamped)) <= MILLISECOND;
        // Else it is the stamp of the beginning, or of a flip that an event showed.
        if stamped.since(began) <= MILLISECOND || self.entered.is_some_and(is_of) {
            return;
        }
        self.entered = Some(stamped);
        if self.last_start.is_some_and(|last| last.since(stamped) > TWO_TICKS) {
            // What was taken for the flip was a restart.
            self.restarts = self.restarts.max(1);
        } else {
            self.last_start = Some(stamped);
        }
    }

    /// Measures the TIME-WAIT. A flip that neither a start nor a moved end showed is as old as the last start.
    fn time_wait(&self, at: Monotonic, timer: &MinisockTimer, usual: Wait) -> TimeWait {
        let wait = self.wait.unwrap_or(usual);
        let entered = self.entered.unwrap_or_else(|| self.last_start_by_timer(at, timer, usual));
        let last_start = self.last_start.map_or(entered, |last| last.max(entered));
        let end = nominal_end(at, timer);
        // A bucket that ends before the timer may fire is not the one it is in: the start that moved it was lost.
        let slack = match self.fires_at.filter(|&fires_at| end.since(fires_at) <= TWO_TICKS) {
            Some(fires_at) => fires_at.since(end) + TWO_TICKS,
            None => wait.slack,
        };
        let witness = self.witness();
        let absorbed = self.absorbed.filter(|_| witness == Witness::Exact);
        TimeWait {
            dwell: at.since(entered),
            since_last_restart: at.since(last_start),
            nominal: wait.nominal,
            slack,
            restarts: self.restarts,
            final_acks_lost: absorbed.map(|seen| seen.fins_again),
            strays: absorbed.map(|seen| seen.strays),
            needed: absorbed
                .map(|seen| seen.last_fin.map_or(Duration::ZERO, |last| last.since(entered)) + LINUX_MSL),
            witness,
            verdict: Verdict::judge(at.since(last_start), wait.nominal, slack),
        }
    }
}

/// When the wait is up by what its timer says, to the tick.
fn nominal_end(at: Monotonic, timer: &MinisockTimer) -> Monotonic {
    let remaining = Duration::from_nanos(timer.remaining.unsigned_abs());
    if timer.remaining < 0 { at - remaining } else { at + remaining }
}

/// Why a minisock ended that was cancelled from this place in the kernel, in this substate.
///
/// Only the timer's expiry proves that the time was up, and only the start of a timer that it was restarted:
/// a cancellation on the way to either, with nothing after it, has no known cause.
pub(super) const fn cause_of(site: CancelSite, substate: TcpState) -> EndCause {
    let flipped = matches!(substate, TcpState::TimeWait);
    match site {
        CancelSite::Connect => EndCause::Reused,
        CancelSite::Receive if flipped => EndCause::Recycled,
        CancelSite::Receive => EndCause::ResetByUs,
        CancelSite::Reset if flipped => EndCause::Assassinated,
        CancelSite::Reset => EndCause::ResetInFinWait2,
        CancelSite::Purge => EndCause::Purged,
        CancelSite::Abort => EndCause::Killed,
        CancelSite::Expiry | CancelSite::Restart | CancelSite::Unknown => EndCause::Unknown,
    }
}
