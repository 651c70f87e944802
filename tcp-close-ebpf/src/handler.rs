//! The address of `tw_timer_handler`, which every minisock's timer carries and no other.
//!
//! User space tells it, if the kernel shows addresses. Where they are hidden, it is learnt from the first minisock: its
//! timer was started on this CPU a moment before its full socket enters CLOSE.

use aya_ebpf::{
    helpers::generated::{bpf_jiffies64, bpf_ktime_get_ns},
    macros::map,
    maps::{Array, PerCpuArray},
};
use tcp_close_abi::{Header, MinisockTimer, RecordKind};

use crate::{
    kernel::{Copied, LAYOUT, Memory as _, SETTINGS, Typed, Untyped, constant},
    minisock::{self, Minisock},
    ring,
    socket::{TcpSocket, tcp_sock},
};

/// `TCP_TIME_WAIT` (`include/net/tcp_states.h`, user-space ABI): the state of every minisock, whatever its substate.
pub(crate) const TIME_WAIT: u8 = 6;

/// What was learnt; 0 for nothing.
#[map]
static LEARNT: Array<u64> = Array::with_max_entries(1, 0);

/// The timers that were started last on this CPU, as long as nothing was learnt.
#[map]
static STARTED: PerCpuArray<Started> = PerCpuArray::with_max_entries(RECENT, 0);

/// Which of them was the last one.
#[map]
static LAST: PerCpuArray<u32> = PerCpuArray::with_max_entries(1, 0);

/// Few lines of code lie between the start and the entry into CLOSE; an interrupt among them may start timers too.
const RECENT: u32 = 4;

/// A timer that was started.
#[derive(Clone, Copy)]
#[repr(C)]
struct Started {
    timer: u64,
    /// `timer_list.function`.
    function: u64,
    /// By `bpf_ktime_get_ns`.
    at: u64,
    /// By `bpf_jiffies64`.
    jiffies: u64,
}

/// The address, or 0 while it is not known.
#[inline(always)]
pub(crate) fn address() -> u64 {
    match constant(&SETTINGS.tw_timer_handler) {
        0 => LEARNT.get(0).copied().unwrap_or(0),
        told => told,
    }
}

/// Remembers a timer that starts, as long as nobody knows whether it is a minisock's.
#[inline(always)]
pub(crate) fn remember(timer: Typed) {
    if address() != 0 {
        return;
    }
    let Some(last) = LAST.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: the map's only entry, of this CPU alone.
    let index = unsafe {
        *last = (*last + 1) % RECENT;
        *last
    };
    if let Some(started) = STARTED.get_ptr_mut(index) {
        let function = timer.load(&LAYOUT.timer_function);
        // SAFETY: an entry of this CPU alone; no arguments.
        unsafe {
            let (at, jiffies) = (bpf_ktime_get_ns(), bpf_jiffies64());
            *started = Started { timer: timer.address(), function, at, jiffies };
        }
    }
}

/// A full socket that a minisock is to replace enters CLOSE: if one of the timers that were just started is in its
/// minisock, the address is known from now on, and the start is recorded now.
#[inline(always)]
pub(crate) fn learn(sk: Typed) {
    if address() != 0 {
        return;
    }
    let Some(fields) = tcp_sock(sk) else {
        return;
    };
    let mut index = 0;
    while index < RECENT {
        if let Some(started) = STARTED.get(index)
            && replaces(Untyped::new(minisock::around(started.timer as *const u8)), fields) == Ok(true)
        {
            if let Some(learnt) = LEARNT.get_ptr_mut(0) {
                // SAFETY: the map's only entry; whoever writes it too writes the same.
                unsafe { *learnt = started.function };
            }
            record_late(*started);
            return;
        }
        index += 1;
    }
    if let Some(socket) = TcpSocket::watched(sk) {
        ring::emit::<Header>(RecordKind::MinisockMissed, |record| {
            *record = socket.header(RecordKind::MinisockMissed, 0);
        });
    }
}

/// Whether this is the minisock of that full socket, as far as it is a minisock at all.
#[inline(always)]
fn replaces(minisock: Untyped, sk: Typed) -> Result<bool, i32> {
    Ok(minisock.get::<u8>(&LAYOUT.state)? == TIME_WAIT
        && minisock.get::<u32>(&LAYOUT.hash)? == sk.load::<u32>(&LAYOUT.hash)
        && minisock.get::<u16>(&LAYOUT.remote_port)? == sk.load::<u16>(&LAYOUT.remote_port)
        && minisock.get::<u16>(&LAYOUT.tw_local_port)? == sk.load::<u16>(&LAYOUT.local_port))
}

/// Records the start of a timer that nobody knew to be a minisock's when it was.
#[inline(always)]
fn record_late(started: Started) {
    let mut room = Copied::room();
    if let Some(minisock) = Minisock::at(minisock::around(started.timer as *const u8), &mut room) {
        ring::emit::<MinisockTimer>(RecordKind::TimerStart, |record| {
            minisock.write(RecordKind::TimerStart, record);
            record.header.at = started.at;
            record.jiffies = started.jiffies;
        });
    }
}
