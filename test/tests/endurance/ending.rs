//! Ways for connections to end, each at work in a namespace of its own until it is time.

use std::{
    fs,
    io::{ErrorKind, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    thread,
    time::Duration,
};

use rustix::net::sockopt;
use tcp_close_test::{
    address::Family,
    clock::{self, Deadline, PATIENCE},
    netns::Netns,
    peer::Peer,
};

/// Connections a second that a way makes: four of them leave the processors time for others.
const RATE: u32 = 1000;

/// Listeners over IPv4, at every address, and IPv6.
struct Listeners([TcpListener; 2]);

impl Listeners {
    fn new() -> Self {
        let any = [IpAddr::from(Ipv4Addr::UNSPECIFIED), IpAddr::from(Ipv6Addr::LOCALHOST)];
        Self(any.map(|address| TcpListener::bind((address, 0)).expect("listen")))
    }

    /// Both ends of a new connection: the client's, then the server's. Four in five are over IPv4, each to the next of a
    /// few addresses.
    fn pair(&self, number: u32) -> (TcpStream, TcpStream) {
        let Self([v4, v6]) = self;
        let [.., last] = (1 + number % 16).to_be_bytes();
        let (listener, address) = match number % 5 {
            4 => (v6, IpAddr::from(Ipv6Addr::LOCALHOST)),
            _ => (v4, IpAddr::from(Ipv4Addr::new(127, 0, 0, last))),
        };
        let to = SocketAddr::new(address, listener.local_addr().expect("an address").port());
        let client = TcpStream::connect(to).unwrap_or_else(|error| panic!("connect to {to}: {error}"));
        let (server, _) = listener.accept().expect("accept");
        (client, server)
    }
}

/// Does something at [`RATE`] until it is time, with a number that counts on; gives back the sum of what it says.
fn at_a_pace(until: Duration, mut each: impl FnMut(u32) -> u64) -> u64 {
    let begun = clock::now();
    let (mut ends, mut number) = (0, 0);
    while clock::now() < until {
        ends += each(number);
        number += 1;
        let early = (begun + Duration::from_secs(1) * number / RATE).saturating_sub(clock::now());
        thread::sleep(early);
    }
    ends
}

/// Orderly closes, by the client first and by the server first in turn.
pub(crate) fn orderly(until: Duration) -> u64 {
    let listeners = Listeners::new();
    at_a_pace(until, |number| {
        let (client, server) = listeners.pair(number);
        let (first, mut second) = if number / 5 % 2 == 0 { (client, server) } else { (server, client) };
        drop(first);
        assert_eq!(second.read(&mut [0]).expect("read to the FIN"), 0);
        2
    })
}

/// Aborts and half-closes, by either side, and attempts that are refused.
pub(crate) fn abortive(until: Duration) -> u64 {
    let listeners = Listeners::new();
    at_a_pace(until, |number| {
        let (client, server) = listeners.pair(number);
        let (mut first, mut second) = if number % 2 == 0 { (client, server) } else { (server, client) };
        match number / 2 % 5 {
            0 => {
                sockopt::set_socket_linger(&first, Some(Duration::ZERO)).expect("set SO_LINGER");
                drop(first);
                is_reset(&second);
            }
            1 => {
                second.write_all(b"unread").expect("write");
                first.read_exact(&mut [0]).expect("it has come");
                drop(first);
                is_reset(&second);
            }
            2 => {
                first.shutdown(Shutdown::Write).expect("shut down");
                assert_eq!(second.read(&mut [0]).expect("read to the FIN"), 0);
                second.write_all(b"half-closed").expect("write");
                drop(second);
                assert_eq!(first.read_to_end(&mut Vec::new()).expect("read to the end"), 11);
            }
            3 => {
                first.write_all(b"data").expect("write");
                drop(first);
                assert_eq!(second.read_to_end(&mut Vec::new()).expect("read to the end"), 4);
            }
            _ => {
                drop((first, second));
                let nobody = SocketAddr::from((Ipv4Addr::LOCALHOST, 9));
                let refused = TcpStream::connect(nobody).expect_err("nobody listens");
                assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
            }
        }
        2
    })
}

fn is_reset(mut stream: &TcpStream) {
    let error = stream.read(&mut [0]).expect_err("it is reset");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

/// Clients that are gone while their servers hold on, until the kernel has waited long enough in FIN-WAIT-2; then the
/// servers' FINs meet nobody.
pub(crate) fn timed_out(until: Duration) -> u64 {
    const AT_ONCE: u32 = 100;
    let listeners = Listeners::new();
    let mut ends = 0;
    while clock::now() < until {
        let servers: Vec<TcpStream> = (0..AT_ONCE)
            .map(|number| {
                let (client, mut server) = listeners.pair(number);
                drop(client);
                assert_eq!(server.read(&mut [0]).expect("read to the FIN"), 0);
                // The FIN is acknowledged now: timers would do it for all of them in one softirq, which a host may keep
                // programs away from.
                sockopt::set_tcp_quickack(&server, true).expect("set TCP_QUICKACK");
                server
            })
            .collect();
        let deadline = Deadline::after(2 * PATIENCE);
        while in_fin_wait() > 0 {
            assert!(deadline.left().is_some(), "FIN-WAIT goes on");
            thread::sleep(Duration::from_millis(20));
        }
        drop(servers);
        ends += u64::from(2 * AT_ONCE);
    }
    ends
}

/// Sockets in FIN-WAIT-1 and FIN-WAIT-2, minisocks among them, in the namespace of this thread.
fn in_fin_wait() -> usize {
    let tables = ["/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"];
    let tables = tables.map(|path| fs::read_to_string(path).expect("read the table of sockets"));
    let states =
        tables.iter().flat_map(|table| table.lines()).filter_map(|row| row.split_whitespace().nth(3));
    // As the kernel numbers them (include/net/tcp_states.h).
    states.filter(|state| matches!(*state, "04" | "05")).count()
}

/// What takes a peer that is made by hand: simultaneous closes, resets in FIN-WAIT-2, and what comes to a TIME-WAIT. None
/// of these is left behind.
pub(crate) fn scripted(netns: &Netns, until: Duration) -> u64 {
    let mut ends = 0;
    while clock::now() < until {
        // A peer keeps a log of all it has seen, and so does not live for long.
        let peer = Peer::new(netns);
        for number in 0..100_usize {
            let (mut conversation, socket) = peer.accept_from(netns, Family::BOTH[number % 2]);
            drop(socket);
            conversation.expect_fin();
            match number / 2 % 5 {
                0 => {
                    // It acknowledges nothing yet.
                    conversation.fin();
                    conversation.expect_ack();
                    conversation.ack();
                    conversation.rst();
                }
                1 => {
                    conversation.fin_ack();
                    conversation.expect_ack();
                    conversation.rst();
                }
                2 => {
                    conversation.ack();
                    conversation.rst();
                }
                3 => {
                    conversation.ack();
                    conversation.data(b"late");
                    conversation.expect_rst();
                }
                _ => {
                    conversation.ack();
                    conversation.fin();
                    conversation.expect_ack();
                    conversation.fin_at(conversation.snd_nxt.wrapping_sub(1), conversation.rcv_nxt);
                    conversation.expect_ack();
                    conversation.rst();
                }
            }
            ends += 1;
        }
    }
    ends
}
