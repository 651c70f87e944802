//! What was measured, in numbers, and held against what is promised.

use anyhow::Context as _;
use serde::Serialize;

use super::{Measured, tracked::Tracked};

/// Of several measurements the one in the middle, and how far they range.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Figure {
    pub(super) least: f64,
    pub(super) median: f64,
    pub(super) most: f64,
}

impl Figure {
    pub(super) fn of(mut measured: Vec<f64>) -> anyhow::Result<Self> {
        measured.sort_by(f64::total_cmp);
        let middle = measured.get(measured.len() / 2);
        let ends = measured.first().zip(measured.last());
        let (&median, (&least, &most)) = middle.zip(ends).context("nothing was measured")?;
        Ok(Self { least, median, most })
    }

    /// As it is shown, in these units.
    pub(super) fn text(&self, per: f64, digits: usize) -> String {
        let [least, median, most] = [self.least, self.median, self.most].map(|value| value * per);
        format!("{median:.digits$} ({least:.digits$} to {most:.digits$})")
    }
}

/// Whether a bound is kept.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Verdict {
    pub(super) bound: String,
    pub(super) measured: f64,
    pub(super) is_met: bool,
}

impl Verdict {
    fn at_most(what: &str, measured: f64, most: f64, unit: &str) -> Self {
        Self { bound: format!("{what} at most {most} {unit}"), measured, is_met: measured <= most }
    }

    fn at_least(what: &str, measured: f64, least: f64, unit: &str) -> Self {
        Self { bound: format!("{what} at least {least} {unit}"), measured, is_met: measured >= least }
    }
}

/// How many times longer a scrape may take with most of the TIME-WAITs than with none: the same, but for chance.
const MOST_GROWTH: f64 = 2.0;

/// What is promised, for tcp-close as it is started.
pub(super) fn verdicts(measured: &Measured) -> anyhow::Result<Vec<Verdict>> {
    const MEGABYTE: f64 = 1e6;
    let Measured { observers, daemon, tracked, recorded, programs, counted, .. } = measured;
    let ours = observers.first().context("tcp-close is the first of them")?;
    let scrape = |tracked: &Tracked| tracked.scrape_seconds.median;
    let (none, most) = tracked.first().zip(tracked.last()).context("scrapes were measured")?;
    let lost = tracked.iter().map(|tracked| tracked.events_lost).sum::<f64>();
    let mut verdicts = vec![
        Verdict::at_most("kernel time for a connection", ours.kernel.median, 1500.0, "ns"),
        Verdict::at_least("connection rate", ours.rate.median * 100.0, 95.0, "% of bare"),
        Verdict::at_most(
            "processor time of the daemon for an event",
            daemon.nanoseconds_per_event,
            500.0,
            "ns",
        ),
        Verdict::at_most("memory before the first connection", daemon.resident_bytes / MEGABYTE, 30.0, "MB"),
        Verdict::at_most("memory for each tracked minisock", recorded.bytes_each, 160.0, "bytes"),
        Verdict::at_most(
            &format!("memory with {} of them", recorded.minisocks),
            recorded.resident_bytes / MEGABYTE,
            200.0,
            "MB",
        ),
        Verdict::at_most("start to ready", daemon.start_seconds, 1.0, "s"),
        Verdict::at_most("processor when nothing happens", daemon.idle_part * 100.0, 0.1, "%"),
    ];
    verdicts.extend(tracked.iter().map(|tracked| {
        let what = format!("scrape with {:.0} minisocks tracked", tracked.minisocks);
        Verdict::at_most(&what, scrape(tracked) * 1e3, 5.0, "ms")
    }));
    let growth = scrape(most) / scrape(none);
    verdicts.extend([
        Verdict::at_most("scrape with most of them, by the one with none", growth, MOST_GROWTH, ""),
        Verdict::at_most("events lost", daemon.events_lost + lost, 0.0, ""),
        Verdict::at_most("steps of the verifier in one program", programs.verified, 100_000.0, ""),
        Verdict::at_most("stack of one program", programs.stack, 512.0, "bytes"),
        Verdict::at_most(
            "instructions by fentry",
            counted.fentry / counted.tracepoint,
            0.7,
            "of those by tracepoint",
        ),
        Verdict::at_most("instructions by fentry", counted.fentry / counted.tcpstates, 0.1, "of tcpstates'"),
    ]);
    Ok(verdicts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_in_the_middle_is_the_median() {
        let figure = Figure::of(vec![3.0, 1.0, 2.0]).expect("some");
        assert_eq!(figure, Figure { least: 1.0, median: 2.0, most: 3.0 });
        assert_eq!(figure.text(100.0, 1), "200.0 (100.0 to 300.0)");
        assert!(Figure::of(Vec::new()).is_err());
    }

    #[test]
    fn a_bound_is_kept_or_not() {
        assert!(
            Verdict::at_most("it", 1.0, 1.0, "s").is_met && !Verdict::at_most("it", 1.1, 1.0, "s").is_met
        );
        assert!(
            Verdict::at_least("it", 1.0, 1.0, "s").is_met && !Verdict::at_least("it", 0.9, 1.0, "s").is_met
        );
    }
}
