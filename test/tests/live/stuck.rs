//! Sockets that are stuck in every closing state.

use std::net::{Shutdown, TcpStream};

use tcp_close::event;
use tcp_close_test::{
    address::Family,
    clock::PATIENCE,
    netns::Netns,
    oracle::{self, Socket, TcpState},
    peer::{Conversation, Peer},
};

/// Every closing state: the kernel's, by the lab's name, and ours.
pub(crate) const CLOSING: [(TcpState, event::TcpState); 6] = [
    (TcpState::FinWait1, event::TcpState::FinWait1),
    (TcpState::FinWait2, event::TcpState::FinWait2),
    (TcpState::Closing, event::TcpState::Closing),
    (TcpState::CloseWait, event::TcpState::CloseWait),
    (TcpState::LastAck, event::TcpState::LastAck),
    (TcpState::TimeWait, event::TcpState::TimeWait),
];

/// A kernel with sockets that are stuck, each because its peer does not do the next step.
pub(crate) struct Stuck {
    pub(crate) netns: Netns,
    peer: Peer,
    /// Sockets that their process still holds.
    held: Vec<TcpStream>,
    /// Of those in FIN-WAIT-2 that are minisocks: the next step is the peer's FIN.
    pub(crate) half_closed: Vec<Conversation>,
}

impl Stuck {
    pub(crate) fn new() -> Self {
        let netns = Netns::new();
        let peer = Peer::new(&netns);
        Self { netns, peer, held: Vec::new(), half_closed: Vec::new() }
    }

    pub(crate) fn connect(&self, family: Family) -> (Conversation, TcpStream) {
        self.peer.accept_from(&self.netns, family)
    }

    /// The peer is silent after our FIN.
    pub(crate) fn in_fin_wait1(&self, family: Family) {
        let (mut peer, socket) = self.connect(family);
        drop(socket);
        peer.expect_fin();
    }

    /// The peer acknowledges our FIN, and sends none; a process still reads.
    pub(crate) fn in_fin_wait2_as_full_socket(&mut self, family: Family) {
        let (mut peer, socket) = self.connect(family);
        socket.shutdown(Shutdown::Write).expect("shut down");
        peer.expect_fin();
        peer.ack();
        self.held.push(socket);
    }

    /// The same, and nobody reads any more.
    pub(crate) fn in_fin_wait2_as_minisock(&mut self, family: Family) {
        let (mut peer, socket) = self.connect(family);
        drop(socket);
        peer.expect_fin();
        peer.ack();
        self.half_closed.push(peer);
    }

    /// The FINs crossed, and the peer does not acknowledge ours.
    pub(crate) fn in_closing(&self, family: Family) {
        let (mut peer, socket) = self.connect(family);
        drop(socket);
        peer.expect_fin();
        peer.fin();
        peer.expect_ack();
    }

    /// Our process does not close.
    pub(crate) fn in_close_wait(&mut self, family: Family) {
        let (mut peer, socket) = self.connect(family);
        peer.fin();
        peer.expect_ack();
        self.held.push(socket);
    }

    /// The peer does not acknowledge our FIN, which is the last thing it ever would.
    pub(crate) fn in_last_ack(&self, family: Family) {
        let (mut peer, socket) = self.connect(family);
        peer.fin();
        peer.expect_ack();
        drop(socket);
        peer.expect_fin();
    }

    pub(crate) fn in_time_wait(&self, family: Family) {
        let (mut peer, socket) = self.connect(family);
        drop(socket);
        peer.expect_fin();
        peer.fin_ack();
        peer.expect_ack();
    }

    /// Some in every state, as many as in no other.
    pub(crate) fn in_every_state(&mut self) {
        for family in Family::BOTH {
            self.in_fin_wait1(family);
            self.in_fin_wait2_as_full_socket(family);
            self.in_fin_wait2_as_minisock(family);
            self.in_time_wait(family);
            self.in_close_wait(family);
            self.in_last_ack(family);
        }
        self.in_closing(Family::V4);
        self.in_close_wait(Family::V4);
        for _ in 0..3 {
            self.in_fin_wait2_as_minisock(Family::V4);
        }
        for _ in 0..4 {
            self.in_last_ack(Family::V4);
        }
        let made = [2, 7, 1, 3, 6, 2];
        oracle::wait_until(&self.netns, PATIENCE, |table| {
            CLOSING.iter().zip(made).all(|(&(state, _), made)| count(table, state) == made)
        });
    }

    /// Our processes close what they still hold; gives back how many sockets those were.
    pub(crate) fn let_go(&mut self) -> usize {
        self.held.drain(..).count()
    }

    /// The peer's FIN comes, at last, to every minisock in FIN-WAIT-2.
    pub(crate) fn flip(&mut self) {
        for peer in &mut self.half_closed {
            peer.fin_ack();
            peer.expect_ack();
        }
    }
}

pub(crate) fn count(table: &[Socket], state: TcpState) -> usize {
    table.iter().filter(|socket| socket.state == state).count()
}
