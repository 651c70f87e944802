//! Puts events of several CPUs into the order of their times.
//!
//! Two CPUs can deliver two halves of one close the wrong way round; ring order is no order.

use std::collections::VecDeque;

use crate::event::{Event, Monotonic};

/// Holds events back until nothing earlier can come any more.
#[derive(Debug, Default)]
pub struct Sequencer {
    /// In the order of their times, and of their coming where those are the same.
    held: VecDeque<Event>,
    released_up_to: Monotonic,
    late: u64,
}

impl Sequencer {
    /// Takes an event in.
    pub fn push(&mut self, event: Event) {
        if event.at < self.released_up_to {
            self.late += 1;
        }
        // It has hardly ever been overtaken, and by few.
        let place = self.held.iter().rposition(|held| held.at <= event.at).map_or(0, |before| before + 1);
        self.held.insert(place, event);
    }

    /// Hands out, in order, every event up to `until`, which the caller knows to be complete.
    pub fn release(&mut self, until: Monotonic, mut take: impl FnMut(&Event)) {
        let ready = self.held.partition_point(|event| event.at <= until);
        for event in self.held.drain(..ready) {
            take(&event);
        }
        self.released_up_to = self.released_up_to.max(until);
    }

    /// How many are held back.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// Time of the first of them.
    pub fn next(&self) -> Option<Monotonic> {
        self.held.front().map(|event| event.at)
    }

    /// Hands out everything that is left.
    pub fn finish(&mut self, take: impl FnMut(&Event)) {
        self.release(Monotonic::from_nanos(u64::MAX), take);
    }

    /// Events that came after a later one had been handed out.
    pub const fn late(&self) -> u64 {
        self.late
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{ConnectionId, EventKind, TcpState};

    fn event(at: u64) -> Event {
        Event {
            at: Monotonic::from_nanos(at),
            id: ConnectionId { netns: 1, socket: at },
            kind: EventKind::ResetReceived(TcpState::Established),
        }
    }

    fn released(sequencer: &mut Sequencer, until: u64) -> Vec<u64> {
        let mut times = Vec::new();
        sequencer.release(Monotonic::from_nanos(until), |event| times.push(event.at.as_nanos()));
        times
    }

    #[test]
    fn events_come_out_in_order_and_none_too_early() {
        let mut sequencer = Sequencer::default();
        for at in [30, 10, 20, 50, 40] {
            sequencer.push(event(at));
        }
        assert_eq!(released(&mut sequencer, 35), [10, 20, 30]);
        sequencer.push(event(45));
        assert_eq!(released(&mut sequencer, 100), [40, 45, 50]);
        assert_eq!(sequencer.late(), 0);
    }

    #[test]
    fn a_late_event_is_counted_and_still_handed_out() {
        let mut sequencer = Sequencer::default();
        sequencer.push(event(30));
        assert_eq!(released(&mut sequencer, 35), [30]);
        sequencer.push(event(20));
        assert_eq!(released(&mut sequencer, 40), [20]);
        assert_eq!(sequencer.late(), 1);
    }
}
