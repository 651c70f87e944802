//! How many events the programs have missed, once that is certain.
//!
//! Where programs make up for each other, a process may be preempted (from Linux 7.0 on) between the one that missed an event
//! and the next, which takes it: for that long there seems to be one miss too many. So what is read counts when it has stayed.

use std::time::Duration;

use crate::event::Monotonic;

/// How long a miss has to stay: others get their turn on a processor within a few milliseconds.
const STAYS: Duration = Duration::from_millis(50);

/// What is read from time to time, and what of it is certain.
#[derive(Debug, Default)]
pub(super) struct Missed {
    certain: u64,
    /// More was read since then, and this much at least.
    suspected: Option<(Monotonic, u64)>,
}

impl Missed {
    /// So many are certain.
    pub(super) const fn certain(&self) -> u64 {
        self.certain
    }

    /// Another look will tell whether there are more.
    pub(super) const fn is_suspected(&self) -> bool {
        self.suspected.is_some()
    }

    /// So many seem to be missed by now.
    pub(super) fn read(&mut self, at: Monotonic, seem: u64) {
        // Of a program whose file cannot be opened at the moment nothing is told: there may seem to be fewer.
        let more = (seem > self.certain).then_some(seem);
        self.suspected = more.map(|seem| match self.suspected {
            Some((since, least)) => (since, least.min(seem)),
            None => (at, seem),
        });
        if let Some((since, least)) = self.suspected
            && at.since(since) >= STAYS
        {
            self.settle(least);
        }
    }

    /// So many there are: nobody looks again.
    pub(super) fn settle(&mut self, missed: u64) {
        self.certain = self.certain.max(missed);
        self.suspected = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_is_missed() {
        let mut missed = Missed::default();
        let mut read = |milliseconds: u64, seem| {
            missed.read(Monotonic::default() + Duration::from_millis(milliseconds), seem);
            missed.certain()
        };
        for (milliseconds, seem, certain) in [
            (1000, 0, 0),
            // Somebody was preempted.
            (1200, 1, 0),
            (1400, 0, 0),
            (1600, 1, 0),
            (1640, 1, 0),
            (1650, 1, 1),
            // Two are missed, and somebody is preempted.
            (1800, 4, 1),
            (2000, 3, 3),
            // A file could not be opened.
            (2200, 2, 3),
            (2400, 3, 3),
        ] {
            assert_eq!(read(milliseconds, seem), certain, "at {milliseconds} ms");
        }
    }

    #[test]
    fn what_is_missed_at_the_end_is_missed() {
        let mut missed = Missed::default();
        missed.read(Monotonic::default(), 2);
        assert!(missed.is_suspected());
        missed.settle(2);
        assert_eq!((missed.certain(), missed.is_suspected()), (2, false));
    }
}
