//! Holds what is followed against the kernel's own table: as the daemon begins, after events were lost, and whenever the
//! kernel counts other minisocks than are followed.
//!
//! The pipeline never waits for the table, which is read on another thread, and takes it in piece by piece.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::{
    sync::{Notify, mpsc, oneshot},
    task::spawn_blocking,
    time::sleep,
};

use crate::{
    event::TcpState,
    pipeline::{EVENTS_COME_IN, Request},
    snapshot::{self, Snapshot},
};

/// Looks that must all differ, and to the same side, before a whole table is read. Where sockets come and go, as they do on any
/// host with something to do, one look in two may differ without a reason.
const LOOKS: usize = 6;

/// From one look to the next.
const BETWEEN_LOOKS: Duration = Duration::from_millis(200);

/// Losses seldom come alone.
const LOSS_SETTLES: Duration = Duration::from_secs(1);

/// What is held against what.
pub(super) struct Reconcile {
    /// Inode numbers of the namespaces that are watched; empty for all.
    pub(super) netns: Vec<u32>,
    /// How often the kernel's counts are looked at.
    pub(super) interval: Duration,
    /// Told when events were lost.
    pub(super) events_were_lost: Arc<Notify>,
    /// The way to the pipeline.
    pub(super) pipeline: mpsc::Sender<Request>,
}

impl Reconcile {
    /// Goes on until the pipeline ends.
    pub(super) async fn run(self) {
        let pipeline = self.pipeline.clone();
        tokio::select! {
            () = self.keep_up() => {}
            () = pipeline.closed() => {}
        }
    }

    async fn keep_up(self) {
        let mut told = false;
        for netns in self.list(None, &mut told).await {
            tracing::warn!(
                "network namespace {netns} is not to be found: of what happens there, only events are seen"
            );
        }
        loop {
            tokio::select! {
                () = self.events_were_lost.notified() => {
                    sleep(LOSS_SETTLES).await;
                    // What one table lacks may have been missed; what two lack is not there.
                    self.list(None, &mut told).await;
                    self.list(None, &mut told).await;
                }
                () = sleep(self.interval) => {
                    let differing = self.differing().await;
                    if !differing.is_empty() {
                        tracing::debug!(?differing, "the kernel counts other minisocks than are followed");
                        self.list(Some(&differing), &mut told).await;
                        self.list(Some(&differing), &mut told).await;
                    }
                }
            }
        }
    }

    /// Reads the table of these namespaces, or of all that are watched, and hands it to the pipeline. What cannot be had is
    /// said once; gives back which of the namespaces are not to be found.
    async fn list(&self, netns: Option<&[u32]>, told: &mut bool) -> Vec<u32> {
        let (known, begun) = oneshot::channel();
        if self.pipeline.send(Request::ListingBegins(known)).await.is_err() || begun.await.is_err() {
            return Vec::new();
        }
        let of_all = netns.is_none();
        let wanted = netns.unwrap_or(&self.netns).to_vec();
        let mut missing = wanted.clone();
        let taken = spawn_blocking(move || Snapshot::take(&wanted, &TcpState::CLOSING)).await;
        let outcome = taken.map_err(anyhow::Error::from).and_then(|taken| Ok(taken?));
        match outcome {
            Ok(snapshot) => {
                if let Some(blind_spot) = snapshot.blind_spot
                    && !std::mem::replace(told, true)
                {
                    tracing::warn!("not all sockets that are older than this daemon are known: {blind_spot}");
                }
                let is_seen = |netns| snapshot.read.iter().any(|&(read, _)| read == netns);
                missing.retain(|&netns| snapshot.blind_spot.is_none() && !is_seen(netns));
                let (done, taken_in) = oneshot::channel();
                if self.pipeline.send(Request::Listing { snapshot, of_all, done }).await.is_ok() {
                    // The pipeline may have ended meanwhile.
                    let _gone = taken_in.await;
                }
                missing
            }
            Err(error) => {
                let _gone = self.pipeline.send(Request::ListingFailed).await;
                if !std::mem::replace(told, true) {
                    tracing::warn!("sockets that are older than this daemon are not known: {error:#}");
                }
                Vec::new()
            }
        }
    }

