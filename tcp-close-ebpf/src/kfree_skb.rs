//! `skb:kfree_skb`: a segment is let go of; only one that a minisock dealt with is of interest.
//!
//! A minisock absorbs every segment it gets, and the kernel drops it then, with the receiving socket as the
//! fourth argument on Linux 6.12 and later. So this is the witness of what leaves no trace on timers: the
//! peer's FIN that flips the minisock to TIME-WAIT, FINs sent again, strays, and resets.
//! Fires for every dropped packet of the host: the first thing to ask is whether there is a receiver, and whether
//! it is a minisock. Records [`tcp_close_abi::MinisockSegment`].

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};

use crate::{
    handler::TIME_WAIT,
    kernel::{Copied, LAYOUT, SETTINGS, Typed, constant},
    minisock::Minisock,
};

#[btf_tracepoint(function = "kfree_skb")]
fn kfree_skb(ctx: BtfTracePointContext) -> i32 {
    if constant(&SETTINGS.drop_has_receiver) == 0 {
        return 0;
    }
    let receiver = Typed::new(ctx.arg(3));
    if receiver.is_null() || receiver.load::<u8>(&LAYOUT.state) != TIME_WAIT {
        return 0;
    }
    let reason = ctx.arg::<u32>(2);
    if reason == constant(&SETTINGS.never_came[0]) || reason == constant(&SETTINGS.never_came[1]) {
        return 0;
    }
    // The argument's type is that of a full socket, which has other fields than a minisock; and the kernel gives no other
    // (`bpf_skc_to_tcp_timewait_sock`) to one that was accepted as a path of Multipath TCP, or where IPv6 is a module.
    let mut room = Copied::room();
    if let Some(minisock) = Minisock::at(receiver.as_ptr(), &mut room) {
        minisock.emit_segment(Typed::new(ctx.arg(0)));
    }
    0
}
