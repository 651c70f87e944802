//! The control bits of a segment.

use std::fmt::{self, Write as _};
use std::ops::BitOr;

use etherparse::TcpSlice;

/// A set of control bits, as in the header (RFC 9293 §3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(u8);

impl Flags {
    /// No bit at all.
    pub const NONE: Self = Self(0);
    /// The sender has no more data.
    pub const FIN: Self = Self(0x01);
    /// Opens a direction.
    pub const SYN: Self = Self(0x02);
    /// Ends the connection at once.
    pub const RST: Self = Self(0x04);
    /// Asks the receiver to hand the data on.
    pub const PSH: Self = Self(0x08);
    /// The acknowledgment number counts.
    pub const ACK: Self = Self(0x10);
    /// FIN and ACK, how every FIN of an orderly close looks.
    pub const FIN_ACK: Self = Self(Self::FIN.0 | Self::ACK.0);
    /// SYN and ACK, the second segment of a connection.
    pub const SYN_ACK: Self = Self(Self::SYN.0 | Self::ACK.0);
    /// RST and ACK.
    pub const RST_ACK: Self = Self(Self::RST.0 | Self::ACK.0);
    /// PSH and ACK, the usual look of data.
    pub const PSH_ACK: Self = Self(Self::PSH.0 | Self::ACK.0);

    /// Whether all bits of `other` are in this set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    pub(super) fn of(tcp: &TcpSlice<'_>) -> Self {
        [
            (tcp.fin(), Self::FIN),
            (tcp.syn(), Self::SYN),
            (tcp.rst(), Self::RST),
            (tcp.psh(), Self::PSH),
            (tcp.ack(), Self::ACK),
        ]
        .into_iter()
        .filter(|&(set, _)| set)
        .fold(Self::NONE, |all, (_, flag)| all | flag)
    }
}

impl BitOr for Flags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// As tcpdump prints it: `S`, `F.`, `R`, `P.`, `.`.
impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut letters = String::new();
        for (flag, letter) in
            [(Self::SYN, 'S'), (Self::FIN, 'F'), (Self::RST, 'R'), (Self::PSH, 'P'), (Self::ACK, '.')]
        {
            if self.contains(flag) {
                letters.write_char(letter)?;
            }
        }
        f.pad(&letters)
    }
}
