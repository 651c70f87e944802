//! Looks at the ports, again and again: what they are now takes one look, and where they go takes two.

use std::{sync::Arc, time::Duration};

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

/// How long nobody looks again by himself, for each unit of time that looking took: a hundredth of a processor.
const REST: u32 = 100;

/// The ports of some namespaces.
pub struct Ports {
    /// Inode numbers of the namespaces; empty for all.
    netns: Vec<u32>,
    last: Mutex<Last>,
}

/// What the last look showed.
#[derive(Default)]
struct Last {
    look: Option<(Monotonic, Sample)>,
    report: Arc<Report>,
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
}

impl Ports {
    /// Those of these namespaces, or of all.
    pub fn new(netns: Vec<u32>) -> Self {
        Self { netns, last: Mutex::default() }
    }

    /// How far ports are used up now, and how that changes at present: if nobody has looked for a while, that takes a
    /// second.
    pub async fn now(&self) -> anyhow::Result<Arc<Report>> {
        let mut last = self.last.lock().await;
        let age = last.look.as_ref().map(|(at, _)| clock::monotonic_now().since(*at));
        if age.is_none_or(|age| age > OLD) {
            self.look(&mut last).await?;
            sleep(APART).await;
        } else if age.is_some_and(|age| age < APART / 2) {
            return Ok(Arc::clone(&last.report));
        }
        self.look(&mut last).await?;
        Ok(Arc::clone(&last.report))
    }

    /// What the last look showed; nothing before the first, or while somebody looks.
    pub fn last(&self) -> Option<Arc<Report>> {
        self.last.try_lock().ok().map(|last| Arc::clone(&last.report))
    }

    /// Looks every so often, and sooner when many ports are taken; not while nothing happens.
    pub async fn keep_looking(&self, interval: Duration, connects: &Connects) {
        let mut told = false;
        let mut seen = None;
        let mut rest = Duration::ZERO;
        loop {
            let count = connects.count();
            let is_quiet = seen == Some(count) && self.last().is_some_and(|last| last.pressures.is_empty());
            if !is_quiet {
                seen = Some(count);
                let mut last = self.last.lock().await;
                if let Err(error) = self.look(&mut last).await
                    && !std::mem::replace(&mut told, true)
                {
                    tracing::warn!("which ports are used is not known: {error:#}");
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

    async fn look(&self, last: &mut Last) -> anyhow::Result<()> {
        let begun = clock::monotonic_now();
        let netns = self.netns.clone();
        let taken = spawn_blocking(move || {
            snapshot::ports(&netns).map(|(tables, blind_spot)| (Sample::of(&tables), blind_spot))
        });
        let (sample, blind_spot) = taken.await??;
        let before = last.look.as_ref().map(|(_, sample)| sample);
        last.report = Arc::new(Report { pressures: pressures(before, &sample), blind_spot });
        last.look = Some((begun, sample));
        last.took = clock::monotonic_now().since(begun);
        Ok(())
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
