//! `timer:timer_start`: a minisock's timer starts, because the minisock was made or its wait begins again.
//!
//! Fires with the timer base locked and interrupts off. A restart into the same bucket of the timer wheel does
//! not pass here. The second argument is used only where it is the bucket's expiry, on Linux 6.8 and later.
//! Records [`MinisockTimer`].

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use tcp_close_abi::{MinisockTimer, RecordKind};

use crate::{
    handler,
    kernel::{Copied, SETTINGS, Typed, constant},
    minisock::Minisock,
    ring,
};

#[btf_tracepoint(function = "timer_start")]
fn timer_start(ctx: BtfTracePointContext) -> i32 {
    let timer = Typed::new(ctx.arg(0));
    handler::remember(timer);
    let mut room = Copied::room();
    if let Some(minisock) = Minisock::of_timer(timer, &mut room) {
        ring::emit::<MinisockTimer>(RecordKind::TimerStart, |record| {
            minisock.write(RecordKind::TimerStart, record);
            if constant(&SETTINGS.start_has_bucket) != 0 {
                record.bucket_expiry = ctx.arg(1);
            }
        });
    }
    0
}
