//! The records of the event ring: one fixed struct per kind, each with a [`Header`] first.

#[cfg(feature = "zerocopy")]
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::AF_INET;

/// Return addresses kept of the kernel stack at the cancellation of a minisock's timer.
///
/// The deepest known path from the tracepoint to the function that names the cause is eight frames, two of
/// them the BPF dispatcher's own; two more are slack for other kernels. Each takes 70 ns to unwind.
pub const MAX_FRAMES: usize = 10;

/// Values of [`Header::kind`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum RecordKind {
    /// [`StateChange`], from `sock:inet_sock_set_state`.
    StateChange = 0,
    /// [`FinRetransmit`], from `tcp:tcp_retransmit_skb`.
    FinRetransmit = 1,
    /// [`Reset`], from `tcp:tcp_send_reset`.
    ResetSent = 2,
    /// [`Reset`], from `tcp:tcp_receive_reset`.
    ResetReceived = 3,
    /// [`MinisockTimer`], from `timer:timer_start`.
    TimerStart = 4,
    /// [`MinisockCancel`], from `timer:timer_cancel`.
    TimerCancel = 5,
    /// [`MinisockExpireV4`], or over IPv6 [`MinisockTimer`], from `timer:timer_expire_entry` or `inet_twsk_kill`.
    TimerExpire = 6,
    /// [`MinisockSegment`], from `skb:kfree_skb` or `tcp_timewait_state_process`.
    Segment = 7,
    /// [`MinisockBegin`], from `inet_twsk_hashdance`.
    MinisockBegin = 8,
    /// [`MinisockTimer`], from `__inet_twsk_schedule`.
    MinisockRestart = 9,
    /// [`MinisockEnd`], from `inet_twsk_kill`, where its timer has not expired.
    MinisockEnd = 10,
    /// [`Header`], from `sock:inet_sock_set_state`: this full socket may have been replaced by a minisock that was not
    /// known for one.
    MinisockMissed = 11,
}

impl RecordKind {
    /// Every kind, at the index of its value.
    pub const ALL: [Self; 12] = [
        Self::StateChange,
        Self::FinRetransmit,
        Self::ResetSent,
        Self::ResetReceived,
        Self::TimerStart,
        Self::TimerCancel,
        Self::TimerExpire,
        Self::Segment,
        Self::MinisockBegin,
        Self::MinisockRestart,
        Self::MinisockEnd,
        Self::MinisockMissed,
    ];

    /// The kind of a raw value; `None` for one this version does not know.
    #[must_use]
    pub const fn from_raw(raw: u32) -> Option<Self> {
        if (raw as usize) < Self::ALL.len() { Some(Self::ALL[raw as usize]) } else { None }
    }
}

/// Values of [`MinisockEnd::end`]: what was under way when a minisock came to its end.
pub mod end {
    /// None of what follows.
    pub const UNKNOWN: u32 = 0;
    /// `tw_timer_handler`: its timer expired.
    pub const EXPIRY: u32 = 1;
    /// `tcp_twsk_unique` gave its socket pair to a `connect()`.
    pub const CONNECT: u32 = 2;
    /// `tcp_timewait_state_process` dealt with a segment, and left it to its caller to go on with.
    pub const RECEIVE: u32 = 3;
    /// `tcp_timewait_state_process`, dealing with a segment.
    pub const RESET: u32 = 4;
    /// `inet_twsk_purge`: its network namespace goes away.
    pub const PURGE: u32 = 5;
    /// `tcp_abort`: an operator wants it.
    pub const ABORT: u32 = 6;
}

/// Bits of [`Header::flags`].
pub mod flag {
    /// `current` was the socket's own process when the record was written, so pid and comm are its own.
    pub const OWNER: u32 = 1;
    /// The reset was sent by the socket itself (`tcp_send_active_reset`), not in answer to a segment.
    pub const ACTIVE: u32 = 2;
    /// A kernel field could not be read; the fields that depend on it are zero.
    pub const UNREADABLE: u32 = 4;
    /// The process that connected the socket is known.
    pub const OPENER: u32 = 8;
    /// Of [`MinisockExpireV4`](crate::MinisockExpireV4): its substate is `FIN_WAIT2`, and not `TIME_WAIT`.
    pub const FIN_WAIT2: u32 = 16;
    /// The same: the kernel has `tw_entry_stamp`.
    pub const ENTRY_STAMP: u32 = 32;
}

