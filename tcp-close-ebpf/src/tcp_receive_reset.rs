//! `tcp:tcp_receive_reset`: a full socket is reset by its peer.
//!
//! Fires in `tcp_reset`, before the socket closes. The kernel also calls that function when data arrives after
//! both directions were closed, though no reset was received; the reset it then sends tells the two apart.
//! Counts and records [`Reset`]. A reset that meets a minisock does not pass here.
//! Three equal programs make up for each other: see [`taken`].

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use tcp_close_abi::{RecordKind, Reset, equal};

use crate::{
    counters,
    kernel::{LAYOUT, Memory as _, Typed},
    ring,
    socket::{TcpSocket, owner},
    taken::{self, What},
};

#[btf_tracepoint(function = "tcp_receive_reset")]
fn tcp_receive_reset_1(ctx: BtfTracePointContext) -> i32 {
    seen_by(1, Typed::new(ctx.arg(0)));
    0
}

#[btf_tracepoint(function = "tcp_receive_reset")]
fn tcp_receive_reset_2(ctx: BtfTracePointContext) -> i32 {
    seen_by(2, Typed::new(ctx.arg(0)));
    0
}

#[btf_tracepoint(function = "tcp_receive_reset")]
fn tcp_receive_reset_3(ctx: BtfTracePointContext) -> i32 {
    seen_by(3, Typed::new(ctx.arg(0)));
    0
}

#[inline(always)]
fn seen_by(program: u32, sk: Typed) {
    let what = What { about: sk.address(), kind: What::RESET_RECEIVED };
    if taken::by(program, equal::RESET_RECEIVED, &what, owner(sk).unwrap_or(None)).is_none() {
        return;
    }
    if let Some(socket) = TcpSocket::watched(sk) {
        counters::reset_received();
        ring::emit::<Reset>(RecordKind::ResetReceived, |record| {
            *record = Reset {
                header: socket.header(RecordKind::ResetReceived, 0),
                state: u32::from(socket.fields().load::<u8>(&LAYOUT.state)),
                reason: 0,
            };
        });
    }
}
