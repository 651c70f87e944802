//! Up to what time everything is taken in.
//!
//! A record takes its place in the ring before it takes its time, and is read in the order of places. So what comes behind a
//! place that the ring had been written up to at some moment is of after that moment, however long a program is interrupted
//! between the two, or holds up the ring in the midst of its record.

use std::time::Duration;

use crate::event::Monotonic;

/// More than the clocks of two processors differ by, or one takes to see what another has written; and usually more than lies
/// between the start of the first timer that is found to be a minisock's, which is remembered, and its record
/// (`tcp-close-ebpf/src/handler.rs`).
pub(super) const MARGIN: Duration = Duration::from_millis(10);

/// A moment, and how far the ring was written by then at least.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    pub(super) at: Monotonic,
    /// In bytes that never begin anew.
    pub(super) written: u64,
}

/// What is known to be complete; it only grows.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Complete {
    up_to: Monotonic,
    /// The ring is held up before this.
    held_up: Option<Mark>,
}

impl Complete {
    /// Nothing older can come any more.
    pub(super) const fn up_to(self) -> Monotonic {
        self.up_to
    }

    /// A record is still being written, and more may wait behind it.
    pub(super) const fn is_held_up(self) -> bool {
        self.held_up.is_some()
    }

    /// The ring is read up to there.
    pub(super) fn read_up_to(&mut self, read: u64, mark: Mark) {
        let passed = [Some(mark), self.held_up].into_iter().flatten().find(|mark| mark.written <= read);
        if let Some(passed) = passed {
            self.reach(passed.at);
            self.held_up = None;
        }
        if read < mark.written {
            // The earlier one stays: where one record after the other holds up the ring, time goes on all the same.
            self.held_up.get_or_insert(mark);
        }
    }

    /// A part of what waits is read, the oldest of it of this time. For what is behind to be older, as many programs would have to
    /// be interrupted at once as there are records in the part.
    pub(super) fn part_read(&mut self, oldest: Monotonic) {
        self.reach(oldest);
    }

    fn reach(&mut self, time: Monotonic) {
        self.up_to = self.up_to.max(time - MARGIN);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: u64) -> Monotonic {
        Monotonic::from_nanos(milliseconds * 1_000_000)
    }

    #[test]
    fn what_is_behind_a_mark_is_of_after_it() {
        let mut complete = Complete::default();
        for (now, written, read, up_to, is_held_up) in [
            (1000, 0, 0, 990, false),
            (1200, 100, 100, 1190, false),
            // More was written meanwhile, and read.
            (1400, 200, 250, 1390, false),
            (1600, 400, 300, 1390, true),
            (1800, 500, 300, 1390, true),
            // The next holds it up at once.
            (2000, 600, 450, 1590, true),
            (2200, 700, 500, 1590, true),
            (2400, 800, 650, 1990, true),
            (2600, 800, 800, 2590, false),
        ] {
            complete.read_up_to(read, Mark { at: at(now), written });
            let told = (complete.up_to(), complete.is_held_up());
            assert_eq!(told, (at(up_to), is_held_up), "read up to {read} at {now} ms");
        }
    }

    #[test]
    fn a_part_tells_by_the_oldest_of_it_and_nothing_is_taken_back() {
        let mut complete = Complete::default();
        for (oldest, up_to) in [(1050, 1040), (1020, 1040), (1060, 1050)] {
            complete.part_read(at(oldest));
            assert_eq!(complete.up_to(), at(up_to));
        }
    }
}