/// The first bytes of every record.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "zerocopy", derive(FromBytes, Immutable, IntoBytes, KnownLayout))]
#[repr(C)]
pub struct Header {
    /// `bpf_ktime_get_ns` at the hook: nanoseconds of `CLOCK_MONOTONIC`.
    pub at: u64,
    /// Identity of the full socket: its cookie (`sock_common.skc_cookie`), or its kernel address, which has its
    /// highest bit set, without [`crate::Settings::cookies`]. Of a minisock its cookie, 0 where it has none.
    pub socket: u64,
    /// A [`RecordKind`].
    pub kind: u32,
    /// Inode number of the network namespace (`net.ns.inum`).
    pub netns: u32,
    /// Bits of [`flag`].
    pub flags: u32,
    /// Explicit padding, always 0.
    pub reserved: u32,
}

/// A socket pair, seen from the local end.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "zerocopy", derive(FromBytes, Immutable, IntoBytes, KnownLayout))]
#[repr(C)]
pub struct Pair {
    /// Local address as it lies in memory, in network byte order; IPv4 in the first four bytes, the rest 0.
    pub local: [u64; 2],
    /// Remote address, as `local`.
    pub remote: [u64; 2],
    /// Local port in network byte order (`inet_sport`, `tw_sport`).
    pub local_port: u16,
    /// Remote port in network byte order (`skc_dport`).
    pub remote_port: u16,
    /// `skc_family`: [`crate::AF_INET`] or [`crate::AF_INET6`].
    pub family: u16,
    /// Explicit padding, always 0.
    pub reserved: u16,
}

impl Pair {
    /// Nothing; what a record holds until it is filled.
    pub const ZERO: Self =
        Self { local: [0; 2], remote: [0; 2], local_port: 0, remote_port: 0, family: 0, reserved: 0 };
}

/// A process's name (`task_struct.comm`) as it lies in memory, NUL-padded. In words: of bytes the compiler would clear and
/// copy one by one.
pub type Name = [u64; 2];

/// A full socket changes its state (`tcp_set_state`); written before `sk_state` itself is.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "zerocopy", derive(FromBytes, Immutable, IntoBytes, KnownLayout))]
#[repr(C)]
pub struct StateChange {
    /// What and when.
    pub header: Header,
    /// The socket pair.
    pub pair: Pair,
    /// State left, in the kernel's numbering (1 ESTABLISHED … 11 CLOSING).
    pub old: u32,
    /// State entered, in the kernel's numbering.
    pub new: u32,
    /// `sk_err`: errno that ends the connection, 0 for none.
    pub error: u32,
    /// `sk_uid`: user of the socket, in the initial user namespace.
    pub uid: u32,
    /// Thread group of `current`; the owner's only with [`flag::OWNER`].
    pub pid: u32,
    /// Thread group of the process that called `connect()`; 0 without [`flag::OPENER`].
    pub opener_pid: u32,
    /// Name of `current`, NUL-padded; all 0 without [`flag::OWNER`].
    pub comm: Name,
    /// Name of the process that called `connect()`, as it was then; all 0 without [`flag::OPENER`].
    pub opener_comm: Name,
    /// `kernfs_node.id` of the cgroup v2 that the socket was made in, an accepted one its listener; 0 where it is not
    /// told. Only in the first change of a close is it looked for, as is the opener.
    pub cgroup: u64,
    /// `tcp_sock.write_seq`: the sequence number the next byte, or the FIN, will take.
    pub write_seq: u32,
    /// `tcp_sock.snd_nxt`: next sequence number to be sent.
    pub snd_nxt: u32,
    /// `tcp_sock.snd_una`: first sequence number not yet acknowledged.
    pub snd_una: u32,
    /// `tcp_sock.rcv_nxt`: next sequence number expected; one past a FIN already taken.
    pub rcv_nxt: u32,
    /// `tcp_sock.segs_in`: segments received.
    pub segs_in: u32,
    /// `tcp_sock.segs_out`: segments sent.
    pub segs_out: u32,
    /// `tcp_sock.bytes_sent`: payload bytes sent, retransmissions included.
    pub bytes_sent: u64,
    /// `tcp_sock.bytes_retrans`: payload bytes sent again.
    pub bytes_retrans: u64,
    /// `tcp_sock.bytes_received`: bytes taken in order, a FIN counted as one.
    pub bytes_received: u64,
}

