//! One connection of the hand-made peer, from its side.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::link::Link;
use crate::clock::{self, PATIENCE};
use crate::segment::{Direction, Flags, Segment, Timestamps};

/// Receive window the peer offers; it takes everything.
const WINDOW: u16 = 65_535;

/// A connection between the peer and the kernel.
///
/// The shorthands send at [`snd_nxt`](Self::snd_nxt), acknowledge [`rcv_nxt`](Self::rcv_nxt), and move the
/// former.
/// The methods with `_at` and [`Conversation::send`] send the numbers they are given, and move nothing.
/// Segments of the kernel move `rcv_nxt` when one of the `expect` methods comes across them, in order.
#[derive(Debug)]
pub struct Conversation {
    /// Next sequence number of the peer.
    pub snd_nxt: u32,
    /// Next sequence number of the kernel that the peer has not read yet.
    pub rcv_nxt: u32,
    /// The highest number the peer has acknowledged.
    pub acknowledged: u32,
    peer: SocketAddr,
    kernel: SocketAddr,
    link: Arc<Link>,
    /// The kernel's last timestamp, if timestamps are in use.
    pub(super) recent: Option<u32>,
    /// Place in the log up to which everything is read.
    read: usize,
}

impl Conversation {
    /// A connection of which nothing is known yet, and whose part of the log begins at `read`.
    pub(super) const fn new(link: Arc<Link>, read: usize, peer: SocketAddr, kernel: SocketAddr) -> Self {
        Self { snd_nxt: 0, rcv_nxt: 0, acknowledged: 0, peer, kernel, link, recent: None, read }
    }

    /// The peer's address and port.
    pub const fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// The kernel's address and port.
    pub const fn kernel(&self) -> SocketAddr {
        self.kernel
    }

    /// Whether both sides use TCP timestamps.
    pub const fn has_timestamps(&self) -> bool {
        self.recent.is_some()
    }

    /// Stops using timestamps, as if they had not been negotiated.
    pub const fn forget_timestamps(&mut self) {
        self.recent = None;
    }

    /// Sends exactly this segment (with the timestamps option, if in use).
    #[track_caller]
    pub fn send(&self, flags: Flags, seq: u32, ack: u32, payload: &[u8]) {
        let timestamps = self.recent.map(|echo| Timestamps { value: clock_value(), echo });
        self.send_stamped(flags, seq, ack, payload, timestamps);
    }

    /// Sends exactly this segment, with this timestamps option or none.
    #[track_caller]
    pub fn send_stamped(
        &self,
        flags: Flags,
        seq: u32,
        ack: u32,
        payload: &[u8],
        timestamps: Option<Timestamps>,
    ) {
        let segment = Segment {
            direction: Direction::ServerToClient,
            source: self.peer,
            destination: self.kernel,
            seq,
            ack,
            flags,
            window: WINDOW,
            length: u32::try_from(payload.len()).expect("a payload fits a packet"),
            timestamps,
        };
        self.link.send(segment, payload);
    }

    /// Acknowledges everything read.
    #[track_caller]
    pub fn ack(&mut self) {
        self.acknowledged = self.rcv_nxt;
        self.send(Flags::ACK, self.snd_nxt, self.rcv_nxt, b"");
    }

    /// Sends an acknowledgment with these numbers.
    #[track_caller]
    pub fn ack_at(&self, seq: u32, ack: u32) {
        self.send(Flags::ACK, seq, ack, b"");
    }

    /// Sends data, and acknowledges everything read.
    #[track_caller]
    pub fn data(&mut self, payload: &[u8]) {
        self.advance(Flags::PSH_ACK, self.rcv_nxt, payload);
    }

    /// Sends data with these numbers.
    #[track_caller]
    pub fn data_at(&self, seq: u32, ack: u32, payload: &[u8]) {
        self.send(Flags::PSH_ACK, seq, ack, payload);
    }

    /// Sends a FIN that acknowledges nothing new: after the kernel's FIN this makes the close simultaneous.
    #[track_caller]
    pub fn fin(&mut self) {
        self.advance(Flags::FIN_ACK, self.acknowledged, b"");
    }

