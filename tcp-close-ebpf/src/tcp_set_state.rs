//! `tcp_set_state`: a full socket is about to change its state.
//!
//! The function behind `sock:inet_sock_set_state`, for kernels that refuse that tracepoint. Only two changes do not
//! pass here, and neither belongs to a close: a listener's socket is cloned for a new connection (LISTEN to
//! SYN-RECEIVED), and a socket begins to listen (CLOSED to LISTEN).
//! Three programs by trampoline, for the reason that [`inet_sock_set_state`](crate::inet_sock_set_state) gives. One by
//! kprobe: the kernel runs no kprobe on a CPU on which another runs, whosoever it is, and does not say how often.

use aya_ebpf::{
    macros::{fentry, kprobe},
    programs::{FEntryContext, ProbeContext},
};
use aya_log_ebpf::warn;

use crate::{
    counters,
    inet_sock_set_state::{by_owner, by_softirq, by_softirq_again},
    kernel::{LAYOUT, Memory as _, Typed, Untyped},
    socket::TcpSocket,
    state_change::{Change, is_owned, take},
};

#[fentry(function = "tcp_set_state")]
fn fentry_tcp_set_state_by_owner(ctx: FEntryContext) -> i32 {
    let sk = Typed::new(ctx.arg(0));
    by_owner(&ctx, sk, change(&ctx, sk));
    0
}

#[fentry(function = "tcp_set_state")]
fn fentry_tcp_set_state_by_softirq(ctx: FEntryContext) -> i32 {
    let sk = Typed::new(ctx.arg(0));
    by_softirq(&ctx, sk, change(&ctx, sk));
    0
}

#[fentry(function = "tcp_set_state")]
fn fentry_tcp_set_state_by_softirq_again(ctx: FEntryContext) -> i32 {
    let sk = Typed::new(ctx.arg(0));
    by_softirq_again(&ctx, sk, change(&ctx, sk));
    0
}

#[inline(always)]
fn change(ctx: &FEntryContext, sk: Typed) -> Change {
    Change { sk: sk.address(), old: u32::from(sk.load::<u8>(&LAYOUT.state)), new: ctx.arg(1) }
}

#[kprobe(function = "tcp_set_state")]
fn kprobe_tcp_set_state(ctx: ProbeContext) -> u32 {
    let (Some(sk), Some(new)) = (ctx.arg(0), ctx.arg(1)) else {
        return 0;
    };
    if let Err(error) = untyped(&ctx, Untyped::new(sk), new) {
        counters::unreadable();
        warn!(&ctx, "cannot read a socket: error {}", error);
    }
    0
}

#[inline(always)]
fn untyped(ctx: &ProbeContext, sk: Untyped, new: u32) -> Result<(), i32> {
    if let Some(socket) = TcpSocket::watched_untyped(sk)? {
        let change = Change { sk: sk.address(), old: u32::from(sk.get::<u8>(&LAYOUT.state)?), new };
        take(ctx, &socket, change, is_owned(sk)?);
    }
    Ok(())
}
