//! `timer:timer_expire_entry`: a minisock's time is up. Nothing else proves that it expired.
//!
//! Fires in the timer softirq, just before the handler frees the minisock, which is still whole.
//! Records [`MinisockExpireV4`](tcp_close_abi::MinisockExpireV4), or over IPv6 [`MinisockTimer`](tcp_close_abi::MinisockTimer).

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};

use crate::{
    kernel::{Copied, Typed},
    minisock::Minisock,
};

#[btf_tracepoint(function = "timer_expire_entry")]
fn timer_expire_entry(ctx: BtfTracePointContext) -> i32 {
    let mut room = Copied::room();
    if let Some(minisock) = Minisock::of_timer(Typed::new(ctx.arg(0)), &mut room) {
        minisock.emit_expiry();
    }
    0
}
