//! IP packets made from segments, with correct checksums.

use std::net::SocketAddr;

use anyhow::{Context as _, bail};
use etherparse::{PacketBuilder, TcpHeader, TcpOptionElement};

use super::{Flags, Segment};

/// Hops a packet of the lab may make; it makes none.
const HOP_LIMIT: u8 = 64;

/// Maximum segment size that goes into a SYN: what fits the MTU over IPv6, and so over IPv4.
const MAXIMUM_SEGMENT_SIZE: u16 = 1440;

/// The IP packet that carries `segment` with this payload.
pub(crate) fn packet(segment: &Segment, payload: &[u8]) -> anyhow::Result<Vec<u8>> {
    let builder = match (segment.source, segment.destination) {
        (SocketAddr::V4(from), SocketAddr::V4(to)) => {
            PacketBuilder::ipv4(from.ip().octets(), to.ip().octets(), HOP_LIMIT)
        }
        (SocketAddr::V6(from), SocketAddr::V6(to)) => {
            PacketBuilder::ipv6(from.ip().octets(), to.ip().octets(), HOP_LIMIT)
        }
        (from, to) => bail!("{from} and {to} are of different families"),
    };
    let mut bytes = Vec::new();
    builder
        .tcp_header(header(segment)?)
        .write(&mut bytes, payload)
        .with_context(|| format!("build the packet of {segment}"))?;
    Ok(bytes)
}

fn header(segment: &Segment) -> anyhow::Result<TcpHeader> {
    let ports = (segment.source.port(), segment.destination.port());
    let mut header = TcpHeader::new(ports.0, ports.1, segment.seq, segment.window);
    header.fin = segment.has(Flags::FIN);
    header.syn = segment.has(Flags::SYN);
    header.rst = segment.has(Flags::RST);
    header.psh = segment.has(Flags::PSH);
    header.ack = segment.has(Flags::ACK);
    header.acknowledgment_number = segment.ack;

    let mut options = Vec::new();
    if segment.is_syn() {
        options.push(TcpOptionElement::MaximumSegmentSize(MAXIMUM_SEGMENT_SIZE));
    }
    if let Some(timestamps) = segment.timestamps {
        options.push(TcpOptionElement::Timestamp(timestamps.value, timestamps.echo));
    }
    header.set_options(&options).context("set the options of a segment")?;
    Ok(header)
}
