//! A full TCP socket, as tracepoints and functions hand it over.

use aya_ebpf::helpers::{bpf_skc_to_tcp_sock, generated::bpf_ktime_get_ns};
use tcp_close_abi::{AF_INET, AF_INET6, Header, Pair, RecordKind};

use crate::kernel::{LAYOUT, Memory, Typed, Untyped, watched};

/// A `struct tcp_sock` in a network namespace that is watched.
pub(crate) struct TcpSocket<M> {
    fields: M,
    netns: u32,
    family: u16,
}

impl TcpSocket<Typed> {
    /// The TCP socket behind `sk`, if it is one, full, IPv4 or IPv6, and in a namespace that is watched.
    #[inline(always)]
    pub(crate) fn watched(sk: Typed) -> Option<Self> {
        Self::in_watched_netns(tcp_sock(sk)?).ok()?
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
        Self::in_watched_netns(sk)
    }
}

impl<M: Memory> TcpSocket<M> {
    #[inline(always)]
    fn in_watched_netns(fields: M) -> Result<Option<Self>, i32> {
        let family: u16 = fields.get(&LAYOUT.family)?;
        if family != AF_INET && family != AF_INET6 {
            return Ok(None);
        }
        let netns = netns_of(fields)?;
        Ok(watched(netns).then_some(Self { fields, netns, family }))
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
        Header {
            // SAFETY: no arguments.
            at: unsafe { bpf_ktime_get_ns() },
            socket: self.identity(),
            kind: kind as u32,
            netns: self.netns,
            flags,
            reserved: 0,
        }
    }

    /// The socket pair; `inet_sport`, since `skc_num` is already 0 when a socket closes.
    #[inline(always)]
    pub(crate) fn pair(&self) -> Result<Pair, i32> {
        pair(self.fields, self.family, &LAYOUT.local_port)
    }
}

/// The socket pair of any kind of socket; its own port lies at `local_port`.
#[inline(always)]
pub(crate) fn pair<M: Memory>(fields: M, family: u16, local_port: &'static u32) -> Result<Pair, i32> {
    let mut pair = Pair {
        local_port: fields.get(local_port)?,
        remote_port: fields.get(&LAYOUT.remote_port)?,
        family,
        ..Pair::ZERO
    };
    if family == AF_INET {
        put(&mut pair.local, 0, fields.get::<u32>(&LAYOUT.local_v4)?.to_ne_bytes());
        put(&mut pair.remote, 0, fields.get::<u32>(&LAYOUT.remote_v4)?.to_ne_bytes());
    } else if family == AF_INET6 {
        let [local, remote] = [fields.get_ipv6(&LAYOUT.local_v6)?, fields.get_ipv6(&LAYOUT.remote_v6)?];
        put(&mut pair.local, 0, local[0].to_ne_bytes());
        put(&mut pair.local, 8, local[1].to_ne_bytes());
        put(&mut pair.remote, 0, remote[0].to_ne_bytes());
        put(&mut pair.remote, 8, remote[1].to_ne_bytes());
    }
    Ok(pair)
}

/// Inode number of the network namespace of a socket of any kind.
#[inline(always)]
pub(crate) fn netns_of<M: Memory>(sk: M) -> Result<u32, i32> {
    sk.follow(&LAYOUT.net)?.get(&LAYOUT.netns)
}

#[inline(always)]
fn put<const N: usize>(address: &mut [u8; 16], at: usize, bytes: [u8; N]) {
    let mut index = 0;
    while index < N {
        address[at + index] = bytes[index];
        index += 1;
    }
}
