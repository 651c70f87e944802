//! `__inet_twsk_schedule`: a minisock's wait begins again.
//!
//! Called by `tcp_timewait_state_process` for every restart, the flip from FIN-WAIT-2 among them. The call that starts
//! the timer for the first time is inlined on some kernels, and is not looked at: see
//! [`inet_twsk_hashdance`](crate::inet_twsk_hashdance).
//! Records [`tcp_close_abi::MinisockTimer`], its timer as it is about to be.

use aya_ebpf::{
    macros::{fentry, kprobe},
    programs::{FEntryContext, ProbeContext},
};
use tcp_close_abi::{MinisockTimer, RecordKind};

use crate::{
    kernel::{Copied, LAYOUT, Memory, Typed},
    minisock::{Minisock, copied},
    ring,
};

#[fentry(function = "__inet_twsk_schedule")]
fn fentry_inet_twsk_schedule(ctx: FEntryContext) -> i32 {
    if is_restart(ctx.arg(2)) {
        restart(Typed::new(ctx.arg(0)), ctx.arg(1));
    }
    0
}

#[kprobe(function = "__inet_twsk_schedule")]
fn kprobe_inet_twsk_schedule(ctx: ProbeContext) -> u32 {
    if let (Some(tw), Some(timeo), Some(rearm)) = (ctx.arg(0), ctx.arg(1), ctx.arg(2))
        && is_restart(rearm)
    {
        let mut room = Copied::room();
        if let Some(tw) = copied(tw, &mut room) {
            restart(tw, timeo);
        }
    }
    0
}

/// The argument is a `bool`, which fills the lowest byte of its register.
#[inline(always)]
const fn is_restart(rearm: u32) -> bool {
    rearm & 0xff != 0
}

#[inline(always)]
fn restart<M: Memory>(tw: M, timeo: i32) {
    // A timer that is not pending is left alone: the minisock is about to end (`mod_timer_pending`).
    if tw.get_in::<u64>(&LAYOUT.tw_timer, &LAYOUT.timer_pending) == Ok(0) {
        return;
    }
    if let Some(minisock) = Minisock::tcp(tw) {
        ring::emit::<MinisockTimer>(RecordKind::MinisockRestart, |record| {
            minisock.write(RecordKind::MinisockRestart, record);
            record.expires = record.jiffies.wrapping_add(i64::from(timeo).cast_unsigned());
        });
    }
}
