//! The kernel's tick and its timer wheel: how long a jiffy is, and how late a timer may fire by design.

use std::time::Duration;

use rustix::time::{ClockId, clock_getres};

/// Ticks per second (`CONFIG_HZ`) of the running kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hz(u32);

impl Hz {
    /// Asks the kernel: the resolution of its coarse clocks is one tick.
    ///
    /// `sysconf(_SC_CLK_TCK)` would answer `USER_HZ`, which is another thing.
    pub fn running() -> Self {
        let tick = clock_getres(ClockId::MonotonicCoarse);
        let nanoseconds = u64::try_from(tick.tv_nsec).unwrap_or(0).max(1);
        Self(u32::try_from((1_000_000_000 + nanoseconds / 2) / nanoseconds).unwrap_or(u32::MAX))
    }

    /// A known tick rate.
    pub const fn new(ticks_per_second: u32) -> Self {
        Self(ticks_per_second)
    }

    /// Ticks per second.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The time that many jiffies take.
    pub fn duration(self, jiffies: u64) -> Duration {
        let ticks = u64::from(self.0);
        Duration::from_secs(jiffies / ticks) + Duration::from_nanos((jiffies % ticks) * 1_000_000_000 / ticks)
    }

    /// How long after its nominal end a timer of `wait` may fire without being late.
    ///
    /// The timer wheel rounds an expiry up to the end of a bucket; a bucket of level n holds 8ⁿ jiffies, and a
    /// wait of at least 63·8ⁿ⁻¹ jiffies is kept at level n (kernel/time/timer.c: `LVL_START`, `LVL_GRAN`).
    /// Two ticks more allow for the tick in progress at either end.
    pub fn slack(self, wait: Duration) -> Duration {
        let jiffies = wait.as_nanos() * u128::from(self.0) / 1_000_000_000;
        let mut level = 0;
        while level < 8 && jiffies >= 63 << (3 * level) {
            level += 1;
        }
        self.duration((1 << (3 * level)) + 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slack_of_a_minute_by_tick_rate() {
        let minute = Duration::from_secs(60);
        let cases = [(100, 5.140), (250, 2.056), (300, 1.713), (1000, 4.098)];
        for (hz, seconds) in cases {
            let slack = Hz::new(hz).slack(minute).as_secs_f64();
            assert!((slack - seconds).abs() < 0.001, "HZ={hz}: {slack}");
        }
    }

    #[test]
    fn running_tick_is_a_rate_linux_offers() {
        assert!([100, 250, 300, 1000].contains(&Hz::running().get()));
    }
}
