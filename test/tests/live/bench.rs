//! One kernel with tcp-close on it, and a hand-made peer that brings a connection to where a test wants it.

use std::{
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use tcp_close::lifecycle::observation::MinisockEnded;
use tcp_close_test::{
    address::Family,
    clock::PATIENCE,
    netns::Netns,
    oracle::{self},
    peer::{Conversation, Peer},
    stream,
};

use crate::observer::Observer;

/// One kernel with tcp-close on it, and a hand-made peer.
pub(crate) struct Bench {
    pub(crate) netns: Netns,
    pub(crate) peer: Peer,
    pub(crate) observer: Observer,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self::watched_by(|netns| Observer::attach(&[netns]))
    }

    pub(crate) fn watched_by(observer: impl FnOnce(&Netns) -> Observer) -> Self {
        let netns = Netns::new();
        let peer = Peer::new(&netns);
        let observer = observer(&netns);
        Self { netns, peer, observer }
    }

    /// A connection the kernel opened and closed, its FIN acknowledged: a minisock in FIN-WAIT-2.
    #[track_caller]
    pub(crate) fn in_fin_wait2(&self, family: Family) -> Conversation {
        let (mut conversation, socket) = self.peer.accept_from(&self.netns, family);
        drop(socket);
        conversation.expect_fin();
        conversation.ack();
        self.minisock_in(oracle::TcpState::FinWait2);
        conversation
    }

    /// The same, and the peer's FIN has come: a minisock in TIME-WAIT that began in FIN-WAIT-2.
    #[track_caller]
    pub(crate) fn in_time_wait(&self, family: Family) -> Conversation {
        let mut conversation = self.in_fin_wait2(family);
        conversation.fin();
        conversation.expect_ack();
        self.minisock_in(oracle::TcpState::TimeWait);
        conversation
    }

    /// A connection the peer opened to a listener of the kernel, and the kernel closed first.
    #[track_caller]
    pub(crate) fn accepted_in_time_wait(&self, family: Family) -> (Conversation, std::net::TcpListener) {
        let listener = stream::listener(&self.netns, family.client());
        let to = listener.local_addr().expect("an address");
        let from = SocketAddr::new(family.server(), 41_000);
        let mut conversation = self.peer.connect_from(from, to, 1_000_000);
        let (socket, _) = listener.accept().expect("accept");
        drop(socket);
        conversation.expect_fin();
        conversation.ack();
        conversation.fin();
        conversation.expect_ack();
        self.minisock_in(oracle::TcpState::TimeWait);
        (conversation, listener)
    }

    /// A connection the kernel opened from a port that was bound, and may be bound again, and then closed: a minisock
    /// in FIN-WAIT-2.
    #[track_caller]
    pub(crate) fn bound_in_fin_wait2(&self, family: Family) -> Conversation {
        let (from, to) = (SocketAddr::new(family.client(), 42_000), SocketAddr::new(family.server(), 43_000));
        let (mut conversation, socket) = self.connect_bound(from, to);
        drop(socket);
        conversation.expect_fin();
        conversation.ack();
        self.minisock_in(oracle::TcpState::FinWait2);
        conversation
    }

    /// A connection of the kernel from a port that is bound beforehand.
    #[track_caller]
    pub(crate) fn connect_bound(&self, from: SocketAddr, to: SocketAddr) -> (Conversation, TcpStream) {
        let connecting = self.netns.spawn(move || stream::connect_bound(from, to));
        let conversation = self.peer.accept(to.port());
        let stream = connecting.join().expect("the thread ends").expect("bind and connect");
        (conversation, stream)
    }

    #[track_caller]
    pub(crate) fn minisock_in(&self, state: oracle::TcpState) {
        oracle::wait_until(&self.netns, PATIENCE, |sockets| {
            sockets.iter().any(|socket| socket.state == state && socket.timer == oracle::Timer::TimeWait)
        });
    }

    /// The end of the only minisock there is.
    #[track_caller]
    pub(crate) fn ended(&self) -> MinisockEnded {
        let told = self.observer.wait_until("the minisock ended", |told| !told.minisocks_ended().is_empty());
        let [ended] = told.minisocks_ended()[..] else {
            panic!("one minisock: {:#?}", told.minisocks_ended())
        };
        assert!(ended.story.is_some() && !ended.gap, "{ended:#?}");
        ended
    }

    #[track_caller]
    pub(crate) fn agrees(&self) {
        self.observer.agrees_with_the_kernel(&[&self.netns]);
    }
}

/// A time that was measured is the one that was meant, and not much more.
#[track_caller]
pub(crate) fn about(measured: Duration, meant: Duration) {
    assert!(
        measured + Duration::from_millis(10) >= meant && measured < meant + Duration::from_millis(700),
        "{measured:?} for {meant:?}"
    );
}
