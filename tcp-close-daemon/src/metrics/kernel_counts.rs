//! Totals that the kernel side keeps, carried over into counters.

use std::collections::BTreeMap;

use tcp_close_abi::{Counters, RecordKind};

use super::{catalogue::Catalogue, kind_label, raise};
use crate::event::TcpState;

/// Carries the kernel side's totals over; exact even when the ring overflows.
pub(super) struct KernelCounts {
    reset_reasons: BTreeMap<u32, String>,
    resets_not_received: u64,
}

impl KernelCounts {
    pub(super) const fn new(reset_reasons: BTreeMap<u32, String>) -> Self {
        Self { reset_reasons, resets_not_received: 0 }
    }

    /// The kernel ran its code for a received reset without one: its count is one too high.
    pub(super) const fn reset_not_received(&mut self) {
        self.resets_not_received += 1;
    }

    pub(super) fn advance(&self, catalogue: &Catalogue, counters: &Counters) {
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
        self.resets(catalogue, counters);
        for kind in RecordKind::ALL {
            raise(
                &catalogue.events_total.with_label_values(&[kind_label(kind)]),
                counters.submitted_of(kind),
            );
        }
        let lost = &catalogue.events_lost_total;
        raise(&lost.with_label_values(&["ring_full"]), counters.lost_total());
        raise(&lost.with_label_values(&["unreadable"]), counters.unreadable);
    }

    fn resets(&self, catalogue: &Catalogue, counters: &Counters) {
        // Two numbers may have one name, "unknown": their counts belong together.
        let mut by_name: BTreeMap<&str, u64> = BTreeMap::new();
        for (&count, reason) in counters.resets_sent.iter().zip(0..).filter(|&(&count, _)| count > 0) {
            *by_name.entry(self.reset_reasons.get(&reason).map_or("unknown", String::as_str)).or_default() +=
                count;
        }
        for (reason, count) in by_name {
            raise(&catalogue.resets_total.with_label_values(&["sent", reason]), count);
        }
        let received = counters.resets_received.saturating_sub(self.resets_not_received);
        raise(&catalogue.resets_total.with_label_values(&["received", "unknown"]), received);
    }
}

/// Label of a state by the kernel's number.
fn state_label(number: u32) -> &'static str {
    TcpState::from_kernel(number).map_or("unknown", TcpState::label)
}
