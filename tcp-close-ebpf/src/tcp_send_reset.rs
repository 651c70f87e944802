//! `tcp:tcp_send_reset`: this host sends a reset.
//!
//! Fires with a segment when the reset answers one (`tcp_v4_send_reset`), without when the socket aborts by
//! itself (`tcp_send_active_reset`). From Linux 6.12 it carries a reason, and fires without a socket too.
//! Counts every reset by reason; records [`Reset`] where there is a full socket that has a peer: of what a listener
//! answers anybody could send as much as he likes, and no close is about that.
//! Two equal programs make up for each other: see [`taken`], and [`equal::RESET_SENT`] for why they are no more.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use tcp_close_abi::{RecordKind, Reset, equal, flag};

use crate::{
    counters,
    kernel::{LAYOUT, Memory as _, SETTINGS, Typed, constant, watched},
    ring,
    socket::{TcpSocket, netns_of, owner, tcp_sock},
    taken::{self, What},
};

/// `TCP_LISTEN` (`include/net/tcp_states.h`, user-space ABI).
const LISTEN: u8 = 10;

#[btf_tracepoint(function = "tcp_send_reset")]
fn tcp_send_reset_1(ctx: BtfTracePointContext) -> i32 {
    seen_by(1, &ctx);
    0
}

#[btf_tracepoint(function = "tcp_send_reset")]
fn tcp_send_reset_2(ctx: BtfTracePointContext) -> i32 {
    seen_by(2, &ctx);
    0
}

#[inline(always)]
fn seen_by(program: u32, ctx: &BtfTracePointContext) {
    let sk = Typed::new(ctx.arg(0));
    let skb = Typed::new(ctx.arg(1));
    let reason = if constant(&SETTINGS.reset_has_reason) != 0 { ctx.arg::<u32>(2) } else { 0 };
    if sk.is_null() {
        // No socket at all: a segment to a closed port, say. Its namespace is that of the device it came by.
        let what = What { about: skb.address(), kind: What::RESET_SENT };
        if taken::by(program, equal::RESET_SENT, &what, None).is_some()
            && !skb.is_null()
            && watched(skb.leads(&LAYOUT.skb_dev).leads(&LAYOUT.dev_net).load(&LAYOUT.netns))
        {
            counters::reset_sent(reason);
        }
        return;
    }
    // No process holds a socket that is not full, and a listener answers in softirqs whoever holds it. (One that is being
    // closed meanwhile on another CPU seems to be held by whom this softirq interrupts; if that is so for one program and not
    // for the next, both take it, and one miss that is made up for so too many hides another.)
    let full = tcp_sock(sk).filter(|full| full.load::<u8>(&LAYOUT.state) != LISTEN);
    let owner = full.and_then(|full| owner(full).unwrap_or(None));
    let what = What { about: sk.address(), kind: What::RESET_SENT };
    // The fields that every kind of socket, a minisock too, begins with.
    if taken::by(program, equal::RESET_SENT, &what, owner).is_none() || !netns_of(sk).is_ok_and(watched) {
        return;
    }
    counters::reset_sent(reason);
    if let Some(socket) = TcpSocket::watched(sk) {
        let state = socket.fields().load::<u8>(&LAYOUT.state);
        if state == LISTEN {
            return;
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
}
