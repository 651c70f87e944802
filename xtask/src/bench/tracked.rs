//! What the daemon takes to answer while it tracks few TIME-WAITs or many, all of them real and in one network namespace.

use std::{path::Path, thread, time::Duration};

use serde::Serialize;

use super::{
    daemon::SCRAPES,
    figures::Figure,
    load::{Held, Load},
    observer::{Observer, Watching},
};

/// Room for as many as are made.
const ROOM: &[&str] = &["--max-minisocks", "1100000"];

/// How long the last events take to be counted.
const COUNTED: Duration = Duration::from_secs(1);

/// How often a question is asked.
const QUESTIONS: usize = 5;

/// With so many of them.
#[derive(Serialize)]
pub(super) struct Tracked {
    /// As the daemon counts its minisocks.
    pub(super) minisocks: f64,
    pub(super) resident_bytes: f64,
    /// What it takes until the metrics are here.
    pub(super) scrape_seconds: Figure,
    /// What a list of sockets in CLOSE-WAIT takes, of which there are none.
    pub(super) none_seconds: Figure,
    /// What the list of all of them takes.
    pub(super) all_seconds: f64,
    pub(super) events_lost: f64,
}

impl Tracked {
    /// With this many, made by as many threads as there are processors: they last for a minute each, so all of them must
    /// be there before the first one goes.
    pub(super) fn measure(programs: &Path, connections: u32, threads: u32) -> anyhow::Result<Self> {
        println!("the daemon with {connections} TIME-WAITs");
        let daemon = Watching::start(&Observer::ours(programs, ROOM))?;
        let load = Load { connections, threads, ..Load::default() };
        let _held = if connections > 0 { Some(Held::make(programs, load)?) } else { None };
        thread::sleep(COUNTED);
        let minisocks = daemon.metric("tcp_close_tracked{table=\"minisocks\"}")?;
        let resident_bytes = daemon.resident_bytes()?;
        let scrapes = (0..SCRAPES).map(|_| daemon.scrape()).collect::<anyhow::Result<_>>()?;
        let none = (0..QUESTIONS).map(|_| daemon.question("v1/closing?state=close_wait"));
        let none = none.collect::<anyhow::Result<_>>()?;
        Ok(Self {
            minisocks,
            resident_bytes,
            scrape_seconds: Figure::of(scrapes)?,
            none_seconds: Figure::of(none)?,
            all_seconds: daemon.question("v1/closing")?,
            events_lost: daemon.metric("tcp_close_events_lost_total")?,
        })
    }
}
