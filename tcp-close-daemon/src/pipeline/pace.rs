//! How soon the ring is looked into again, when nobody asks for it.
//!
//! In: times, and what waits for its time. Out: a pause. A look costs as much as some hundred events, so under load there are
//! few; what happens after a rest is told soon; at rest the kernel side wakes whoever looks.

use std::time::Duration;

use crate::event::Monotonic;

/// How often the ring is looked into.
pub(super) const TICK: Duration = Duration::from_millis(200);

/// The same at rest, when the next record wakes the reader. It never rests for good: a record whose program looked whether
/// it does just before it did waits for that long.
const TICK_AT_REST: Duration = Duration::from_secs(1);

/// So long after an event nothing waits for another that belongs to it.
const SETTLED: Duration = Duration::from_secs(2);

/// So long after a rest whatever was found is told as soon as nothing is missing of it, and then a few times a second.
const AWAKE: Duration = Duration::from_secs(1);

/// No sooner than that, though, unless a record wakes it, and only while no more than a few events are held back: where there is much to tell,
/// something is always due.
const SOON: Duration = Duration::from_millis(20);
const FEW: usize = 32;

/// What is not told yet.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Waits {
    /// Events that are held back.
    pub(super) held: usize,
    /// When the next of all is to be told.
    pub(super) next: Option<Monotonic>,
}

/// The pace of the loop.
#[derive(Debug)]
pub(super) struct Pace {
    /// How often somebody wants to see a turn taken.
    heard_every: Duration,
    /// When the last rest ended.
    awoke: Monotonic,
}

impl Pace {
    pub(super) const fn new() -> Self {
        Self { heard_every: Duration::MAX, awoke: Monotonic::from_nanos(0) }
    }

    /// With somebody who wants to see a turn taken this often.
    pub(super) const fn heard_every(self, interval: Duration) -> Self {
        Self { heard_every: interval, ..self }
    }

    /// Whether nothing has happened for so long that nothing waits for more of it.
    pub(super) fn is_rest(last_event: Option<Monotonic>, now: Monotonic) -> bool {
        last_event.is_none_or(|last| now.since(last) > SETTLED)
    }

    /// How long it may be until the next look, after one at `now` that found this to be the last event; it was at rest
    /// before, or not.
    pub(super) fn pause(
        &mut self,
        now: Monotonic,
        last_event: Option<Monotonic>,
        rested: bool,
        waits: Waits,
    ) -> Duration {
        let rests = Self::is_rest(last_event, now);
        if rested && !rests {
            self.awoke = now;
        }
        if waits.held > FEW {
            self.awoke = Monotonic::default();
        }
        let pause = match waits.next {
            _ if rested && rests => TICK_AT_REST,
            Some(next) if now.since(self.awoke) <= AWAKE => next.since(now).clamp(SOON, TICK),
            _ => TICK,
        };
        pause.min(self.heard_every)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: u64) -> Monotonic {
        Monotonic::from_nanos(milliseconds * 1_000_000)
    }

    /// A look: when, the last event that was found, what was held back, and when the next is to be told.
    type Look = (u64, u64, usize, Option<u64>);

    /// The pauses after these looks, in milliseconds.
    fn pauses(mut pace: Pace, looks: &[Look]) -> Vec<u128> {
        let mut before = None;
        looks
            .iter()
            .map(|&(now, last_event, held, next)| {
                let rested = Pace::is_rest(before, at(now));
                before = Some(at(last_event));
                let waits = Waits { held, next: next.map(at) };
                pace.pause(at(now), before, rested, waits).as_millis()
            })
            .collect()
    }

    #[test]
    fn at_rest_it_looks_once_a_second() {
        let looks = [(10_000, 1_000, 0, None), (11_000, 1_000, 0, None)];
        assert_eq!(pauses(Pace::new(), &looks), [1000, 1000]);
        // Not before what happened last is settled.
        assert_eq!(pauses(Pace::new(), &[(3_000, 1_000, 0, None), (3_001, 1_000, 0, None)]), [200, 1000]);
    }

    #[test]
    fn after_a_rest_it_looks_when_something_is_to_be_told() {
        let looks = [
            (10_000, 1_000, 0, None),
            (10_500, 10_500, 1, Some(10_510)),
            (10_520, 10_500, 0, Some(10_560)),
            (10_560, 10_500, 0, None),
            (10_760, 10_700, 1, Some(11_700)),
        ];
        assert_eq!(pauses(Pace::new(), &looks), [1000, 20, 40, 200, 200]);
    }

    #[test]
    fn and_no_longer_than_a_second_after_it() {
        let looks = [(10_000, 10_000, 1, Some(10_050)), (11_000, 10_990, 1, Some(11_050))];
        assert_eq!(pauses(Pace::new(), &looks), [50, 50]);
        let looks = [(10_000, 10_000, 1, Some(10_050)), (11_001, 10_990, 1, Some(11_051))];
        assert_eq!(pauses(Pace::new(), &looks), [50, 200]);
    }

    #[test]
    fn under_load_it_looks_as_seldom_as_ever() {
        let looks = [(10_000, 10_000, 33, Some(10_010)), (10_200, 10_200, 1, Some(10_210))];
        assert_eq!(pauses(Pace::new(), &looks), [200, 200]);
    }

    #[test]
    fn whoever_wants_to_hear_of_it_does() {
        let pace = || Pace::new().heard_every(Duration::from_millis(100));
        assert_eq!(pauses(pace(), &[(10_000, 1_000, 0, None), (10_100, 10_100, 33, None)]), [100, 100]);
    }
}
