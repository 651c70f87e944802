//! Finds out which processes leave sockets in CLOSE-WAIT: their peers have closed, and they do not.
//!
//! It looks at every descriptor of every process, so it does so only when there is something to find, and never for more
//! than a hundredth of a processor.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot},
    task::spawn_blocking,
    time::sleep,
};

use crate::{
    clock,
    event::{ConnectionId, Pair, Process, TcpState},
    lifecycle::Left,
    owner::{Held, Holders},
    pipeline::Request,
    snapshot::{Snapshot, SnapshotError},
};

/// Sockets that are looked for at a time.
const MOST: usize = 1 << 16;

/// How often there is something to look for, at the most, and at the least.
const LOOKS: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(15));

/// How long nobody looks again, for each unit of time that looking took.
const REST: u32 = 100;

/// Who looks.
pub(super) struct CloseWait {
    /// Inode numbers of the namespaces that are watched; empty for all.
    pub(super) netns: Vec<u32>,
    /// How long a socket may be in CLOSE-WAIT.
    pub(super) after: Duration,
    /// The way to the pipeline.
    pub(super) pipeline: mpsc::Sender<Request>,
}

/// A socket that was left in CLOSE-WAIT, and who holds it.
struct Leak {
    id: ConnectionId,
    pair: Pair,
    held: Held,
}

impl CloseWait {
    /// Goes on until the pipeline ends.
    pub(super) async fn run(self) {
        let mut told = HashMap::new();
        let mut rest = Duration::ZERO;
        loop {
            tokio::select! {
                () = sleep(rest.max((self.after / 4).clamp(LOOKS.0, LOOKS.1))) => {}
                () = self.pipeline.closed() => return,
            }
            let (answer, left) = oneshot::channel();
            let question = Request::LeftInCloseWait(self.after, MOST, answer);
            if self.pipeline.send(question).await.is_err() {
                return;
            }
            let Ok(left) = left.await else {
                return;
            };
            rest = Duration::ZERO;
            let sockets = count(&left);
            let unheld: Vec<Left> = left.into_iter().filter(|left| left.holder.is_none()).collect();
            if unheld.is_empty() {
                told.retain(|holder, _| sockets.contains_key(holder));
                continue;
            }
            let begun = clock::monotonic_now();
            let netns = self.netns.clone();
            match spawn_blocking(move || leaks(&netns, &unheld)).await {
                Ok(Ok(leaks)) => {
                    tell(&leaks, sockets, self.after, &mut told);
                    let holders = leaks.into_iter().map(|leak| (leak.id, leak.held.by)).collect();
                    if self.pipeline.send(Request::Held(holders)).await.is_err() {
                        return;
                    }
                }
                Ok(Err(error)) => tracing::debug!(%error, "holders of sockets in CLOSE-WAIT are not found"),
                Err(error) => tracing::error!(%error, "the search for holders of sockets broke down"),
            }
            rest = clock::monotonic_now().since(begun) * REST;
        }
    }
}

/// The holders of these sockets, of those that are still in CLOSE-WAIT.
fn leaks(netns: &[u32], left: &[Left]) -> Result<Vec<Leak>, SnapshotError> {
    let snapshot = Snapshot::take(netns, &[TcpState::CloseWait])?;
    let inodes: HashMap<(u32, Pair), u32> =
        snapshot.rows.iter().filter_map(|row| Some(((row.id.netns, row.pair), row.holder?.inode?))).collect();
    let inode = |left: &Left| inodes.get(&(left.id.netns, left.pair)).copied();
    let wanted: HashSet<u32> = left.iter().filter_map(inode).collect();
    let holders = Holders::of(&wanted);
    let leak = |left: &Left| {
        let held = holders.get(inode(left)?).first().copied()?;
        Some(Leak { id: left.id, pair: left.pair, held })
    };
    Ok(left.iter().filter_map(leak).collect())
}

/// Who has sockets: a number of a process that has ended may be another's.
type Holder = (u32, String);

fn holder(process: Process) -> Holder {
    (process.pid, process.comm.to_string())
}

/// How many of them each holder has, of those that are known.
fn count(left: &[Left]) -> HashMap<Holder, usize> {
    let mut sockets = HashMap::new();
    for process in left.iter().filter_map(|left| left.holder) {
        *sockets.entry(holder(process)).or_default() += 1;
    }
    sockets
}

/// Says whose sockets they are: of each process once, and again when it has twice as many.
fn tell(
    leaks: &[Leak],
    mut sockets: HashMap<Holder, usize>,
    after: Duration,
    told: &mut HashMap<Holder, usize>,
) {
    for leak in leaks {
        *sockets.entry(holder(leak.held.by)).or_default() += 1;
    }
    told.retain(|holder, _| sockets.contains_key(holder));
    for leak in leaks {
        let Leak { pair: Pair { local, remote }, held: Held { by, fd }, .. } = leak;
        let now = sockets.get(&holder(*by)).copied().unwrap_or_default();
        let before = told.entry(holder(*by)).or_default();
        if now >= (*before * 2).max(1) {
            *before = now;
            tracing::warn!(
                pid = by.pid,
                comm = %by.comm,
                sockets = now,
                "a process leaves sockets in CLOSE-WAIT: their peers have closed, and for {after:?} or longer it does not; \
                 such as its descriptor {fd}, {local} to {remote}"
            );
        }
    }
}
