//! The wire between two kernels loses exactly what it is told to lose, and says what went over it.

use std::io::{self, Read as _, Write as _};
use std::time::Duration;

use tcp_close_test::address::Family;
use tcp_close_test::clock::PATIENCE;
use tcp_close_test::oracle::{self, Netstat, Socket, TcpState, Timer};
use tcp_close_test::segment::{Direction, Segment};
use tcp_close_test::wire::Verdict;
use tcp_close_test::wire::policy::{acknowledges_fin_from, drop_nth, each, fin_from, nth};

use crate::{Lab, wait_for_state};

/// The first retransmission is due after 200 ms and a round trip.
const FIRST_RETRANSMISSION: std::ops::Range<Duration> =
    Duration::from_millis(190)..Duration::from_millis(600);

#[test]
fn the_wire_logs_a_close_in_four_segments() {
    for family in Family::BOTH {
        let lab = Lab::new();
        let (mut client, mut server) = lab.pair(family);
        client.write_all(b"hi").unwrap();
        server.read_exact(&mut [0; 2]).unwrap();
        // The acknowledgment of that is late, and must not come among the FINs.
        lab.wait_for(|entry| {
            entry.segment.direction == Direction::ServerToClient && entry.segment.is_pure_ack()
        });

        drop(client);
        let mut acknowledges = acknowledges_fin_from(Direction::ClientToServer);
        lab.wait_for(|entry| acknowledges(&entry.segment));
        wait_for_state(&lab.client, TcpState::FinWait2);
        wait_for_state(&lab.server, TcpState::CloseWait);

        drop(server);
        let last = wait_for_state(&lab.client, TcpState::TimeWait);
        assert_eq!(last.timer, Timer::TimeWait);
        assert!(last.expires > Duration::from_secs(50), "{last}");
        assert_eq!(last.remote.ip(), family.server());
        oracle::wait_until(&lab.server, PATIENCE, <[Socket]>::is_empty);
        assert_eq!(
            lab.closing(),
            ["c>s F. 3:3(0) ack 1", "s>c  . 1:1(0) ack 4", "s>c F. 1:1(0) ack 4", "c>s  . 4:4(0) ack 2"]
        );
    }
}

#[test]
fn the_first_fin_is_lost_once() {
    let lab = Lab::new();
    let (client, server) = lab.pair(Family::V4);
    lab.wire.set_policy(drop_nth(fin_from(Direction::ClientToServer), 1));

    lab.close(client, server);
    assert_eq!(lab.closing().first().unwrap(), "c>s F. 1:1(0) ack 1   DROPPED");
    assert!(
        FIRST_RETRANSMISSION.contains(&lab.between_fins(Direction::ClientToServer)),
        "{}",
        lab.wire.transcript()
    );
    wait_for_state(&lab.client, TcpState::TimeWait);
}

#[test]
fn the_final_acknowledgment_is_lost_once() {
    for family in Family::BOTH {
        let lab = Lab::new();
        let (client, server) = lab.pair(family);
        lab.wire.set_policy(drop_nth(acknowledges_fin_from(Direction::ServerToClient), 1));

        lab.close(client, server);
        let closing = lab.closing();
        let tail: Vec<_> = closing.iter().rev().take(4).rev().map(String::as_str).collect();
        assert_eq!(
            tail,
            [
                "s>c F. 1:1(0) ack 2",
                "c>s  . 2:2(0) ack 2   DROPPED",
                "s>c F. 1:1(0) ack 2",
                "c>s  . 2:2(0) ack 2",
            ]
        );
        let pause = lab.between_fins(Direction::ServerToClient);
        assert!(FIRST_RETRANSMISSION.contains(&pause), "{}", lab.wire.transcript());
        wait_for_state(&lab.client, TcpState::TimeWait);
    }
}

#[test]
fn the_wire_holds_delays_and_duplicates() {
    const DELAY: Duration = Duration::from_millis(50);

    let lab = Lab::new();
    let (mut client, mut server) = lab.pair(Family::V4);
    let data = |segment: &Segment| segment.length > 0;

    lab.wire.set_policy(each(data, Verdict::Hold));
    client.write_all(b"a").unwrap();
    let held = lab.wait_for(|entry| entry.verdict == Verdict::Hold);
    assert_eq!(held.forwarded, None);
    server.set_nonblocking(true).unwrap();
    assert_eq!(server.read(&mut [0; 1]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    server.set_nonblocking(false).unwrap();
    lab.wire.set_policy(nth(data, 1, Verdict::Delay(DELAY)));
    lab.wire.release();
    server.read_exact(&mut [0; 1]).unwrap();

    server.write_all(b"b").unwrap();
    client.read_exact(&mut [0; 1]).unwrap();
    let late = lab.wait_for(|entry| entry.verdict == Verdict::Delay(DELAY) && entry.forwarded.is_some());
    assert!(late.forwarded.unwrap() >= late.at + DELAY);

    let before = Netstat::of(&lab.server);
    lab.wire.set_policy(nth(data, 1, Verdict::Duplicate));
    client.write_all(b"c").unwrap();
    lab.wait_for(|entry| entry.verdict == Verdict::Duplicate);
    server.read_exact(&mut [0; 1]).unwrap();
    assert_eq!(Netstat::of(&lab.server).since(&before).get("TcpExt", "TCPDSACKOldSent"), 1);
}

#[test]
fn waiting_for_what_does_not_come_says_what_came() {
    let lab = Lab::new();
    let _pair = lab.pair(Family::V4);
    let error = lab.wire.wait_for(|entry| entry.segment.is_rst(), Duration::from_millis(20)).unwrap_err();
    assert!(error.to_string().contains("c>s  S 0:0(0)"), "{error}");
}
