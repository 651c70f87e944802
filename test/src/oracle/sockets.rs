//! The kernel's table of TCP sockets, over `sock_diag`, TIME-WAIT included.

use std::fmt;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6, IPPROTO_TCP};
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, SocketId, StateFlags};
use netlink_packet_sock_diag::{SockDiagDestroy, SockDiagMessage};
use netlink_sys::protocols::NETLINK_SOCK_DIAG;

use crate::breakage::{OrGiveUp as _, give_up};
use crate::clock::Deadline;
use crate::netlink;
use crate::netns::Netns;

/// How often [`wait_until`] asks: the kernel has no event for "the table has changed".
const INTERVAL: Duration = Duration::from_millis(2);

/// Where `struct inet_diag_msg` has its fields (`include/uapi/linux/inet_diag.h`).
mod offset {
    /// `idiag_timer`.
    pub(super) const TIMER: usize = 2;
    /// `idiag_expires`.
    pub(super) const EXPIRES: usize = 52;
}

/// States of a TCP socket, numbered as in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are those of RFC 9293 §3.3.2")]
pub enum TcpState {
    Established,
    SynSent,
    SynReceived,
    FinWait1,
    FinWait2,
    TimeWait,
    Closed,
    CloseWait,
    LastAck,
    Listen,
    Closing,
}

impl TcpState {
    const fn of(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Established,
            2 => Self::SynSent,
            // 12 is TCP_NEW_SYN_RECV, the request socket of a SYN that was not yet acknowledged.
            3 | 12 => Self::SynReceived,
            4 => Self::FinWait1,
            5 => Self::FinWait2,
            6 => Self::TimeWait,
            7 => Self::Closed,
            8 => Self::CloseWait,
            9 => Self::LastAck,
            10 => Self::Listen,
            11 => Self::Closing,
            _ => return None,
        })
    }
}

/// Which timer of a socket is running.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Timer {
    /// None.
    Off,
    /// Retransmission, or a tail loss probe.
    Retransmission,
    /// Keepalive; also the FIN-WAIT-2 timer of a socket that nobody owns.
    KeepAlive,
    /// TIME-WAIT, or FIN-WAIT-2 in a TIME-WAIT socket.
    TimeWait,
    /// Zero window probe.
    Probe,
    /// A number of a later kernel.
    Unknown(u8),
}

impl Timer {
    const fn of(number: u8) -> Self {
        match number {
            0 => Self::Off,
            1 => Self::Retransmission,
            2 => Self::KeepAlive,
            3 => Self::TimeWait,
            4 => Self::Probe,
            other => Self::Unknown(other),
        }
    }
}

/// One row of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Socket {
    /// Its state.
    pub state: TcpState,
    /// Its own address and port; an IPv4 address that was mapped into IPv6 is given as IPv4.
    pub local: SocketAddr,
    /// The other side's address and port.
    pub remote: SocketAddr,
    /// The number that belongs to this socket alone since boot.
    ///
    /// A TIME-WAIT socket takes it over, provided that somebody had asked for it before.
    pub cookie: u64,
    /// The timer that is running.
    pub timer: Timer,
    /// Time until it goes off.
    pub expires: Duration,
    /// Inode of the socket's file; zero if there is none.
    pub inode: u32,
}

impl fmt::Display for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { state, local, remote, cookie, timer, expires, inode } = self;
        write!(f, "{state:?} {local} > {remote} timer {timer:?} {expires:?} cookie {cookie:x} inode {inode}")
    }
}

/// All TCP sockets of a namespace: IPv4, then IPv6.
#[track_caller]
pub fn sockets(netns: &Netns) -> Vec<Socket> {
    netns
        .run(|| {
            let mut all = dump(AF_INET, SocketId::new_v4())?;
            all.extend(dump(AF_INET6, SocketId::new_v6())?);
            anyhow::Ok(all)
        })
        .context("ask sock_diag for the TCP sockets")
        .or_give_up()
}

