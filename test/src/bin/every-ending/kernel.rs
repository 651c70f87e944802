//! A kernel whose connections a hand-made peer brings to every end there is.

use std::{
    collections::VecDeque,
    io::Read as _,
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    thread,
    time::Duration,
};

use rustix::net::sockopt;
use tcp_close_test::{
    address::Family,
    netns::Netns,
    oracle::{self, NotDestroyed},
    peer::{Conversation, Peer},
    stream,
};

use crate::BEAT;

/// How many sockets a process that is slow to close has: some ten seconds' worth.
const SLOW: usize = 30;

/// Ports that connections to the peer come from; ephemeral ones, which the kernel chooses, are beyond them.
const FIRST_PORT: u16 = 10_000;
const LAST_PORT: u16 = 30_000;

pub(crate) struct Kernel {
    netns: Netns,
    peer: Peer,
    /// Who the peer connects to, and who connections within the host do.
    listener: TcpListener,
    within: TcpListener,
    next_port: u16,
    /// Sockets that their process is slow to close, and who waits for it.
    held: VecDeque<(Conversation, TcpStream)>,
}

impl Kernel {
    pub(crate) fn new(netns: Netns) -> Self {
        // A peer that is silent is given up after some seconds.
        netns.sysctl("net/ipv4/tcp_orphan_retries", "3");
        netns.sysctl("net/ipv4/tcp_max_tw_buckets", "100000");
        let peer = Peer::new(&netns);
        let listener = stream::listener(&netns, Family::V4.client());
        let within = stream::listener(&netns, Family::V4.loopback());
        Self { netns, peer, listener, within, next_port: FIRST_PORT, held: VecDeque::new() }
    }

    /// Every end, one after the other, and again.
    pub(crate) fn go_on(mut self) {
        const ENDS: [fn(&mut Kernel); 17] = [
            Kernel::active,
            Kernel::passive,
            Kernel::simultaneous,
            Kernel::given_up,
            Kernel::assassinated,
            Kernel::reset_in_fin_wait2,
            Kernel::reset_by_us,
            Kernel::reset_by_the_peer,
            Kernel::linger_zero,
            Kernel::recycled,
            Kernel::reused,
            Kernel::fin_again,
            Kernel::refused,
            Kernel::killed,
            Kernel::half_closed,
            Kernel::slow_to_close,
            Kernel::within_the_host,
        ];
        for end in ENDS.iter().cycle() {
            end(&mut self);
            thread::sleep(BEAT);
        }
    }

    fn active(&mut self) {
        self.time_wait();
    }

    fn passive(&mut self) {
        let (mut conversation, socket) = self.connect();
        conversation.fin();
        conversation.expect_ack();
        drop(socket);
        conversation.expect_fin();
        conversation.ack();
    }

    fn simultaneous(&mut self) {
        let (mut conversation, socket) = self.connect();
        drop(socket);
        let fin = conversation.expect_fin();
        conversation.fin();
        conversation.expect_ack();
        conversation.ack_at(conversation.snd_nxt, fin.end());
    }

    /// Nobody answers our FIN.
    fn given_up(&mut self) {
        drop(self.connect());
    }

    fn assassinated(&mut self) {
        self.time_wait().rst();
    }

    fn reset_in_fin_wait2(&mut self) {
        self.fin_wait2().rst();
    }

    fn reset_by_us(&mut self) {
        let mut conversation = self.fin_wait2();
        conversation.data(b"late");
        conversation.expect_rst();
    }

    fn reset_by_the_peer(&mut self) {
        let (conversation, socket) = self.connect();
        conversation.rst();
        drop(socket);
    }

    fn linger_zero(&mut self) {
        let (mut conversation, socket) = self.connect();
        sockopt::set_socket_linger(&socket, Some(Duration::ZERO)).expect("set SO_LINGER");
        drop(socket);
        conversation.expect_rst();
    }

