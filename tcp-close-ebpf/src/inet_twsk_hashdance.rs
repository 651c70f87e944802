//! `inet_twsk_hashdance_schedule`, before Linux 6.12 `inet_twsk_hashdance`: a minisock takes a full socket's place.
//!
//! Called by `tcp_time_wait` once the minisock is complete, so before any segment can find it.
//! Records [`MinisockBegin`], and the connection knows both its halves from the start.

use aya_ebpf::{
    macros::{fentry, kprobe},
    programs::{FEntryContext, ProbeContext},
};
use tcp_close_abi::{MinisockBegin, RecordKind};

use crate::{
    kernel::{Copied, Memory, SETTINGS, Typed, Untyped, constant},
    minisock::{Minisock, copied},
    ring,
};

#[fentry(function = "inet_twsk_hashdance_schedule")]
fn fentry_inet_twsk_hashdance_schedule(ctx: FEntryContext) -> i32 {
    begin(Typed::new(ctx.arg(0)), Typed::new(ctx.arg(1)), Some(ctx.arg(3)));
    0
}

#[fentry(function = "inet_twsk_hashdance")]
fn fentry_inet_twsk_hashdance(ctx: FEntryContext) -> i32 {
    begin(Typed::new(ctx.arg(0)), Typed::new(ctx.arg(1)), None);
    0
}

#[kprobe(function = "inet_twsk_hashdance_schedule")]
fn kprobe_inet_twsk_hashdance_schedule(ctx: ProbeContext) -> u32 {
    if let (Some(tw), Some(sk), Some(timeo)) = (ctx.arg(0), ctx.arg(1), ctx.arg(3)) {
        let mut room = Copied::room();
        if let Some(tw) = copied(tw, &mut room) {
            begin(tw, Untyped::new(sk), Some(timeo));
        }
    }
    0
}

#[kprobe(function = "inet_twsk_hashdance")]
fn kprobe_inet_twsk_hashdance(ctx: ProbeContext) -> u32 {
    if let (Some(tw), Some(sk)) = (ctx.arg(0), ctx.arg(1)) {
        let mut room = Copied::room();
        if let Some(tw) = copied(tw, &mut room) {
            begin(tw, Untyped::new(sk), None);
        }
    }
    0
}

/// `timeo` is the wait in jiffies where the timer has yet to start; it runs already without.
#[inline(always)]
fn begin<M: Memory, S: Memory>(tw: M, sk: S, timeo: Option<i32>) {
    if let Some(minisock) = Minisock::tcp(tw) {
        ring::emit::<MinisockBegin>(RecordKind::MinisockBegin, |record| {
            minisock.write(RecordKind::MinisockBegin, &mut record.timer);
            if let Some(timeo) = timeo {
                record.timer.expires = record.timer.jiffies.wrapping_add(i64::from(timeo).cast_unsigned());
            }
            // `inet_twsk_alloc` has copied the cookie; an address the minisock cannot tell.
            record.replaces =
                if constant(&SETTINGS.cookies) == 0 { sk.address() } else { record.timer.header.socket };
        });
    }
}
