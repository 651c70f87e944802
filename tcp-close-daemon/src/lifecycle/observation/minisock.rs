//! What becomes known of a minisock: its begin, its restarts, and its end, with why and after how long.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Story;
use crate::event::{ConnectionId, Monotonic, Pair, Process, TcpState};

/// A minisock began.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct MinisockBegan {
    /// When.
    pub at: Monotonic,
    /// `FinWait2` or `TimeWait`.
    pub substate: TcpState,
    /// Its nominal wait, as the kernel set it.
    pub nominal: Duration,
    /// How long past its nominal end the timer wheel may keep it.
    pub slack: Duration,
}

/// A minisock's wait began again.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Restarted {
    /// When.
    pub at: Monotonic,
    /// This start was the flip from FIN-WAIT-2: the true beginning of TIME-WAIT.
    pub flipped: bool,
    /// How it is known.
    pub witness: Witness,
}

/// A minisock in TIME-WAIT dealt with a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Absorbed {
    /// The peer's FIN came again: the final acknowledgement was lost.
    FinAgain,
    /// Anything else.
    Stray,
}

/// A minisock's life is over.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct MinisockEnded {
    /// When.
    pub at: Monotonic,
    /// Which connection.
    pub id: ConnectionId,
    /// Its socket pair.
    pub pair: Pair,
    /// What is known of the full socket before it; `None` where that closed unseen.
    pub story: Option<Story>,
    /// Substate it began in; `None` where its beginning was not seen.
    pub began_in: Option<TcpState>,
    /// From the minisock's beginning to its end.
    pub minisock: Option<Duration>,
    /// Time in FIN-WAIT-2, over full socket and minisock.
    pub fin_wait2: Option<Duration>,
    /// Why it ended.
    pub cause: EndCause,
    /// The process behind that: who took the socket pair by `connect()`, or who killed it.
    pub by: Option<Process>,
    /// Its TIME-WAIT; `None` for one that never saw the peer's FIN.
    pub time_wait: Option<TimeWait>,
    /// Sequence number of the peer's FIN.
    pub peer_fin: Option<u32>,
    /// Its flip from FIN-WAIT-2 to TIME-WAIT was told when it was, as a [`Restarted`].
    pub flip_is_told: bool,
    /// Events were lost while it lived.
    pub gap: bool,
}

/// Why a minisock ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndCause {
    /// TIME-WAIT: its time was up.
    Expired,
    /// A local `connect()` took the socket pair.
    Reused,
    /// TIME-WAIT: an acceptable SYN took the socket pair.
    Recycled,
    /// TIME-WAIT: a reset killed it (RFC 1337).
    Assassinated,
    /// The network namespace went away.
    Purged,
    /// An operator: `ss -K`.
    Killed,
    /// FIN-WAIT-2: the peer's FIN did not come in time.
    FinWait2Timeout,
    /// FIN-WAIT-2: a reset came.
    ResetInFinWait2,
    /// FIN-WAIT-2: data or a SYN came, and was answered by a reset.
    ResetByUs,
    /// Not known.
    Unknown,
}

impl EndCause {
    /// Every cause.
    pub const ALL: [Self; 10] = [
        Self::Expired,
        Self::Reused,
        Self::Recycled,
        Self::Assassinated,
        Self::Purged,
        Self::Killed,
        Self::FinWait2Timeout,
        Self::ResetInFinWait2,
        Self::ResetByUs,
        Self::Unknown,
    ];

    /// Every cause a TIME-WAIT can have.
    pub const OF_TIME_WAIT: [Self; 7] = [
        Self::Expired,
        Self::Reused,
        Self::Recycled,
        Self::Assassinated,
        Self::Purged,
        Self::Killed,
        Self::Unknown,
    ];

    /// Every cause a minisock that stayed in FIN-WAIT-2 can have.
    pub const OF_FIN_WAIT2: [Self; 7] = [
        Self::FinWait2Timeout,
        Self::ResetInFinWait2,
        Self::ResetByUs,
        Self::Reused,
        Self::Purged,
        Self::Killed,
        Self::Unknown,
    ];

    /// Name in labels, JSON and tables.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Reused => "reused",
            Self::Recycled => "recycled",
            Self::Assassinated => "assassinated",
            Self::Purged => "purged",
            Self::Killed => "killed",
            Self::FinWait2Timeout => "fin_wait2_timeout",
            Self::ResetInFinWait2 => "reset_in_fin_wait2",
            Self::ResetByUs => "reset_by_us",
            Self::Unknown => "unknown",
        }
    }
}

/// A TIME-WAIT that is over, measured.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TimeWait {
    /// From entry to end.
    pub dwell: Duration,
    /// From the last restart, or the entry, to the end.
    pub since_last_restart: Duration,
    /// The wait the kernel set.
    pub nominal: Duration,
    /// How far past the nominal wait is still nominal.
    pub slack: Duration,
    /// Restarts that are known of; a minimum where the witness is [`Witness::Inferred`].
    pub restarts: u32,
    /// FINs of the peer that came again; `None` where segments are not seen.
    pub final_acks_lost: Option<u32>,
    /// Other segments that came; `None` where segments are not seen.
    pub strays: Option<u32>,
    /// What the first of its two purposes alone would take: from the peer's first FIN to its last, and an MSL.
    /// `None` where segments are not seen.
    pub needed: Option<Duration>,
    /// How the entry is known.
    pub witness: Witness,
    /// Judged from the last restart.
    pub verdict: Verdict,
}

/// 2MSL by RFC 9293: an MSL is two minutes (§3.4.2), and TIME-WAIT lasts two of them (§3.3.2, MUST-13).
pub const RFC_9293_2MSL: Duration = Duration::from_secs(240);

/// The maximum segment lifetime that Linux reckons with in effect: its TIME-WAIT is two of them.
pub const LINUX_MSL: Duration = Duration::from_secs(30);

/// How the entry into TIME-WAIT, and its restarts, are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Witness {
    /// Each was seen.
    Exact,
    /// Some leave no trace, and are inferred from what the timer says at the end.
    Inferred,
}

impl Witness {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Exact, Self::Inferred];

    /// Name in labels and JSON.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Inferred => "inferred",
        }
    }
}

/// A dwell against the nominal wait and its slack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Shorter than the nominal wait.
    Premature,
    /// The nominal wait, up to the slack that the timer wheel takes.
    Nominal,
    /// Longer than both together.
    Prolonged,
}

impl Verdict {
    /// Every verdict.
    pub const ALL: [Self; 3] = [Self::Premature, Self::Nominal, Self::Prolonged];

    /// Name in labels and JSON.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Premature => "premature",
            Self::Nominal => "nominal",
            Self::Prolonged => "prolonged",
        }
    }

    /// Judges a dwell since the last restart.
    ///
    /// A wait is a whole number of ticks, the first of which has already begun, so a dwell may be short of it by
    /// one; two are allowed for, which is no more than 20 ms on any kernel. And timers run in a softirq, which a
    /// busy CPU puts off: a tenth of a second of that is not the wait's.
    pub fn judge(dwell: Duration, nominal: Duration, slack: Duration) -> Self {
        const TWO_TICKS: Duration = Duration::from_millis(20);
        const PUT_OFF: Duration = Duration::from_millis(100);
        if dwell + TWO_TICKS < nominal {
            Self::Premature
        } else if dwell <= nominal + slack + PUT_OFF {
            Self::Nominal
        } else {
            Self::Prolonged
        }
    }
}
