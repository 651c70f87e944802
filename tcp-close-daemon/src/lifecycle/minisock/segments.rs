//! What segments tell of a minisock: starts of its timer that leave no other trace, and what it absorbs.

use super::{Minisock, TWO_TICKS, Wait, nominal_end};
use crate::{
    event::{CancelSite, MinisockTimer, Monotonic, Segment, TcpState},
    lifecycle::observation::{Absorbed, Restarted},
};

/// The segments a minisock in TIME-WAIT has dealt with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct AbsorbedSegments {
    pub(super) fins_again: u32,
    pub(super) strays: u32,
    /// A restart was told; the segment that made it comes next, and is none of its own.
    pub(super) restart_awaits_segment: bool,
    /// The flip was told; the FIN that made it comes next, and is no restart.
    pub(super) flip_awaits_fin: bool,
    /// The peer's first FIN comes next.
    pub(super) first_fin_due: bool,
    /// When the peer's FIN came for the last time.
    pub(super) last_fin: Option<Monotonic>,
}

impl Minisock {
    /// Whether a segment it deals with now may be one it absorbs. One that comes when its timer was cancelled, and
    /// nothing shows what for, is what ended it.
    pub(in crate::lifecycle) fn may_absorb(&self) -> bool {
        self.cancelled.is_none_or(|cancelled| cancelled.site != CancelSite::Unknown)
    }

    /// A segment came, and its timer is as that left it. Tells whether that was a start of the timer which left no
    /// other trace, and what the segment was to a minisock in TIME-WAIT.
    pub(in crate::lifecycle) fn segment(
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
    pub(in crate::lifecycle) fn syn_was_absorbed(&mut self) -> Option<Absorbed> {
        std::mem::take(&mut self.syn_is_due).then(|| {
            let seen = self.absorbed.get_or_insert_default();
            seen.strays = seen.strays.saturating_add(1);
            Absorbed::Stray
        })
    }
}
