//! The one ring buffer: records in order of reservation, its reader woken rarely.

use core::mem::MaybeUninit;

use aya_ebpf::{
    bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP},
    macros::map,
    maps::RingBuf,
};
use tcp_close_abi::RecordKind;

use crate::{
    counters,
    kernel::{SETTINGS, constant},
};

/// The user side sets the size it wants before the load; this is only what the object declares.
#[map]
static EVENTS: RingBuf = RingBuf::with_byte_size(1 << 20, 0);

/// Reserves a record, lets `fill` write every field of it, and submits it; a full ring is counted.
#[inline(always)]
pub(crate) fn emit<T: 'static>(kind: RecordKind, fill: impl FnOnce(&mut MaybeUninit<T>)) {
    let Some(mut entry) = EVENTS.reserve::<T>(0) else {
        counters::lost(kind);
        return;
    };
    fill(&mut entry);
    entry.submit(wakeup(size_of::<T>() as u64));
    counters::submitted(kind);
}

/// A wake-up costs more than many records, and the reader looks in by itself several times a second: wake it
/// only as the unread bytes cross a multiple of [`tcp_close_abi::Settings::wake_every`].
///
/// Two CPUs that cross it together may both wake the reader or neither; the next multiple, or the reader's own
/// timer, heals that.
#[inline(always)]
fn wakeup(size: u64) -> u64 {
    let every = constant(&SETTINGS.wake_every);
    let unread = EVENTS.query(u64::from(BPF_RB_AVAIL_DATA));
    let crossed = unread & !(every - 1) != unread.saturating_sub(size) & !(every - 1);
    u64::from(if crossed { BPF_RB_FORCE_WAKEUP } else { BPF_RB_NO_WAKEUP })
}
