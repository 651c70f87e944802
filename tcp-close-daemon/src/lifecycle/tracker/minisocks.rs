//! The half of the tracker that follows minisocks, from either kind of hook.

use std::time::Duration;

use crate::{
    event::{Cancel, CancelSite, ConnectionId, Event, MinisockTimer, Monotonic, Process, Segment, TcpState},
    lifecycle::{
        close::Close,
        minisock::{Cancelled, Minisock, cause_of},
        observation::{EndCause, MinisockBegan, Observation, Story},
        tracker::Tracker,
    },
};

impl Tracker {
    pub(super) fn timer_started(&mut self, event: &Event, timer: &MinisockTimer, out: &mut Vec<Observation>) {
        let Event { at, id, .. } = *event;
        let address = timer.minisock;
        if let Some(minisock) = self.minisocks.get_mut(address) {
            if minisock.is_restarted_by(id, timer) {
                out.push(Observation::Restarted(minisock.restarted(at, timer)));
                self.learn_wait(address);
                self.note_minisock(address);
                return;
            }
            // Another minisock at the same address: the end of the last one was lost.
            self.end(address, None, EndCause::Unknown, None, out);
        }
        self.begin(event, timer, id, out);
    }

    pub(super) fn minisock_began(
        &mut self,
        event: &Event,
        timer: &MinisockTimer,
        socket: ConnectionId,
        out: &mut Vec<Observation>,
    ) {
        // Whatever lay there before: its end was lost.
        self.end(timer.minisock, None, EndCause::Unknown, None, out);
        self.begin(event, timer, socket, out);
    }

    /// A minisock begins, in place of this full socket.
    fn begin(
        &mut self,
        event: &Event,
        timer: &MinisockTimer,
        socket: ConnectionId,
        out: &mut Vec<Observation>,
    ) {
        let (at, address) = (event.at, timer.minisock);
        let mut minisock = Minisock::begun(at, event.id, timer, self.sees);
        if Some(at) <= self.gap_until {
            minisock.mark_gap();
        }
        if let Some(close) = self.sockets.get_mut(&socket) {
            minisock.replaces(socket, Some(close));
            close.replaced_by(address, timer.substate);
            self.roster.note(socket, Some(close), &mut self.owners);
        } else if self.unclaimed.push((socket.netns, timer.pair), (at, address)).is_some() {
            self.stats.unmatched += 1;
        }
        self.keep(address, minisock);
        self.learn_wait(address);
        out.push(Observation::MinisockBegan(MinisockBegan {
            at,
            substate: timer.substate,
            nominal: Duration::from_nanos(timer.remaining.max(0).unsigned_abs()),
            slack: timer.slack,
        }));
    }

    pub(super) fn minisock_restarted(
        &mut self,
        event: &Event,
        timer: &MinisockTimer,
        out: &mut Vec<Observation>,
    ) {
        match self.minisocks.get_mut(timer.minisock).filter(|minisock| minisock.is(event.id, timer)) {
            Some(minisock) => {
                out.extend(minisock.syn_was_absorbed().map(Observation::Absorbed));
                out.push(Observation::Restarted(minisock.restarted(event.at, timer)));
                self.learn_wait(timer.minisock);
            }
            // Older than we are, or just over; its end will tell.
            None => self.stats.unmatched += 1,
        }
        self.note_minisock(timer.minisock);
    }

    pub(super) fn minisock_ended(
        &mut self,
        event: &Event,
        timer: &MinisockTimer,
        cancel: &Cancel,
        out: &mut Vec<Observation>,
    ) {
        self.know(event, timer, out);
        let cause = match cancel.site {
            CancelSite::Expiry => expired_in(timer.substate),
            site => cause_of(site, timer.substate),
        };
        let by = cancel.site.by_process().then_some(cancel.process);
        self.end(timer.minisock, Some((event.at, timer)), cause, by, out);
    }

    /// Remembers the TIME-WAIT this kernel gives, for minisocks whose own start leaves no trace.
    fn learn_wait(&mut self, address: u64) {
        if let Some(wait) = self.minisocks.peek(address).and_then(|minisock| minisock.wait()) {
            self.wait = wait;
        }
    }

    pub(super) fn timer_cancelled(
        &mut self,
        event: &Event,
        timer: &MinisockTimer,
        cancel: &Cancel,
        out: &mut Vec<Observation>,
    ) {
        let address = timer.minisock;
        let site = cancel.site;
        self.know(event, timer, out);
        match cause_of(site, timer.substate) {
            EndCause::Unknown => {
                if let Some(minisock) = self.minisocks.get_mut(address) {
                    minisock.cancel(Cancelled { at: event.at, timer: *timer, site }, self.wait);
                    self.cancelled.push_back((event.at, address));
                    self.note_minisock(address);
                }
            }
            cause => {
                let by = site.by_process().then_some(cancel.process);
                self.end(address, Some((event.at, timer)), cause, by, out);
            }
        }
    }

    /// A segment a minisock dealt with. One that comes after a minisock's end is what ended it, and told already.
    pub(super) fn segment(
        &mut self,
        event: &Event,
        timer: &MinisockTimer,
        segment: &Segment,
        out: &mut Vec<Observation>,
    ) {
        let usual = self.wait;
        let minisock = self.minisocks.get_mut(timer.minisock);
        if let Some(minisock) =
            minisock.filter(|minisock| minisock.is(event.id, timer) && minisock.may_absorb())
        {
            out.extend(minisock.syn_was_absorbed().map(Observation::Absorbed));
            let (restarted, absorbed) = minisock.segment(event.at, timer, segment, usual);
            out.extend(restarted.map(Observation::Restarted));
            out.extend(absorbed.map(Observation::Absorbed));
        }
        self.note_minisock(timer.minisock);
    }

