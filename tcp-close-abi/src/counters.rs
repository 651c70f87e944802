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
    /// Changes of state that the first of several equal programs left to another, which had taken them before. It is read
    /// before [`changes_made_up`](Self::changes_made_up), in which those are.
    pub changes_left: u64,
    /// Changes of state that another than the first of several equal programs took, in place of those that were running
    /// already.
    pub changes_made_up: u64,
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
        changes_left: 0,
        changes_made_up: 0,
        reserved: [0; 3],
    };

    /// Records lost of all kinds.
    pub fn lost_total(&self) -> u64 {
        self.lost.iter().sum()
    }

    /// Changes of state that no program took, where the first of several equal ones did not run for this many: whichever
    /// took one in its place says so. What is read before the other counts is too little, never too much.
    pub const fn changes_lost(&self, missed_by_first: u64) -> u64 {
        (missed_by_first + self.changes_left).saturating_sub(self.changes_made_up)
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
    fn a_change_is_lost_that_nobody_takes_in_place_of_the_first() {
        for (missed_by_first, left, made_up, lost) in [
            (0, 0, 0, 0),
            (5, 0, 5, 0),
            (5, 0, 3, 2),
            // The first has run again, and found what another had taken.
            (5, 1, 6, 0),
            // What was made up after the misses were read.
            (5, 0, 6, 0),
        ] {
            let counters = Counters { changes_left: left, changes_made_up: made_up, ..Counters::ZERO };
            assert_eq!(counters.changes_lost(missed_by_first), lost, "{missed_by_first} {left} {made_up}");
        }
    }
}