    /// The peer's next SYN takes the pair.
    fn recycled(&mut self) {
        let to = self.listener.local_addr().expect("an address");
        let from = SocketAddr::new(Family::V4.server(), self.port());
        let mut conversation = self.peer.connect_from(from, to, 1_000_000);
        drop(self.listener.accept().expect("accept"));
        conversation.expect_fin();
        conversation.ack();
        conversation.fin();
        conversation.expect_ack();
        let again = self.peer.connect_from(from, to, conversation.snd_nxt.wrapping_add(100_000));
        let (socket, _) = self.listener.accept().expect("accept");
        again.rst();
        drop(socket);
    }

    /// Our next connection takes the pair.
    fn reused(&mut self) {
        let last = self.time_wait();
        let (conversation, socket) = self.connect_from(last.kernel(), last.peer());
        conversation.rst();
        drop(socket);
    }

    /// The peer's FIN comes again, and after it a segment that has no place there.
    fn fin_again(&mut self) {
        let mut conversation = self.time_wait();
        conversation.fin_at(conversation.snd_nxt.wrapping_sub(1), conversation.rcv_nxt);
        conversation.expect_ack();
        conversation.rst_at(conversation.snd_nxt.wrapping_add(1));
    }

    fn refused(&mut self) {
        self.netns.sysctl("net/ipv4/tcp_max_tw_buckets", "0");
        drop(self.fin_wait2());
        self.netns.sysctl("net/ipv4/tcp_max_tw_buckets", "100000");
    }

    fn killed(&mut self) {
        let last = self.time_wait().kernel();
        // Not every kernel does that.
        let killed = oracle::destroy(&self.netns, |socket| socket.local == last);
        assert_ne!(killed, Err(NotDestroyed::Gone), "it was young");
    }

    /// The peer goes on talking after our FIN, to a process that listens for a while.
    fn half_closed(&mut self) {
        let (mut conversation, socket) = self.connect();
        socket.shutdown(Shutdown::Write).expect("shut down");
        conversation.expect_fin();
        conversation.ack();
        conversation.data(b"the rest");
        // What is left unread would be answered by a reset.
        (&socket).read_exact(&mut [0; 8]).expect("read the rest");
        self.hold(conversation, socket);
    }

    /// The peer's FIN is there, and our process takes its time.
    fn slow_to_close(&mut self) {
        let (mut conversation, socket) = self.connect();
        conversation.fin();
        conversation.expect_ack();
        self.hold(conversation, socket);
    }

    /// Both ends are ours, and the kernel gives the port again after a second.
    fn within_the_host(&mut self) {
        let client = stream::connect(&self.netns, self.within.local_addr().expect("an address"));
        let (mut server, _) = self.within.accept().expect("accept");
        drop(client);
        assert_eq!(server.read(&mut [0]).expect("read"), 0);
    }

    /// Holds a socket, and closes the one that is held longest; some of the peers have gone by then.
    fn hold(&mut self, conversation: Conversation, socket: TcpStream) {
        self.held.push_back((conversation, socket));
        if self.held.len() > SLOW {
            self.held.pop_front();
        }
    }

    fn time_wait(&mut self) -> Conversation {
        let mut conversation = self.fin_wait2();
        conversation.fin();
        conversation.expect_ack();
        conversation
    }

    /// The kernel opened it and closed it first; its FIN is acknowledged.
    fn fin_wait2(&mut self) -> Conversation {
        let (mut conversation, socket) = self.connect();
        drop(socket);
        conversation.expect_fin();
        conversation.ack();
        conversation
    }

    fn connect(&mut self) -> (Conversation, TcpStream) {
        let from = SocketAddr::new(Family::V4.client(), self.port());
        self.connect_from(from, SocketAddr::new(Family::V4.server(), 9000))
    }

    /// A connection of the kernel from a port that may be bound again.
    fn connect_from(&self, from: SocketAddr, to: SocketAddr) -> (Conversation, TcpStream) {
        let connecting = self.netns.spawn(move || stream::connect_bound(from, to));
        let conversation = self.peer.accept(to.port());
        let stream = connecting.join().expect("the thread ends").expect("bind and connect");
        (conversation, stream)
    }

    /// By the time that one comes again, its TIME-WAIT is over.
    const fn port(&mut self) -> u16 {
        self.next_port = if self.next_port == LAST_PORT { FIRST_PORT } else { self.next_port + 1 };
        self.next_port
    }
}
