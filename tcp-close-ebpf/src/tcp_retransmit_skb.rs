//! `tcp:tcp_retransmit_skb`: a segment is sent again; only one that carries FIN is of interest.
//!
//! Fires in the retransmission timer, on tail loss probes and on fast retransmits. Up to Linux 6.16 only when
//! the segment was really sent; from 6.18 always, with the error as third argument, which is looked at then.
//! Counts by state and records [`FinRetransmit`].

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use tcp_close_abi::{FinRetransmit, RecordKind};

use crate::{
    counters,
    kernel::{LAYOUT, Memory as _, SETTINGS, Typed, constant},
    ring,
    socket::TcpSocket,
};

/// FIN in the flags byte of a TCP header (RFC 9293 §3.1), as `tcp_skb_cb.tcp_flags` keeps it.
const FIN: u8 = 1;

#[btf_tracepoint(function = "tcp_retransmit_skb")]
fn tcp_retransmit_skb(ctx: BtfTracePointContext) -> i32 {
    let skb = Typed::new(ctx.arg(1));
    // The low byte of `tcp_flags`, one byte wide before Linux 6.16 and two since, on little-endian machines.
    let flags = skb.get_in::<u8>(&LAYOUT.skb_cb, &LAYOUT.cb_flags).unwrap_or(0);
    if flags & FIN == 0 {
        return 0;
    }
    if constant(&SETTINGS.retransmit_has_error) != 0 && ctx.arg::<i32>(2) != 0 {
        return 0;
    }
    if let Some(socket) = TcpSocket::watched(Typed::new(ctx.arg(0))) {
        let state = u32::from(socket.fields().load::<u8>(&LAYOUT.state));
        counters::fin_retransmit(state);
        ring::emit::<FinRetransmit>(RecordKind::FinRetransmit, |record| {
            *record = FinRetransmit {
                header: socket.header(RecordKind::FinRetransmit, 0),
                state,
                seq: skb.get_in(&LAYOUT.skb_cb, &LAYOUT.cb_seq).unwrap_or(0),
            };
        });
    }
    0
}
