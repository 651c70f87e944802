//! `inet_twsk_kill`: a minisock ends. Every path to its end comes through here, and each says before what it is about.
//!
//! Records [`MinisockEnd`] with what [`fate`](crate::fate) knows, or that its timer has expired.

use aya_ebpf::{
    macros::{fentry, kprobe},
    programs::{FEntryContext, ProbeContext},
};
use tcp_close_abi::{MinisockEnd, RecordKind, end};

use crate::{
    fate,
    kernel::{Copied, Current, Memory, Typed, name_current},
    minisock::{Minisock, copied},
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
        let mut room = Copied::room();
        if let Some(tw) = copied(tw, &mut room) {
            kill(tw);
        }
    }
    0
}

#[inline(always)]
fn kill<M: Memory>(tw: M) {
    let fate = fate::take(tw.address());
    let Some(minisock) = Minisock::tcp(tw) else {
        return;
    };
    if fate == end::EXPIRY {
        minisock.emit_expiry();
    } else {
        ring::emit::<MinisockEnd>(RecordKind::MinisockEnd, |record| {
            minisock.write(RecordKind::MinisockEnd, &mut record.timer);
            name_current(&mut record.comm);
            record.pid = Current::get().process();
            record.end = fate;
        });
    }
}
