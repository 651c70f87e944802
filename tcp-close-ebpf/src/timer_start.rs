//! `timer:timer_start`: a minisock's timer starts, because the minisock was made or its wait begins again.
//!
//! Fires with the timer base locked and interrupts off. A restart into the same bucket of the timer wheel does
//! not pass here. Only the first argument is used: the others changed in Linux 6.8. Records [`MinisockTimer`].

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use tcp_close_abi::{MinisockTimer, RecordKind};

use crate::{kernel::Typed, minisock::Minisock, ring};

#[btf_tracepoint(function = "timer_start")]
fn timer_start(ctx: BtfTracePointContext) -> i32 {
    if let Some(minisock) = Minisock::around(&ctx, Typed::new(ctx.arg(0))) {
        ring::emit::<MinisockTimer>(RecordKind::TimerStart, |record| {
            record.write(minisock.record(&ctx, RecordKind::TimerStart));
        });
    }
    0
}
