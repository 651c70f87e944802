//! `timer:timer_cancel`: a minisock's timer leaves the wheel, before it expires, restarts, or is taken down.
//!
//! Which of the three only the kernel stack tells at once, so a few of its frames go into the record,
//! [`MinisockCancel`]. Fires with the timer base locked and interrupts off.

use core::ptr;

use aya_ebpf::{
    EbpfContext as _, helpers::generated::bpf_get_stack, macros::btf_tracepoint,
    programs::BtfTracePointContext,
};
use aya_log_ebpf::warn;
use tcp_close_abi::{MAX_FRAMES, MinisockCancel, RecordKind};

use crate::{
    counters,
    kernel::{Copied, Current, Typed, name_current},
    minisock::Minisock,
    ring,
};

#[btf_tracepoint(function = "timer_cancel")]
fn timer_cancel(ctx: BtfTracePointContext) -> i32 {
    let mut room = Copied::room();
    if let Some(minisock) = Minisock::of_timer(Typed::new(ctx.arg(0)), &mut room) {
        ring::emit::<MinisockCancel>(RecordKind::TimerCancel, |record| {
            minisock.write(RecordKind::TimerCancel, &mut record.timer);
            name_current(&mut record.comm);
            record.pid = Current::get().process();
            record.reserved = 0;
            for frame in &mut record.stack {
                // SAFETY: a reference is valid for writes. All at once would be a call that clears bytes.
                unsafe { ptr::from_mut(frame).write_volatile(0) };
            }
            record.frames = stack(&ctx, &mut record.stack);
        });
    }
    0
}

/// Fills in the kernel's return addresses, innermost first, and tells how many.
#[inline(always)]
fn stack(ctx: &BtfTracePointContext, frames: &mut [u64; MAX_FRAMES]) -> u64 {
    #[expect(clippy::cast_possible_truncation, reason = "a few frames of eight bytes each")]
    const SIZE: u32 = (MAX_FRAMES * size_of::<u64>()) as u32;
    // SAFETY: the buffer is as long as it is said to be.
    let filled = unsafe { bpf_get_stack(ctx.as_ptr(), frames.as_mut_ptr().cast(), SIZE, 0) };
    if filled < 0 {
        counters::unreadable();
        warn!(ctx, "cannot read the kernel stack: error {}", filled);
        return 0;
    }
    filled.cast_unsigned() / 8
}
