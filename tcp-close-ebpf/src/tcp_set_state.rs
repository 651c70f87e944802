//! `tcp_set_state`: a full socket is about to change its state.
//!
//! The function behind `sock:inet_sock_set_state`, for kernels that refuse that tracepoint. What does not pass here
//! belongs to no close: a listener's socket is cloned for a new connection (LISTEN to SYN-RECEIVED), and a socket begins
//! to listen (CLOSED to LISTEN) or fails to (LISTEN to CLOSED).
//! Three programs by trampoline, which make up for each other: see [`taken`](crate::taken). One by
//! kprobe: the kernel runs no kprobe on a CPU on which another runs, whosoever it is, and does not say of all how often.

use aya_ebpf::{
    macros::{fentry, kprobe},
    programs::{FEntryContext, ProbeContext},
};
use aya_log_ebpf::warn;

use crate::{
    counters,
    kernel::{LAYOUT, Memory as _, Typed, Untyped},
    socket::{TcpSocket, owner},
    state_change::{leave, seen_by, take},
};

#[fentry(function = "tcp_set_state")]
fn fentry_tcp_set_state_1(ctx: FEntryContext) -> i32 {
    entered(1, &ctx);
    0
}

#[fentry(function = "tcp_set_state")]
fn fentry_tcp_set_state_2(ctx: FEntryContext) -> i32 {
    entered(2, &ctx);
    0
}

#[fentry(function = "tcp_set_state")]
fn fentry_tcp_set_state_3(ctx: FEntryContext) -> i32 {
    entered(3, &ctx);
    0
}

#[inline(always)]
fn entered(program: u32, ctx: &FEntryContext) {
    let sk = Typed::new(ctx.arg(0));
    seen_by(program, sk, u32::from(sk.load::<u8>(&LAYOUT.state)), ctx.arg(1));
}

#[kprobe(function = "tcp_set_state")]
fn kprobe_tcp_set_state(ctx: ProbeContext) -> u32 {
    if let (Some(sk), Some(new)) = (ctx.arg(0), ctx.arg(1))
        && let Err(error) = untyped(Untyped::new(sk), new)
    {
        counters::unreadable();
        warn!(&ctx, "cannot read a socket: error {}", error);
    }
    0
}

#[inline(always)]
fn untyped(sk: Untyped, new: u32) -> Result<(), i32> {
    match TcpSocket::watched_untyped(sk)? {
        Some(socket) => take(&socket, sk.address(), u32::from(sk.get::<u8>(&LAYOUT.state)?), new, owner(sk)?),
        None => leave(sk, sk.address(), new),
    }
    Ok(())
}