/// Asks for the table until it fits and gives it back; gives up with the last one when time is up.
#[track_caller]
pub fn wait_until<P>(netns: &Netns, timeout: Duration, mut predicate: P) -> Vec<Socket>
where
    P: FnMut(&[Socket]) -> bool,
{
    let deadline = Deadline::after(timeout);
    loop {
        let table = sockets(netns);
        if predicate(&table) {
            return table;
        }
        if deadline.left().is_none() {
            let rows: Vec<_> = table.iter().map(|socket| format!("  {socket}\n")).collect();
            give_up(format_args!("the sockets are not as expected after {timeout:?}:\n{}", rows.concat()));
        }
        thread::sleep(INTERVAL);
    }
}

/// Why a socket was not destroyed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotDestroyed {
    /// Before Linux 5.18 `tcp_abort` answers EOPNOTSUPP where the socket is a minisock, and leaves it alone.
    Unsupported,
    /// The table has it no more: it ended by itself just before.
    Gone,
}

/// Destroys sockets that the table has, as an operator does with `ss -K`.
///
/// Not by `ss`: a slim system lacks it, and how it filters depends on its version.
#[track_caller]
pub fn destroy<P>(netns: &Netns, which: P) -> Result<(), NotDestroyed>
where
    P: FnMut(&Socket) -> bool,
{
    let mut doomed = sockets(netns);
    doomed.retain(which);
    if doomed.is_empty() {
        return Err(NotDestroyed::Gone);
    }
    netns
        .run(move || {
            for socket in &doomed {
                let message = SockDiagDestroy::new(SockDiagMessage::InetRequest(request_for(socket)));
                let outcome = netlink::order(NETLINK_SOCK_DIAG, 0, message);
                let errno = outcome.as_ref().err().and_then(errno);
                match errno.filter(|_| socket.timer == Timer::TimeWait) {
                    Some(libc::EOPNOTSUPP) => return Ok(Err(NotDestroyed::Unsupported)),
                    Some(libc::ENOENT) => return Ok(Err(NotDestroyed::Gone)),
                    _ => outcome.with_context(|| format!("destroy {socket}"))?,
                }
            }
            anyhow::Ok(Ok(()))
        })
        .or_give_up()
}

fn errno(error: &anyhow::Error) -> Option<i32> {
    error.downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error)
}

/// The request that means this socket and no other.
fn request_for(socket: &Socket) -> InetRequest {
    let (family, socket_id) = match socket.local {
        SocketAddr::V4(_) => (AF_INET, SocketId::new_v4()),
        SocketAddr::V6(_) => (AF_INET6, SocketId::new_v6()),
    };
    InetRequest {
        family,
        protocol: IPPROTO_TCP,
        extensions: ExtensionFlags::empty(),
        states: StateFlags::all(),
        socket_id: SocketId {
            source_address: socket.local.ip(),
            source_port: socket.local.port(),
            destination_address: socket.remote.ip(),
            destination_port: socket.remote.port(),
            cookie: socket.cookie.to_ne_bytes(),
            ..socket_id
        },
    }
}

fn dump(family: u8, socket_id: SocketId) -> anyhow::Result<Vec<Socket>> {
    let request = InetRequest {
        family,
        protocol: IPPROTO_TCP,
        extensions: ExtensionFlags::empty(),
        states: StateFlags::all(),
        socket_id,
    };
    netlink::dump(NETLINK_SOCK_DIAG, SockDiagMessage::InetRequest(request))?
        .iter()
        .filter_map(|answer| match &answer.message {
            SockDiagMessage::InetResponse(response) => Some((&response.header, &answer.body)),
            _ => None,
        })
        .map(|(header, body)| {
            let id = &header.socket_id;
            Ok(Socket {
                state: TcpState::of(header.state).with_context(|| format!("TCP state {}", header.state))?,
                local: SocketAddr::new(id.source_address.to_canonical(), id.source_port),
                remote: SocketAddr::new(id.destination_address.to_canonical(), id.destination_port),
                cookie: u64::from_ne_bytes(id.cookie),
                timer: Timer::of(*body.get(offset::TIMER).context("an answer without timer")?),
                expires: expires(body).context("an answer without expiry")?,
                inode: header.inode,
            })
        })
        .collect()
}

/// The crate leaves out when a TIME-WAIT timer goes off, so it is taken from the body.
fn expires(body: &[u8]) -> Option<Duration> {
    let bytes = body.get(offset::EXPIRES..)?.first_chunk()?;
    Some(Duration::from_millis(u32::from_ne_bytes(*bytes).into()))
}
