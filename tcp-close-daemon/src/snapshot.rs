//! The kernel's own table of TCP sockets, read as `ss` reads it: over `sock_diag`. Nothing else names netlink.
//!
//! In: network namespaces and states. Out: a row for each socket, full socket or minisock. It knows nothing of
//! events, and changes nothing, but for two things that reading brings about: the kernel loads its module `tcp_diag`
//! if it has to, and gives every socket it shows a cookie.
//!
//! The kernel answers from the namespace of whoever asks, so a thread of its own goes from one to the next. The table
//! is walked bucket by bucket while it changes: what comes or goes meanwhile is there or not, and seldom there twice.
//!
//! Reading order: [`Row`] is what one socket says, `dump` asks one namespace, `walk` goes through them all,
//! [`Substates`] is what a scrape wants of it.

use std::{
    collections::{HashMap, HashSet},
    io, thread,
};

use crate::{
    event::{Monotonic, TcpState},
    kernel::port_settings::PortSettings,
};

mod dump;
mod proc_net;
mod row;
mod substates;
mod walk;

pub use dump::{Answer, DumpError};
pub use row::{Holder, Row, Timer, TimerKind};
pub use substates::Substates;

/// The sockets of some namespaces, at about one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// When reading began.
    pub at: Monotonic,
    /// The sockets, by namespace, IPv4 first.
    pub rows: Vec<Row>,
    /// The namespaces that were read, in that order, and when reading each began.
    pub read: Vec<(u32, Monotonic)>,
    /// Why there may be more that were not to be seen; `None` if this is all there is.
    pub blind_spot: Option<BlindSpot>,
}

/// Why a snapshot may lack some of the namespaces it was to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlindSpot {
    /// The namespaces of other processes are not shown to this one.
    #[error(
        "the network namespaces of other processes cannot be seen without CAP_SYS_PTRACE and the host's /proc"
    )]
    Hidden,
    /// A namespace cannot be entered.
    #[error("network namespace {0} cannot be entered without CAP_SYS_ADMIN")]
    Closed(u32),
}

/// There is no snapshot.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// No thread can be had to read it on.
    #[error("cannot start a thread to read the socket table on")]
    Thread(#[source] io::Error),
    /// The thread broke down.
    #[error("the thread that read the socket table panicked")]
    Panicked,
    /// The kernel does not answer as it should.
    #[error(transparent)]
    Dump(#[from] DumpError),
}

impl Snapshot {
    /// Reads the sockets that are in one of these states, in the namespaces with these inode numbers, or in all that
    /// can be found. A minisock is in the state that its substate says.
    ///
    /// It blocks for as long as the kernel takes to walk its table: a few milliseconds for the 262 144 buckets of a small
    /// host, and some 50 ms for each hundred thousand sockets. A namespace that is gone is no error: it has no sockets.
    ///
    /// Not found are namespaces that neither a process lives in nor a file keeps: those of single threads, unless asked for
    /// by number, and those that nothing but open descriptors keeps.
    pub fn take(wanted: &[u32], states: &[TcpState]) -> Result<Self, SnapshotError> {
        on_a_thread(|| walk::walk(wanted, states))
    }

    /// Inodes of the sockets that a process holds.
    pub fn inodes(&self) -> HashSet<u32> {
        self.rows.iter().filter_map(|row| row.holder.and_then(|holder| holder.inode)).collect()
    }
}

/// The sockets of a namespace, and the ports it gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortTable {
    /// Inode number of the namespace.
    pub netns: u32,
    /// What people call it.
    pub name: String,
    /// When reading began.
    pub at: Monotonic,
    /// Which ports the kernel gives there.
    pub settings: PortSettings,
    /// The sockets, in every state.
    pub rows: Vec<Row>,
}

/// The ports of these namespaces, or of all that can be found, and why there may be more.
pub fn ports(wanted: &[u32]) -> Result<(Vec<PortTable>, Option<BlindSpot>), SnapshotError> {
    on_a_thread(|| walk::ports(wanted))
}

/// How many minisocks there are in each of these namespaces, or in all that can be found, by the kernel's own count
/// (`/proc/net/sockstat`), which takes microseconds to read.
pub fn minisocks(wanted: &[u32]) -> Result<HashMap<u32, u64>, SnapshotError> {
    on_a_thread(|| Ok(walk::minisocks(wanted)))
}

/// On a thread that ends in another namespace than it began in, and is nobody's afterwards.
fn on_a_thread<T: Send>(walk: impl FnOnce() -> Result<T, SnapshotError> + Send) -> Result<T, SnapshotError> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("snapshot".to_owned());
        let walk = thread.spawn_scoped(scope, walk).map_err(SnapshotError::Thread)?;
        walk.join().map_err(|_panic| SnapshotError::Panicked)?
    })
}
