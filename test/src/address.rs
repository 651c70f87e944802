//! The addresses of the lab, all of them from the ranges set aside for documentation (RFC 5737, RFC 3849).
//!
//! With a [`Wire`](crate::wire::Wire) the client's kernel has the `CLIENT` addresses and the server's the
//! `SERVER` ones.
//! With a [`Peer`](crate::peer::Peer) the kernel under test has the `CLIENT` addresses, whoever opens the
//! connection.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// IPv4 address of the client's end.
pub const CLIENT_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// IPv4 address of the server's end, or of the hand-made peer.
pub const SERVER_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
/// IPv6 address of the client's end.
pub const CLIENT_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
/// IPv6 address of the server's end, or of the hand-made peer.
pub const SERVER_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2);

/// Prefix length of the IPv4 network.
pub const PREFIX_V4: u8 = 24;
/// Prefix length of the IPv6 network.
pub const PREFIX_V6: u8 = 64;

/// Which of the two Internet protocols a connection uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both, for tests that go through them.
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];

    /// Address of the client's end, or of the kernel that faces a hand-made peer.
    pub const fn client(self) -> IpAddr {
        match self {
            Self::V4 => IpAddr::V4(CLIENT_V4),
            Self::V6 => IpAddr::V6(CLIENT_V6),
        }
    }

    /// Address of the server's end, or of the hand-made peer.
    pub const fn server(self) -> IpAddr {
        match self {
            Self::V4 => IpAddr::V4(SERVER_V4),
            Self::V6 => IpAddr::V6(SERVER_V6),
        }
    }

    /// The loopback address.
    pub const fn loopback(self) -> IpAddr {
        match self {
            Self::V4 => IpAddr::V4(Ipv4Addr::LOCALHOST),
            Self::V6 => IpAddr::V6(Ipv6Addr::LOCALHOST),
        }
    }
}
