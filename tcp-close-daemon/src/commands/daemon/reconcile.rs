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
    pipeline::Request,
    snapshot::{self, Snapshot},
};

/// Looks that must all differ before a whole table is read: sockets come and go between our count and the kernel's.
const LOOKS: usize = 3;

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
        self.list(&self.netns, &mut told).await;
        loop {
            tokio::select! {
                () = self.events_were_lost.notified() => {
                    sleep(LOSS_SETTLES).await;
                    // What one table lacks may have been missed; what two lack is not there.
                    self.list(&self.netns, &mut told).await;
                    self.list(&self.netns, &mut told).await;
                }
                () = sleep(self.interval) => {
                    let differing = self.differing().await;
                    if !differing.is_empty() {
                        tracing::debug!(?differing, "the kernel counts other minisocks than are followed");
                        self.list(&differing, &mut told).await;
                        self.list(&differing, &mut told).await;
                    }
                }
            }
        }
    }

    /// Reads the table of these namespaces, or of all, and hands it to the pipeline. What cannot be had is said once.
    async fn list(&self, netns: &[u32], told: &mut bool) {
        let (known, begun) = oneshot::channel();
        if self.pipeline.send(Request::ListingBegins(known)).await.is_err() || begun.await.is_err() {
            return;
        }
        let netns = netns.to_vec();
        let taken = spawn_blocking(move || Snapshot::take(&netns, &TcpState::CLOSING)).await;
        let outcome = taken.map_err(anyhow::Error::from).and_then(|taken| Ok(taken?));
        match outcome {
            Ok(snapshot) => {
                if let Some(blind_spot) = snapshot.blind_spot
                    && !std::mem::replace(told, true)
                {
                    tracing::warn!("not all sockets that are older than this daemon are known: {blind_spot}");
                }
                let (done, taken_in) = oneshot::channel();
                if self.pipeline.send(Request::Listing(snapshot, done)).await.is_ok() {
                    // The pipeline may have ended meanwhile.
                    let _gone = taken_in.await;
                }
            }
            Err(error) => {
                let _gone = self.pipeline.send(Request::ListingFailed).await;
                if !std::mem::replace(told, true) {
                    tracing::warn!("sockets that are older than this daemon are not known: {error:#}");
                }
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
            let Some((ours, kernels)) = self.counts().await else {
                return Vec::new();
            };
            let count = |counts: &HashMap<u32, u64>, netns: u32| {
                counts.get(&netns).copied().unwrap_or_default().cast_signed()
            };
            let difference = |netns| count(&ours, netns) - count(&kernels, netns);
            let candidates = differing.map_or_else(|| kernels.keys().copied().collect(), keys);
            let still: HashMap<u32, i64> = candidates
                .into_iter()
                .map(|netns| (netns, difference(netns)))
                .filter(|&(_, difference)| difference != 0)
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
        keys(differing)
    }

    /// Minisocks by namespace, as they are followed and as the kernel counts them.
    async fn counts(&self) -> Option<(HashMap<u32, u64>, HashMap<u32, u64>)> {
        let netns = self.netns.clone();
        let kernels = spawn_blocking(move || snapshot::minisocks(&netns)).await.ok()?.ok()?;
        let (answer, ours) = oneshot::channel();
        self.pipeline.send(Request::Minisocks(answer)).await.ok()?;
        Some((ours.await.ok()?, kernels))
    }
}

fn keys(differing: HashMap<u32, i64>) -> Vec<u32> {
    differing.into_keys().collect()
}
