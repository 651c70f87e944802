//! Segments of the close are lost, once each.

use std::time::Duration;

use tcp_close::{
    event::TcpState,
    lifecycle::observation::{Manner, Role},
};
use tcp_close_test::{
    address::Family,
    clock::PATIENCE,
    oracle,
    segment::Direction,
    wire::policy::{acknowledges_fin_from, drop_nth, fin_from},
};

use crate::{Lab, orderly::by_role, read_to_fin};

/// The shortest retransmission timeout Linux has (`TCP_RTO_MIN`); the tail loss probe comes a little earlier.
const ABOUT_RTO_MIN: Duration = Duration::from_millis(150);

#[test]
fn the_first_fin_is_lost_once() {
    for family in Family::BOTH {
        let lab = Lab::new();
        let (client, server) = lab.pair(family);
        lab.wire.set_policy(drop_nth(fin_from(Direction::ClientToServer), 1));
        drop(client);
        assert_eq!(read_to_fin(&server), b"");
        drop(server);
        lab.server_is_gone();

        let (active, passive) = by_role(&lab.observer.closed(2));
        let fins = lab.fins(Direction::ClientToServer);
        assert_eq!(fins.len(), 2, "{}", lab.wire.transcript());
        assert_eq!((active.story.fin.retransmits, passive.story.fin.retransmits), (1, 0));
        let fin_wait1 = active.story.states.dwell(TcpState::FinWait1).expect("FIN-WAIT-1 was measured");
        assert!(fin_wait1 >= ABOUT_RTO_MIN, "{fin_wait1:?}");
        let told = lab.observer.now();
        assert_eq!(told.counters.fin_retransmits[TcpState::FinWait1 as usize], 1);
        lab.observer.agrees_with_the_kernel(&[&lab.client, &lab.server]);
    }
}

#[test]
fn the_second_fin_is_lost_once() {
    let lab = Lab::new();
    let (client, server) = lab.pair(Family::V4);
    lab.wire.set_policy(drop_nth(fin_from(Direction::ServerToClient), 1));
    drop(client);
    assert_eq!(read_to_fin(&server), b"");
    // Else the server's FIN would carry the acknowledgement of the client's, and both FINs were sent again.
    oracle::wait_until(&lab.client, PATIENCE, |sockets| {
        sockets.iter().any(|socket| socket.state == oracle::TcpState::FinWait2)
    });
    drop(server);
    lab.server_is_gone();
    let (active, passive) = by_role(&lab.observer.closed(2));
    assert_eq!((active.story.fin.retransmits, passive.story.fin.retransmits), (0, 1));
    let told = lab.observer.now();
    assert_eq!(told.counters.fin_retransmits[TcpState::LastAck as usize], 1);
    lab.observer.agrees_with_the_kernel(&[&lab.client, &lab.server]);
}

#[test]
fn the_final_acknowledgement_is_lost_once() {
    for family in Family::BOTH {
        let lab = Lab::new();
        let (client, server) = lab.pair(family);
        lab.wire.set_policy(drop_nth(acknowledges_fin_from(Direction::ServerToClient), 1));
        drop(client);
        assert_eq!(read_to_fin(&server), b"");
        drop(server);
        lab.server_is_gone();

        let (active, passive) = by_role(&lab.observer.closed(2));
        assert_eq!(lab.fins(Direction::ServerToClient).len(), 2, "{}", lab.wire.transcript());
        assert_eq!((passive.story.role, passive.story.manner), (Role::Passive, Some(Manner::Graceful)));
        assert_eq!((active.story.fin.retransmits, passive.story.fin.retransmits), (0, 1));
        let last_ack = passive.story.states.dwell(TcpState::LastAck).expect("LAST-ACK was measured");
        assert!(last_ack >= ABOUT_RTO_MIN, "{last_ack:?}");
        lab.observer.agrees_with_the_kernel(&[&lab.client, &lab.server]);
    }
}
