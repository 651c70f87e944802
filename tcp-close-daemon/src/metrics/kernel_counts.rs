//! Totals that the kernel side keeps, carried over into counters.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use tcp_close_abi::{Counters, RecordKind};

use super::{catalogue::Catalogue, kind_label, raise};
use crate::event::{Monotonic, TcpState};

/// How long after a reset the core has said whether it was received at all; it waits that long for what may
/// still come in.
const RESET_SETTLES: Duration = Duration::from_millis(250);

/// Carries the kernel side's totals over; exact even when the ring overflows.
pub(super) struct KernelCounts {
    reset_reasons: BTreeMap<u32, String>,
    resets_not_received: u64,
    /// Counts of received resets that are not settled yet, with the time of each, oldest first.
    resets_received: VecDeque<(Monotonic, u64)>,
    resets_received_last: u64,
}

impl KernelCounts {
    pub(super) const fn new(reset_reasons: BTreeMap<u32, String>) -> Self {
        Self {
            reset_reasons,
            resets_not_received: 0,
            resets_received: VecDeque::new(),
            resets_received_last: 0,
        }
    }

    /// The kernel ran its code for a received reset without one: its count is one too high.
    pub(super) const fn reset_not_received(&mut self) {
        self.resets_not_received += 1;
    }

    pub(super) fn advance(&mut self, catalogue: &Catalogue, counters: &Counters, now: Monotonic) {
        let transitions = counters.transitions.iter().zip(0..).flat_map(|(row, from)| {
            row.iter().zip(0..).filter(|&(&count, _)| count > 0).map(move |(&count, to)| (from, to, count))
        });
        for (from, to, count) in transitions {
            let (from, to) = (state_label(from), state_label(to));
            if from == to {
                raise(&catalogue.orphaned_total.with_label_values(&[from]), count);
            } else {
                raise(&catalogue.transitions_total.with_label_values(&[from, to]), count);
            }
            if to == TcpState::Close.label()
                && [TcpState::SynSent.label(), TcpState::SynRecv.label()].contains(&from)
            {
                raise(&catalogue.attempts_failed_total.with_label_values(&[from]), count);
            }
        }
        for (&count, state) in counters.fin_retransmits.iter().zip(0..).filter(|&(&count, _)| count > 0) {
            raise(&catalogue.fin_retransmits_total.with_label_values(&[state_label(state)]), count);
        }
        self.resets_sent(catalogue, counters);
        self.resets_received(catalogue, counters, now);
        for kind in RecordKind::ALL {
            raise(
                &catalogue.events_total.with_label_values(&[kind_label(kind)]),
                counters.submitted_of(kind),
            );
        }
        let lost = &catalogue.events_lost_total;
        raise(&lost.with_label_values(&["ring_full"]), counters.lost_total());
        raise(&lost.with_label_values(&["unreadable"]), counters.unreadable);
        if counters.openers_evicted > 0 {
            raise(&catalogue.tracked_evicted_total.with_label_values(&["openers"]), counters.openers_evicted);
        }
    }

    fn resets_sent(&self, catalogue: &Catalogue, counters: &Counters) {
        // Two numbers may have one name, "unknown": their counts belong together.
        let mut by_name: BTreeMap<&str, u64> = BTreeMap::new();
        for (&count, reason) in counters.resets_sent.iter().zip(0..).filter(|&(&count, _)| count > 0) {
            *by_name.entry(self.reset_reasons.get(&reason).map_or("unknown", String::as_str)).or_default() +=
                count;
        }
        for (reason, count) in by_name {
            raise(&catalogue.resets_total.with_label_values(&["sent", reason]), count);
        }
    }

    /// A counter cannot be taken back: what may turn out not to be a received reset is not told until it has
    /// settled.
    fn resets_received(&mut self, catalogue: &Catalogue, counters: &Counters, now: Monotonic) {
        if counters.resets_received > self.resets_received_last {
            self.resets_received_last = counters.resets_received;
            self.resets_received.push_back((now, counters.resets_received));
        }
        while let Some(&(at, count)) = self.resets_received.front()
            && at + RESET_SETTLES <= now
        {
            let received = count.saturating_sub(self.resets_not_received);
            raise(&catalogue.resets_total.with_label_values(&["received", "unknown"]), received);
            self.resets_received.pop_front();
        }
    }
}

/// Label of a state by the kernel's number.
fn state_label(number: u32) -> &'static str {
    TcpState::from_kernel(number).map_or("unknown", TcpState::label)
}
