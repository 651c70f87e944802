//! A full TCP socket, as tracepoints and functions hand it over.

use aya_ebpf::helpers::{bpf_skc_to_tcp_sock, generated::bpf_ktime_get_ns};
use tcp_close_abi::{AF_INET, AF_INET6, Header, RecordKind};

use crate::kernel::{Current, LAYOUT, Memory, SETTINGS, Typed, Untyped, constant, watched};

/// A `struct tcp_sock` that is watched: by its network namespace, family and ports.
#[derive(Clone, Copy)]
pub(crate) struct TcpSocket<M> {
    fields: M,
    netns: u32,
}

impl TcpSocket<Typed> {
    /// The TCP socket behind `sk`, if it is one, full, IPv4 or IPv6, and watched.
    #[inline(always)]
    pub(crate) fn watched(sk: Typed) -> Option<Self> {
        Self::if_watched(tcp_sock(sk)?).ok()?
    }
}

/// `sk` as a `struct tcp_sock`, if it is one and full.
///
/// `bpf_skc_to_tcp_sock` (Linux 5.9) answers NULL for minisocks, request socks and every other protocol, MPTCP's own
/// socket (`IPPROTO_MPTCP`) among them; its subflows are TCP sockets like any other.
#[inline(always)]
pub(crate) fn tcp_sock(sk: Typed) -> Option<Typed> {
    // SAFETY: the verifier knows `sk` as a socket.
    let fields = Typed::new(unsafe { bpf_skc_to_tcp_sock(sk.as_ptr::<u8>().cast_mut().cast()) }.cast());
    if fields.is_null() { None } else { Some(fields) }
}

impl TcpSocket<Untyped> {
    /// The same for a full socket of which no type is known; fails where it cannot be read.
    #[inline(always)]
    pub(crate) fn watched_untyped(sk: Untyped) -> Result<Option<Self>, i32> {
        // `IPPROTO_TCP` (include/uapi/linux/in.h); MPTCP's own socket has another.
        if sk.get::<u16>(&LAYOUT.protocol)? != 6 {
            return Ok(None);
        }
        Self::if_watched(sk)
    }
}

impl<M: Memory> TcpSocket<M> {
    #[inline(always)]
    fn if_watched(fields: M) -> Result<Option<Self>, i32> {
        let family: u16 = fields.get(&LAYOUT.family)?;
        if family != AF_INET && family != AF_INET6 {
            return Ok(None);
        }
        let netns = netns_of(fields)?;
        let is_watched = watched(netns) && pair_is_watched(fields, family, &LAYOUT.local_port)?;
        Ok(is_watched.then_some(Self { fields, netns }))
    }

    /// Its fields, at offsets of `tcp_sock` and of what `tcp_sock` begins with.
    pub(crate) const fn fields(&self) -> M {
        self.fields
    }

    /// What it is known by, as [`Header::socket`] says.
    ///
    /// Asking for the cookie makes the kernel assign it, and a minisock inherits it: that is how the two are
    /// known to be one connection.
    #[inline(always)]
    pub(crate) fn identity(&self) -> u64 {
        self.fields.identity()
    }

    /// The first bytes of a record about this socket.
    #[inline(always)]
    pub(crate) fn header(&self, kind: RecordKind, flags: u32) -> Header {
        self.header_of(self.identity(), kind, flags)
    }

    /// The same where [`Self::identity`] was asked for already, which takes a call of the kernel's.
    #[inline(always)]
    pub(crate) fn header_of(&self, identity: u64, kind: RecordKind, flags: u32) -> Header {
        Header {
            // SAFETY: no arguments.
            at: unsafe { bpf_ktime_get_ns() },
            socket: identity,
            kind: kind as u32,
            netns: self.netns,
            flags,
            reserved: 0,
        }
    }
}

/// Whether the family and ports of a socket of any kind are watched, as far as it has any yet: one that listens, or has
/// only begun to connect, may lead to a connection that is.
#[inline(always)]
pub(crate) fn pair_is_watched<M: Memory>(
    fields: M,
    family: u16,
    local_port: &'static u32,
) -> Result<bool, i32> {
    let is_watched = |port: u16, first: &'static u32, last: &'static u32| {
        let port = u32::from(u16::from_be(port));
        port == 0 || (constant(first) <= port && port <= constant(last))
    };
    let ([local_first, local_last], [first, last]) = (&SETTINGS.local_ports, &SETTINGS.remote_ports);
    if constant(local_last) != 0 && !is_watched(fields.get(local_port)?, local_first, local_last) {
        return Ok(false);
    }
    if constant(last) != 0 && !is_watched(fields.get(&LAYOUT.remote_port)?, first, last) {
        return Ok(false);
    }
    let only = constant(&SETTINGS.family);
    if only == 0 || fields.get::<u16>(&LAYOUT.remote_port)? == 0 {
        return Ok(true);
    }
    let is_ipv4 = family == AF_INET || is_mapped(fields.get_ipv6(&LAYOUT.remote_v6)?);
    Ok(is_ipv4 == (only == u32::from(AF_INET)))
}

/// Whether an IPv6 address is an IPv4 one, mapped (`::ffff:0:0/96`).
#[inline(always)]
const fn is_mapped([upper, lower]: [u64; 2]) -> bool {
    upper == 0 && u64::from_be(lower) >> 32 == 0xffff
}

/// The process that holds the socket, in a system call on it. A segment or a timer never changes the state of such
/// a socket: it is put off until the process lets go.
#[inline(always)]
pub(crate) fn owner<M: Memory>(sk: M) -> Result<Option<Current>, i32> {
    Ok(if sk.get::<u32>(&LAYOUT.owned)? == 0 { None } else { Some(Current::get()) })
}

/// Inode number of the network namespace of a socket of any kind.
#[inline(always)]
pub(crate) fn netns_of<M: Memory>(sk: M) -> Result<u32, i32> {
    sk.follow(&LAYOUT.net)?.get(&LAYOUT.netns)
}
