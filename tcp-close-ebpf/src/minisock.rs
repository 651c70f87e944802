//! A minisock (`inet_timewait_sock`), found around its timer.
//!
//! The timer tracepoints see every timer of the host, so the first thing each hook does is to compare the
//! timer's function with the one that only minisocks have.

use aya_ebpf::{
    EbpfContext,
    helpers::generated::{bpf_jiffies64, bpf_ktime_get_ns},
};
use aya_log_ebpf::warn;
use tcp_close_abi::{AF_INET, AF_INET6, Header, Layout, MinisockTimer, Pair, RecordKind, flag};

use crate::{
    counters,
    kernel::{LAYOUT, SETTINGS, Typed, Untyped, constant, watched},
};

/// A TCP minisock in a network namespace that is watched.
pub(crate) struct Minisock {
    fields: Untyped,
    netns: u32,
}

impl Minisock {
    /// The minisock whose timer this is, if it is a minisock's, TCP's, and its namespace is watched.
    #[inline(always)]
    pub(crate) fn around<C: EbpfContext>(ctx: &C, timer: Typed) -> Option<Self> {
        if timer.load::<u64>(&LAYOUT.timer_function) != constant(&SETTINGS.tw_timer_handler) {
            return None;
        }
        Self::tcp(ctx, timer.as_ptr::<u8>().wrapping_sub(constant(&LAYOUT.tw_timer) as usize))
    }

    /// The minisock at this address, if it is TCP's and its namespace is watched.
    #[inline(always)]
    pub(crate) fn tcp<C: EbpfContext>(ctx: &C, address: *const u8) -> Option<Self> {
        let fields = Untyped::new(address);
        match Self::tcp_netns(fields) {
            Ok(Some(netns)) if watched(netns) => Some(Self { fields, netns }),
            Ok(_) => None,
            Err(error) => {
                counters::unreadable();
                warn!(ctx, "cannot read a minisock: error {}", error);
                None
            }
        }
    }

    /// Inode number of its network namespace; `None` for DCCP's minisocks, which share the timer function.
    #[inline(always)]
    fn tcp_netns(fields: Untyped) -> Result<Option<u32>, i32> {
        let prot = Untyped::new(fields.read(&LAYOUT.prot)?);
        let name: [u8; 3] = prot.read(&LAYOUT.prot_name)?;
        // "TCP" and "TCPv6" (net/ipv4/tcp_ipv4.c, net/ipv6/tcp_ipv6.c) against "DCCP" and "DCCPv6".
        if name != *b"TCP" {
            return Ok(None);
        }
        let net = Untyped::new(fields.read(&LAYOUT.net)?);
        net.read(&LAYOUT.netns).map(Some)
    }

    /// A record of this minisock's timer; one with a field that could not be read is flagged and counted.
    #[inline(always)]
    pub(crate) fn record<C: EbpfContext>(&self, ctx: &C, kind: RecordKind) -> MinisockTimer {
        // SAFETY: no arguments.
        let (at, jiffies) = unsafe { (bpf_ktime_get_ns(), bpf_jiffies64()) };
        let mut record = MinisockTimer {
            header: Header { at, cookie: 0, kind: kind as u32, netns: self.netns, flags: 0, reserved: 0 },
            pair: Pair {
                local: [0; 16],
                remote: [0; 16],
                local_port: 0,
                remote_port: 0,
                family: 0,
                reserved: 0,
            },
            minisock: self.fields.address(),
            jiffies,
            expires: 0,
            substate: 0,
            rcv_nxt: 0,
            bucket_expiry: 0,
            entry_stamp: 0,
            has_entry_stamp: u32::from(constant(&LAYOUT.tw_entry_stamp) != Layout::ABSENT),
        };
        if let Err(error) = self.fill(&mut record) {
            record.header.flags = flag::UNREADABLE;
            counters::unreadable();
            warn!(ctx, "cannot read a field of a minisock: error {}", error);
        }
        record
    }

    #[inline(always)]
    fn fill(&self, record: &mut MinisockTimer) -> Result<(), i32> {
        record.header.cookie = self.fields.read(&LAYOUT.cookie)?;
        record.expires = self.fields.read_at(&LAYOUT.tw_timer, &LAYOUT.timer_expires)?;
        record.entry_stamp = self.fields.read_if_present(&LAYOUT.tw_entry_stamp)?;
        record.substate = u32::from(self.fields.read::<u8>(&LAYOUT.tw_substate)?);
        record.rcv_nxt = self.fields.read(&LAYOUT.tw_rcv_nxt)?;
        record.pair.family = self.fields.read(&LAYOUT.family)?;
        record.pair.local_port = self.fields.read(&LAYOUT.tw_local_port)?;
        record.pair.remote_port = self.fields.read(&LAYOUT.remote_port)?;
        if record.pair.family == AF_INET {
            let (local, remote): ([u8; 4], [u8; 4]) =
                (self.fields.read(&LAYOUT.local_v4)?, self.fields.read(&LAYOUT.remote_v4)?);
            record.pair.local[..4].copy_from_slice(&local);
            record.pair.remote[..4].copy_from_slice(&remote);
        } else if record.pair.family == AF_INET6 {
            record.pair.local = self.fields.read(&LAYOUT.local_v6)?;
            record.pair.remote = self.fields.read(&LAYOUT.remote_v6)?;
        }
        Ok(())
    }
}
