//! `tw_timer_handler`: a minisock's time is up.
//!
//! Runs in the timer softirq. Notes it for [`inet_twsk_kill`](crate::inet_twsk_kill), which it calls.

use aya_ebpf::{
    macros::{fentry, kprobe},
    programs::{FEntryContext, ProbeContext},
};
use tcp_close_abi::end;

use crate::{fate, minisock::around};

#[fentry(function = "tw_timer_handler")]
fn fentry_tw_timer_handler(ctx: FEntryContext) -> i32 {
    fate::on_cpu(around(ctx.arg(0)) as u64, end::EXPIRY, 0);
    0
}

#[kprobe(function = "tw_timer_handler")]
fn kprobe_tw_timer_handler(ctx: ProbeContext) -> u32 {
    if let Some(timer) = ctx.arg(0) {
        fate::on_cpu(around(timer) as u64, end::EXPIRY, 0);
    }
    0
}
