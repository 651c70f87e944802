//! `tcp_timewait_state_process`: a minisock deals with a segment.
//!
//! Called in a softirq by `tcp_v4_rcv` and `tcp_v6_rcv`. A minisock that ends inside was reset by the segment; one that
//! ends after it, at the hands of the caller, was recycled by a SYN, or in FIN-WAIT-2 reset by us.
//! Notes both for [`inet_twsk_kill`](crate::inet_twsk_kill), and records
//! [`tcp_close_abi::MinisockSegment`] of a minisock that is still there when the function returns.

use aya_ebpf::{
    macros::{fentry, fexit, kprobe, kretprobe},
    programs::{FEntryContext, FExitContext, ProbeContext, RetProbeContext},
};
use tcp_close_abi::end;

use crate::{
    fate,
    kernel::{Copied, Memory, SETTINGS, Typed, Untyped, constant},
    minisock::{Minisock, copied},
};

#[fentry(function = "tcp_timewait_state_process")]
fn fentry_tcp_timewait_state_process(ctx: FEntryContext) -> i32 {
    fate::on_cpu(ctx.arg(0), end::RESET, ctx.arg(1));
    0
}

#[fexit(function = "tcp_timewait_state_process")]
fn fexit_tcp_timewait_state_process(ctx: FExitContext) -> i32 {
    let (tw, skb) = (Typed::new(ctx.arg(0)), Typed::new(ctx.arg(1)));
    if fate::of_cpu().0 == tw.address() {
        dealt_with(tw, skb);
    }
    0
}

#[kprobe(function = "tcp_timewait_state_process")]
fn kprobe_tcp_timewait_state_process(ctx: ProbeContext) -> u32 {
    if let (Some(tw), Some(skb)) = (ctx.arg(0), ctx.arg(1)) {
        fate::on_cpu(tw, end::RESET, skb);
    }
    0
}

#[kretprobe(function = "tcp_timewait_state_process")]
fn kretprobe_tcp_timewait_state_process(_: RetProbeContext) -> u32 {
    // The arguments are gone; this CPU has dealt with nothing else since.
    let (tw, skb) = fate::of_cpu();
    if tw != 0 && skb != 0 {
        let mut room = Copied::room();
        if let Some(tw) = copied(tw as *const u8, &mut room) {
            dealt_with(tw, Untyped::new(skb as *const u8));
        }
    }
    0
}

#[inline(always)]
fn dealt_with<M: Memory, S: Memory>(tw: M, skb: S) {
    fate::on_cpu(tw.address(), end::RECEIVE, 0);
    if constant(&SETTINGS.segments) != 0
        && let Some(minisock) = Minisock::tcp(tw)
    {
        minisock.emit_segment(skb);
    }
}
