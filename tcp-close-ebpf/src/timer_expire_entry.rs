//! `timer:timer_expire_entry`: a minisock's time is up. Nothing else proves that it expired.
//!
//! Fires in the timer softirq, just before the handler frees the minisock, which is still whole.
//! Records [`MinisockTimer`].

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use tcp_close_abi::{MinisockTimer, RecordKind};

use crate::{
    kernel::{Copied, Typed},
    minisock::Minisock,
    ring,
};

#[btf_tracepoint(function = "timer_expire_entry")]
fn timer_expire_entry(ctx: BtfTracePointContext) -> i32 {
    let mut room = Copied::room();
    if let Some(minisock) = Minisock::of_timer(Typed::new(ctx.arg(0)), &mut room) {
        ring::emit::<MinisockTimer>(RecordKind::TimerExpire, |record| {
            minisock.write(RecordKind::TimerExpire, record);
        });
    }
    0
}
