//! Looks at the ports, again and again: what they are now takes one look, and where they go takes two.

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Mutex, Notify},
    task::spawn_blocking,
    time::sleep,
};

use super::{Pressure, Sample, pressures};
use crate::{
    clock,
    event::Monotonic,
    snapshot::{self, BlindSpot},
};

/// From one look to the next, where both are wanted at once.
const APART: Duration = Duration::from_secs(1);

/// A look that is older tells nothing of how things go now.
const OLD: Duration = Duration::from_secs(5);

/// What was before a look that is older than this tells nothing of how things go now.
const LONGEST: Duration = Duration::from_secs(60);

/// How long nobody looks again by himself, for each unit of time that looking took: a hundredth of a processor.
const REST: u32 = 100;

/// The same for who asks: a tenth, however often that is.
const REST_OF_WHO_ASKS: u32 = 10;

/// The ports of some namespaces.
pub struct Ports {
    /// Inode numbers of the namespaces; empty for all.
    netns: Vec<u32>,
    last: Mutex<Last>,
    /// What the last look showed; `None` before the first, and after one that failed.
    report: std::sync::Mutex<Option<Arc<Report>>>,
}

/// The last look.
#[derive(Default)]
struct Last {
    look: Option<(Monotonic, Sample)>,
    /// How long it took.
    took: Duration,
}

/// How far ports are used up.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// On each route, those with the most used ports first.
    pub pressures: Vec<Pressure>,
    /// Why there may be more.
    pub blind_spot: Option<BlindSpot>,
    /// It says how things change: there was a look shortly before.
    pub has_rates: bool,
}

impl Ports {
    /// Those of these namespaces, or of all.
    pub fn new(netns: Vec<u32>) -> Self {
        Self { netns, last: Mutex::default(), report: std::sync::Mutex::default() }
    }

    /// How far ports are used up now, and how that changes at present: if nobody has looked for a while, that takes a
    /// second.
    pub async fn now(&self) -> anyhow::Result<Arc<Report>> {
        let mut last = self.last.lock().await;
        let age = last.look.as_ref().map(|(at, _)| clock::monotonic_now().since(*at));
        if let Some(report) = self.last().filter(|report| report.has_rates)
            && age.is_some_and(|age| age < (last.took * REST_OF_WHO_ASKS).max(APART / 2))
        {
            return Ok(report);
        }
        let old = (last.took * REST_OF_WHO_ASKS * 2).clamp(OLD, LONGEST);
        if age.is_none_or(|age| age > old) {
            self.look(&mut last).await?;
            sleep(APART).await;
        } else if let Some(early) = age.filter(|&age| age < APART / 2) {
            sleep(APART.saturating_sub(early)).await;
        }
        self.look(&mut last).await
    }

    /// What the last look showed; nothing before the first, and after one that failed.
    pub fn last(&self) -> Option<Arc<Report>> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Looks every so often, and sooner when many ports are taken; not while nothing happens.
    pub async fn keep_looking(&self, interval: Duration, connects: &Connects) {
        let mut told = false;
        let mut seen = None;
        let mut rest = APART;
        loop {
            let count = connects.count();
            let is_quiet = seen == Some(count) && self.last().is_some_and(|last| last.pressures.is_empty());
            if !is_quiet {
                seen = Some(count);
                let mut last = self.last.lock().await;
                let missing: Option<anyhow::Error> = match self.look(&mut last).await {
                    Ok(report) => report.blind_spot.map(Into::into),
                    Err(error) => Some(error),
                };
                if let Some(missing) = missing
                    && !std::mem::replace(&mut told, true)
                {
                    tracing::warn!("not all ports that are used are known: {missing:#}");
                }
                rest = (last.took * REST).max(APART);
            }
            sleep(rest).await;
            tokio::select! {
                () = sleep(interval.saturating_sub(rest)) => {}
                () = connects.many_since(seen.unwrap_or_default()) => {}
            }
        }
    }

    async fn look(&self, last: &mut Last) -> anyhow::Result<Arc<Report>> {
        let looked = self.look_and_compare(last).await;
        let report = looked.as_ref().ok().map(Arc::clone);
        *self.report.lock().unwrap_or_else(PoisonError::into_inner) = report;
        looked
    }

    async fn look_and_compare(&self, last: &mut Last) -> anyhow::Result<Arc<Report>> {
        let begun = clock::monotonic_now();
        let netns = self.netns.clone();
        let taken = spawn_blocking(move || {
            snapshot::ports(&netns).map(|(tables, blind_spot)| (Sample::of(&tables), blind_spot))
        });
        let (sample, blind_spot) = taken.await??;
        let before =
            last.look.as_ref().filter(|(at, _)| begun.since(*at) < LONGEST).map(|(_, sample)| sample);
        let has_rates = before.is_some();
        let report = Report { pressures: pressures(before, &sample), blind_spot, has_rates };
        last.look = Some((begun, sample));
        last.took = clock::monotonic_now().since(begun);
        Ok(Arc::new(report))
    }
}

/// How many connections were begun, as the kernel side counts them.
#[derive(Default)]
pub struct Connects {
    count: std::sync::atomic::AtomicU64,
    grew: Notify,
}

impl Connects {
    /// As many as take a part worth mentioning of any range.
    const MANY: u64 = 100;

    /// There are so many now.
    pub fn set(&self, count: u64) {
        if self.count.swap(count, std::sync::atomic::Ordering::Relaxed) != count {
            self.grew.notify_one();
        }
    }

    fn count(&self) -> u64 {
        self.count.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Waits until there are many more than there were.
    async fn many_since(&self, before: u64) {
        while self.count() < before + Self::MANY {
            self.grew.notified().await;
        }
    }
}
