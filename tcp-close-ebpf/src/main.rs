//! The kernel side of tcp-close: it observes and forwards, and decides nothing about a close.
//!
//! One file per hook, named after the kernel's event. Each program reads its fields, counts, and puts one
//! fixed record into the ring; the contract is `tcp-close-abi`.

#![no_std]
#![no_main]
// Inline assembly for BPF is not stabilized; the kernel side is built with RUSTC_BOOTSTRAP anyway.
#![feature(asm_experimental_arch)]
#![expect(
    clippy::inline_always,
    reason = "one program, one function: the verifier follows values best without calls"
)]
#![expect(clippy::needless_pass_by_value, reason = "aya's program macros hand the context over by value")]
#![expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "an offset is named by where it is kept, not by its value"
)]

mod counters;
mod fate;
mod handler;
mod kernel;
mod minisock;
mod opener;
mod reads;
mod ring;
mod socket;
mod state_change;
mod taken;

mod inet_sock_set_state;
mod inet_twsk_hashdance;
mod inet_twsk_kill;
mod inet_twsk_purge;
mod inet_twsk_schedule;
mod kfree_skb;
mod tcp_abort;
mod tcp_receive_reset;
mod tcp_retransmit_skb;
mod tcp_send_reset;
mod tcp_set_state;
mod tcp_timewait_state_process;
mod tcp_twsk_unique;
mod timer_cancel;
mod timer_expire_entry;
mod timer_start;
mod tw_timer_handler;

/// The kernel lends the helpers used here to GPL-compatible programs only.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
const fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // Nothing here can panic: the verifier would refuse a program that reached this loop.
    loop {}
}
