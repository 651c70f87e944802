//! The hand-made peer and a kernel close in every order there is.

use std::io::Read as _;
use std::net::TcpStream;
use std::time::Duration;

use tcp_close_test::address::Family;
use tcp_close_test::clock::PATIENCE;
use tcp_close_test::netns::Netns;
use tcp_close_test::oracle::{self, Netstat, Socket, TcpState};
use tcp_close_test::peer::{Conversation, Peer};

use crate::wait_for_state;

#[track_caller]
fn kernel_closes_first(netns: &Netns, (mut peer, socket): (Conversation, TcpStream)) {
    let before = Netstat::of(netns);
    drop(socket);
    peer.expect_fin();
    assert_eq!(
        oracle::sockets(netns).iter().find(|socket| socket.remote == peer.peer()).map(|s| s.state),
        Some(TcpState::FinWait1)
    );
    peer.ack();
    wait_for_state(netns, TcpState::FinWait2);
    peer.fin();
    peer.expect_ack();
    let remains = wait_for_state(netns, TcpState::TimeWait);
    assert_eq!((remains.remote, remains.inode), (peer.peer(), 0));
    peer.fin_at(peer.snd_nxt.wrapping_sub(1), peer.rcv_nxt);
    peer.expect_ack();
    peer.expect_silence(Duration::from_millis(10));
    if on_linux(6, 1) {
        assert_eq!(Netstat::of(netns).since(&before).get("TcpExt", "TW"), 1);
    }
    assert_eq!(oracle::sockstat(netns)["tw"], 1);
}

#[track_caller]
fn peer_closes_first(netns: &Netns, (mut peer, mut socket): (Conversation, TcpStream)) {
    peer.data(b"bye");
    peer.fin();
    let mut text = String::new();
    socket.read_to_string(&mut text).expect("read what the peer sent");
    assert_eq!(text, "bye");
    peer.expect_ack();
    wait_for_state(netns, TcpState::CloseWait);
    drop(socket);
    peer.expect_fin();
    wait_for_state(netns, TcpState::LastAck);
    peer.ack();
    oracle::wait_until(netns, PATIENCE, <[Socket]>::is_empty);
}

/// Whether the running kernel is at least this one.
fn on_linux(major: u32, minor: u32) -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("read the kernel's release");
    let mut numbers = release.split(['.', '-']).map_while(|number| number.parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(major), Some(minor))
}

#[test]
fn the_peer_accepts_and_the_kernel_closes_first() {
    for family in Family::BOTH {
        let netns = Netns::new();
        kernel_closes_first(&netns, Peer::new(&netns).accept_from(&netns, family));
    }
}

#[test]
fn the_peer_connects_and_the_kernel_closes_first() {
    for family in Family::BOTH {
        let netns = Netns::new();
        kernel_closes_first(&netns, Peer::new(&netns).connect_to(&netns, family));
    }
}

#[test]
fn the_peer_accepts_and_closes_first() {
    for family in Family::BOTH {
        let netns = Netns::new();
        peer_closes_first(&netns, Peer::new(&netns).accept_from(&netns, family));
    }
}

#[test]
fn the_peer_connects_and_closes_first() {
    for family in Family::BOTH {
        let netns = Netns::new();
        peer_closes_first(&netns, Peer::new(&netns).connect_to(&netns, family));
    }
}

#[test]
fn both_close_at_once() {
    let netns = Netns::new();
    let (mut peer, socket) = Peer::new(&netns).connect_to(&netns, Family::V4);
    drop(socket);
    let fin = peer.expect_fin();
    peer.fin();
    peer.expect_ack();
    wait_for_state(&netns, TcpState::Closing);
    peer.ack_at(peer.snd_nxt, fin.end());
    assert_eq!(wait_for_state(&netns, TcpState::TimeWait).remote, peer.peer());
}

#[test]
fn the_kernel_closes_in_three_segments() {
    let netns = Netns::new();
    let (mut peer, socket) = Peer::new(&netns).accept_from(&netns, Family::V6);
    drop(socket);
    peer.expect_fin();
    peer.fin_ack();
    peer.expect_ack();
    wait_for_state(&netns, TcpState::TimeWait);
}
