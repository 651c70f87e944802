//! What the user side does for each close, part by part, for who measures it: in time (`cargo bench`), or in instructions
//! (`cargo xtask ci instructions`), which no other work of the machine changes.
//!
//! The close is that of a connection within the host, the dearest one: both ends are here, and eight records tell of it.

use std::{
    collections::BTreeMap,
    hint::black_box,
    net::Ipv4Addr,
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::Context as _;
use tcp_close::{
    clock::Anchor,
    decode::{CancelSites, Decoder},
    event::Event,
    feed::Feed,
    filter::{self, Expression, Numbers, Subject},
    kernel::tick::Hz,
    lifecycle::{Limits, Observation, Sees, Tracker, Wait},
    metrics::Metrics,
    owner::Homes,
};

mod records;
mod time_waits;

pub use time_waits::record;

/// Ends that are remembered, as by default.
const REMEMBERED: usize = 50_000;

/// From one close to the next: longer than a TIME-WAIT, so that nothing of one is there when the next begins.
const APART: Duration = Duration::from_secs(100);

const WAIT: Wait = Wait { nominal: Duration::from_secs(60), slack: Duration::from_secs(2) };
const LIMITS: Limits = Limits { sockets: 65_536, minisocks: 262_144 };
const SEES: Sees = Sees { minisocks: true, starts: false, segments: true };

/// A filter with a bit of everything.
const FILTER: &str =
    "state time-wait and dst 192.0.2.0/24 and sport >= :1024 or owner = nginx and dwell > 60s";

/// A part of the work, which can be done again and again.
pub struct Part {
    /// What it is called.
    pub name: &'static str,
    work: Box<dyn FnMut()>,
}

impl Part {
    /// What it does for one close.
    pub fn work(&mut self) {
        (self.work)();
    }
}

/// Every part, in the order in which a close passes through them.
pub fn parts() -> anyhow::Result<Vec<Part>> {
    let decoder = Decoder::new(Hz::new(250), CancelSites::unknown());
    let records = records::of_a_close();
    let events: Vec<Event> = records
        .iter()
        .map(|record| decoder.decode(record))
        .collect::<Result<_, _>>()
        .context("good records")?;
    let observations = observed(&events);
    let filter = filter::parse(FILTER, &Numbers).context("a good filter")?;
    let part = |name, work| Part { name, work };
    Ok(vec![
        part("decode", decode(decoder, records)),
        part("follow", follow(events)),
        part("count", count(observations.clone())?),
        part("remember", remember(observations.clone())),
        part("filter", select(filter, observations)),
        part("scrape", scrape()?),
    ])
}

/// What is told of the close.
fn observed(events: &[Event]) -> Vec<Observation> {
    let mut tracker = Tracker::new(LIMITS, WAIT, SEES);
    let mut observations = Vec::new();
    for event in events {
        tracker.apply(event, &mut observations);
    }
    if let Some(last) = events.last() {
        tracker.advance(last.at + APART, &mut observations);
    }
    observations
}

fn decode(decoder: Decoder, records: Vec<Vec<u8>>) -> Box<dyn FnMut()> {
    Box::new(move || {
        for record in &records {
            // Each is a good one.
            let _event = black_box(decoder.decode(black_box(record)));
        }
    })
}

fn follow(events: Vec<Event>) -> Box<dyn FnMut()> {
    let mut tracker = Tracker::new(LIMITS, WAIT, SEES);
    let mut told = Vec::new();
    let (mut later, mut number) = (Duration::ZERO, 0);
    Box::new(move || {
        for event in &events {
            let mut event = *event;
            event.at = event.at + later;
            event.id.socket += number;
            tracker.apply(&event, &mut told);
        }
        later += APART;
        // Each end has a cookie of its own.
        number += 2;
        black_box(&told);
        told.clear();
    })
}

fn count(observations: Vec<Observation>) -> anyhow::Result<Box<dyn FnMut()>> {
    let mut metrics = metrics()?;
    Ok(Box::new(move || {
        for observation in &observations {
            metrics.observe(black_box(observation));
        }
    }))
}

fn remember(observations: Vec<Observation>) -> Box<dyn FnMut()> {
    let feed = Feed::new(REMEMBERED, Arc::new(Mutex::new(Homes::of_this_host())));
    let anchor = Anchor::now();
    Box::new(move || feed.tell(black_box(&observations), &anchor))
}

fn select(filter: Expression, observations: Vec<Observation>) -> Box<dyn FnMut()> {
    Box::new(move || {
        for observation in &observations {
            black_box(Subject::of(observation, None).is_some_and(|subject| filter.holds(&subject)));
        }
    })
}

fn scrape() -> anyhow::Result<Box<dyn FnMut()>> {
    let metrics = metrics()?;
    Ok(Box::new(move || {
        // It fails only where two metrics have one name.
        let _text = black_box(metrics.exposition());
    }))
}

fn metrics() -> anyhow::Result<Metrics> {
    Metrics::new(&[], BTreeMap::new(), LIMITS, WAIT).context("the catalogue is sound")
}
