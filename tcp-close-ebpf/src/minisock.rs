//! A minisock (`inet_timewait_sock`), as its timer or a function hands it over.

use aya_ebpf::helpers::generated::{bpf_jiffies64, bpf_ktime_get_ns};
use tcp_close_abi::{Header, Layout, MinisockSegment, MinisockTimer, Pair, RecordKind, flag};

use crate::{
    counters, handler,
    kernel::{LAYOUT, Memory, SETTINGS, Typed, Untyped, constant, watched},
    ring,
    socket::{netns_of, pair, pair_is_watched},
};

/// A TCP minisock that is watched: by its network namespace, family and ports.
pub(crate) struct Minisock<M> {
    fields: M,
    netns: u32,
}

/// The address of the minisock around a timer.
#[inline(always)]
pub(crate) fn around(timer: *const u8) -> *const u8 {
    timer.wrapping_sub(constant(&LAYOUT.tw_timer) as usize)
}

impl Minisock<Untyped> {
    /// The minisock whose timer this is, if it is a minisock's, TCP's, and watched.
    ///
    /// The timer tracepoints see every timer of the host, so the first thing is to compare the timer's function with
    /// the one that only minisocks have.
    #[inline(always)]
    pub(crate) fn of_timer(timer: Typed) -> Option<Self> {
        let handler = handler::address();
        if handler == 0 || timer.load::<u64>(&LAYOUT.timer_function) != handler {
            return None;
        }
        Self::tcp(Untyped::new(around(timer.as_ptr())))
    }
}

impl<M: Memory> Minisock<M> {
    /// This minisock, if it is TCP's and watched.
    #[inline(always)]
    pub(crate) fn tcp(fields: M) -> Option<Self> {
        let Ok(netns) = Self::watched_netns(fields) else {
            // This is verified once for each read that may fail: it must be little.
            counters::unreadable();
            return None;
        };
        netns.map(|netns| Self { fields, netns })
    }

    /// Inode number of its network namespace, if it is watched; `None` for DCCP's minisocks, which have the same
    /// functions.
    #[inline(always)]
    fn watched_netns(fields: M) -> Result<Option<u32>, i32> {
        // "TCP" and "TCPv6" (net/ipv4/tcp_ipv4.c, net/ipv6/tcp_ipv6.c) against "DCCP" and "DCCPv6"; no other protocol
        // has minisocks.
        if fields.follow(&LAYOUT.prot)?.get::<u8>(&LAYOUT.prot_name)? != b'T' {
            return Ok(None);
        }
        let netns = netns_of(fields)?;
        let is_watched =
            watched(netns) && pair_is_watched(fields, fields.get(&LAYOUT.family)?, &LAYOUT.tw_local_port)?;
        Ok(is_watched.then_some(netns))
    }

    /// A record of this minisock's timer; one with a field that could not be read is flagged and counted.
    #[inline(always)]
    pub(crate) fn record(&self, kind: RecordKind) -> MinisockTimer {
        // SAFETY: no arguments.
        let (at, jiffies) = unsafe { (bpf_ktime_get_ns(), bpf_jiffies64()) };
        let mut record = MinisockTimer {
            header: Header { at, socket: 0, kind: kind as u32, netns: self.netns, flags: 0, reserved: 0 },
            pair: Pair::ZERO,
            minisock: self.fields.address(),
            jiffies,
            expires: 0,
            substate: 0,
            rcv_nxt: 0,
            bucket_expiry: 0,
            entry_stamp: 0,
            has_entry_stamp: u32::from(constant(&LAYOUT.tw_entry_stamp) != Layout::ABSENT),
        };
        if self.fill(&mut record).is_err() {
            record.header.flags = flag::UNREADABLE;
            counters::unreadable();
        }
        record
    }

    #[inline(always)]
    fn fill(&self, record: &mut MinisockTimer) -> Result<(), i32> {
        let fields = self.fields;
        if constant(&SETTINGS.cookies) != 0 {
            record.header.socket = fields.get(&LAYOUT.cookie)?;
        }
        record.expires = fields.get_in(&LAYOUT.tw_timer, &LAYOUT.timer_expires)?;
        if constant(&LAYOUT.tw_entry_stamp) != Layout::ABSENT {
            record.entry_stamp = fields.get(&LAYOUT.tw_entry_stamp)?;
        }
        record.substate = u32::from(fields.get::<u8>(&LAYOUT.tw_substate)?);
        record.rcv_nxt = fields.get(&LAYOUT.tw_rcv_nxt)?;
        record.pair = pair(fields, fields.get(&LAYOUT.family)?, &LAYOUT.tw_local_port)?;
        Ok(())
    }

    /// Records a segment that this minisock has dealt with, as a [`MinisockSegment`].
    #[inline(always)]
    pub(crate) fn emit_segment<S: Memory>(&self, skb: S) {
        ring::emit::<MinisockSegment>(RecordKind::Segment, |record| {
            let record = record.write(MinisockSegment {
                timer: self.record(RecordKind::Segment),
                seq: 0,
                end_seq: 0,
                tcp_flags: 0,
                reserved: 0,
            });
            if fill_segment(skb, record).is_err() {
                record.timer.header.flags |= flag::UNREADABLE;
                counters::unreadable();
            }
        });
    }
}

#[inline(always)]
fn fill_segment<S: Memory>(skb: S, record: &mut MinisockSegment) -> Result<(), i32> {
    record.seq = skb.get_in(&LAYOUT.skb_cb, &LAYOUT.cb_seq)?;
    record.end_seq = skb.get_in(&LAYOUT.skb_cb, &LAYOUT.cb_end_seq)?;
    record.tcp_flags = u32::from(skb.get_in::<u8>(&LAYOUT.skb_cb, &LAYOUT.cb_flags)?);
    Ok(())
}
