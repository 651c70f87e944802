//! A full socket changes its state, whatever the hook that tells of it.

use tcp_close_abi::{Layout, RecordKind, StateChange, equal, flag};

use crate::{
    counters,
    kernel::{Current, LAYOUT, Memory, SETTINGS, Typed, Untyped, constant, current_name},
    opener::{self, Opener},
    reads::Reads,
    ring,
    socket::{TcpSocket, owner},
    taken::{self, What},
};

/// A change of state, seen by the program with this number: takes it, unless another has.
#[inline(always)]
pub(crate) fn seen_by(program: u32, sk: Typed, old: u32, new: u32) {
    let owner = owner(sk).unwrap_or(None);
    let Some(address) =
        taken::by(program, equal::STATE_CHANGE, &What { about: sk.address(), kind: [old, new] }, owner)
    else {
        return;
    };
    match TcpSocket::watched(sk) {
        Some(socket) => take(&socket, address, old, new, owner),
        None => leave(sk, address, new),
    }
}

/// Counts a change of the socket at this address, and records it if it belongs to a close or opening ones are wanted.
#[inline(always)]
pub(crate) fn take<M: Memory>(
    socket: &TcpSocket<M>,
    address: u64,
    old: u32,
    new: u32,
    owner: Option<Current>,
) {
    counters::transition(old, new);
    // There are few listeners, and each tells who opened what it accepts.
    let is_recorded = is_closing(old, new) || new == LISTEN || constant(&SETTINGS.record_opening) != 0;
    if !is_recorded && new != SYN_SENT && new != CLOSE {
        return;
    }
    let identity = if constant(&SETTINGS.cookies) == 0 { address } else { socket.identity() };
    if let (SYN_SENT, Some(owner)) = (new, owner) {
        opener::remember(socket, identity, owner.process());
    }
    if is_recorded {
        record(socket, identity, old, new, owner);
    }
    if new == CLOSE {
        opener::forget(identity);
    }
}

/// Takes a change of a socket that is not watched. It may have been until its local port was known, which is after
/// `connect()` has begun; its opener is of no interest any more.
#[inline(always)]
pub(crate) fn leave<M: Memory>(sk: M, address: u64, new: u32) {
    if new == CLOSE && constant(&SETTINGS.local_ports[1]) != 0 {
        opener::forget(if constant(&SETTINGS.cookies) == 0 { address } else { sk.identity() });
    }
}

// Numbers of include/net/tcp_states.h, which are user-space ABI.
const ESTABLISHED: u32 = 1;
const SYN_SENT: u32 = 2;
const SYN_RECV: u32 = 3;
const FIN_WAIT1: u32 = 4;
const FIN_WAIT2: u32 = 5;
const CLOSE: u32 = 7;
const CLOSE_WAIT: u32 = 8;
const LAST_ACK: u32 = 9;
const LISTEN: u32 = 10;
const CLOSING: u32 = 11;

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
    const ENTERED: u32 = set(&[FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT, LAST_ACK, CLOSING]);
    const LEFT_FOR_CLOSE: u32 = ENTERED | set(&[ESTABLISHED]);
    let entered = 1 << (new & 31);
    entered & ENTERED != 0 || (new == CLOSE && (1 << (old & 31)) & LEFT_FOR_CLOSE != 0)
}

#[inline(always)]
fn record<M: Memory>(socket: &TcpSocket<M>, identity: u64, old: u32, new: u32, owner: Option<Current>) {
    ring::emit::<StateChange>(RecordKind::StateChange, |record| {
        let mut reads = Reads::of(socket.fields());
        // Whose it is, the first change of a close tells.
        let is_first = matches!(old, ESTABLISHED | SYN_RECV);
        let opener = if is_first { opener::of(socket, identity) } else { None };
        let cgroup = if is_first { reads.or_zero(cgroup(socket.fields())) } else { 0 };
        let flags =
            if owner.is_some() { flag::OWNER } else { 0 } | if opener.is_some() { flag::OPENER } else { 0 };
        let opener = opener.unwrap_or(Opener::NOBODY);
        *record = StateChange {
            header: socket.header_of(identity, RecordKind::StateChange, flags),
            // `inet_sport`, since `skc_num` is already 0 when a socket closes.
            pair: reads.pair(&LAYOUT.local_port),
            old,
            new,
            error: reads.get(&LAYOUT.error),
            uid: reads.get(&LAYOUT.uid),
            pid: owner.map_or(0, Current::process),
            opener_pid: opener.pid,
            comm: if owner.is_some() { current_name() } else { [0; 2] },
            opener_comm: opener.comm,
            cgroup,
            write_seq: reads.get(&LAYOUT.write_seq),
            snd_nxt: reads.get(&LAYOUT.snd_nxt),
            snd_una: reads.get(&LAYOUT.snd_una),
            rcv_nxt: reads.get(&LAYOUT.rcv_nxt),
            segs_in: reads.get(&LAYOUT.segs_in),
            segs_out: reads.get(&LAYOUT.segs_out),
            bytes_sent: reads.get(&LAYOUT.bytes_sent),
            bytes_retrans: reads.get(&LAYOUT.bytes_retrans),
            bytes_received: reads.get(&LAYOUT.bytes_received),
        };
        reads.note(&mut record.header);
    });
}

/// Id of the cgroup v2 that the socket was made in; 0 where the kernel does not keep one.
///
/// `sock_cgroup_ptr` (include/linux/cgroup.h). Before Linux 5.15 a word that is no pointer, by its lower bits, is kept for
/// cgroup v1 in its place.
#[inline(always)]
fn cgroup<M: Memory>(sk: M) -> Result<u64, i32> {
    if constant(&LAYOUT.cgroup) != Layout::ABSENT {
        return cgroup_id(sk.follow(&LAYOUT.cgroup)?);
    }
    if constant(&LAYOUT.cgroup_or_class) != Layout::ABSENT {
        /// `is_data` and `no_refcnt` of `struct sock_cgroup_data`.
        const NO_POINTER: u64 = 1 | 2;
        let word: u64 = sk.get(&LAYOUT.cgroup_or_class)?;
        if word != 0 && word & NO_POINTER == 0 {
            return cgroup_id(Untyped::new(word as *const u8));
        }
    }
    Ok(0)
}

#[inline(always)]
fn cgroup_id<M: Memory>(cgroup: M) -> Result<u64, i32> {
    cgroup.follow(&LAYOUT.cgroup_node)?.get(&LAYOUT.node_id)
}
