//! Exact counts, one set per CPU: they stay true when the ring overflows.

use core::arch::asm;

use aya_ebpf::{macros::map, maps::PerCpuArray};
use tcp_close_abi::{Counters, RESET_REASONS, RecordKind, STATES};

/// One entry; an array, since there is nothing to look up.
#[map]
static COUNTERS: PerCpuArray<Counters> = PerCpuArray::with_max_entries(1, 0);

/// Adds one to the counter that `pick` chooses among this CPU's.
#[inline(always)]
fn increment(pick: impl FnOnce(&mut Counters) -> &mut u64) {
    if let Some(counters) = COUNTERS.get_ptr_mut(0) {
        // SAFETY: the map's only entry; other CPUs have their own, and user space only reads.
        let counter: *mut u64 = pick(unsafe { &mut *counters });
        // A softirq may interrupt a process inside this program and count the same thing, so a load and a store
        // would lose one now and then. The target offers no atomic addition to Rust, BPF has one (all kernels).
        // SAFETY: the counter is a valid, aligned u64.
        unsafe { asm!("lock *(u64 *)({0} + 0) += {1}", in(reg) counter, in(reg) 1_u64, options(nostack)) };
    }
}

pub(crate) fn transition(old: u32, new: u32) {
    increment(|counters| &mut counters.transitions[old as usize % STATES][new as usize % STATES]);
}

pub(crate) fn fin_retransmit(state: u32) {
    increment(|counters| &mut counters.fin_retransmits[state as usize % STATES]);
}

pub(crate) fn reset_sent(reason: u32) {
    let index = if (reason as usize) < RESET_REASONS { reason as usize } else { 0 };
    increment(|counters| &mut counters.resets_sent[index % RESET_REASONS]);
}

pub(crate) fn reset_received() {
    increment(|counters| &mut counters.resets_received);
}

pub(crate) fn unreadable() {
    increment(|counters| &mut counters.unreadable);
}

pub(crate) fn submitted(kind: RecordKind) {
    increment(|counters| &mut counters.submitted[kind as usize % Counters::KINDS]);
}

pub(crate) fn lost(kind: RecordKind) {
    increment(|counters| &mut counters.lost[kind as usize % Counters::KINDS]);
}
