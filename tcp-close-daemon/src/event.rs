//! The vocabulary of what was seen: events, and the identities and values they speak of.
//!
//! Live records, a recording, a snapshot and a table in a test all become these; nothing downstream knows where
//! an event came from. Every event carries its own time, so nothing downstream needs a clock.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    net::{IpAddr, SocketAddr},
    num::NonZeroU64,
    ops,
    time::Duration,
};

use serde::{Deserialize, Serialize};

mod process;
mod tcp_state;

pub use process::{Comm, Process};
pub use tcp_state::{TcpState, UnknownState};

/// A moment on the kernel's `CLOCK_MONOTONIC`, in nanoseconds.
///
/// Timers and dwell live on this clock, which stands still while the machine is suspended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Monotonic(u64);

impl Monotonic {
    /// From nanoseconds of `CLOCK_MONOTONIC`.
    pub const fn from_nanos(nanoseconds: u64) -> Self {
        Self(nanoseconds)
    }

    /// Nanoseconds of `CLOCK_MONOTONIC`.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Time since `earlier`; zero if that is later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl ops::Add<Duration> for Monotonic {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl ops::Sub<Duration> for Monotonic {
    type Output = Self;

    fn sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// Which connection: one life of one socket pair, as one end sees it.
///
/// The socket is the identity; the socket pair is not, since it is reused while the kernel still holds the last one's
/// minisock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ConnectionId {
    /// Inode number of the network namespace.
    pub netns: u32,
    /// The full socket's cookie, which its minisock inherits; where cookies cannot be asked for, the full socket's kernel
    /// address, which is its own while it lives. 0 for a minisock that has no cookie.
    pub socket: u64,
}

impl ConnectionId {
    /// Addresses of the kernel have the highest bit set, on every architecture; no count of sockets gets there.
    const ADDRESS: u64 = 1 << 63;

    /// The socket cookie; `None` where there is none. Old kernels count cookies per namespace.
    pub fn cookie(&self) -> Option<u64> {
        Some(self.socket).filter(|&socket| socket != 0 && socket & Self::ADDRESS == 0)
    }

    /// Of a socket that is known by its socket pair alone. It stands for an address, and is as good as none: two differ.
    pub fn without_cookie(netns: u32, pair: &Pair) -> Self {
        let mut hasher = DefaultHasher::new();
        pair.hash(&mut hasher);
        Self { netns, socket: hasher.finish() | Self::ADDRESS }
    }
}

/// A socket pair seen from the local end; an IPv4 address mapped into IPv6 is shown as IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Pair {
    /// Our address and port.
    pub local: SocketAddr,
    /// The peer's address and port.
    pub remote: SocketAddr,
}

impl Pair {
    /// Its address family; an IPv4 address mapped into IPv6 counts as IPv4.
    pub const fn family(&self) -> AddressFamily {
        if self.remote.is_ipv4() { AddressFamily::V4 } else { AddressFamily::V6 }
    }
}

/// An address and its port, as JSON has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Address {
    /// The address.
    pub addr: IpAddr,
    /// The port.
    pub port: u16,
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self { addr: address.ip(), port: address.port() }
    }
}

impl From<Address> for SocketAddr {
    fn from(Address { addr, port }: Address) -> Self {
        Self::new(addr, port)
    }
}

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum AddressFamily {
    /// IPv4.
    #[serde(rename = "ipv4")]
    V4,
    /// IPv6.
    #[serde(rename = "ipv6")]
    V6,
}

/// A cgroup v2, by the number that the kernel gave it (`kernfs_node.id`): the inode number of its directory.
pub type CgroupId = NonZeroU64;

/// Something seen, and when.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// When.
    pub at: Monotonic,
    /// To which connection.
    pub id: ConnectionId,
    /// What.
    pub kind: EventKind,
}

/// What was seen.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum EventKind {
    /// A full socket changes its state.
    StateChange(StateChange),
    /// A segment that carries FIN is sent again, from this state.
    FinRetransmitted(TcpState),
    /// A reset is sent.
    ResetSent(ResetSent),
    /// A reset is received by a socket in this state, or the kernel behaves as if it were.
    ResetReceived(TcpState),
    /// A minisock's timer starts.
    TimerStarted(MinisockTimer),
    /// A minisock's timer is cancelled.
    TimerCancelled(MinisockTimer, Cancel),
    /// A minisock's timer expires.
    TimerExpired(MinisockTimer),
    /// A minisock has dealt with a segment.
    Segment(MinisockTimer, Segment),
    /// A minisock takes the place of this full socket.
    MinisockBegan(MinisockTimer, ConnectionId),
    /// This full socket, which enters CLOSE, may be replaced by a minisock that is not seen.
    MinisockMissed,
    /// A minisock's wait begins again.
    MinisockRestarted(MinisockTimer),
    /// A minisock ends, for the reason that the place in the kernel tells.
    MinisockEnded(MinisockTimer, Cancel),
    /// Somebody has looked who holds this full socket open.
    Held(Process),
    /// The kernel is about to be asked for its table of sockets.
    ListingBegan,
    /// The kernel had this socket in its table, some time after it was asked and before now.
    Listed(Listed),
    /// That was all of this network namespace.
    NamespaceListed,
    /// That was all there is to come.
    ListingEnded,
}

/// A socket of the kernel's table that closes, or a minisock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// The socket pair.
    pub pair: Pair,
    /// Its state; of a minisock its substate.
    pub state: TcpState,
    /// User of the socket; `None` of a minisock.
    pub uid: Option<u32>,
    /// Where a full socket was made, an accepted one its listener.
    pub cgroup: Option<CgroupId>,
    /// Of a minisock, when its wait is nominally up, to some milliseconds; `None` of a full socket.
    pub nominal_end: Option<Monotonic>,
}

