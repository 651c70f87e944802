//! The states of TCP, by Linux's numbers, and their names in labels, in `ss` and wherever somebody types one.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A TCP state, numbered as in Linux (`include/net/tcp_states.h`, user-space ABI).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
#[expect(missing_docs, reason = "RFC 9293 §3.3.2 defines them")]
pub enum TcpState {
    Established = 1,
    SynSent = 2,
    SynRecv = 3,
    FinWait1 = 4,
    FinWait2 = 5,
    TimeWait = 6,
    Close = 7,
    CloseWait = 8,
    LastAck = 9,
    Listen = 10,
    Closing = 11,
}

impl TcpState {
    /// Every state a full socket or a minisock can be in.
    pub const ALL: [Self; 11] = [
        Self::Established,
        Self::SynSent,
        Self::SynRecv,
        Self::FinWait1,
        Self::FinWait2,
        Self::TimeWait,
        Self::Close,
        Self::CloseWait,
        Self::LastAck,
        Self::Listen,
        Self::Closing,
    ];

    /// Those of a connection that has begun to close and not finished.
    pub const CLOSING: [Self; 6] =
        [Self::FinWait1, Self::FinWait2, Self::TimeWait, Self::CloseWait, Self::LastAck, Self::Closing];

    /// The state with the kernel's number; `None` for a number that is not a state of a connection.
    pub fn from_kernel(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|&state| state as u32 == number)
    }

    /// Name in labels and JSON, as `node_exporter` spells it: `fin_wait2`.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Established => "established",
            Self::SynSent => "syn_sent",
            Self::SynRecv => "syn_recv",
            Self::FinWait1 => "fin_wait1",
            Self::FinWait2 => "fin_wait2",
            Self::TimeWait => "time_wait",
            Self::Close => "close",
            Self::CloseWait => "close_wait",
            Self::LastAck => "last_ack",
            Self::Listen => "listen",
            Self::Closing => "closing",
        }
    }

    /// Name in tables, as `ss` spells it: `fin-wait-2`.
    pub const fn ss_name(self) -> &'static str {
        match self {
            Self::Established => "estab",
            Self::SynSent => "syn-sent",
            Self::SynRecv => "syn-recv",
            Self::FinWait1 => "fin-wait-1",
            Self::FinWait2 => "fin-wait-2",
            Self::TimeWait => "time-wait",
            Self::Close => "closed",
            Self::CloseWait => "close-wait",
            Self::LastAck => "last-ack",
            Self::Listen => "listen",
            Self::Closing => "closing",
        }
    }

    /// Whether a connection in this state has begun to close and not finished.
    pub const fn is_closing(self) -> bool {
        matches!(
            self,
            Self::FinWait1
                | Self::FinWait2
                | Self::TimeWait
                | Self::CloseWait
                | Self::LastAck
                | Self::Closing
        )
    }
}

/// Not the name of a TCP state.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "no TCP state is called {0:?}; the states are established, syn-sent, syn-recv, fin-wait-1, fin-wait-2, time-wait, close, close-wait, last-ack, listen, closing"
)]
pub struct UnknownState(String);

impl FromStr for TcpState {
    type Err = UnknownState;

    /// Accepts the spellings of `ss` (`FIN-WAIT-2`, `estab`), of the kernel (`FIN_WAIT2`) and of labels.
    fn from_str(name: &str) -> Result<Self, UnknownState> {
        let plain = name
            .chars()
            .filter(|character| !matches!(character, '-' | '_'))
            .collect::<String>()
            .to_lowercase();
        let found = Self::ALL.into_iter().find(|state| state.label().replace('_', "") == plain);
        found
            .or(match plain.as_str() {
                "estab" => Some(Self::Established),
                "closed" => Some(Self::Close),
                "synreceived" => Some(Self::SynRecv),
                _ => None,
            })
            .ok_or_else(|| UnknownState(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_read_in_every_spelling() {
        let spellings = ["FIN-WAIT-2", "FIN_WAIT2", "fin_wait2", "fin-wait-2", "FinWait2"];
        for spelling in spellings {
            assert_eq!(spelling.parse(), Ok(TcpState::FinWait2), "{spelling}");
        }
        assert_eq!("ESTAB".parse(), Ok(TcpState::Established));
        for state in TcpState::ALL {
            assert_eq!(state.label().parse(), Ok(state));
            assert_eq!(state.ss_name().parse(), Ok(state));
        }
        assert_eq!("fin-wait-3".parse::<TcpState>(), Err(UnknownState("fin-wait-3".to_owned())));
    }
}
