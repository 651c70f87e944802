//! The end of a minisock: why it came, and what is measured then.

use std::time::Duration;

use super::{Minisock, TWO_TICKS, Wait, nominal_end};
use crate::{
    event::{CancelSite, MinisockTimer, Monotonic, Process, TcpState},
    lifecycle::observation::{EndCause, LINUX_MSL, MinisockEnded, TimeWait, Verdict, Witness},
};

/// What the kernel's own stamp counts.
const MILLISECOND: Duration = Duration::from_millis(1);

impl Minisock {
    /// What there is to say at its end. `usual` is the TIME-WAIT this kernel gives, for one whose own start left
    /// no trace.
    pub(in crate::lifecycle) fn ended(
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

/// Why a minisock ended that was cancelled from this place in the kernel, in this substate.
///
/// Only the timer's expiry proves that the time was up, and only the start of a timer that it was restarted:
/// a cancellation on the way to either, with nothing after it, has no known cause.
pub(in crate::lifecycle) const fn cause_of(site: CancelSite, substate: TcpState) -> EndCause {
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
