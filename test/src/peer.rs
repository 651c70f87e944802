//! The hand-made peer: the test itself is the other end, and sends exactly the segments it wants.
//!
//! The kernel under test has the address 192.0.2.1 or `2001:db8::1`, the peer 192.0.2.2 or `2001:db8::2`.
//! In segments and logs the kernel is the client and the peer the server, whichever of them opened the
//! connection.
//! The peer does nothing by itself: it neither acknowledges, nor retransmits, nor resets what it does not
//! know.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};

use anyhow::Context as _;

use crate::address::Family;
use crate::breakage::{OrGiveUp as _, give_up};
use crate::clock::PATIENCE;
use crate::journal::LoggedSegment;
use crate::netns::Netns;
use crate::segment::{Flags, Segment};
use crate::stream;

mod conversation;
mod link;

pub use conversation::Conversation;
use link::Link;

/// A peer of the kernel of one namespace.
#[derive(Debug)]
pub struct Peer {
    link: Arc<Link>,
    timestamps: bool,
    next_port: AtomicU16,
    next_initial: AtomicU32,
}

impl Peer {
    /// A peer that negotiates TCP timestamps, as Linux does.
    #[track_caller]
    pub fn new(netns: &Netns) -> Self {
        Self {
            link: Link::open(netns).or_give_up(),
            timestamps: true,
            next_port: AtomicU16::new(40_000),
            next_initial: AtomicU32::new(1_000_000),
        }
    }

    /// A peer that neither offers nor accepts TCP timestamps.
    #[track_caller]
    pub fn without_timestamps(netns: &Netns) -> Self {
        Self { timestamps: false, ..Self::new(netns) }
    }

    /// Waits for the kernel to connect to this port of the peer, answers, and waits for the third segment.
    ///
    /// The connecting socket must be at work on another thread; [`Peer::accept_from`] takes care of both.
    #[track_caller]
    pub fn accept(&self, port: u16) -> Conversation {
        let (place, syn) = self.link.expect_syn(port, PATIENCE);
        let initial = self.next_initial();
        let timestamps = syn.timestamps.filter(|_| self.timestamps).map(|offered| offered.value);
        let mut conversation =
            Conversation::new(Arc::clone(&self.link), place + 1, syn.destination, syn.source);
        conversation.rcv_nxt = syn.end();
        conversation.recent = timestamps;
        conversation.acknowledged = syn.end();
        conversation.send(Flags::SYN_ACK, initial, syn.end(), b"");
        conversation.snd_nxt = initial.wrapping_add(1);
        let end = conversation.snd_nxt;
        conversation.expect(|segment| segment.is_pure_ack() && segment.ack == end, PATIENCE);
        conversation
    }

    /// Lets a new socket of the namespace connect to the peer, and gives back both ends.
    #[track_caller]
    pub fn accept_from(&self, netns: &Netns, family: Family) -> (Conversation, TcpStream) {
        let to = SocketAddr::new(family.server(), self.next_port());
        let connecting = netns.spawn(move || TcpStream::connect_timeout(&to, PATIENCE));
        let conversation = self.accept(to.port());
        let Ok(connected) = connecting.join() else {
            give_up("the thread of the connecting socket panicked");
        };
        (conversation, connected.context("connect to the peer").or_give_up())
    }

    /// Connects over IPv4 to a port at which the kernel listens.
    #[track_caller]
    pub fn connect(&self, port: u16) -> Conversation {
        let from = SocketAddr::new(Family::V4.server(), self.next_port());
        self.connect_from(from, SocketAddr::new(Family::V4.client(), port), self.next_initial())
    }

    /// Connects with all addresses, ports and the initial sequence number chosen: the way to take a pair
    /// again.
    #[track_caller]
    pub fn connect_from(&self, from: SocketAddr, to: SocketAddr, initial: u32) -> Conversation {
        let mut conversation = self.half_open(from, to, initial);
        let end = initial.wrapping_add(1);
        let answer = conversation.expect(
            |segment| segment.has(Flags::SYN_ACK) && segment.ack == end || segment.is_rst(),
            PATIENCE,
        );
        if answer.is_rst() {
            give_up(format_args!("{to} refuses {from}: {answer}"));
        }
        conversation.snd_nxt = end;
        conversation.rcv_nxt = answer.end();
        if answer.timestamps.is_none() {
            conversation.forget_timestamps();
        }
        conversation.ack();
        conversation
    }

    /// Sends a SYN and leaves the rest to the test.
    ///
    /// The conversation has `snd_nxt` after the SYN and knows nothing of the kernel's sequence yet.
    #[track_caller]
    pub fn half_open(&self, from: SocketAddr, to: SocketAddr, initial: u32) -> Conversation {
        // What an earlier connection of the same pair has left unread is not for this one.
        let mut conversation = Conversation::new(Arc::clone(&self.link), self.link.length(), from, to);
        conversation.recent = self.timestamps.then_some(0);
        conversation.send(Flags::SYN, initial, 0, b"");
        conversation.snd_nxt = initial.wrapping_add(1);
        conversation
    }

    /// Connects to a new listening socket of the namespace, and gives back both ends.
    #[track_caller]
    pub fn connect_to(&self, netns: &Netns, family: Family) -> (Conversation, TcpStream) {
        let listener = stream::listener(netns, family.client());
        let to = listener.local_addr().context("address of the listener").or_give_up();
        let from = SocketAddr::new(family.server(), self.next_port());
        let conversation = self.connect_from(from, to, self.next_initial());
        let (accepted, _) = listener.accept().context("accept the peer").or_give_up();
        (conversation, accepted)
    }

    /// Sends segments as fast as the kernel takes them, and does not note them: in the log are only its answers, as
    /// far as the device had room for them.
    #[track_caller]
    pub fn flood(&self, segments: impl IntoIterator<Item = Segment>) {
        for segment in segments {
            self.link.send_unnoted(segment).or_give_up();
        }
    }

    /// Every segment so far, of all conversations and both ways.
    pub fn log(&self) -> Vec<LoggedSegment> {
        self.link.log()
    }

    fn next_port(&self) -> u16 {
        self.next_port.fetch_add(1, Ordering::Relaxed)
    }

    fn next_initial(&self) -> u32 {
        self.next_initial.fetch_add(1_000_000, Ordering::Relaxed)
    }
}
