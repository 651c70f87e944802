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
    event::{ConnectionId, Pair, TcpState},
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

/// Processes whose number of sockets is remembered.
const MOST_TOLD: usize = 4096;

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
            if left.is_empty() {
                continue;
            }
            let begun = clock::monotonic_now();
            let netns = self.netns.clone();
            match spawn_blocking(move || leaks(&netns, &left)).await {
                Ok(Ok(leaks)) => {
                    tell(&leaks, self.after, &mut told);
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
fn leaks(netns: &[u32], left: &[(ConnectionId, Pair)]) -> Result<Vec<Leak>, SnapshotError> {
    let snapshot = Snapshot::take(netns, &[TcpState::CloseWait])?;
    let inodes: HashMap<(u32, Pair), u32> =
        snapshot.rows.iter().filter_map(|row| Some(((row.id.netns, row.pair), row.holder?.inode?))).collect();
    let inode = |&(id, pair): &(ConnectionId, Pair)| inodes.get(&(id.netns, pair)).copied();
    let wanted: HashSet<u32> = left.iter().filter_map(inode).collect();
    let holders = Holders::of(&wanted);
    let leak = |socket: &(ConnectionId, Pair)| {
        let held = holders.get(inode(socket)?).first().copied()?;
        Some(Leak { id: socket.0, pair: socket.1, held })
    };
    Ok(left.iter().filter_map(leak).collect())
}

/// Says whose sockets they are: of each process once, and again when it has twice as many.
fn tell(leaks: &[Leak], after: Duration, told: &mut HashMap<u32, (usize, usize)>) {
    if told.len() > MOST_TOLD {
        told.clear();
    }
    for leak in leaks {
        told.entry(leak.held.by.pid).or_default().0 += 1;
    }
    for leak in leaks {
        let Leak { pair: Pair { local, remote }, held: Held { by, fd }, .. } = leak;
        let Some((sockets, said)) = told.get_mut(&by.pid) else {
            continue;
        };
        if *sockets >= (*said * 2).max(1) {
            *said = *sockets;
            tracing::warn!(
                pid = by.pid,
                comm = %by.comm,
                sockets,
                "a process leaves sockets in CLOSE-WAIT: their peers have closed, and for {after:?} or longer it does not; \
                 such as its descriptor {fd}, {local} to {remote}"
            );
        }
    }
}
