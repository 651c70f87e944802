//! `timer:timer_cancel`: a minisock's timer leaves the wheel, before it expires, restarts, or is taken down.
//!
//! Which of the three only the kernel stack tells at once, so a few of its frames go into the record,
//! [`MinisockCancel`]. That it expires is told a moment later, by [`timer_expire_entry`](crate::timer_expire_entry), and not
//! twice: those that do come by the hundred thousand, with nobody to read the ring meanwhile. Fires with the timer base locked
//! and interrupts off.

use core::{mem::MaybeUninit, ptr};

use aya_ebpf::{
    EbpfContext as _, helpers::generated::bpf_get_stack, macros::btf_tracepoint,
    programs::BtfTracePointContext,
};
use aya_log_ebpf::warn;
use tcp_close_abi::{EXPIRY_SITES, MAX_FRAMES, MinisockCancel, RecordKind};

use crate::{
    counters,
    kernel::{Copied, Current, SETTINGS, Typed, constant, name_current},
    minisock::Minisock,
    ring,
};

#[btf_tracepoint(function = "timer_cancel")]
fn timer_cancel(ctx: BtfTracePointContext) -> i32 {
    let mut room = Copied::room();
    if let Some(minisock) = Minisock::of_timer(Typed::new(ctx.arg(0)), &mut room) {
        let mut stack = MaybeUninit::uninit();
        let (stack, frames) = fill(&ctx, &mut stack);
        if expires(stack) {
            return 0;
        }
        ring::emit::<MinisockCancel>(RecordKind::TimerCancel, |record| {
            minisock.write(RecordKind::TimerCancel, &mut record.timer);
            name_current(&mut record.comm);
            record.pid = Current::get().process();
            record.reserved = 0;
            record.frames = frames;
            for (room, frame) in record.stack.iter_mut().zip(stack) {
                // SAFETY: references are valid. All at once would be a call that copies bytes.
                unsafe { ptr::from_mut(room).write_volatile(ptr::from_ref(frame).read_volatile()) };
            }
        });
    }
    0
}

type Stack = [u64; MAX_FRAMES];

/// The kernel's return addresses, innermost first, and how many there are; 0 behind them.
#[inline(always)]
fn fill<'s>(ctx: &BtfTracePointContext, stack: &'s mut MaybeUninit<Stack>) -> (&'s Stack, u64) {
    #[expect(clippy::cast_possible_truncation, reason = "a few frames of eight bytes each")]
    const SIZE: u32 = size_of::<Stack>() as u32;
    // SAFETY: the buffer is as long as it is said to be, and the helper writes all of it, zeros where it has nothing else
    // (`__bpf_get_stack`, kernel/bpf/stackmap.c).
    let (filled, stack) = unsafe {
        let filled = bpf_get_stack(ctx.as_ptr(), stack.as_mut_ptr().cast(), SIZE, 0);
        (filled, stack.assume_init_ref())
    };
    if filled < 0 {
        counters::unreadable();
        warn!(ctx, "cannot read the kernel stack: error {}", filled);
        return (stack, 0);
    }
    (stack, filled.cast_unsigned() / 8)
}

/// Whether the timer wheel cancels the timer on its way to the handler.
///
/// Its function follows upon three frames of BPF and of the tracepoint, or fewer. Where anybody else cancels a timer there is
/// one in between that does nothing but that, and one of minisocks, before the timer wheel may come.
#[inline(always)]
fn expires(stack: &Stack) -> bool {
    const NEAREST: usize = 5;
    let mut frame = 0;
    while frame < NEAREST {
        let mut site = 0;
        while site < EXPIRY_SITES {
            let [begin, length] = constant(&SETTINGS.expiry[site]);
            if stack[frame].wrapping_sub(begin) < length {
                return true;
            }
            site += 1;
        }
        frame += 1;
    }
    false
}
