//! Exact counts, one set per CPU: they stay true when the ring overflows.

use core::arch::asm;

use aya_ebpf::{
    bindings::BPF_F_MMAPABLE, helpers::generated::bpf_get_smp_processor_id, macros::map, maps::Array,
};
use tcp_close_abi::{Counters, RESET_REASONS, RecordKind, STATES};

/// By CPU; user space makes it as long as there are CPUs.
///
/// It is mapped there, and no per-CPU array, which nobody can map: while a process reads a map by a system call, its
/// CPU runs no program of a kprobe (`bpf_disable_instrumentation` and `trace_call_bpf`, all kernels).
#[map]
static COUNTERS: Array<Counters> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Adds one to the counter that `pick` chooses among this CPU's, and tells what it was about then.
#[inline(always)]
fn increment(pick: impl FnOnce(&mut Counters) -> &mut u64) -> u64 {
    // SAFETY: no arguments.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    if let Some(counters) = COUNTERS.get_ptr_mut(cpu) {
        // SAFETY: this CPU's entry; other CPUs have their own, and user space only reads.
        let counter: *mut u64 = pick(unsafe { &mut *counters });
        // A softirq may interrupt a process inside this program and count the same thing, so a load and a store
        // would lose one now and then. The target offers no atomic addition to Rust, BPF has one (all kernels).
        // SAFETY: the counter is a valid, aligned u64.
        unsafe { asm!("lock *(u64 *)({0} + 0) += {1}", in(reg) counter, in(reg) 1_u64, options(nostack)) };
        // SAFETY: as above.
        return unsafe { counter.read_volatile() };
    }
    0
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

pub(crate) fn opener_evicted() {
    increment(|counters| &mut counters.openers_evicted);
}

pub(crate) fn unreadable() {
    increment(|counters| &mut counters.unreadable);
}

pub(crate) fn event_left() {
    increment(|counters| &mut counters.events_left);
}

pub(crate) fn event_made_up() {
    increment(|counters| &mut counters.events_made_up);
}

/// Counts a record that is put into the ring; tells how many of its kind this CPU has put there.
pub(crate) fn submitted(kind: RecordKind) -> u64 {
    increment(|counters| &mut counters.submitted[kind as usize % Counters::KINDS])
}

pub(crate) fn lost(kind: RecordKind) {
    increment(|counters| &mut counters.lost[kind as usize % Counters::KINDS]);
}
