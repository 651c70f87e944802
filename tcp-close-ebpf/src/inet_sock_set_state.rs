//! `sock:inet_sock_set_state`: a full socket changes its state.
//!
//! Fires inside `tcp_set_state`, before `sk_state` is written, in whatever context the change happens.
//! Reads the socket through its BTF type; counts every change and records the closing ones, as
//! [`tcp_close_abi::StateChange`]. TIME-WAIT never appears here: a minisock has hooks of its own.
//!
//! Three programs hang on this one hook. The kernel does not run a program on a CPU on which it runs already
//! (`prog->active`, Linux 6.2), and a softirq may well interrupt one that runs for a process: a network card's
//! interrupt does it all the time. So the changes are divided by who holds the socket:
//!
//! * `state_by_owner` takes those of a socket that a process holds, in that process's system call. Nothing else
//!   comes in between, but softirqs.
//! * `state_by_softirq` takes the others: those of softirqs, and of the few places that disable them. No softirq
//!   interrupts those. It can be missing only where the softirq interrupted this very program, while that turned
//!   away a change of the first kind,
//! * and then `state_by_softirq_again` takes its place. What the one has taken, it marks for the other.
//!
//! [`tcp_set_state`](crate::tcp_set_state) does the same for trampolines, which have the same rule.

use aya_ebpf::{EbpfContext, macros::btf_tracepoint, programs::BtfTracePointContext};

use crate::{
    kernel::{Memory as _, Typed},
    socket::TcpSocket,
    state_change::{Change, is_owned, take},
};

#[btf_tracepoint(function = "inet_sock_set_state")]
fn state_by_owner(ctx: BtfTracePointContext) -> i32 {
    let sk = Typed::new(ctx.arg(0));
    by_owner(&ctx, sk, change(&ctx));
    0
}

#[btf_tracepoint(function = "inet_sock_set_state")]
fn state_by_softirq(ctx: BtfTracePointContext) -> i32 {
    let sk = Typed::new(ctx.arg(0));
    by_softirq(&ctx, sk, change(&ctx));
    0
}

#[btf_tracepoint(function = "inet_sock_set_state")]
fn state_by_softirq_again(ctx: BtfTracePointContext) -> i32 {
    let sk = Typed::new(ctx.arg(0));
    by_softirq_again(&ctx, sk, change(&ctx));
    0
}

#[inline(always)]
fn change(ctx: &BtfTracePointContext) -> Change {
    Change { sk: Typed::new(ctx.arg(0)).address(), old: ctx.arg(1), new: ctx.arg(2) }
}

#[inline(always)]
pub(crate) fn by_owner<C: EbpfContext>(ctx: &C, sk: Typed, change: Change) {
    if is_owned(sk) == Ok(true)
        && let Some(socket) = TcpSocket::watched(sk)
    {
        take(ctx, &socket, change, true);
    }
}

#[inline(always)]
pub(crate) fn by_softirq<C: EbpfContext>(ctx: &C, sk: Typed, change: Change) {
    if is_owned(sk) == Ok(false) {
        change.mark_taken();
        if let Some(socket) = TcpSocket::watched(sk) {
            take(ctx, &socket, change, false);
        }
    }
}

#[inline(always)]
pub(crate) fn by_softirq_again<C: EbpfContext>(ctx: &C, sk: Typed, change: Change) {
    if is_owned(sk) == Ok(false)
        && !change.was_taken()
        && let Some(socket) = TcpSocket::watched(sk)
    {
        take(ctx, &socket, change, false);
    }
}
