//! `inet_twsk_kill`: a minisock ends. Every path to its end comes through here, and each says before what it is about.
//!
//! Records [`MinisockEnd`] with what [`fate`](crate::fate) knows.

use aya_ebpf::{
    helpers::{bpf_get_current_comm, bpf_get_current_pid_tgid},
    macros::{fentry, kprobe},
    programs::{FEntryContext, ProbeContext},
};
use tcp_close_abi::{MinisockEnd, RecordKind};

use crate::{
    fate,
    kernel::{Memory, Typed, Untyped},
    minisock::Minisock,
    ring,
};

#[fentry(function = "inet_twsk_kill")]
fn fentry_inet_twsk_kill(ctx: FEntryContext) -> i32 {
    kill(Typed::new(ctx.arg(0)));
    0
}

#[kprobe(function = "inet_twsk_kill")]
fn kprobe_inet_twsk_kill(ctx: ProbeContext) -> u32 {
    if let Some(tw) = ctx.arg(0) {
        kill(Untyped::new(tw));
    }
    0
}

#[inline(always)]
fn kill<M: Memory>(tw: M) {
    let end = fate::take(tw.address());
    if let Some(minisock) = Minisock::tcp(tw) {
        ring::emit::<MinisockEnd>(RecordKind::MinisockEnd, |record| {
            record.write(MinisockEnd {
                timer: minisock.record(RecordKind::MinisockEnd),
                comm: bpf_get_current_comm().unwrap_or([0; 16]),
                pid: (bpf_get_current_pid_tgid() >> 32) as u32,
                end,
            });
        });
    }
}
