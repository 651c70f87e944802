//! A full TCP socket, as the tracepoints hand it over.

use aya_ebpf::helpers::{bpf_skc_to_tcp_sock, generated::bpf_get_socket_cookie, generated::bpf_ktime_get_ns};
use tcp_close_abi::{AF_INET, AF_INET6, Header, Pair, RecordKind};

use crate::kernel::{LAYOUT, Typed, watched};

/// A `struct tcp_sock` in a network namespace that is watched.
pub(crate) struct TcpSocket {
    fields: Typed,
    netns: u32,
    family: u16,
}

impl TcpSocket {
    /// The TCP socket behind `sk`, if it is one, full, IPv4 or IPv6, and in a namespace that is watched.
    ///
    /// `bpf_skc_to_tcp_sock` (Linux 5.9) answers NULL for minisocks, request socks and every other protocol,
    /// MPTCP's own socket (`IPPROTO_MPTCP`) among them; its subflows are TCP sockets like any other.
    #[inline(always)]
    pub(crate) fn watched(sk: Typed) -> Option<Self> {
        // SAFETY: the verifier knows `sk` as a socket.
        let fields = Typed::new(unsafe { bpf_skc_to_tcp_sock(sk.as_ptr::<u8>().cast_mut().cast()) }.cast());
        if fields.is_null() {
            return None;
        }
        let family: u16 = fields.load(&LAYOUT.family);
        if family != AF_INET && family != AF_INET6 {
            return None;
        }
        let netns = netns_of(fields);
        if !watched(netns) {
            return None;
        }
        Some(Self { fields, netns, family })
    }

    /// Its fields, at offsets of `tcp_sock` and of what `tcp_sock` begins with.
    pub(crate) const fn fields(&self) -> Typed {
        self.fields
    }

    /// The first bytes of a record about this socket.
    ///
    /// Asking for the cookie makes the kernel assign it, and a minisock inherits it: that is how the two are
    /// known to be one connection.
    #[inline(always)]
    pub(crate) fn header(&self, kind: RecordKind, flags: u32) -> Header {
        Header {
            // SAFETY: no arguments.
            at: unsafe { bpf_ktime_get_ns() },
            // SAFETY: the verifier knows the pointer as a socket.
            cookie: unsafe { bpf_get_socket_cookie(self.fields.as_ptr::<u8>().cast_mut().cast()) },
            kind: kind as u32,
            netns: self.netns,
            flags,
            reserved: 0,
        }
    }

    /// The socket pair; `inet_sport`, since `skc_num` is already 0 when a socket closes.
    #[inline(always)]
    pub(crate) fn pair(&self) -> Pair {
        let mut pair = Pair {
            local: [0; 16],
            remote: [0; 16],
            local_port: self.fields.load(&LAYOUT.local_port),
            remote_port: self.fields.load(&LAYOUT.remote_port),
            family: self.family,
            reserved: 0,
        };
        if self.family == AF_INET {
            put(&mut pair.local, 0, self.fields.load::<u32>(&LAYOUT.local_v4).to_ne_bytes());
            put(&mut pair.remote, 0, self.fields.load::<u32>(&LAYOUT.remote_v4).to_ne_bytes());
        } else {
            put(&mut pair.local, 0, self.fields.load_at::<u64>(&LAYOUT.local_v6, 0).to_ne_bytes());
            put(&mut pair.local, 8, self.fields.load_at::<u64>(&LAYOUT.local_v6, 8).to_ne_bytes());
            put(&mut pair.remote, 0, self.fields.load_at::<u64>(&LAYOUT.remote_v6, 0).to_ne_bytes());
            put(&mut pair.remote, 8, self.fields.load_at::<u64>(&LAYOUT.remote_v6, 8).to_ne_bytes());
        }
        pair
    }
}

/// Inode number of the network namespace of a socket.
#[inline(always)]
pub(crate) fn netns_of(sk: Typed) -> u32 {
    sk.follow(&LAYOUT.net).load(&LAYOUT.netns)
}

#[inline(always)]
fn put<const N: usize>(address: &mut [u8; 16], at: usize, bytes: [u8; N]) {
    let mut index = 0;
    while index < N {
        address[at + index] = bytes[index];
        index += 1;
    }
}
