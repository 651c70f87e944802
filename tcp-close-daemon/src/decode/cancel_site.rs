//! Which place in the kernel a cancelled minisock timer was cancelled from, told by the kernel stack.

use std::ops::Range;

use tcp_close_abi::EXPIRY_SITES;

use crate::{event::CancelSite, kernel::symbols::Symbols};

/// Functions between the tracepoint and the one that names the cause: timer code, and what every early end passes,
/// which some kernels inline. `kernel/time/timer.c`, `net/ipv4/inet_timewait_sock.c`, Linux 5.10 to 7.2.
const PASSED_OVER: &[&str] = &[
    "detach_if_pending",
    "try_to_del_timer_sync",
    "__try_to_del_timer_sync",
    "del_timer_sync",
    "__timer_delete_sync",
    "timer_delete_sync",
    "timer_shutdown_sync",
    "inet_twsk_deschedule_put",
];

/// Functions that name the cause. Kernel sources: `net/ipv4/tcp_minisocks.c`, `inet_hashtables.c`,
/// `inet_timewait_sock.c`, `tcp_ipv4.c`, `tcp.c` and `kernel/time/timer.c`, Linux 5.10 to 7.2.
const SITES: &[(&str, CancelSite)] = &[
    ("expire_timers", CancelSite::Expiry),
    ("__run_timers", CancelSite::Expiry),
    ("__run_timer_base", CancelSite::Expiry),
    ("timer_expire_remote", CancelSite::Expiry),
    ("run_timer_softirq", CancelSite::Expiry),
    // Every restart calls this from `tcp_timewait_state_process`; every other call of that function is a reset.
    ("__inet_twsk_schedule", CancelSite::Restart),
    ("__mod_timer", CancelSite::Restart),
    ("mod_timer", CancelSite::Restart),
    ("mod_timer_pending", CancelSite::Restart),
    ("tcp_timewait_state_process", CancelSite::Reset),
    ("__inet_check_established", CancelSite::Connect),
    ("__inet6_check_established", CancelSite::Connect),
    ("__inet_hash_connect", CancelSite::Connect),
    ("inet_hash_connect", CancelSite::Connect),
    ("inet6_hash_connect", CancelSite::Connect),
    ("tcp_v4_connect", CancelSite::Connect),
    ("tcp_v6_connect", CancelSite::Connect),
    ("tcp_v4_rcv", CancelSite::Receive),
    ("tcp_v6_rcv", CancelSite::Receive),
    ("inet_twsk_purge", CancelSite::Purge),
    ("tcp_twsk_purge", CancelSite::Purge),
    ("tcp_sk_exit_batch", CancelSite::Purge),
    ("cleanup_net", CancelSite::Purge),
    ("tcp_abort", CancelSite::Abort),
    ("tcp_diag_destroy", CancelSite::Abort),
];

/// What a frame of the stack says of the cancellation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame {
    /// Nothing: the frame beyond it does.
    PassedOver,
    /// Why it was.
    Site(CancelSite),
}

/// Where the code of the functions lies that tell why a timer was cancelled.
#[derive(Clone, Debug, Default)]
pub struct CancelSites {
    /// Sorted by start; functions do not overlap.
    ranges: Vec<(Range<u64>, Frame)>,
}

impl CancelSites {
    /// The functions whose symbols this takes.
    pub fn functions() -> impl Iterator<Item = &'static str> {
        let sites = SITES.iter().map(|&(name, _)| name);
        PASSED_OVER.iter().copied().chain(sites)
    }

    /// The sites of the running kernel.
    pub fn from_symbols(symbols: &Symbols) -> Self {
        Self::from_symbols_but(symbols, &[])
    }

    /// The same, with some functions left out, as if the kernel's symbols lacked them.
    pub fn from_symbols_but(symbols: &Symbols, hidden: &[&str]) -> Self {
        let passed_over = PASSED_OVER.iter().map(|&name| (name, Frame::PassedOver));
        let sites = SITES.iter().map(|&(name, site)| (name, Frame::Site(site)));
        let shown = passed_over.chain(sites).filter(|(name, _)| !hidden.contains(name));
        Self::from_ranges(
            shown.flat_map(|(name, frame)| symbols.ranges(name).into_iter().map(move |range| (range, frame))),
        )
    }

    /// The code that lets timers expire: where it begins, and its length; as many places as there is room for.
    pub fn expiry(&self) -> [[u64; 2]; EXPIRY_SITES] {
        let mut room = [[0; 2]; EXPIRY_SITES];
        let is_expiry = |(_, frame): &&(Range<u64>, Frame)| *frame == Frame::Site(CancelSite::Expiry);
        for (room, (range, _)) in room.iter_mut().zip(self.ranges.iter().filter(is_expiry)) {
            *room = [range.start, range.end - range.start];
        }
        room
    }

    /// None are known: every cancellation is [`CancelSite::Unknown`].
    pub const fn unknown() -> Self {
        Self { ranges: Vec::new() }
    }

    /// Frames given one by one.
    pub fn from_ranges(ranges: impl IntoIterator<Item = (Range<u64>, Frame)>) -> Self {
        let mut ranges: Vec<_> = ranges.into_iter().collect();
        ranges.sort_unstable_by_key(|(range, _)| range.start);
        Self { ranges }
    }

    /// The site of a kernel stack, innermost return address first.
    ///
    /// The stack begins with the tracepoint's and BPF's own frames, which are not known. Once a frame is one to be
    /// passed over, the first beyond those has to be known: else the cause is not, whatever its callers are.
    pub fn classify(&self, stack: &[u64]) -> CancelSite {
        let mut passing = false;
        for &address in stack {
            match self.frame_at(address) {
                Some(Frame::Site(site)) => return site,
                Some(Frame::PassedOver) => passing = true,
                None if passing => return CancelSite::Unknown,
                None => {}
            }
        }
        CancelSite::Unknown
    }

    fn frame_at(&self, address: u64) -> Option<Frame> {
        let after = self.ranges.partition_point(|(range, _)| range.start <= address);
        let (range, frame) = self.ranges.get(after.checked_sub(1)?)?;
        range.contains(&address).then_some(*frame)
    }
}
