//! Up to what time everything is taken in.
//!
//! A record takes its place in the ring before it takes its time, and is handed out in the order of places. So what is behind a
//! place that the ring had been written up to at some time has a later time, however long a program is interrupted
//! between the two, or holds up the ring in the midst of its record.

use std::time::Duration;

use crate::event::Monotonic;

/// More than the clocks of two processors differ by, or one takes to see what another has written; and more than lies between
/// the start of the first timer that is known to be a minisock's, and its record (`tcp-close-ebpf/src/handler.rs`).
pub(super) const MARGIN: Duration = Duration::from_millis(10);

/// What was taken out of the ring at a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TakenIn {
    /// Whatever had its place when the turn began.
    All,
    /// As much as a turn takes, the oldest of it of this time: more waits. All of these programs would have to be interrupted
    /// for what waits to be older.
    Part(Option<Monotonic>),
    /// Not all, and for the moment there is no more: a record is still being written.
    HeldUp,
}

/// Only grows.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Complete(Monotonic);

impl Complete {
    /// Nothing older can come any more.
    pub(super) const fn up_to(self) -> Monotonic {
        self.0
    }

    /// This was taken in by a turn that began at `now`.
    pub(super) fn take_in(&mut self, now: Monotonic, taken: TakenIn) {
        let time = match taken {
            TakenIn::All => Some(now),
            TakenIn::Part(oldest) => oldest,
            TakenIn::HeldUp => None,
        };
        if let Some(time) = time {
            self.0 = self.0.max(time - MARGIN);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_still_come_is_never_older() {
        let at = |milliseconds: u64| Monotonic::from_nanos(milliseconds * 1_000_000);
        let mut complete = Complete::default();
        for (now, taken, up_to) in [
            (1000, TakenIn::All, 990),
            (1200, TakenIn::HeldUp, 990),
            (1400, TakenIn::Part(Some(at(1050))), 1040),
            (1400, TakenIn::Part(None), 1040),
            // One of them had been interrupted before it took its time.
            (1400, TakenIn::Part(Some(at(1020))), 1040),
            (1400, TakenIn::HeldUp, 1040),
            (1600, TakenIn::All, 1590),
        ] {
            complete.take_in(at(now), taken);
            assert_eq!(complete.up_to(), at(up_to), "{taken:?} at {now} ms");
        }
    }
}
