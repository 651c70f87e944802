//! `sock:inet_sock_set_state`: a full socket changes its state.
//!
//! Fires inside `tcp_set_state`, before `sk_state` is written, in whatever context the change happens.
//! Reads the socket through its BTF type; counts every change and records the closing ones, as
//! [`StateChange`]. Needs Linux 5.15. TIME-WAIT never appears here: see the timer hooks.
//!
//! Three programs hang on this one hook. The kernel does not run a program on a CPU on which it runs already
//! (`prog->active`, Linux 6.2), and a softirq may well interrupt one that runs for a process: a network card's
//! interrupt does it all the time. So the changes are divided by who holds the socket:
//!
//! * `state_by_owner` takes those of a socket that a process holds, in that process's system call. Nothing else
//!   comes in between, but softirqs.
//! * `state_by_softirq` takes the others: those of softirqs, and of the few places that disable them. No softirq
//!   interrupts those. It can be missing only where the softirq interrupted this very program, while that turned
//!   away a change of the first kind,
//! * and then `state_by_softirq_again` takes its place. What the one has taken, it marks for the other.

use aya_ebpf::{
    helpers::{bpf_get_current_comm, bpf_get_current_pid_tgid},
    macros::{btf_tracepoint, map},
    maps::PerCpuArray,
    programs::BtfTracePointContext,
};
use tcp_close_abi::{RecordKind, StateChange, flag};

use crate::{
    counters,
    kernel::{LAYOUT, SETTINGS, Typed, constant},
    ring,
    socket::TcpSocket,
};

/// The change that `state_by_softirq` took last on this CPU, until `state_by_softirq_again` has seen it; one entry,
/// since softirqs do not interrupt each other.
#[map]
static TAKEN: PerCpuArray<Change> = PerCpuArray::with_max_entries(1, 0);

/// A change of state, told from any other on the same CPU.
#[derive(PartialEq, Eq)]
struct Change {
    /// Address of the socket.
    sk: u64,
    /// The states, old and new.
    states: u64,
}

#[btf_tracepoint(function = "inet_sock_set_state")]
fn state_by_owner(ctx: BtfTracePointContext) -> i32 {
    let sk = Typed::new(ctx.arg(0));
    if is_owned(sk) {
        take(&ctx, sk, flag::OWNER);
    }
    0
}

#[btf_tracepoint(function = "inet_sock_set_state")]
fn state_by_softirq(ctx: BtfTracePointContext) -> i32 {
    let sk = Typed::new(ctx.arg(0));
    if !is_owned(sk) {
        if let Some(taken) = TAKEN.get_ptr_mut(0) {
            // SAFETY: the map's only entry, of this CPU alone.
            unsafe { *taken = Change::of(&ctx) };
        }
        take(&ctx, sk, 0);
    }
    0
}

#[btf_tracepoint(function = "inet_sock_set_state")]
fn state_by_softirq_again(ctx: BtfTracePointContext) -> i32 {
    let sk = Typed::new(ctx.arg(0));
    if is_owned(sk) {
        return 0;
    }
    let Some(taken) = TAKEN.get_ptr_mut(0) else {
        return 0;
    };
    // SAFETY: the map's only entry, of this CPU alone.
    let taken = unsafe { &mut *taken };
    let is_taken = *taken == Change::of(&ctx);
    taken.sk = 0;
    if !is_taken {
        take(&ctx, sk, 0);
    }
    0
}

/// Whether a process holds the socket, in a system call on it. A segment or a timer never changes the state of such
/// a socket: it is put off until the process lets go.
#[inline(always)]
fn is_owned(sk: Typed) -> bool {
    sk.load::<u32>(&LAYOUT.owned) != 0
}

impl Change {
    #[inline(always)]
    fn of(ctx: &BtfTracePointContext) -> Self {
        Self { sk: ctx.arg(0), states: ctx.arg::<u64>(1) << 32 | ctx.arg::<u64>(2) }
    }
}

/// Counts the change and records it, if it is one of TCP and watched.
#[inline(always)]
fn take(ctx: &BtfTracePointContext, sk: Typed, owner: u32) {
    if let Some(socket) = TcpSocket::watched(sk) {
        let (old, new) = (ctx.arg::<u32>(1), ctx.arg::<u32>(2));
        counters::transition(old, new);
        if is_closing(old, new) || constant(&SETTINGS.record_opening) != 0 {
            record(&socket, old, new, owner);
        }
    }
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
fn record(socket: &TcpSocket, old: u32, new: u32, owner: u32) {
    let fields = socket.fields();
    let by_owner = owner != 0;
    ring::emit::<StateChange>(RecordKind::StateChange, |record| {
        record.write(StateChange {
            header: socket.header(RecordKind::StateChange, owner),
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
