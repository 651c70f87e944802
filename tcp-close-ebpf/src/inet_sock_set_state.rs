//! `sock:inet_sock_set_state`: a full socket changes its state.
//!
//! Fires inside `tcp_set_state`, before `sk_state` is written, in whatever context the change happens.
//! Reads the socket through its BTF type; counts every change and records the closing ones, as
//! [`StateChange`]. Needs Linux 5.10. TIME-WAIT never appears here: see the timer hooks.

use aya_ebpf::{
    helpers::{bpf_get_current_comm, bpf_get_current_pid_tgid},
    macros::btf_tracepoint,
    programs::BtfTracePointContext,
};
use tcp_close_abi::{RecordKind, StateChange, flag};

use crate::{
    counters,
    kernel::{LAYOUT, SETTINGS, Typed, constant},
    ring,
    socket::TcpSocket,
};

#[btf_tracepoint(function = "inet_sock_set_state")]
fn inet_sock_set_state(ctx: BtfTracePointContext) -> i32 {
    if let Some(socket) = TcpSocket::watched(Typed::new(ctx.arg(0))) {
        let (old, new) = (ctx.arg::<u32>(1), ctx.arg::<u32>(2));
        counters::transition(old, new);
        if is_closing(old, new) || constant(&SETTINGS.record_opening) != 0 {
            record(&socket, old, new);
        }
    }
    0
}

/// Whether the change belongs to the end of a connection: it enters a closing state, or leaves one or
/// `ESTABLISHED` for `CLOSE`. Failed attempts and listeners (`SYN_SENT`, `SYN_RECV`, `LISTEN` to `CLOSE`) are only counted.
#[inline(always)]
const fn is_closing(old: u32, new: u32) -> bool {
    const fn set(states: &[u32]) -> u32 {
        let (mut set, mut index) = (0, 0);
        while index < states.len() {
            set |= 1 << states[index];
            index += 1;
        }
        set
    }
    // Numbers of include/net/tcp_states.h, which are user-space ABI: ESTABLISHED 1, FIN_WAIT1 4, FIN_WAIT2 5,
    // CLOSE 7, CLOSE_WAIT 8, LAST_ACK 9, CLOSING 11.
    const ENTERED: u32 = set(&[4, 5, 8, 9, 11]);
    const LEFT_FOR_CLOSE: u32 = set(&[1, 4, 5, 8, 9, 11]);
    let entered = 1 << (new & 31);
    entered & ENTERED != 0 || (new == 7 && (1 << (old & 31)) & LEFT_FOR_CLOSE != 0)
}

#[inline(always)]
fn record(socket: &TcpSocket, old: u32, new: u32) {
    let fields = socket.fields();
    // Only a process inside a system call on this very socket holds it as its user; a softirq never does.
    let by_owner = fields.load::<u32>(&LAYOUT.owned) != 0;
    ring::emit::<StateChange>(RecordKind::StateChange, |record| {
        record.write(StateChange {
            header: socket.header(RecordKind::StateChange, if by_owner { flag::OWNER } else { 0 }),
            pair: socket.pair(),
            old,
            new,
            error: fields.load(&LAYOUT.error),
            uid: fields.load(&LAYOUT.uid),
            pid: if by_owner { (bpf_get_current_pid_tgid() >> 32) as u32 } else { 0 },
            reserved: 0,
            comm: if by_owner { bpf_get_current_comm().unwrap_or([0; 16]) } else { [0; 16] },
            write_seq: fields.load(&LAYOUT.write_seq),
            snd_nxt: fields.load(&LAYOUT.snd_nxt),
            snd_una: fields.load(&LAYOUT.snd_una),
            rcv_nxt: fields.load(&LAYOUT.rcv_nxt),
            segs_in: fields.load(&LAYOUT.segs_in),
            segs_out: fields.load(&LAYOUT.segs_out),
            bytes_sent: fields.load(&LAYOUT.bytes_sent),
            bytes_retrans: fields.load(&LAYOUT.bytes_retrans),
            bytes_received: fields.load(&LAYOUT.bytes_received),
        });
    });
}