/// A segment that carries FIN is sent again.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "zerocopy", derive(FromBytes, Immutable, IntoBytes, KnownLayout))]
#[repr(C)]
pub struct FinRetransmit {
    /// What and when.
    pub header: Header,
    /// State of the socket, in the kernel's numbering.
    pub state: u32,
    /// `tcp_skb_cb.seq` of the segment.
    pub seq: u32,
}

/// A reset is sent or received.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "zerocopy", derive(FromBytes, Immutable, IntoBytes, KnownLayout))]
#[repr(C)]
pub struct Reset {
    /// What and when.
    pub header: Header,
    /// State of the socket, in the kernel's numbering.
    pub state: u32,
    /// `enum sk_rst_reason` of a reset sent; 0 where the kernel gives none.
    pub reason: u32,
}

/// The timer of a minisock (`inet_timewait_sock.tw_timer`) starts or expires.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "zerocopy", derive(FromBytes, Immutable, IntoBytes, KnownLayout))]
#[repr(C)]
pub struct MinisockTimer {
    /// What and when.
    pub header: Header,
    /// The socket pair.
    pub pair: Pair,
    /// Kernel address of the minisock: its identity while it lives, reused within microseconds after.
    pub minisock: u64,
    /// `bpf_jiffies64` at the hook.
    pub jiffies: u64,
    /// `timer_list.expires`: jiffy of the nominal end.
    pub expires: u64,
    /// `tw_substate`: 5 `FIN_WAIT2` or 6 `TIME_WAIT`.
    pub substate: u32,
    /// `tw_rcv_nxt`: one past the peer's FIN once the substate is `TIME_WAIT`.
    pub rcv_nxt: u32,
    /// Jiffy at the end of the bucket of the timer wheel, when the timer will fire; at `timer_start` on
    /// Linux 6.8 and later, 0 elsewhere.
    pub bucket_expiry: u64,
    /// `tw_entry_stamp`: milliseconds of `CLOCK_MONOTONIC`, in 32 bits, at which the minisock began, or its
    /// TIME-WAIT if the peer's FIN carried timestamps; Linux 6.14 and later.
    pub entry_stamp: u32,
    /// 1 where the kernel has `tw_entry_stamp`.
    pub has_entry_stamp: u32,
}

/// The timer of a minisock over IPv4 has expired: what [`MinisockTimer`] tells, in half as many bytes.
///
/// The timer wheel lets expire at once whatever began within seconds, on each CPU in a softirq that nothing interrupts: the
/// ring has to hold all of that.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "zerocopy", derive(FromBytes, Immutable, IntoBytes, KnownLayout))]
#[repr(C)]
pub struct MinisockExpireV4 {
    /// What and when, with [`flag::FIN_WAIT2`] and [`flag::ENTRY_STAMP`].
    pub header: Header,
    /// As [`MinisockTimer::minisock`].
    pub minisock: u64,
    /// Local address in network byte order.
    pub local: u32,
    /// Remote address in network byte order.
    pub remote: u32,
    /// As [`Pair::local_port`].
    pub local_port: u16,
    /// As [`Pair::remote_port`].
    pub remote_port: u16,
    /// As [`MinisockTimer::rcv_nxt`].
    pub rcv_nxt: u32,
    /// [`MinisockTimer::jiffies`] less [`MinisockTimer::expires`].
    pub late: i32,
    /// As [`MinisockTimer::entry_stamp`].
    pub entry_stamp: u32,
}

