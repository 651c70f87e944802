//! What the hand-made peer can do beyond an orderly close.

use std::io::{self, Read as _};

use tcp_close_test::address::Family;
use tcp_close_test::netns::Netns;
use tcp_close_test::oracle::{self, Netstat, TcpState};
use tcp_close_test::peer::Peer;
use tcp_close_test::segment::Flags;
use tcp_close_test::stream;

use crate::{is_in, wait_for_state};

#[test]
fn the_peer_resets() {
    for family in Family::BOTH {
        let netns = Netns::new();
        let (peer, mut socket) = Peer::new(&netns).accept_from(&netns, family);
        let before = Netstat::of(&netns);
        peer.rst();
        assert_eq!(socket.read(&mut [0; 1]).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        assert_eq!(Netstat::of(&netns).since(&before).get("Tcp", "EstabResets"), 1);
        assert_eq!(oracle::sockets(&netns), []);
    }
}

#[test]
fn the_kernel_resets_when_data_was_not_read() {
    let netns = Netns::new();
    let (mut peer, socket) = Peer::new(&netns).connect_to(&netns, Family::V4);
    peer.data(b"never read");
    peer.expect_ack();
    drop(socket);
    assert!(peer.expect_rst().has(Flags::RST_ACK));
}

#[test]
fn the_peer_takes_a_pair_again() {
    let netns = Netns::new();
    let peer = Peer::new(&netns);
    let listener = stream::listener(&netns, Family::V4.client());
    let to = listener.local_addr().unwrap();
    let from = (Family::V4.server(), 50_000).into();

    let mut first = peer.connect_from(from, to, 1_000);
    drop(listener.accept().unwrap());
    first.expect_fin();
    first.ack();
    first.fin();
    first.expect_ack();
    wait_for_state(&netns, TcpState::TimeWait);

    let mut second = peer.connect_from(from, to, first.snd_nxt.wrapping_add(100_000));
    let (socket, _) = listener.accept().unwrap();
    assert_eq!(socket.peer_addr().unwrap(), from);
    let table = oracle::sockets(&netns);
    assert!(!is_in(TcpState::TimeWait)(&table), "{table:?}");
    second.data(b"x");
    second.expect_ack();
}

#[test]
fn timestamps_are_used_when_both_want_them() {
    let netns = Netns::new();
    let with = Peer::new(&netns);
    let (mut peer, socket) = with.connect_to(&netns, Family::V4);
    assert!(peer.has_timestamps());
    drop(socket);
    assert!(peer.expect_fin().timestamps.is_some());

    for accepts in [true, false] {
        let netns = Netns::new();
        let without = Peer::without_timestamps(&netns);
        let (mut peer, socket) = if accepts {
            without.accept_from(&netns, Family::V4)
        } else {
            without.connect_to(&netns, Family::V4)
        };
        assert!(!peer.has_timestamps());
        drop(socket);
        assert_eq!(peer.expect_fin().timestamps, None);
    }

    let netns = Netns::new();
    netns.sysctl("net/ipv4/tcp_timestamps", "0");
    let (peer, _socket) = Peer::new(&netns).connect_to(&netns, Family::V4);
    assert!(!peer.has_timestamps());
}
