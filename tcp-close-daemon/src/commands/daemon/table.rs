//! Between HTTP and the pipeline: before a scrape, looks into the kernel's socket table where events alone do not tell
//! FIN-WAIT-2 from TIME-WAIT.
//!
//! The pipeline never waits for that. A scrape does, for a while.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot},
    task::{JoinError, JoinHandle, spawn_blocking},
    time::{Instant, timeout},
};

use crate::{
    event::Monotonic,
    lifecycle::{Census, Tracker},
    pipeline::Request,
    snapshot::{BlindSpot, SnapshotError, Substates},
};

/// What is this new is new enough: the kernel walks its whole table for every look.
const NEW_ENOUGH: Duration = Duration::from_secs(1);

/// Time a scrape waits for a look; less than it waits for the pipeline. One that takes longer goes on meanwhile, and is
/// there for the next scrape.
const PATIENCE: Duration = Duration::from_secs(2);

/// What was seen in the table, and whether somebody wants to know.
pub(super) struct Table {
    /// Inode numbers of the namespaces to look into; empty for all.
    netns: Vec<u32>,
    /// Events never tell which substate a minisock is in.
    always_needed: bool,
    needed: AtomicBool,
    seen: Mutex<Option<Arc<Substates>>>,
}

impl Table {
    /// The table of these namespaces, or of the whole host; needed always, unless `events_tell` every flip.
    pub(super) fn new(netns: Vec<u32>, events_tell: bool) -> Self {
        Self {
            netns,
            always_needed: !events_tell,
            needed: AtomicBool::new(!events_tell),
            seen: Mutex::default(),
        }
    }

    /// Events were lost, a flip perhaps among them.
    pub(super) fn events_were_lost(&self) {
        self.needed.store(true, Ordering::Relaxed);
    }

    /// What is closing now, by events and by what was seen here.
    pub(super) fn census(&self, tracker: &Tracker, now: Monotonic) -> (Census, Option<Arc<Substates>>) {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let census = match &seen {
            Some(seen) => tracker.census_with(now, seen.at(), |id| seen.is_in_fin_wait2(id)),
            None => tracker.census(now),
        };
        self.needed.store(self.always_needed || census.unsure > 0, Ordering::Relaxed);
        (census, seen)
    }

    fn see(&self, substates: Option<Substates>) {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = substates.map(Arc::new);
    }
}

/// Passes scrapes on to the pipeline, one after the other, each after a look into the table if one is needed. Ends
/// with the pipeline.
pub(super) async fn forward(
    mut scrapes: mpsc::Receiver<oneshot::Sender<()>>,
    pipeline: mpsc::Sender<Request>,
    table: Arc<Table>,
) {
    let mut look = Look::default();
    let pass_on = async {
        while let Some(done) = scrapes.recv().await {
            if table.needed.load(Ordering::Relaxed) {
                look.at(&table).await;
            } else {
                table.see(None);
            }
            if pipeline.send(Request::Figures(done)).await.is_err() {
                break;
            }
        }
    };
    tokio::select! {
        () = pass_on => {}
        () = pipeline.closed() => {}
    }
}

type Outcome = Result<Result<Substates, BlindSpot>, SnapshotError>;

/// The last look, and the one under way.
#[derive(Default)]
struct Look {
    ended: Option<Instant>,
    under_way: Option<JoinHandle<Outcome>>,
    /// What is missing was said.
    told: bool,
}

impl Look {
    async fn at(&mut self, table: &Arc<Table>) {
        if self.ended.is_some_and(|ended| ended.elapsed() < NEW_ENOUGH) {
            return;
        }
        let under_way = self.under_way.get_or_insert_with(|| {
            let table = Arc::clone(table);
            spawn_blocking(move || Substates::read(&table.netns))
        });
        let outcome = timeout(PATIENCE, under_way).await;
        if let Ok(outcome) = outcome {
            self.under_way = None;
            self.ended = Some(Instant::now());
            table.see(self.judge(outcome));
        } else {
            tracing::debug!("the socket table takes long to read");
            table.see(None);
        }
    }

    fn judge(&mut self, outcome: Result<Outcome, JoinError>) -> Option<Substates> {
        let error: anyhow::Error = match outcome {
            Ok(Ok(Ok(substates))) => return Some(substates),
            Ok(Ok(Err(blind_spot))) => blind_spot.into(),
            Ok(Err(error)) => error.into(),
            Err(error) => error.into(),
        };
        if !std::mem::replace(&mut self.told, true) {
            tracing::warn!(
                "sockets in FIN-WAIT-2 and TIME-WAIT are not counted while events do not tell one from the other: {error:#}"
            );
        }
        None
    }
}
