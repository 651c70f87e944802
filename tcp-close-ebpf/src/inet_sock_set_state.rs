//! `sock:inet_sock_set_state`: a full socket changes its state.
//!
//! Fires inside `tcp_set_state`, before `sk_state` is written, in whatever context the change happens.
//! Reads the socket through its BTF type; counts every change and records the closing ones, as
//! [`tcp_close_abi::StateChange`]. TIME-WAIT never appears here: a minisock has hooks of its own.
//!
//! Three equal programs hang on this one hook, and make up for each other: see [`taken`](crate::taken).
//! [`tcp_set_state`](crate::tcp_set_state) has three for trampolines, which have the same rule.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};

use crate::{handler, kernel::Typed, state_change::seen_by};

#[btf_tracepoint(function = "inet_sock_set_state")]
fn state_1(ctx: BtfTracePointContext) -> i32 {
    seen_by(1, Typed::new(ctx.arg(0)), ctx.arg(1), ctx.arg(2));
    0
}

#[btf_tracepoint(function = "inet_sock_set_state")]
fn state_2(ctx: BtfTracePointContext) -> i32 {
    seen_by(2, Typed::new(ctx.arg(0)), ctx.arg(1), ctx.arg(2));
    0
}

#[btf_tracepoint(function = "inet_sock_set_state")]
fn state_3(ctx: BtfTracePointContext) -> i32 {
    seen_by(3, Typed::new(ctx.arg(0)), ctx.arg(1), ctx.arg(2));
    0
}

/// Only where addresses are hidden: a socket in FIN-WAIT-2 (5) or CLOSING (11) that enters CLOSE (7) may have been
/// replaced by the first minisock there is.
#[btf_tracepoint(function = "inet_sock_set_state")]
fn learn_tw_timer_handler(ctx: BtfTracePointContext) -> i32 {
    let (old, new) = (ctx.arg::<u32>(1), ctx.arg::<u32>(2));
    if (old == 5 || old == 11) && new == 7 {
        handler::learn(Typed::new(ctx.arg(0)));
    }
    0
}
