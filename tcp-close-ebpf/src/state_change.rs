//! A full socket changes its state, whatever the hook that tells of it.

use aya_ebpf::{
    helpers::{bpf_get_current_comm, bpf_get_current_pid_tgid},
    macros::map,
    maps::{Array, PerCpuArray},
};
use tcp_close_abi::{Layout, Pair, RecordKind, StateChange, flag};

use crate::{
    counters,
    kernel::{LAYOUT, Memory, SETTINGS, Typed, Untyped, constant, thread},
    opener, ring,
    socket::TcpSocket,
};

/// The change that was taken last on this CPU of a socket that no process holds; one entry, since softirqs do not
/// interrupt each other.
#[map]
static TAKEN_BY_SOFTIRQ: PerCpuArray<Taken> = PerCpuArray::with_max_entries(1, 0);

/// The change that was taken last in a thread's own system call, by the lower bits of the thread's id.
#[map]
static TAKEN_BY_OWNER: Array<Taken> = Array::with_max_entries(OWNERS, 0);

/// Two threads whose ids have these lower bits in common would have to change states at once to disturb each other.
const OWNERS: u32 = 4096;

/// A change that one program has taken, so that its like on the same hook leave it alone.
struct Taken {
    change: Change,
    by: u32,
    /// How many others have seen it.
    seen: u32,
}

/// A change of state, told from any other that is under way.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(C)]
struct Change {
    /// Address of the socket.
    sk: u64,
    /// State left.
    old: u32,
    /// State entered.
    new: u32,
}

/// Programs on one hook that make up for each other: see [`inet_sock_set_state`](crate::inet_sock_set_state).
const PROGRAMS: u32 = 3;

/// A change of state, seen by the program with this number: takes it, unless another has.
#[inline(always)]
pub(crate) fn seen_by(program: u32, sk: Typed, old: u32, new: u32) {
    let by_owner = is_owned(sk) == Ok(true);
    let change = Change { sk: sk.address(), old, new };
    if change.is_for(program, by_owner)
        && let Some(socket) = TcpSocket::watched(sk)
    {
        take(&socket, old, new, by_owner);
    }
}

impl Change {
    /// Whether this program is to take the change, because no other has. They may run in any order.
    #[inline(always)]
    fn is_for(self, program: u32, by_owner: bool) -> bool {
        let slot = if by_owner {
            TAKEN_BY_OWNER.get_ptr_mut(thread() % OWNERS)
        } else {
            TAKEN_BY_SOFTIRQ.get_ptr_mut(0)
        };
        let Some(taken) = slot else {
            return false;
        };
        // SAFETY: nothing else uses the entry at this time: no other softirq of this CPU, or no other thread.
        let taken = unsafe { &mut *taken };
        if taken.change == self && taken.by != program {
            taken.seen += 1;
            if taken.seen == PROGRAMS - 1 {
                taken.change.sk = 0;
            }
            return false;
        }
        *taken = Taken { change: self, by: program, seen: 0 };
        true
    }
}

/// Whether a process holds the socket, in a system call on it. A segment or a timer never changes the state of such
/// a socket: it is put off until the process lets go.
#[inline(always)]
pub(crate) fn is_owned<M: Memory>(sk: M) -> Result<bool, i32> {
    Ok(sk.get::<u32>(&LAYOUT.owned)? != 0)
}

/// Counts a change of this socket, and records it if it belongs to a close or opening ones are wanted.
#[inline(always)]
pub(crate) fn take<M: Memory>(socket: &TcpSocket<M>, old: u32, new: u32, by_owner: bool) {
    counters::transition(old, new);
    if new == SYN_SENT && by_owner {
        opener::remember(socket);
    }
    // There are few listeners, and each tells who opened what it accepts.
    if is_closing(old, new) || new == LISTEN || constant(&SETTINGS.record_opening) != 0 {
        record(socket, old, new, by_owner);
    }
    if new == CLOSE {
        opener::forget(socket);
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
fn record<M: Memory>(socket: &TcpSocket<M>, old: u32, new: u32, by_owner: bool) {
    ring::emit::<StateChange>(RecordKind::StateChange, |record| {
        let record = record.write(StateChange {
            header: socket.header(RecordKind::StateChange, if by_owner { flag::OWNER } else { 0 }),
            pair: Pair::ZERO,
            old,
            new,
            error: 0,
            uid: 0,
            pid: if by_owner { (bpf_get_current_pid_tgid() >> 32) as u32 } else { 0 },
            opener_pid: 0,
            comm: if by_owner { bpf_get_current_comm().unwrap_or([0; 16]) } else { [0; 16] },
            opener_comm: [0; 16],
            cgroup: 0,
            write_seq: 0,
            snd_nxt: 0,
            snd_una: 0,
            rcv_nxt: 0,
            segs_in: 0,
            segs_out: 0,
            bytes_sent: 0,
            bytes_retrans: 0,
            bytes_received: 0,
        });
        if matches!(old, ESTABLISHED | SYN_RECV)
            && let Some(opener) = opener::of(socket)
        {
            record.header.flags |= flag::OPENER;
            record.opener_pid = opener.pid;
            record.opener_comm = opener.comm;
        }
        if fill(socket, record).is_err() {
            record.header.flags |= flag::UNREADABLE;
            counters::unreadable();
        }
    });
}

#[inline(always)]
fn fill<M: Memory>(socket: &TcpSocket<M>, record: &mut StateChange) -> Result<(), i32> {
    let fields = socket.fields();
    record.pair = socket.pair()?;
    if matches!(record.old, ESTABLISHED | SYN_RECV) {
        record.cgroup = cgroup(fields)?;
    }
    record.error = fields.get(&LAYOUT.error)?;
    record.uid = fields.get(&LAYOUT.uid)?;
    record.write_seq = fields.get(&LAYOUT.write_seq)?;
    record.snd_nxt = fields.get(&LAYOUT.snd_nxt)?;
    record.snd_una = fields.get(&LAYOUT.snd_una)?;
    record.rcv_nxt = fields.get(&LAYOUT.rcv_nxt)?;
    record.segs_in = fields.get(&LAYOUT.segs_in)?;
    record.segs_out = fields.get(&LAYOUT.segs_out)?;
    record.bytes_sent = fields.get(&LAYOUT.bytes_sent)?;
    record.bytes_retrans = fields.get(&LAYOUT.bytes_retrans)?;
    record.bytes_received = fields.get(&LAYOUT.bytes_received)?;
    Ok(())
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