    pub(super) fn timer_expired(&mut self, event: &Event, timer: &MinisockTimer, out: &mut Vec<Observation>) {
        self.know(event, timer, out);
        self.end(timer.minisock, Some((event.at, timer)), expired_in(timer.substate), None, out);
    }

    /// Makes sure there is an entry for a minisock whose timer is seen: it may be older than we are.
    fn know(&mut self, event: &Event, timer: &MinisockTimer, out: &mut Vec<Observation>) {
        let address = timer.minisock;
        let known = self.minisocks.is(address, event.id, timer.pair);
        if known == Some(true) {
            return;
        }
        self.stats.unmatched += 1;
        if known == Some(false) {
            self.end(address, None, EndCause::Unknown, None, out);
        }
        let mut minisock = Minisock::seen_late(event.id, timer, self.sees);
        // Its beginning was lost, but not its full socket: they have the cookie in common.
        if let Some(close) = self.sockets.get_mut(&event.id).filter(|close| close.minisock().is_none()) {
            minisock.replaces(event.id, Some(close));
            minisock.mark_gap();
            close.replaced_by(address, timer.substate);
            close.mark_gap();
            self.roster.note(event.id, Some(close), &mut self.owners);
        }
        self.keep(address, minisock);
    }

    pub(super) fn keep(&mut self, address: u64, minisock: Minisock) {
        self.prepare(address, &minisock, true);
        self.minisocks.put(address, minisock);
        self.note_minisock(address);
        if self.minisocks.len() > self.limits.minisocks
            && let Some(evicted) = self.minisocks.oldest().and_then(|oldest| self.pop_minisock(oldest))
        {
            self.not_found_again(&evicted);
            self.stats.minisocks_evicted += 1;
        }
    }

    /// A minisock is followed no longer.
    pub(super) fn pop_minisock(&mut self, address: u64) -> Option<Minisock> {
        let minisock = self.minisocks.pop(address, &mut self.owners)?;
        self.prepare(address, &minisock, false);
        Some(minisock)
    }

    /// A minisock has changed, if it is there.
    pub(super) fn note_minisock(&mut self, address: u64) {
        self.minisocks.note(address, &mut self.owners, self.sees.flips());
    }

    /// A minisock is over. `seen` is its timer at the end, if that was seen; if not, its last cancellation may do.
    fn end(
        &mut self,
        address: u64,
        seen: Option<(Monotonic, &MinisockTimer)>,
        cause: EndCause,
        by: Option<Process>,
        out: &mut Vec<Observation>,
    ) {
        let Some(id) = self.minisocks.id(address) else {
            return;
        };
        // Its full socket may have closed only just now: that is told first, whatever has not settled.
        if let Some(close) = self.sockets.peek(&id).filter(|close| close.minisock() == Some(address)) {
            match close.ended() {
                Some(ended) => self.settle_closed(id, ended, out),
                // It entered CLOSE before its minisock could end: that event was lost.
                None => self.abandon(id),
            }
        }
        let Some(mut minisock) = self.pop_minisock(address) else {
            return;
        };
        if cause != EndCause::Recycled {
            out.extend(minisock.syn_was_absorbed().map(Observation::Absorbed));
        }
        // A timer that was cancelled to be restarted did not end there.
        let cancelled = minisock.cancelled().filter(|cancelled| cancelled.site != CancelSite::Restart);
        let seen = seen.or_else(|| cancelled.as_ref().map(|cancelled| (cancelled.at, &cancelled.timer)));
        match seen {
            Some((at, timer)) => {
                out.push(Observation::MinisockEnded(minisock.ended(at, timer, cause, by, self.wait)));
            }
            None => self.stats.unmatched += 1,
        }
    }

    /// Minisocks that must have ended long ago, their end lost and not known to be, are followed no longer.
    pub(super) fn forget_overdue(&mut self, now: Monotonic) {
        for address in self.minisocks.overdue(now, self.wait) {
            if let Some(minisock) = self.pop_minisock(address) {
                self.not_found_again(&minisock);
            }
            self.stats.unmatched += 1;
        }
    }

    /// The minisock that took the place of a full socket, if it is still there.
    pub(super) fn minisock_of(&self, id: ConnectionId, close: &Close) -> Option<u64> {
        let address = close.minisock()?;
        self.minisocks.id(address).filter(|&known| known == id).map(|_| address)
    }

    /// A minisock takes over all that is known of the full socket before it.
    pub(super) fn hand_over(&mut self, address: u64, story: &Story) {
        if let Some(minisock) = self.minisocks.get_mut(address) {
            minisock.hand_over(story);
            self.note_minisock(address);
        }
    }

    /// A timer was cancelled then, and nothing has shown what for.
    pub(super) fn settle_cancelled(&mut self, address: u64, at: Monotonic, out: &mut Vec<Observation>) {
        let Some(minisock) = self.minisocks.get_mut(address) else {
            return;
        };
        match minisock.cancelled().filter(|cancelled| cancelled.at == at).map(|cancelled| cancelled.site) {
            Some(CancelSite::Restart) => {
                minisock.start_was_lost();
                self.stats.unmatched += 1;
                self.note_minisock(address);
            }
            Some(_) => self.end(address, None, EndCause::Unknown, None, out),
            None => self.note_minisock(address),
        }
    }
}

/// Why a minisock ended whose time was up.
const fn expired_in(substate: TcpState) -> EndCause {
    match substate {
        TcpState::TimeWait => EndCause::Expired,
        _ => EndCause::FinWait2Timeout,
    }
}
