//! What the daemon costs besides what its programs do: when it starts, when nothing happens, for each event, and when it is
//! asked.

use std::{path::Path, thread, time::Duration};

use serde::Serialize;

use super::{
    figures::Figure,
    load::{Churned, Held, Load},
    observer::{ATTACHES, Observer, Watching},
};
use crate::clock;

/// How often the metrics are asked for, when that is measured.
pub(super) const SCRAPES: usize = 20;

/// What it costs.
#[derive(Serialize)]
pub(super) struct Daemon {
    /// From its start until it is ready.
    pub(super) start_seconds: f64,
    /// Before the first connection.
    pub(super) resident_bytes: f64,
    /// With all TIME-WAITs of a run, and everything it remembers.
    pub(super) resident_bytes_after: f64,
    /// The part of a processor that it takes while nothing happens in the namespace that it watches.
    pub(super) idle_part: f64,
    pub(super) events: f64,
    pub(super) nanoseconds_per_event: f64,
    pub(super) events_lost: f64,
    /// What a scrape takes, of several the one in the middle.
    pub(super) scrape_seconds: f64,
}

impl Daemon {
    /// Nothing happens for as long as these say, without it and with it; then there is one run of this load.
    pub(super) fn measure(
        programs: &Path,
        (without, idle): (Duration, Duration),
        churn: impl Fn() -> anyhow::Result<Churned>,
    ) -> anyhow::Result<Self> {
        println!("the daemon, once nothing is left of what ran before");
        thread::sleep(without);
        let idle_part = idle_part(programs, idle)?;
        let begun = clock::now();
        let daemon = Watching::start(&Observer::ours(programs, &[]))?;
        let start_seconds = clock::now().saturating_sub(begun).as_secs_f64();
        thread::sleep(ATTACHES);
        let resident_bytes = daemon.resident_bytes()?;
        let (events, seconds) = (daemon.metric("tcp_close_events_total")?, daemon.processor_seconds()?);
        churn()?;
        thread::sleep(ATTACHES);
        let seconds = daemon.processor_seconds()? - seconds;
        let resident_bytes_after = daemon.resident_bytes()?;
        let events = daemon.metric("tcp_close_events_total")? - events;
        let scrapes = (0..SCRAPES).map(|_| daemon.scrape()).collect::<anyhow::Result<_>>()?;
        Ok(Self {
            start_seconds,
            resident_bytes,
            resident_bytes_after,
            idle_part,
            events,
            nanoseconds_per_event: seconds * 1e9 / events.max(1.0),
            events_lost: daemon.metric("tcp_close_events_lost_total")?,
            scrape_seconds: Figure::of(scrapes)?.median,
        })
    }
}

/// The part of a processor that the daemon takes for as long as this, watching a namespace of which all know that nothing
/// happens there: on a host there is always something.
fn idle_part(programs: &Path, idle: Duration) -> anyhow::Result<f64> {
    let quiet = Held::make(programs, Load { threads: 1, ..Load::default() })?;
    let daemon = Watching::start(&Observer::ours(programs, &["--netns", &quiet.netns]))?;
    thread::sleep(ATTACHES);
    let before = daemon.processor_seconds()?;
    thread::sleep(idle);
    Ok((daemon.processor_seconds()? - before) / idle.as_secs_f64())
}
