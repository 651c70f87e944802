//! What the kernel side counts exactly, per CPU, whether or not a record found room in the ring.

#[cfg(feature = "zerocopy")]
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::RecordKind;

/// Rows and columns of the transition matrix: the kernel's 13 TCP states, rounded up to a power of two.
pub const STATES: usize = 16;

/// Room for `enum sk_rst_reason` (26 values up to Linux 7.2); a larger value is counted at index 0.
pub const RESET_REASONS: usize = 64;

/// One CPU's counters; the truth is the sum over all CPUs. Each only grows.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "zerocopy", derive(FromBytes, Immutable, IntoBytes, KnownLayout))]
#[repr(C)]
pub struct Counters {
    /// State changes by old and new state; the diagonal counts `close()` after `shutdown()`.
    pub transitions: [[u64; STATES]; STATES],
    /// FIN retransmissions by the socket's state.
    pub fin_retransmits: [u64; STATES],
    /// Resets sent by `enum sk_rst_reason`; all at index 0 where the kernel gives no reason.
    pub resets_sent: [u64; RESET_REASONS],
    /// Hits of `tcp:tcp_receive_reset`.
    pub resets_received: u64,
    /// Kernel fields that could not be read.
    pub unreadable: u64,
    /// Records put into the ring, by [`RecordKind`].
    pub submitted: [u64; Self::KINDS],
    /// Records lost because the ring was full, by [`RecordKind`].
    pub lost: [u64; Self::KINDS],
    /// Sockets whose opener had to make room for another's.
    pub openers_evicted: u64,
    /// Events that the first of several equal programs found taken by another. It is read before
    /// [`events_made_up`](Self::events_made_up), in which those are.
    pub events_left: u64,
    /// Events that another than the first of several equal programs took.
    pub events_made_up: u64,
    /// Always 0; it keeps CPUs out of each other's cache lines.
    pub reserved: [u64; 3],
}

impl Counters {
    /// Room for [`RecordKind`]s, a power of two so that an index can be masked.
    pub const KINDS: usize = 16;

    /// All zero.
    pub const ZERO: Self = Self {
        transitions: [[0; STATES]; STATES],
        fin_retransmits: [0; STATES],
        resets_sent: [0; RESET_REASONS],
        resets_received: 0,
        unreadable: 0,
        submitted: [0; Self::KINDS],
        lost: [0; Self::KINDS],
        openers_evicted: 0,
        events_left: 0,
        events_made_up: 0,
        reserved: [0; 3],
    };

    /// Records lost of all kinds.
    pub fn lost_total(&self) -> u64 {
        self.lost.iter().sum()
    }

    /// Events that none of several equal programs took, where the first missed this many: whichever took one in its place
    /// counts it. To be asked with what was read before these counts: what comes in between makes it too little. For a moment
    /// it may be too much: while an event is between two programs, or a thread changes CPUs as they are summed.
    pub const fn events_lost(&self, missed_by_first: u64) -> u64 {
        (missed_by_first + self.events_left).saturating_sub(self.events_made_up)
    }

    /// Events that others of several equal programs took while the first was not attached yet, and missed this many since then.
    /// To be asked once all are attached, with what was read after these counts.
    pub const fn taken_before_the_first(&self, missed_by_first: u64) -> u64 {
        self.events_made_up.saturating_sub(missed_by_first + self.events_left)
    }

    /// Records submitted of one kind.
    pub const fn submitted_of(&self, kind: RecordKind) -> u64 {
        self.submitted[kind as usize]
    }
}

const _: () = assert!(size_of::<Counters>() == 8 * (256 + 16 + 64 + 2 + 32 + 3 + 3));
const _: () = assert!(size_of::<Counters>().is_multiple_of(64));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_lost_that_nobody_takes_in_place_of_the_first() {
        for (missed_by_first, left, made_up, lost) in [
            (0, 0, 0, 0),
            (5, 0, 5, 0),
            (5, 0, 3, 2),
            // The first has run again, and found what another had taken.
            (5, 1, 6, 0),
            // What was made up after the misses were read.
            (5, 0, 6, 0),
        ] {
            let counters = Counters { events_left: left, events_made_up: made_up, ..Counters::ZERO };
            assert_eq!(counters.events_lost(missed_by_first), lost, "{missed_by_first} {left} {made_up}");
        }
    }

    #[test]
    fn what_was_taken_before_the_first_was_there_hides_no_loss() {
        let counters = Counters { events_left: 1, events_made_up: 203, ..Counters::ZERO };
        let before = counters.taken_before_the_first(2);
        assert_eq!(before, 200);
        // Of three more that it misses, one is made up for.
        let counters = Counters { events_made_up: 204, ..counters };
        assert_eq!(counters.events_lost(5 + before), 2);
        assert_eq!(Counters::ZERO.taken_before_the_first(2), 0);
    }
}
