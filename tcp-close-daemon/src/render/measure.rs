//! Durations and sockets as people read them.

use std::{fmt, time::Duration};

/// A duration with three significant digits or a little more, in six characters: `44.0µs`, `0.21ms`, `48.2ms`,
/// `60.42s`, `12m34s`, `4d04h`.
pub(crate) struct Measure(pub(crate) Duration);

impl fmt::Display for Measure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (nanoseconds, seconds) = (self.0.as_nanos(), self.0.as_secs());
        // Each limit is where the last digit shown would round up to one digit more.
        let text = match nanoseconds {
            0..9_995 => format!("{:.2}µs", self.0.as_secs_f64() * 1e6),
            9_995..99_950 => format!("{:.1}µs", self.0.as_secs_f64() * 1e6),
            99_950..9_995_000 => format!("{:.2}ms", self.0.as_secs_f64() * 1e3),
            9_995_000..99_950_000 => format!("{:.1}ms", self.0.as_secs_f64() * 1e3),
            99_950_000..999_500_000 => format!("{:.0}ms", self.0.as_secs_f64() * 1e3),
            999_500_000..99_995_000_000 => format!("{:.2}s", self.0.as_secs_f64()),
            99_995_000_000..599_950_000_000 => format!("{:.1}s", self.0.as_secs_f64()),
            _ if seconds < 3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
            _ if seconds < 86_400 => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
            _ => format!("{}d{:02}h", seconds / 86_400, seconds / 3600 % 24),
        };
        formatter.pad(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_keep_three_digits_in_six_characters() {
        let cases = [
            (0, "0.00µs"),
            (4_396, "4.40µs"),
            (9_996, "10.0µs"),
            (44_000, "44.0µs"),
            (99_960, "0.10ms"),
            (210_000, "0.21ms"),
            (9_996_000, "10.0ms"),
            (48_200_000, "48.2ms"),
            (99_960_000, "100ms"),
            (200_252_158, "200ms"),
            (999_400_000, "999ms"),
            (999_600_000, "1.00s"),
            (60_420_000_000, "60.42s"),
            (99_996_000_000, "100.0s"),
            (240_000_000_000, "240.0s"),
            (599_960_000_000, "9m59s"),
            (754_000_000_000, "12m34s"),
            (3_599_999_000_000, "59m59s"),
            (7_260_000_000_000, "2h01m"),
            (86_399_000_000_000, "23h59m"),
            (360_000_000_000_000, "4d04h"),
        ];
        for (nanoseconds, text) in cases {
            let measured = Measure(Duration::from_nanos(nanoseconds)).to_string();
            assert_eq!(measured, text);
            assert!(measured.chars().count() <= 6, "{text}");
        }
    }
}
