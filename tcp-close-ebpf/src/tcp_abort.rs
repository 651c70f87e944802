//! `tcp_abort`: an operator wants a socket gone, as by `ss -K`.
//!
//! Runs in the operator's process. Notes it for [`inet_twsk_kill`](crate::inet_twsk_kill); the address of a full socket
//! may be noted as well, and is never asked for.

use aya_ebpf::{
    macros::{fentry, kprobe},
    programs::{FEntryContext, ProbeContext},
};
use tcp_close_abi::end;

use crate::fate;

#[fentry(function = "tcp_abort")]
fn fentry_tcp_abort(ctx: FEntryContext) -> i32 {
    fate::in_process(ctx.arg(0), end::ABORT);
    0
}

#[kprobe(function = "tcp_abort")]
fn kprobe_tcp_abort(ctx: ProbeContext) -> u32 {
    if let Some(sk) = ctx.arg(0) {
        fate::in_process(sk, end::ABORT);
    }
    0
}
