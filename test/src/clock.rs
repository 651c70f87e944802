//! The lab's clock: `CLOCK_MONOTONIC`, the one `bpf_ktime_get_ns` reads.
//!
//! Times in a [`journal`](crate::journal) and times in the events of a kernel program can therefore be
//! compared.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// How long the lab waits for something that must happen, unless a test says otherwise.
///
/// Longer than three retransmissions (0.2 + 0.4 + 0.8 s), because the machine may be a slow emulator.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// Time since boot, without the time the machine was suspended.
pub fn now() -> Duration {
    Duration::try_from(clock_gettime(ClockId::Monotonic)).expect("the monotonic clock is never negative")
}

/// A moment at which waiting ends.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(Duration);

impl Deadline {
    /// The moment `timeout` from now.
    pub fn after(timeout: Duration) -> Self {
        Self(now().saturating_add(timeout))
    }

    /// What is left until then, or nothing when it is past.
    pub fn left(self) -> Option<Duration> {
        self.0.checked_sub(now()).filter(|left| !left.is_zero())
    }
}
