//! `inet_twsk_purge`: network namespaces go away, and their minisocks with them.
//!
//! Runs in a kernel worker, which goes through all minisocks of the host. Notes it for
//! [`inet_twsk_kill`](crate::inet_twsk_kill) from beginning to end.

use aya_ebpf::{
    macros::{fentry, fexit, kprobe, kretprobe},
    programs::{FEntryContext, FExitContext, ProbeContext, RetProbeContext},
};
use tcp_close_abi::end;

use crate::fate;

#[fentry(function = "inet_twsk_purge")]
fn fentry_inet_twsk_purge(_: FEntryContext) -> i32 {
    fate::in_process(0, end::PURGE);
    0
}

#[fexit(function = "inet_twsk_purge")]
fn fexit_inet_twsk_purge(_: FExitContext) -> i32 {
    fate::leave_process();
    0
}

#[kprobe(function = "inet_twsk_purge")]
fn kprobe_inet_twsk_purge(_: ProbeContext) -> u32 {
    fate::in_process(0, end::PURGE);
    0
}

#[kretprobe(function = "inet_twsk_purge")]
fn kretprobe_inet_twsk_purge(_: RetProbeContext) -> u32 {
    fate::leave_process();
    0
}