/// A full socket changes its state.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct StateChange {
    /// The socket pair.
    pub pair: Pair,
    /// State left.
    pub from: TcpState,
    /// State entered; the same one when a socket is closed after it was shut down.
    pub to: TcpState,
    /// The socket's error, which tells why it ends.
    pub error: SocketError,
    /// User of the socket, in the initial user namespace.
    pub uid: u32,
    /// The process that makes the change; `None` where a segment or a timer does.
    pub process: Option<Process>,
    /// The process that connected the socket, told with the first change of a close; `None` where it was accepted, or
    /// connected unseen.
    pub opener: Option<Process>,
    /// Where the socket was made, an accepted one its listener; told with the first change of a close.
    pub cgroup: Option<CgroupId>,
    /// Sequence number the next byte, or our FIN, takes.
    pub write_seq: u32,
    /// Next sequence number to be sent.
    pub snd_nxt: u32,
    /// First sequence number not acknowledged.
    pub snd_una: u32,
    /// Next sequence number expected.
    pub rcv_nxt: u32,
    /// Segments received.
    pub segs_in: u32,
    /// Segments sent.
    pub segs_out: u32,
    /// Payload bytes sent, each counted once.
    pub bytes_sent: u64,
    /// Bytes received in order; a FIN counts as one.
    pub bytes_received: u64,
}

impl StateChange {
    /// A change of which nothing else is known.
    pub const fn bare(pair: Pair, from: TcpState, to: TcpState) -> Self {
        Self {
            pair,
            from,
            to,
            error: SocketError::None,
            uid: 0,
            process: None,
            opener: None,
            cgroup: None,
            write_seq: 0,
            snd_nxt: 0,
            snd_una: 0,
            rcv_nxt: 0,
            segs_in: 0,
            segs_out: 0,
            bytes_sent: 0,
            bytes_received: 0,
        }
    }
}

/// What `sk_err` says at the end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SocketError {
    /// 0.
    None,
    /// `ETIMEDOUT`: retransmission, keepalive or user timeout.
    TimedOut,
    /// `ECONNRESET`, `EPIPE` or `ECONNREFUSED`: a reset came.
    Reset,
    /// `ECONNABORTED`: `tcp_abort`, as by `ss -K`.
    Aborted,
    /// Any other errno; a soft error, such as `EHOSTUNREACH`, replaces `ETIMEDOUT` on a timeout.
    Other(u32),
}

/// A reset is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResetSent {
    /// State of the socket that sends it.
    pub state: TcpState,
    /// By the socket itself, not in answer to a segment.
    pub active: bool,
    /// The kernel's reason (`enum sk_rst_reason`); `None` where it gives none.
    pub reason: Option<u32>,
}

/// The timer of a minisock, at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MinisockTimer {
    /// The socket pair.
    pub pair: Pair,
    /// Kernel address of the minisock: its identity while it lives.
    pub minisock: u64,
    /// `FinWait2` or `TimeWait`.
    pub substate: TcpState,
    /// Time to the nominal end; negative after it. Nanoseconds, in whole ticks.
    pub remaining: i64,
    /// How long after its nominal end the timer, were it started now, may fire without being late: the most the
    /// timer wheel may take.
    pub slack: Duration,
    /// Time to the end of the timer's bucket, when it will fire: at a start, where the kernel says so.
    pub fires_in: Option<Duration>,
    /// Next sequence number expected: one past the peer's FIN in substate `TimeWait`.
    pub rcv_nxt: u32,
    /// Since the minisock began, or its TIME-WAIT if the peer's FIN carried timestamps, by the kernel's own
    /// stamp; whole milliseconds. `None` where the kernel keeps none.
    pub since_stamp: Option<Duration>,
}

/// A segment that a minisock has dealt with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "flags of a TCP header")]
pub struct Segment {
    /// Sequence number.
    pub seq: u32,
    /// One past the last byte, SYN and FIN counted.
    pub end_seq: u32,
    /// It carries FIN.
    pub fin: bool,
    /// It carries SYN.
    pub syn: bool,
    /// It carries RST.
    pub rst: bool,
    /// It carries ACK.
    pub ack: bool,
}

impl Segment {
    /// Whether a minisock in TIME-WAIT that gets it waits anew, as far as its flags tell
    /// (`tcp_timewait_state_process`). One without ACK, such as a SYN, does so too if its timestamp is too old.
    pub const fn restarts(&self) -> bool {
        self.ack && !self.rst
    }
}

/// A minisock's timer is cancelled, or the minisock ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cancel {
    /// From this place in the kernel.
    pub site: CancelSite,
    /// While this process ran; it is behind the cancellation only where [`CancelSite::by_process`] says so.
    pub process: Process,
}

/// From where in the kernel a minisock's timer was cancelled, or the minisock ended: the first function on the stack
/// that tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CancelSite {
    /// The timer wheel, on its way to the handler.
    Expiry,
    /// A segment that restarts the wait.
    Restart,
    /// A `connect()` that takes the socket pair.
    Connect,
    /// An incoming SYN that takes the socket pair, or, in FIN-WAIT-2, a segment answered by a reset.
    Receive,
    /// A reset that was received.
    Reset,
    /// The end of the network namespace.
    Purge,
    /// An operator: `ss -K`.
    Abort,
    /// None that is known.
    Unknown,
}

impl CancelSite {
    /// Whether the process that runs is the one that wants it.
    pub const fn by_process(self) -> bool {
        matches!(self, Self::Connect | Self::Abort)
    }
}
