//! TCP segments as the lab sees them: parsed from IP packets, and printed in one line.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use etherparse::{NetSlice, SlicedPacket, TcpOptionElement, TcpSlice, TransportSlice};

mod flags;
mod packet;

pub use flags::Flags;
pub(crate) use packet::packet;

/// Which way a segment goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the client's end to the server's, or from the kernel under test to a hand-made peer.
    ClientToServer,
    /// From the server's end to the client's, or from a hand-made peer to the kernel under test.
    ServerToClient,
}

impl Direction {
    /// The other way.
    #[must_use]
    pub const fn reversed(self) -> Self {
        match self {
            Self::ClientToServer => Self::ServerToClient,
            Self::ServerToClient => Self::ClientToServer,
        }
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ClientToServer => "c>s",
            Self::ServerToClient => "s>c",
        })
    }
}

/// The timestamps option (RFC 7323 §3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timestamps {
    /// The sender's clock, `TSval`.
    pub value: u32,
    /// The last value the sender took from the other side, `TSecr`.
    pub echo: u32,
}

/// One TCP segment, over IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Which way it goes.
    pub direction: Direction,
    /// Address and port of the sender.
    pub source: SocketAddr,
    /// Address and port of the receiver.
    pub destination: SocketAddr,
    /// Sequence number of the first byte, or of the SYN, or of a FIN without payload.
    pub seq: u32,
    /// The next sequence number the sender waits for; zero unless [`Flags::ACK`] is set.
    pub ack: u32,
    /// The control bits.
    pub flags: Flags,
    /// Receive window, not scaled.
    pub window: u16,
    /// Length of the payload in bytes.
    pub length: u32,
    /// The timestamps option, if it is there.
    pub timestamps: Option<Timestamps>,
}

impl Segment {
    /// Parses an IP packet; nothing if it is not TCP (or a fragment that has no TCP header).
    pub fn parse(direction: Direction, packet: &[u8]) -> Option<Self> {
        let sliced = SlicedPacket::from_ip(packet).ok()?;
        let (from, to): (IpAddr, IpAddr) = match sliced.net.as_ref()? {
            NetSlice::Ipv4(ip) => (ip.header().source_addr().into(), ip.header().destination_addr().into()),
            NetSlice::Ipv6(ip) => (ip.header().source_addr().into(), ip.header().destination_addr().into()),
            NetSlice::Arp(_) => return None,
        };
        let Some(TransportSlice::Tcp(tcp)) = sliced.transport else {
            return None;
        };
        Some(Self {
            direction,
            source: SocketAddr::new(from, tcp.source_port()),
            destination: SocketAddr::new(to, tcp.destination_port()),
            seq: tcp.sequence_number(),
            ack: tcp.acknowledgment_number(),
            flags: Flags::of(&tcp),
            window: tcp.window_size(),
            length: u32::try_from(tcp.payload().len()).ok()?,
            timestamps: timestamps_of(&tcp),
        })
    }

    /// Whether all of these control bits are set.
    pub const fn has(&self, flags: Flags) -> bool {
        self.flags.contains(flags)
    }

    /// A segment with FIN, with or without payload.
    pub const fn is_fin(&self) -> bool {
        self.has(Flags::FIN)
    }

    /// A segment with RST.
    pub const fn is_rst(&self) -> bool {
        self.has(Flags::RST)
    }

    /// A segment with SYN, so also a SYN-ACK.
    pub const fn is_syn(&self) -> bool {
        self.has(Flags::SYN)
    }

    /// An acknowledgment and nothing else: no SYN, FIN or RST, and no payload.
    pub const fn is_pure_ack(&self) -> bool {
        self.has(Flags::ACK) && !self.is_syn() && !self.is_fin() && !self.is_rst() && self.length == 0
    }

    /// Space it takes in the sequence: payload, SYN and FIN.
    pub fn sequence_length(&self) -> u32 {
        self.length + u32::from(self.is_syn()) + u32::from(self.is_fin())
    }

    /// The sequence number after it; the acknowledgment that covers it.
    pub fn end(&self) -> u32 {
        self.seq.wrapping_add(self.sequence_length())
    }

    /// The same segment with numbers counted from the initial ones of its sender and of its receiver.
    #[must_use]
    pub const fn relative_to(mut self, sender: u32, receiver: u32) -> Self {
        self.seq = self.seq.wrapping_sub(sender);
        if self.has(Flags::ACK) {
            self.ack = self.ack.wrapping_sub(receiver);
        }
        self
    }
}

/// Whether sequence number `a` comes after `b`, modulo 2³² (RFC 9293 §3.4).
pub const fn is_after(a: u32, b: u32) -> bool {
    a != b && a.wrapping_sub(b) < 1 << 31
}

/// As tcpdump prints it: `c>s F. 1001:1001(0) ack 2`.
impl fmt::Display for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = self.seq.wrapping_add(self.length);
        write!(f, "{} {:>2} {}:{end}({})", self.direction, self.flags, self.seq, self.length)?;
        if self.has(Flags::ACK) {
            write!(f, " ack {}", self.ack)?;
        }
        Ok(())
    }
}

fn timestamps_of(tcp: &TcpSlice<'_>) -> Option<Timestamps> {
    tcp.options_iterator().find_map(|option| match option {
        Ok(TcpOptionElement::Timestamp(value, echo)) => Some(Timestamps { value, echo }),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(family: crate::address::Family) -> Segment {
        Segment {
            direction: Direction::ClientToServer,
            source: SocketAddr::new(family.client(), 40_000),
            destination: SocketAddr::new(family.server(), 80),
            seq: 1001,
            ack: 2,
            flags: Flags::FIN_ACK,
            window: 500,
            length: 3,
            timestamps: Some(Timestamps { value: 7, echo: 8 }),
        }
    }

    #[test]
    fn a_segment_survives_the_packet() {
        for family in crate::address::Family::BOTH {
            let original = segment(family);
            let bytes = packet(&original, b"abc").unwrap();
            assert_eq!(Segment::parse(Direction::ClientToServer, &bytes), Some(original));
        }
    }

    #[test]
    fn a_segment_prints_like_tcpdump() {
        let mut segment = segment(crate::address::Family::V4);
        assert_eq!(segment.to_string(), "c>s F. 1001:1004(3) ack 2");
        assert_eq!(segment.end(), 1005);
        segment.flags = Flags::RST;
        assert_eq!(segment.relative_to(1000, 9).to_string(), "c>s  R 1:4(3)");
    }

    #[test]
    fn what_is_not_tcp_is_no_segment() {
        let mut udp = Vec::new();
        etherparse::PacketBuilder::ipv4([192, 0, 2, 1], [192, 0, 2, 2], 64)
            .udp(1, 2)
            .write(&mut udp, b"abc")
            .unwrap();
        assert_eq!(Segment::parse(Direction::ClientToServer, &udp), None);
        assert_eq!(Segment::parse(Direction::ClientToServer, b""), None);
    }

    #[test]
    fn numbers_wrap_around() {
        assert!(is_after(2, 1));
        assert!(is_after(1, u32::MAX));
        assert!(!is_after(1, 1));
        assert!(!is_after(u32::MAX, 1));
    }
}
