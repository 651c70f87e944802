//! One socket of the kernel's table.

use std::{
    mem::offset_of,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use netlink_packet_core::NlasIterator;
use tcp_close_abi::{AF_INET, AF_INET6};
use zerocopy::{FromBytes, Immutable, KnownLayout};

use crate::event::{CgroupId, ConnectionId, Listed, Monotonic, Pair, TcpState};

/// What the kernel says of a socket.
///
/// For a full socket `inet_diag_msg_common_fill`, `inet_diag_msg_attrs_fill` and `inet_sk_diag_fill` say it, for a
/// minisock `inet_twsk_diag_fill` (<https://elixir.bootlin.com/linux/v6.12/source/net/ipv4/inet_diag.c>).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The namespace that was asked, and the socket's cookie, which this question gave it if it had none before.
    pub id: ConnectionId,
    /// The socket pair.
    pub pair: Pair,
    /// `sk_state`; of a minisock its `tw_substate`, so FIN-WAIT-2 may be either. A request for a connection is told as
    /// SYN-RECEIVED.
    pub state: TcpState,
    /// The timer that runs.
    pub timer: Option<Timer>,
    /// Who holds it; `None` of a minisock, which is not asked.
    pub holder: Option<Holder>,
}

/// A timer that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timer {
    /// What for.
    pub kind: TimerKind,
    /// Time to its nominal end, in whole milliseconds and no finer than a tick. Zero from there on: a minisock's timer
    /// waits for its bucket of the timer wheel.
    pub left: Duration,
}

/// What a timer is for (`idiag_timer`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimerKind {
    /// To send again, or to probe for a loss (1).
    Retransmit,
    /// Keepalive, and FIN-WAIT-2 of a full socket that nobody holds (2).
    KeepAlive,
    /// A minisock's end (3).
    Minisock,
    /// To probe a window that is closed (4).
    ZeroWindow,
    /// One of a later kernel.
    Other(u8),
}

/// Who holds a full socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The user it belongs to (`sock_i_uid`), as this process's user namespace numbers users.
    pub uid: u32,
    /// Inode of its file; `None` once no process holds it.
    pub inode: Option<u32>,
    /// Where it was made, an accepted one its listener; `None` where the kernel does not tell (before Linux 5.7).
    pub cgroup: Option<CgroupId>,
}

impl Row {
    /// Whether it is a minisock. No full socket has that timer, and every minisock does.
    pub fn is_minisock(&self) -> bool {
        self.timer.is_some_and(|timer| timer.kind == TimerKind::Minisock)
    }

    /// Of a minisock, time to its nominal end.
    pub fn left(&self) -> Option<Duration> {
        self.timer.filter(|_| self.is_minisock()).map(|timer| timer.left)
    }

    /// The same as an event tells it, of a table that was read then.
    pub fn listed(&self, read_at: Monotonic) -> Listed {
        Listed {
            pair: self.pair,
            state: self.state,
            uid: self.holder.map(|holder| holder.uid),
            cgroup: self.holder.and_then(|holder| holder.cgroup),
            nominal_end: self.left().map(|left| read_at + left),
        }
    }

    /// From the body of an answer of this namespace. `None` for one that is cut short, or speaks of no state or family
    /// that TCP has.
    pub(super) fn parse(netns: u32, body: &[u8]) -> Option<Self> {
        let (message, attributes) = InetDiagMsg::read_from_prefix(body).ok()?;
        let timer = timer(&message);
        let is_minisock = timer.is_some_and(|timer| timer.kind == TimerKind::Minisock);
        let [low, high] = message.cookie;
        Some(Self {
            id: ConnectionId { netns, socket: u64::from(high) << 32 | u64::from(low) },
            pair: Pair {
                local: address(message.family, message.src, message.sport)?,
                remote: address(message.family, message.dst, message.dport)?,
            },
            state: TcpState::from_kernel(message.state.into())?,
            timer,
            holder: (!is_minisock).then_some(Holder {
                uid: message.uid,
                inode: Some(message.inode).filter(|&inode| inode != 0),
                cgroup: cgroup(attributes),
            }),
        })
    }
}

/// `struct inet_diag_msg` (`include/uapi/linux/inet_diag.h`). What it numbers is in the byte order of the host, what
/// it has from the wire, ports and addresses, in that of the network.
#[derive(FromBytes, Immutable, KnownLayout)]
#[repr(C)]
struct InetDiagMsg {
    family: u8,
    state: u8,
    timer: u8,
    retrans: u8,
    sport: [u8; 2],
    dport: [u8; 2],
    src: [u8; 16],
    dst: [u8; 16],
    interface: u32,
    /// The low half first, whatever the byte order (`sock_diag_save_cookie`).
    cookie: [u32; 2],
    /// Milliseconds.
    expires: u32,
    rqueue: u32,
    wqueue: u32,
    uid: u32,
    inode: u32,
}

const _: () = assert!(size_of::<InetDiagMsg>() == 72 && offset_of!(InetDiagMsg, expires) == 52);

/// `INET_DIAG_CGROUP_ID` (`include/uapi/linux/inet_diag.h`), which the kernel adds unasked.
fn cgroup(attributes: &[u8]) -> Option<CgroupId> {
    const CGROUP_ID: u16 = 21;
    let mut attributes = NlasIterator::new(attributes).map_while(Result::ok);
    let id = attributes.find(|attribute| attribute.kind() == CGROUP_ID)?;
    CgroupId::new(u64::from_ne_bytes(*id.value().first_chunk()?))
}

fn timer(message: &InetDiagMsg) -> Option<Timer> {
    let kind = match message.timer {
        0 => return None,
        1 => TimerKind::Retransmit,
        2 => TimerKind::KeepAlive,
        3 => TimerKind::Minisock,
        4 => TimerKind::ZeroWindow,
        other => TimerKind::Other(other),
    };
    Some(Timer { kind, left: Duration::from_millis(message.expires.into()) })
}

/// An IPv4 address takes the first four bytes; one mapped into IPv6 is shown as what it is.
fn address(family: u8, bytes: [u8; 16], port: [u8; 2]) -> Option<SocketAddr> {
    let ip = match u16::from(family) {
        AF_INET => IpAddr::V4(Ipv4Addr::from(*bytes.first_chunk::<4>()?)),
        AF_INET6 => Ipv6Addr::from(bytes).to_canonical(),
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_be_bytes(port)))
}