    /// Sends a FIN that acknowledges everything read: after the kernel's FIN this makes a close of three
    /// segments.
    #[track_caller]
    pub fn fin_ack(&mut self) {
        self.advance(Flags::FIN_ACK, self.rcv_nxt, b"");
    }

    /// Sends a FIN with these numbers: `fin_at(snd_nxt - 1, rcv_nxt)` is a retransmission.
    #[track_caller]
    pub fn fin_at(&self, seq: u32, ack: u32) {
        self.send(Flags::FIN_ACK, seq, ack, b"");
    }

    /// Sends a reset that the kernel must believe (RFC 5961 §3.2).
    #[track_caller]
    pub fn rst(&self) {
        self.rst_at(self.snd_nxt);
    }

    /// Sends a reset with this sequence number and no acknowledgment.
    #[track_caller]
    pub fn rst_at(&self, seq: u32) {
        self.send(Flags::RST, seq, 0, b"");
    }

    /// Waits for a segment of the kernel that fits, and reads everything up to it.
    #[track_caller]
    pub fn expect<P>(&mut self, predicate: P, timeout: Duration) -> Segment
    where
        P: FnMut(&Segment) -> bool,
    {
        match self.next(predicate, timeout) {
            Some(segment) => segment,
            None => {
                self.link.disappointed(&format!("nothing that fits from {} within {timeout:?}", self.kernel))
            }
        }
    }

    /// Waits for the kernel's FIN.
    #[track_caller]
    pub fn expect_fin(&mut self) -> Segment {
        self.expect(Segment::is_fin, PATIENCE)
    }

    /// Waits for a reset of the kernel.
    #[track_caller]
    pub fn expect_rst(&mut self) -> Segment {
        self.expect(Segment::is_rst, PATIENCE)
    }

    /// Waits for a pure acknowledgment of everything the peer has sent.
    #[track_caller]
    pub fn expect_ack(&mut self) -> Segment {
        let end = self.snd_nxt;
        self.expect(|segment| segment.is_pure_ack() && segment.ack == end, PATIENCE)
    }

    /// Waits this long, and fails if a segment of the kernel comes, or has come and is not read yet.
    #[track_caller]
    pub fn expect_silence(&mut self, duration: Duration) {
        if let Some(segment) = self.next(|_| true, duration) {
            self.link.disappointed(&format!("{segment} within {duration:?} that should have been silent"));
        }
    }

    /// Sends at `snd_nxt` and moves it past what was sent.
    #[track_caller]
    fn advance(&mut self, flags: Flags, ack: u32, payload: &[u8]) {
        self.acknowledged = ack;
        self.send(flags, self.snd_nxt, ack, payload);
        let length = u32::try_from(payload.len()).expect("a payload fits a packet");
        self.snd_nxt = self.snd_nxt.wrapping_add(length + u32::from(flags.contains(Flags::FIN)));
    }

    fn next<P>(&mut self, mut predicate: P, timeout: Duration) -> Option<Segment>
    where
        P: FnMut(&Segment) -> bool,
    {
        let (peer, kernel) = (self.peer, self.kernel);
        let (rcv_nxt, recent) = (&mut self.rcv_nxt, &mut self.recent);
        let found = self.link.wait_for(
            self.read,
            |segment| {
                if (segment.source, segment.destination) != (kernel, peer) {
                    return false;
                }
                if segment.seq == *rcv_nxt && !segment.is_syn() {
                    *rcv_nxt = segment.end();
                }
                if let (Some(recent), Some(timestamps)) = (recent.as_mut(), segment.timestamps) {
                    *recent = timestamps.value;
                }
                predicate(segment)
            },
            timeout,
        );
        let (place, segment) = found?;
        self.read = place + 1;
        Some(segment)
    }
}

/// The peer's timestamp clock: milliseconds, as in Linux.
fn clock_value() -> u32 {
    // A timestamp wraps around, and so does this.
    u32::try_from(clock::now().as_millis() & u128::from(u32::MAX)).expect("masked to 32 bits")
}