impl MinisockExpireV4 {
    /// All that it tells, but for the jiffies themselves, which are as late as these.
    #[must_use]
    pub const fn timer(self) -> MinisockTimer {
        // Substates, of include/net/tcp_states.h.
        const FIN_WAIT2: u32 = 5;
        const TIME_WAIT: u32 = 6;
        let flags = self.header.flags;
        MinisockTimer {
            header: self.header,
            pair: Pair {
                local: [self.local as u64, 0],
                remote: [self.remote as u64, 0],
                local_port: self.local_port,
                remote_port: self.remote_port,
                family: AF_INET,
                reserved: 0,
            },
            minisock: self.minisock,
            jiffies: (self.late as i64).cast_unsigned(),
            expires: 0,
            substate: if flags & flag::FIN_WAIT2 == 0 { TIME_WAIT } else { FIN_WAIT2 },
            rcv_nxt: self.rcv_nxt,
            bucket_expiry: 0,
            entry_stamp: self.entry_stamp,
            has_entry_stamp: (flags & flag::ENTRY_STAMP != 0) as u32,
        }
    }
}

/// The timer of a minisock is cancelled: before it restarts, or because something ended it. That it is because it expires,
/// the kernel side does not tell where it knows the function that lets it expire.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "zerocopy", derive(FromBytes, Immutable, IntoBytes, KnownLayout))]
#[repr(C)]
pub struct MinisockCancel {
    /// The timer and its minisock.
    pub timer: MinisockTimer,
    /// Name of `current`, NUL-padded: who takes the socket pair or kills it, where a process does.
    pub comm: Name,
    /// Thread group of `current`.
    pub pid: u32,
    /// Explicit padding, always 0.
    pub reserved: u32,
    /// Entries of `stack` that are filled.
    pub frames: u64,
    /// Kernel return addresses, innermost first.
    pub stack: [u64; MAX_FRAMES],
}

/// A minisock takes the place of a full socket, which is about to enter CLOSE.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "zerocopy", derive(FromBytes, Immutable, IntoBytes, KnownLayout))]
#[repr(C)]
pub struct MinisockBegin {
    /// The minisock, its timer as it is about to be.
    pub timer: MinisockTimer,
    /// Identity of the full socket, as in [`Header::socket`].
    pub replaces: u64,
}

/// A minisock comes to its end.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "zerocopy", derive(FromBytes, Immutable, IntoBytes, KnownLayout))]
#[repr(C)]
pub struct MinisockEnd {
    /// The minisock, whole for the last time.
    pub timer: MinisockTimer,
    /// Name of `current`, NUL-padded: who takes the socket pair or kills it, where a process does.
    pub comm: Name,
    /// Thread group of `current`.
    pub pid: u32,
    /// A value of [`end`].
    pub end: u32,
}

/// A minisock has dealt with a segment; its timer is as the segment left it.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "zerocopy", derive(FromBytes, Immutable, IntoBytes, KnownLayout))]
#[repr(C)]
pub struct MinisockSegment {
    /// The timer and its minisock.
    pub timer: MinisockTimer,
    /// `tcp_skb_cb.seq`.
    pub seq: u32,
    /// `tcp_skb_cb.end_seq`: one past the last byte, SYN and FIN counted.
    pub end_seq: u32,
    /// Flags byte of the TCP header (RFC 9293 §3.1): FIN 1, SYN 2, RST 4, PSH 8, ACK 16.
    pub tcp_flags: u32,
    /// Explicit padding, always 0.
    pub reserved: u32,
}

const _: () = {
    assert!(size_of::<Header>() == 32);
    assert!(size_of::<Pair>() == 40);
    assert!(size_of::<StateChange>() == 32 + 40 + 24 + 2 * 16 + 8 + 24 + 24);
    assert!(size_of::<FinRetransmit>() == 40);
    assert!(size_of::<Reset>() == 40);
    assert!(size_of::<MinisockTimer>() == 32 + 40 + 24 + 8 + 16);
    assert!(size_of::<MinisockExpireV4>() == 32 + 8 + 8 + 4 + 12);
    assert!(size_of::<MinisockBegin>() == size_of::<MinisockTimer>() + 8);
    assert!(size_of::<MinisockEnd>() == size_of::<MinisockTimer>() + 24);
    assert!(size_of::<MinisockSegment>() == size_of::<MinisockTimer>() + 16);
    assert!(size_of::<MinisockCancel>() == size_of::<MinisockTimer>() + 24 + 8 + 8 * MAX_FRAMES);
    assert!(RecordKind::ALL.len() <= crate::Counters::KINDS);
};
