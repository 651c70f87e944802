//! The two clocks of the host, read at the edges only: the core gets its time from events.

use jiff::{SignedDuration, Timestamp};
use rustix::time::{ClockId, Timespec, clock_gettime};

use crate::event::Monotonic;

/// Now, on the kernel's `CLOCK_MONOTONIC`, the clock that events are stamped with.
pub fn monotonic_now() -> Monotonic {
    Monotonic::from_nanos(nanoseconds(clock_gettime(ClockId::Monotonic)))
}

/// Now, on the wall clock.
pub fn now() -> Timestamp {
    Timestamp::now()
}

fn nanoseconds(time: Timespec) -> u64 {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanoseconds = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds * 1_000_000_000 + nanoseconds
}

/// Ties monotonic time to wall time, at the moment it was made.
///
/// Wall time may be set, or slewed: make a new one now and then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Anchor {
    monotonic: Monotonic,
    wall: Timestamp,
}

impl Anchor {
    /// Says that these are one moment.
    pub const fn new(monotonic: Monotonic, wall: Timestamp) -> Self {
        Self { monotonic, wall }
    }

    /// Reads both clocks.
    pub fn now() -> Self {
        let realtime = clock_gettime(ClockId::Realtime);
        let subsecond = i32::try_from(realtime.tv_nsec).unwrap_or(0);
        let wall = Timestamp::new(realtime.tv_sec, subsecond).unwrap_or(Timestamp::UNIX_EPOCH);
        Self::new(monotonic_now(), wall)
    }

    /// The moment it was made, in monotonic time.
    pub const fn monotonic(&self) -> Monotonic {
        self.monotonic
    }

    /// The wall time of a monotonic moment.
    pub fn wall(&self, at: Monotonic) -> Timestamp {
        let nanoseconds = i128::from(at.as_nanos()) - i128::from(self.monotonic.as_nanos());
        let since = SignedDuration::from_nanos_i128(nanoseconds);
        self.wall.checked_add(since).unwrap_or(self.wall)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn wall_time_moves_with_monotonic_time() {
        let anchor = Anchor::new(Monotonic::from_nanos(5_000_000_000), Timestamp::UNIX_EPOCH);
        let later = anchor.wall(Monotonic::from_nanos(5_000_000_000) + Duration::from_millis(1500));
        assert_eq!(later.to_string(), "1970-01-01T00:00:01.5Z");
        let earlier = anchor.wall(Monotonic::from_nanos(4_000_000_000));
        assert_eq!(earlier.to_string(), "1969-12-31T23:59:59Z");
    }
}
