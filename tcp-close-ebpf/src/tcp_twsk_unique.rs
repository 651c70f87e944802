//! `tcp_twsk_unique`: a `connect()` asks whether it may take a minisock's socket pair.
//!
//! Called by `__inet_check_established` with softirqs disabled until the minisock is gone, if the answer is yes, which
//! is noted for [`inet_twsk_kill`](crate::inet_twsk_kill).

use aya_ebpf::{
    macros::{fexit, kprobe, kretprobe},
    programs::{FExitContext, ProbeContext, RetProbeContext},
};
use tcp_close_abi::end;

use crate::fate;

#[fexit(function = "tcp_twsk_unique")]
fn fexit_tcp_twsk_unique(ctx: FExitContext) -> i32 {
    // Behind the three arguments lies what the function returns.
    answered(ctx.arg(1), ctx.arg(3));
    0
}

#[kprobe(function = "tcp_twsk_unique")]
fn kprobe_tcp_twsk_unique(ctx: ProbeContext) -> u32 {
    if let Some(minisock) = ctx.arg(1) {
        fate::on_cpu(minisock, end::UNKNOWN, 0);
    }
    0
}

#[kretprobe(function = "tcp_twsk_unique")]
fn kretprobe_tcp_twsk_unique(ctx: RetProbeContext) -> u32 {
    answered(fate::of_cpu().0, ctx.ret());
    0
}

#[inline(always)]
fn answered(minisock: u64, unique: i32) {
    if unique != 0 {
        fate::on_cpu(minisock, end::CONNECT, 0);
    }
}
