//! `tcp:tcp_receive_reset`: a full socket is reset by its peer.
//!
//! Fires in `tcp_reset`, before the socket closes. The kernel also calls that function when data arrives after
//! both directions were closed, though no reset was received; the reset it then sends tells the two apart.
//! Counts and records [`Reset`]. A reset that meets a minisock does not pass here.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use tcp_close_abi::{RecordKind, Reset};

use crate::{
    counters,
    kernel::{LAYOUT, Typed},
    ring,
    socket::TcpSocket,
};

#[btf_tracepoint(function = "tcp_receive_reset")]
fn tcp_receive_reset(ctx: BtfTracePointContext) -> i32 {
    if let Some(socket) = TcpSocket::watched(Typed::new(ctx.arg(0))) {
        counters::reset_received();
        ring::emit::<Reset>(RecordKind::ResetReceived, |record| {
            *record = Reset {
                header: socket.header(RecordKind::ResetReceived, 0),
                state: u32::from(socket.fields().load::<u8>(&LAYOUT.state)),
                reason: 0,
            };
        });
    }
    0
}
