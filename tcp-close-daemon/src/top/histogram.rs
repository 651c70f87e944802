//! How long TIME-WAITs lasted, counted in ranges that tell expiry from all else.

use std::time::Duration;

/// Upper ends of the ranges, in seconds, and what each is called. Linux waits 60 s, and up to some 2 s more by its timer
/// wheel.
const RANGES: [(f64, &str); 7] = [
    (0.1, "< 0.1s"),
    (1.0, "< 1s"),
    (10.0, "< 10s"),
    (59.9, "< 60s"),
    (62.5, "60-62s"),
    (120.0, "< 2m"),
    (f64::INFINITY, "longer"),
];

/// Dwells by range.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Histogram {
    counts: [u64; RANGES.len()],
}

impl Histogram {
    pub(super) fn add(&mut self, dwell: Duration) {
        let seconds = dwell.as_secs_f64();
        let range = RANGES.iter().position(|&(end, _)| seconds < end);
        if let Some(count) = range.and_then(|range| self.counts.get_mut(range)) {
            *count += 1;
        }
    }

    /// The ranges by name, with their counts.
    pub(super) fn ranges(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        RANGES.iter().map(|&(_, name)| name).zip(self.counts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dwell_is_counted_in_its_range() {
        let mut histogram = Histogram::default();
        for milliseconds in [0, 99, 100, 60_000, 62_056, 59_000, 3_600_000] {
            histogram.add(Duration::from_millis(milliseconds));
        }
        let counts: Vec<u64> = histogram.ranges().map(|(_, count)| count).collect();
        assert_eq!(counts, [2, 1, 0, 1, 2, 0, 1]);
    }
}
