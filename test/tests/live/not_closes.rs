//! What is not the close of a connection must not be told as one.

use std::{
    io::ErrorKind,
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use tcp_close::event::TcpState;
use tcp_close_test::{address::Family, netns::Netns, peer::Peer, stream};

use crate::observer::Observer;

/// Lets a real close end, and asserts that nothing else was told before it: what was to be told is out by then.
#[track_caller]
fn only_a_real_close_is_told(netns: &Netns, observer: &Observer) {
    let (client, server) = stream::pair(netns, netns, Family::V4.loopback());
    let pair = (client.local_addr().expect("an address"), server.local_addr().expect("an address"));
    drop(client);
    drop(server);
    for closed in observer.closed(2) {
        let (local, remote) = (closed.story.pair.local, closed.story.pair.remote);
        assert!((local, remote) == pair || (remote, local) == pair, "{closed:#?}");
    }
}

#[test]
fn a_refused_connect() {
    let netns = Netns::new();
    let observer = Observer::attach(&[&netns]);
    for family in Family::BOTH {
        let to = SocketAddr::new(family.loopback(), 9);
        let refused = netns.run(move || TcpStream::connect(to)).expect_err("nobody listens");
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    }
    only_a_real_close_is_told(&netns, &observer);
    let told = observer.now();
    assert_eq!(told.transitions(TcpState::SynSent, TcpState::Close), 2);
    observer.agrees_with_the_kernel(&[&netns]);
}

#[test]
fn a_connect_nobody_answers() {
    let netns = Netns::new();
    let peer = Peer::new(&netns);
    let observer = Observer::attach(&[&netns]);
    let to = SocketAddr::new(Family::V4.server(), 9);
    let timeout = netns.run(move || TcpStream::connect_timeout(&to, Duration::from_millis(50)));
    assert_eq!(timeout.expect_err("the peer is silent").kind(), ErrorKind::TimedOut);
    only_a_real_close_is_told(&netns, &observer);
    let told = observer.now();
    assert_eq!(told.transitions(TcpState::SynSent, TcpState::Close), 1);
    observer.agrees_with_the_kernel(&[&netns]);
    drop(peer);
}

#[test]
fn a_listener_that_is_closed() {
    let netns = Netns::new();
    let observer = Observer::attach(&[&netns]);
    for family in Family::BOTH {
        drop(stream::listener(&netns, family.loopback()));
    }
    only_a_real_close_is_told(&netns, &observer);
    let told =
        observer.wait_until("counted", |told| told.transitions(TcpState::Listen, TcpState::Close) >= 2);
    assert!(told.transitions(TcpState::Listen, TcpState::Close) >= 2);
    observer.agrees_with_the_kernel(&[&netns]);
}

#[test]
fn a_handshake_that_is_never_finished() {
    let netns = Netns::new();
    let peer = Peer::new(&netns);
    let observer = Observer::attach(&[&netns]);
    let listener = stream::listener(&netns, Family::V4.client());
    let to = listener.local_addr().expect("an address");
    let from = SocketAddr::new(Family::V4.server(), 40_998);
    let mut half_open = peer.half_open(from, to, 1);
    half_open.expect(tcp_close_test::segment::Segment::is_syn, Duration::from_secs(1));
    half_open.rst_at(half_open.snd_nxt);
    drop(listener);
    only_a_real_close_is_told(&netns, &observer);
    observer.agrees_with_the_kernel(&[&netns]);
}
