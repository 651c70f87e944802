//! A minisock (`inet_timewait_sock`), as its timer or a function hands it over.

use aya_ebpf::helpers::generated::{bpf_jiffies64, bpf_ktime_get_ns};
use tcp_close_abi::{
    AF_INET, Header, Layout, MinisockExpireV4, MinisockSegment, MinisockTimer, RecordKind, flag,
};

use crate::{
    counters, handler,
    kernel::{Copied, LAYOUT, Memory, SETTINGS, Typed, constant, watched},
    reads::Reads,
    ring,
    socket::{netns_of, pair_is_watched},
};

/// A TCP minisock that is watched: by its network namespace, family and ports.
pub(crate) struct Minisock<M> {
    fields: M,
    netns: u32,
    family: u16,
}

/// The address of the minisock around a timer.
#[inline(always)]
pub(crate) fn around(timer: *const u8) -> *const u8 {
    timer.wrapping_sub(constant(&LAYOUT.tw_timer) as usize)
}

impl<'r> Minisock<&'r Copied> {
    /// The minisock whose timer this is, if it is a minisock's, TCP's, and watched.
    ///
    /// The timer tracepoints see every timer of the host, so the first thing is to compare the timer's function with
    /// the one that only minisocks have.
    #[inline(always)]
    pub(crate) fn of_timer(timer: Typed, room: &'r mut Copied) -> Option<Self> {
        let handler = handler::address();
        if handler == 0 || timer.load::<u64>(&LAYOUT.timer_function) != handler {
            return None;
        }
        Self::at(around(timer.as_ptr()), room)
    }

    /// The minisock at this address, if it is TCP's and watched.
    #[inline(always)]
    pub(crate) fn at(address: *const u8, room: &'r mut Copied) -> Option<Self> {
        Self::tcp(copied(address, room)?)
    }
}

/// What is read of the minisock at this address; none, which is counted, where it cannot be read.
#[inline(always)]
pub(crate) fn copied(address: *const u8, room: &mut Copied) -> Option<&Copied> {
    let copy = room.take(address).ok();
    if copy.is_none() {
        counters::unreadable();
    }
    copy
}

impl<M: Memory> Minisock<M> {
    /// This minisock, if it is TCP's and watched.
    #[inline(always)]
    pub(crate) fn tcp(fields: M) -> Option<Self> {
        let Ok(watched) = Self::watched(fields) else {
            // This is verified once for each read that may fail: it must be little.
            counters::unreadable();
            return None;
        };
        watched
    }

    /// The same; `None` also for DCCP's minisocks, which have the same functions.
    #[inline(always)]
    fn watched(fields: M) -> Result<Option<Self>, i32> {
        // "TCP" and "TCPv6" (net/ipv4/tcp_ipv4.c, net/ipv6/tcp_ipv6.c) against "DCCP" and "DCCPv6"; no other protocol
        // has minisocks.
        if fields.follow(&LAYOUT.prot)?.get::<u8>(&LAYOUT.prot_name)? != b'T' {
            return Ok(None);
        }
        let (netns, family) = (netns_of(fields)?, fields.get(&LAYOUT.family)?);
        let is_watched = watched(netns) && pair_is_watched(fields, family, &LAYOUT.tw_local_port)?;
        Ok(is_watched.then_some(Self { fields, netns, family }))
    }

    /// Writes what its timer is at now; where a field cannot be read, that is flagged and counted.
    #[inline(always)]
    pub(crate) fn write(&self, kind: RecordKind, timer: &mut MinisockTimer) {
        let fields = self.fields;
        let mut reads = Reads::of(fields);
        *timer = MinisockTimer {
            header: self.header(&mut reads, kind),
            pair: reads.pair(&LAYOUT.tw_local_port),
            minisock: fields.address(),
            jiffies: jiffies(),
            expires: reads.get_in(&LAYOUT.tw_timer, &LAYOUT.timer_expires),
            substate: u32::from(reads.get::<u8>(&LAYOUT.tw_substate)),
            rcv_nxt: reads.get(&LAYOUT.tw_rcv_nxt),
            bucket_expiry: 0,
            entry_stamp: if has_entry_stamp() { reads.get(&LAYOUT.tw_entry_stamp) } else { 0 },
            has_entry_stamp: u32::from(has_entry_stamp()),
        };
        reads.note(&mut timer.header);
    }

