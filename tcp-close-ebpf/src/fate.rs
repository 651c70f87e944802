//! What is about to end a minisock: noted by the functions that decide it, read by `inet_twsk_kill`.
//!
//! Between such a function and the end there are a few lines of the kernel's code. In a softirq, and where softirqs are
//! disabled, nothing else deals with minisocks on that CPU in between, so the note lies with the CPU. Where a process
//! may be interrupted, it lies with the process. Each names its minisock; of two that do, the later one holds.

use aya_ebpf::{
    helpers::generated::bpf_ktime_get_ns,
    macros::map,
    maps::{LruHashMap, PerCpuArray},
};
use tcp_close_abi::end;

use crate::kernel::Current;

/// What is under way with a minisock.
#[derive(Clone, Copy)]
#[repr(C)]
struct Fate {
    /// Address of the minisock; 0 for all that this process comes by.
    minisock: u64,
    /// When it was noted, by `bpf_ktime_get_ns`.
    at: u64,
    /// The segment that is being dealt with; 0 for none.
    skb: u64,
    /// A value of [`end`].
    end: u32,
    /// Explicit padding, always 0.
    reserved: u32,
}

impl Fate {
    #[inline(always)]
    fn now(minisock: u64, end: u32, skb: u64) -> Self {
        // SAFETY: no arguments.
        Self { minisock, at: unsafe { bpf_ktime_get_ns() }, skb, end, reserved: 0 }
    }
}

#[map]
static ON_CPU: PerCpuArray<Fate> = PerCpuArray::with_max_entries(1, 0);

/// By thread. Few do this at a time; what is never read again makes room.
#[map]
static IN_PROCESS: LruHashMap<u32, Fate> = LruHashMap::with_max_entries(256, 0);

/// Notes on this CPU what is under way with a minisock.
#[inline(always)]
pub(crate) fn on_cpu(minisock: u64, end: u32, skb: u64) {
    if let Some(fate) = ON_CPU.get_ptr_mut(0) {
        // SAFETY: the map's only entry, of this CPU alone.
        unsafe { *fate = Fate::now(minisock, end, skb) };
    }
}

/// The minisock that is under way on this CPU, unless it has ended meanwhile, and the segment: 0 for either if none.
#[inline(always)]
pub(crate) fn of_cpu() -> (u64, u64) {
    match ON_CPU.get_ptr(0) {
        // SAFETY: the map's only entry, of this CPU alone.
        Some(fate) => unsafe { ((*fate).minisock, (*fate).skb) },
        None => (0, 0),
    }
}

/// Notes with this thread what is under way with a minisock; with all, if it is 0.
#[inline(always)]
pub(crate) fn in_process(minisock: u64, end: u32) {
    // If it cannot be kept, the end will be of unknown cause.
    let _kept = IN_PROCESS.insert(Current::get().thread(), Fate::now(minisock, end, 0), 0);
}

/// This thread is done with it.
#[inline(always)]
pub(crate) fn leave_process() {
    let _found = IN_PROCESS.remove(Current::get().thread());
}

/// Why this minisock ends now, as a value of [`end`]; it is noted no longer.
#[inline(always)]
pub(crate) fn take(minisock: u64) -> u32 {
    let (mut found, mut at) = (end::UNKNOWN, 0);
    if let Some(fate) = ON_CPU.get_ptr_mut(0) {
        // SAFETY: the map's only entry, of this CPU alone.
        let fate = unsafe { &mut *fate };
        if fate.minisock == minisock {
            (found, at) = (fate.end, fate.at);
            fate.minisock = 0;
        }
    }
    if let Some(fate) = IN_PROCESS.get_ptr(Current::get().thread()) {
        // SAFETY: an entry that is replaced meanwhile belongs to another thread, and names another minisock.
        let fate = unsafe { *fate };
        if (fate.minisock == minisock || fate.minisock == 0) && fate.at > at {
            found = fate.end;
        }
    }
    found
}
