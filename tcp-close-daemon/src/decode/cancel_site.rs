//! Which place in the kernel a cancelled minisock timer was cancelled from, told by the kernel stack.

use std::ops::Range;

use crate::{event::CancelSite, kernel::symbols::Symbols};

/// Functions that name the cause when they are the first known one on the stack, innermost first.
///
/// Names of timer code and of `inet_twsk_deschedule_put`, which every early end passes, say nothing and are not
/// here; they are passed over. Kernel sources: `net/ipv4/tcp_minisocks.c`, `inet_hashtables.c`,
/// `inet_timewait_sock.c`, `tcp_ipv4.c`, `tcp.c` and `kernel/time/timer.c`, Linux 5.10 to 7.2.
const FUNCTIONS: &[(&str, CancelSite)] = &[
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

/// Where the code of the functions lies that tell why a timer was cancelled.
#[derive(Clone, Debug, Default)]
pub struct CancelSites {
    /// Sorted by start; functions do not overlap.
    ranges: Vec<(Range<u64>, CancelSite)>,
}

impl CancelSites {
    /// The sites of the running kernel.
    pub fn from_symbols(symbols: &Symbols) -> Self {
        Self::from_ranges(
            FUNCTIONS
                .iter()
                .flat_map(|&(name, site)| symbols.ranges(name).into_iter().map(move |range| (range, site))),
        )
    }

    /// None are known: every cancellation is [`CancelSite::Unknown`].
    pub const fn unknown() -> Self {
        Self { ranges: Vec::new() }
    }

    /// Sites given one by one.
    pub fn from_ranges(ranges: impl IntoIterator<Item = (Range<u64>, CancelSite)>) -> Self {
        let mut ranges: Vec<_> = ranges.into_iter().collect();
        ranges.sort_unstable_by_key(|(range, _)| range.start);
        Self { ranges }
    }

    /// The site of a kernel stack, innermost return address first.
    pub fn classify(&self, stack: &[u64]) -> CancelSite {
        stack.iter().find_map(|&address| self.site_at(address)).unwrap_or(CancelSite::Unknown)
    }

    fn site_at(&self, address: u64) -> Option<CancelSite> {
        let after = self.ranges.partition_point(|(range, _)| range.start <= address);
        let (range, site) = self.ranges.get(after.checked_sub(1)?)?;
        range.contains(&address).then_some(*site)
    }
}