    /// Namespaces whose minisocks the kernel counts otherwise, each time it is asked.
    async fn differing(&self) -> Vec<u32> {
        let mut differing: Option<HashMap<u32, i64>> = None;
        for look in 0..LOOKS {
            if look > 0 {
                sleep(BETWEEN_LOOKS).await;
            }
            let Some(counts) = self.counts().await else {
                return Vec::new();
            };
            let still: HashMap<u32, i64> = counts
                .kernels
                .keys()
                .map(|&netns| (netns, counts.difference(netns)))
                .filter(|(netns, difference)| {
                    let before = differing.as_ref().map(|before| before.get(netns).copied().unwrap_or(0));
                    *difference != 0 && before.is_none_or(|before| before.signum() == difference.signum())
                })
                .collect();
            let agrees = still.is_empty();
            differing = Some(still);
            if agrees {
                break;
            }
        }
        let differing = differing.unwrap_or_default();
        // The pipeline may have ended meanwhile.
        let _gone = self.pipeline.send(Request::Difference(differing.values().sum())).await;
        differing.into_keys().collect()
    }

    async fn counts(&self) -> Option<Counts> {
        let before = self.followed().await?;
        let netns = self.netns.clone();
        let kernels = spawn_blocking(move || snapshot::minisocks(&netns)).await.ok()?.ok()?;
        sleep(EVENTS_COME_IN).await;
        Some(Counts { before, kernels, after: self.followed().await? })
    }

    /// Minisocks that are followed, by namespace. `None` if the pipeline has ended.
    async fn followed(&self) -> Option<HashMap<u32, u64>> {
        let (answer, followed) = oneshot::channel();
        self.pipeline.send(Request::Minisocks(answer)).await.ok()?;
        followed.await.ok()
    }
}

/// Minisocks by namespace: as the kernel counts them, and as they were followed before that and after.
struct Counts {
    before: HashMap<u32, u64>,
    kernels: HashMap<u32, u64>,
    after: HashMap<u32, u64>,
}

impl Counts {
    /// How many more are followed than the kernel counts, or fewer. Where their number changes meanwhile, any between those
    /// before and after is as good as another: while the load grows or ceases, a difference may not show that is smaller than
    /// that change.
    fn difference(&self, netns: u32) -> i64 {
        let count =
            |counts: &HashMap<u32, u64>| counts.get(&netns).copied().unwrap_or_default().cast_signed();
        let (before, kernels, after) = (count(&self.before), count(&self.kernels), count(&self.after));
        kernels.clamp(before.min(after), before.max(after)) - kernels
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_between_those_before_and_after_is_no_difference() {
        let counts = |[before, kernels, after]: [u64; 3]| {
            let [before, kernels, after] =
                [before, kernels, after].map(|count| HashMap::from([(1, count), (2, 9)]));
            Counts { before, kernels, after }
        };
        for (seen, difference) in [
            ([5, 5, 5], 0),
            ([5, 4, 5], 1),
            ([5, 7, 5], -2),
            ([5, 7, 9], 0),
            ([9, 7, 5], 0),
            ([5, 4, 9], 1),
            ([9, 12, 5], -3),
        ] {
            assert_eq!(counts(seen).difference(1), difference, "{seen:?}");
            assert_eq!(counts(seen).difference(2), 0);
        }
    }

    #[test]
    fn a_namespace_of_which_nothing_is_followed_differs_by_all_it_has() {
        let kernels = HashMap::from([(1, 3)]);
        let counts = Counts { before: HashMap::new(), kernels, after: HashMap::new() };
        assert_eq!(counts.difference(1), -3);
    }
}
