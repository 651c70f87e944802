//! Durations and sockets as people read them.

use std::{fmt, time::Duration};

/// A duration with three significant digits: `210µs`, `0.21ms`, `48.2ms`, `60.42s`, `12m34s`.
pub(crate) struct Measure(pub(crate) Duration);

impl fmt::Display for Measure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs_f64();
        let milliseconds = seconds * 1e3;
        let text = match seconds {
            _ if seconds >= 3600.0 => {
                format!("{}h{:02}m", self.0.as_secs() / 3600, self.0.as_secs() / 60 % 60)
            }
            _ if seconds >= 600.0 => format!("{}m{:02}s", self.0.as_secs() / 60, self.0.as_secs() % 60),
            _ if seconds >= 100.0 => format!("{seconds:.1}s"),
            _ if seconds >= 1.0 => format!("{seconds:.2}s"),
            _ if milliseconds >= 100.0 => format!("{milliseconds:.0}ms"),
            _ if milliseconds >= 10.0 => format!("{milliseconds:.1}ms"),
            _ => format!("{milliseconds:.2}ms"),
        };
        formatter.pad(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_keep_three_digits() {
        let cases = [
            (4_396, "0.00ms"),
            (210_000, "0.21ms"),
            (48_200_000, "48.2ms"),
            (200_252_158, "200ms"),
            (999_400_000, "999ms"),
            (60_420_000_000, "60.42s"),
            (240_000_000_000, "240.0s"),
            (754_000_000_000, "12m34s"),
            (7_260_000_000_000, "2h01m"),
        ];
        for (nanoseconds, text) in cases {
            assert_eq!(Measure(Duration::from_nanos(nanoseconds)).to_string(), text);
        }
    }
}