    #[inline(always)]
    fn header(&self, reads: &mut Reads<M>, kind: RecordKind) -> Header {
        Header {
            // SAFETY: no arguments.
            at: unsafe { bpf_ktime_get_ns() },
            socket: if constant(&SETTINGS.cookies) != 0 { reads.get(&LAYOUT.cookie) } else { 0 },
            kind: kind as u32,
            netns: self.netns,
            flags: 0,
            reserved: 0,
        }
    }

    /// Records that its timer has expired.
    #[inline(always)]
    pub(crate) fn emit_expiry(&self) {
        if self.family == AF_INET {
            ring::emit::<MinisockExpireV4>(RecordKind::TimerExpire, |record| self.write_expiry_v4(record));
        } else {
            ring::emit::<MinisockTimer>(RecordKind::TimerExpire, |record| {
                self.write(RecordKind::TimerExpire, record);
            });
        }
    }

    #[inline(always)]
    fn write_expiry_v4(&self, record: &mut MinisockExpireV4) {
        // `TCP_FIN_WAIT2` of include/net/tcp_states.h, which is user-space ABI.
        const FIN_WAIT2: u8 = 5;
        let mut reads = Reads::of(self.fields);
        let expires: u64 = reads.get_in(&LAYOUT.tw_timer, &LAYOUT.timer_expires);
        #[expect(clippy::cast_possible_truncation, reason = "no timer is late by ages")]
        let late = jiffies().wrapping_sub(expires) as i32;
        *record = MinisockExpireV4 {
            header: self.header(&mut reads, RecordKind::TimerExpire),
            minisock: self.fields.address(),
            local: reads.get(&LAYOUT.local_v4),
            remote: reads.get(&LAYOUT.remote_v4),
            local_port: reads.get(&LAYOUT.tw_local_port),
            remote_port: reads.get(&LAYOUT.remote_port),
            rcv_nxt: reads.get(&LAYOUT.tw_rcv_nxt),
            late,
            entry_stamp: if has_entry_stamp() { reads.get(&LAYOUT.tw_entry_stamp) } else { 0 },
        };
        if reads.get::<u8>(&LAYOUT.tw_substate) == FIN_WAIT2 {
            record.header.flags |= flag::FIN_WAIT2;
        }
        if has_entry_stamp() {
            record.header.flags |= flag::ENTRY_STAMP;
        }
        reads.note(&mut record.header);
    }

    /// Records a segment that this minisock has dealt with, as a [`MinisockSegment`].
    #[inline(always)]
    pub(crate) fn emit_segment<S: Memory>(&self, skb: S) {
        ring::emit::<MinisockSegment>(RecordKind::Segment, |record| {
            self.write(RecordKind::Segment, &mut record.timer);
            let mut reads = Reads::of(skb);
            record.seq = reads.get_in(&LAYOUT.skb_cb, &LAYOUT.cb_seq);
            record.end_seq = reads.get_in(&LAYOUT.skb_cb, &LAYOUT.cb_end_seq);
            record.tcp_flags = u32::from(reads.get_in::<u8>(&LAYOUT.skb_cb, &LAYOUT.cb_flags));
            record.reserved = 0;
            reads.note(&mut record.timer.header);
        });
    }
}

#[inline(always)]
fn jiffies() -> u64 {
    // SAFETY: no arguments.
    unsafe { bpf_jiffies64() }
}

/// Whether this kernel stamps minisocks when they begin.
#[inline(always)]
fn has_entry_stamp() -> bool {
    constant(&LAYOUT.tw_entry_stamp) != Layout::ABSENT
}
