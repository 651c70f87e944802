//! A reset ends it, sent or received; or nobody answers any more; or an operator does.

use std::{io::Write as _, time::Duration};

use rustix::net::sockopt;
use tcp_close::{
    event::TcpState,
    lifecycle::observation::{Manner, Role, Then},
    probe::Hook,
};
use tcp_close_test::{
    address::Family,
    clock::PATIENCE,
    netns::Netns,
    oracle,
    peer::Peer,
    segment::Direction,
    wire::policy::{Verdict, each},
};

use crate::{Lab, observer::Observer, read_to_fin};

#[test]
fn linger_zero_sends_a_reset() {
    for family in Family::BOTH {
        let lab = Lab::new();
        let (client, server) = lab.pair(family);
        sockopt::set_socket_linger(&client, Some(Duration::ZERO)).expect("set SO_LINGER");
        drop(client);
        lab.wait_for(|entry| entry.segment.is_rst());

        let closed = lab.observer.closed(2);
        let of = |manner| closed.iter().find(|closed| closed.story.manner == Some(manner));
        let sender = of(Manner::ResetSent).expect("one end sent the reset");
        let receiver = of(Manner::ResetReceived).expect("one end received it");
        assert_eq!((sender.story.role, receiver.story.role), (Role::None, Role::None));
        assert_eq!(sender.story.closer.map(|closer| closer.pid), Some(std::process::id()));
        assert_eq!(receiver.story.closer, None, "nobody there closed it");
        assert_eq!(sender.then, Some(Then::Closed));
        assert!(sender.story.reset.is_some_and(|reset| reset.sent));
        assert!(receiver.story.reset.is_some_and(|reset| !reset.sent));
        assert_eq!(sender.story.segments, None);
        let told = lab.observer.now();
        assert_eq!(told.counters.resets_received, 1);
        lab.observer.agrees_with_the_kernel(&[&lab.client, &lab.server]);
        drop(server);
    }
}

#[test]
fn unread_data_sends_a_reset() {
    let lab = Lab::new();
    let (client, mut server) = lab.pair(Family::V4);
    server.write_all(b"never read").expect("write");
    lab.wait_for(|entry| entry.segment.direction == Direction::ServerToClient && entry.segment.length > 0);
    drop(client);
    lab.wait_for(|entry| entry.segment.is_rst());

    let closed = lab.observer.closed(2);
    let sender =
        closed.iter().find(|closed| closed.story.manner == Some(Manner::ResetSent)).expect("a reset is sent");
    assert_eq!((sender.story.role, sender.story.bytes.received), (Role::None, Some(10)));
    assert_eq!(sender.story.closer.map(|closer| closer.pid), Some(std::process::id()));
    lab.observer.agrees_with_the_kernel(&[&lab.client, &lab.server]);
}

#[test]
fn a_reset_is_received_in_every_state() {
    let netns = Netns::new();
    let peer = Peer::new(&netns);
    let observer = Observer::attach(&[&netns]);

    let (conversation, established) = peer.accept_from(&netns, Family::V4);
    conversation.rst();

    let (mut conversation, socket) = peer.accept_from(&netns, Family::V6);
    conversation.fin();
    assert_eq!(read_to_fin(&socket), b"");
    conversation.expect_ack();
    conversation.rst();

    let (mut conversation, fin_wait1) = peer.accept_from(&netns, Family::V4);
    drop(fin_wait1);
    conversation.expect_fin();
    conversation.rst();

    let (mut conversation, last_ack) = peer.accept_from(&netns, Family::V4);
    conversation.fin();
    assert_eq!(read_to_fin(&last_ack), b"");
    drop(last_ack);
    conversation.expect_fin();
    conversation.rst();

    let mut closed = observer.closed(4);
    closed.sort_by_key(|closed| closed.at);
    assert!(closed.iter().all(|closed| closed.story.manner == Some(Manner::ResetReceived)), "{closed:#?}");
    let roles: Vec<Role> = closed.iter().map(|closed| closed.story.role).collect();
    assert_eq!(roles, [Role::None, Role::Passive, Role::Active, Role::Passive]);
    let last_states: Vec<Option<TcpState>> =
        closed.iter().map(|closed| closed.story.states.iter().last().map(|(state, _)| state)).collect();
    assert_eq!(
        last_states,
        [None, Some(TcpState::CloseWait), Some(TcpState::FinWait1), Some(TcpState::LastAck)]
    );
    observer.agrees_with_the_kernel(&[&netns]);
    drop((established, socket));
}

#[test]
fn data_after_close_is_answered_by_a_reset_that_was_not_received() {
    let netns = Netns::new();
    let peer = Peer::new(&netns);
    let observer = Observer::attach(&[&netns]);
    let (mut conversation, socket) = peer.accept_from(&netns, Family::V4);
    drop(socket);
    let fin = conversation.expect_fin();
    // FIN-WAIT-1 and closed in both directions: data can go nowhere any more.
    conversation.data_at(conversation.snd_nxt, fin.seq, b"too late");
    conversation.expect_rst();
    let [closed] = observer.closed(1)[..] else { panic!("one end is the kernel's") };
    assert_eq!((closed.story.role, closed.story.manner), (Role::Active, Some(Manner::ResetSent)));
    observer.agrees_with_the_kernel(&[&netns]);
}

#[test]
fn nobody_answers_the_last_fin() {
    let lab = Lab::new();
    lab.client.sysctl("net/ipv4/tcp_orphan_retries", "2");
    let (client, server) = lab.pair(Family::V4);
    lab.wire.set_policy(each(|segment| segment.direction == Direction::ClientToServer, Verdict::Drop));
    drop(client);
    let closed = lab.observer.wait_until("the orphan is given up", |told| !told.closed().is_empty()).closed();
    let [closed] = closed[..] else { panic!("only the client's end is over: {closed:#?}") };
    assert_eq!((closed.story.role, closed.story.manner), (Role::Active, Some(Manner::TimedOut)));
    assert!(closed.story.fin.retransmits >= 1);
    assert_eq!(closed.then, Some(Then::Closed));
    lab.observer.agrees_with_the_kernel(&[&lab.client, &lab.server]);
    drop(server);
}

#[test]
fn a_reset_answers_a_segment_to_a_closed_port() {
    let netns = Netns::new();
    let peer = Peer::new(&netns);
    let observer = Observer::attach(&[&netns]);
    let to = std::net::SocketAddr::new(Family::V4.client(), 9);
    let from = std::net::SocketAddr::new(Family::V4.server(), 40_999);
    let mut conversation = peer.half_open(from, to, 1);
    conversation.expect_rst();
    let counted = observer.now().counters.resets_sent.iter().sum::<u64>();
    // Before Linux 6.12 the kernel does not tell of a reset without a socket.
    assert_eq!(counted, u64::from(observer.lacks_nothing(Hook::ResetSent)));
    assert_eq!(oracle::wait_until(&netns, PATIENCE, <[oracle::Socket]>::is_empty), []);
    observer.agrees_with_the_kernel(&[&netns]);
}
