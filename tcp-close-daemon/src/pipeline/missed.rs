//! How many events the programs have missed, once that is certain.
//!
//! Where programs make up for each other, a process may be preempted (from Linux 7.0 on) between the one that missed an event
//! and the next, which takes it: for that long there seems to be one miss too many. So what is read counts when it has stayed.

use std::time::Duration;

use crate::{event::Monotonic, probe::Misses};

/// How long a miss has to stay: others get their turn on a processor within a few milliseconds.
const STAYS: Duration = Duration::from_millis(50);

/// What is read from time to time, and what of it is certain.
#[derive(Debug, Default)]
pub(super) struct Missed {
    certain: Misses,
    suspicion: Option<Suspicion>,
    /// Whatever is suspected, or will be, came after this.
    clear: Monotonic,
}

/// That all of several equal programs missed more than is certain.
#[derive(Clone, Copy, Debug)]
struct Suspicion {
    since: Monotonic,
    /// So many were read at least.
    least: u64,
}

impl Missed {
    /// So many are certain.
    pub(super) const fn certain(&self) -> u64 {
        self.certain.alone + self.certain.by_all
    }

    /// Since when there may be more, as another look will tell.
    pub(super) fn suspected_since(&self) -> Option<Monotonic> {
        self.suspicion.map(|_| self.clear)
    }

    /// So many seem to be missed by now.
    pub(super) fn read(&mut self, at: Monotonic, misses: Misses) {
        self.are_certain(Misses { by_all: 0, ..misses });
        let seem = misses.by_all;
        let before = self.suspicion.take();
        // Of a program whose file cannot be opened at the moment nothing is told: there may seem to be fewer.
        if seem <= self.certain.by_all {
            self.clear = at;
            return;
        }
        let new = Suspicion { since: at, least: seem };
        let suspicion = before.map_or(new, |before| Suspicion { least: before.least.min(seem), ..before });
        self.suspicion = Some(suspicion);
        if at.since(suspicion.since) < STAYS {
            return;
        }
        self.are_certain(Misses { by_all: suspicion.least, ..Misses::default() });
        self.suspicion = None;
        self.clear = at;
        if seem > suspicion.least {
            // What came later has to stay as long.
            self.clear = suspicion.since;
            self.suspicion = Some(Suspicion { since: at, least: seem });
        }
    }

    /// So many there are: nobody looks again.
    pub(super) fn settle(&mut self, misses: Misses) {
        self.are_certain(misses);
        self.suspicion = None;
    }

    /// At least so many; none becomes uncertain again.
    fn are_certain(&mut self, misses: Misses) {
        let Misses { alone, by_all } = self.certain;
        self.certain = Misses { alone: alone.max(misses.alone), by_all: by_all.max(misses.by_all) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn by_all(by_all: u64) -> Misses {
        Misses { alone: 0, by_all }
    }

    fn at(milliseconds: u64) -> Monotonic {
        Monotonic::default() + Duration::from_millis(milliseconds)
    }

    #[test]
    fn what_stays_is_missed() {
        let mut missed = Missed::default();
        for (milliseconds, seem, certain, suspected_since) in [
            (1000, 0, 0, None),
            // Somebody was preempted.
            (1200, 1, 0, Some(1000)),
            (1400, 0, 0, None),
            (1600, 1, 0, Some(1400)),
            (1640, 1, 0, Some(1400)),
            (1650, 1, 1, None),
            // Two are missed, and somebody is preempted.
            (1800, 4, 1, Some(1650)),
            (2000, 3, 3, None),
            // A file could not be opened.
            (2200, 2, 3, None),
            (2400, 3, 3, None),
            // More come while some are suspected.
            (2600, 4, 3, Some(2400)),
            (2660, 6, 4, Some(2600)),
            (2700, 6, 4, Some(2600)),
            (2710, 6, 6, None),
        ] {
            missed.read(at(milliseconds), by_all(seem));
            assert_eq!(missed.certain(), certain, "at {milliseconds} ms");
            assert_eq!(missed.suspected_since(), suspected_since.map(at), "at {milliseconds} ms");
        }
    }

    #[test]
    fn what_a_program_without_an_equal_misses_is_missed_at_once() {
        let mut missed = Missed::default();
        missed.read(at(1000), Misses { alone: 2, by_all: 1 });
        assert_eq!((missed.certain(), missed.suspected_since()), (2, Some(at(0))));
        missed.read(at(1200), Misses { alone: 2, by_all: 1 });
        assert_eq!((missed.certain(), missed.suspected_since()), (3, None));
    }

    #[test]
    fn what_is_missed_at_the_end_is_missed() {
        let mut missed = Missed::default();
        missed.read(at(1000), by_all(2));
        missed.settle(by_all(2));
        assert_eq!((missed.certain(), missed.suspected_since()), (2, None));
    }
}
