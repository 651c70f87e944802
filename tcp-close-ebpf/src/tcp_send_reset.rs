//! `tcp:tcp_send_reset`: this host sends a reset.
//!
//! Fires with a segment when the reset answers one (`tcp_v4_send_reset`), without when the socket aborts by
//! itself (`tcp_send_active_reset`). From Linux 6.12 it carries a reason, and fires without a socket too.
//! Counts every reset by reason; records [`Reset`] where there is a full socket that has a peer: of what a listener
//! answers anybody could send as much as he likes, and no close is about that.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use tcp_close_abi::{RecordKind, Reset, flag};

use crate::{
    counters,
    kernel::{LAYOUT, SETTINGS, Typed, constant, watched},
    ring,
    socket::{TcpSocket, netns_of},
};

/// `TCP_LISTEN` (`include/net/tcp_states.h`, user-space ABI).
const LISTEN: u8 = 10;

#[btf_tracepoint(function = "tcp_send_reset")]
fn tcp_send_reset(ctx: BtfTracePointContext) -> i32 {
    let sk = Typed::new(ctx.arg(0));
    let skb = Typed::new(ctx.arg(1));
    let reason = if constant(&SETTINGS.reset_has_reason) != 0 { ctx.arg::<u32>(2) } else { 0 };
    if sk.is_null() {
        // No socket at all: a segment to a closed port, say. Its namespace is that of the device it came by.
        if !skb.is_null() && watched(skb.leads(&LAYOUT.skb_dev).leads(&LAYOUT.dev_net).load(&LAYOUT.netns)) {
            counters::reset_sent(reason);
        }
        return 0;
    }
    // The fields that every kind of socket, a minisock too, begins with.
    if !netns_of(sk).is_ok_and(watched) {
        return 0;
    }
    counters::reset_sent(reason);
    if let Some(socket) = TcpSocket::watched(sk) {
        let state = socket.fields().load::<u8>(&LAYOUT.state);
        if state == LISTEN {
            return 0;
        }
        let active = if skb.is_null() { flag::ACTIVE } else { 0 };
        ring::emit::<Reset>(RecordKind::ResetSent, |record| {
            *record = Reset {
                header: socket.header(RecordKind::ResetSent, active),
                state: u32::from(state),
                reason,
            };
        });
    }
    0
}
