//! The one ring buffer: records in order of reservation, its reader woken rarely.

use aya_ebpf::{
    bindings::{BPF_F_MMAPABLE, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP},
    macros::map,
    maps::{Array, RingBuf},
};
use tcp_close_abi::RecordKind;

use crate::{
    counters,
    kernel::{SETTINGS, constant},
};

/// The user side sets the size it wants before the load; this is only what the object declares.
#[map]
static EVENTS: RingBuf = RingBuf::with_byte_size(1 << 20, 0);

/// Not zero while the reader rests: the next record wakes it. User space maps it, as it does the counters.
#[map]
static READER_RESTS: Array<u64> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Reserves a record, lets `fill` write every field of it, and submits it; a full ring is counted.
#[inline(always)]
pub(crate) fn emit<T: 'static>(kind: RecordKind, fill: impl FnOnce(&mut T)) {
    let Some(mut entry) = EVENTS.reserve::<T>(0) else {
        counters::lost(kind);
        return;
    };
    // SAFETY: some bytes are there, and any are valid for the plain integers that records are made of.
    fill(unsafe { entry.assume_init_mut() });
    entry.submit(wakeup(counters::submitted(kind)));
}

/// A wake-up costs more than many records, and the reader looks in by itself several times a second, unless it rests: each
/// CPU wakes it once for so many records of a kind. To look how full the ring is would cost a call of the kernel's for
/// each.
#[inline(always)]
fn wakeup(submitted: u64) -> u64 {
    let is_due = submitted & (constant(&SETTINGS.wake_every) - 1) == 0 || reader_rested();
    u64::from(if is_due { BPF_RB_FORCE_WAKEUP } else { BPF_RB_NO_WAKEUP })
}

/// Whether the reader rested until now. Two CPUs may both find that it did, and wake it twice.
#[inline(always)]
fn reader_rested() -> bool {
    let Some(rests) = READER_RESTS.get_ptr_mut(0) else {
        return false;
    };
    // SAFETY: the only entry, a whole word; user space stores it at once too.
    let rested = unsafe { rests.read_volatile() } != 0;
    if rested {
        // SAFETY: as above.
        unsafe { rests.write_volatile(0) };
    }
    rested
}
