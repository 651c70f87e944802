//! Every way a full socket leaves ESTABLISHED for CLOSE by FINs, seen from either end.

use expect_test::expect;

use super::notation::check;

/// The process closes; the peer acknowledges first, and finishes later.
#[test]
fn active_close_in_four_segments_goes_on_in_a_minisock() {
    check(
        "\
        0.000000 a 1>4 by=42/curl uid=1000 write=1000 rcv=500 in=9 tx=300 rx=499
        0.000100 a 4>5 write=1001 rcv=500 in=10 tx=300 rx=499
        0.000101 a start fw2 rcv=500
        0.000103 a 5>7 write=1001 rcv=500 in=10 tx=300 rx=499
        ",
        &expect![[r#"
            0 a established > fin_wait1 by 42/curl uid 1000
            0.0001 a fin_wait1 > fin_wait2 after 0.0001
            0.000101 minisock began in fin_wait2 for 60 + 2.056
            0.000103 a fin_wait2 > close after 0.000003
            0.000103 a closed, then fin_wait2: active graceful in 4 by 42/curl, fin_wait1 0.0001, fin_wait2 ?, fin 1000 ack 1001, sent 300, received 499 after our fin 0
            1 minisocks left
        "#]],
    );
}

/// The peer's FIN comes with its acknowledgement of ours.
#[test]
fn active_close_in_three_segments_is_born_in_time_wait() {
    check(
        "\
        0.000000 a 1>4 by=42/curl write=1000 rcv=500 in=9 rx=499
        0.000100 a 4>5 write=1001 rcv=500 in=10 rx=499
        0.000101 a start tw rcv=501
        0.000103 a 5>7 write=1001 rcv=501 in=10 rx=500
        ",
        &expect![[r#"
            0 a established > fin_wait1 by 42/curl
            0.0001 a fin_wait1 > fin_wait2 after 0.0001
            0.000101 minisock began in time_wait for 60 + 2.056
            0.000103 a fin_wait2 > close after 0.000003
            0.000103 a closed, then time_wait: active graceful in 3 by 42/curl, fin_wait1 0.0001, fin_wait2 0.000003, fin 1000 ack 1001, peer's fin 500, sent 0, received 499 after our fin 0
            1 minisocks left
        "#]],
    );
}

/// `shutdown()`, data from the peer, its FIN; the socket is still open, so TIME-WAIT begins at once.
#[test]
fn half_close_with_data_from_the_peer() {
    check(
        "\
        0.0 a 1>4 by=42/nc write=1000 rcv=500 in=9 tx=300 rx=499
        0.1 a 4>5 write=1001 rcv=500 in=10 tx=300 rx=499
        4.0 a start tw rcv=705033205
        4.000002 a 5>7 write=1001 rcv=705033205 in=9999 tx=300 rx=5000000500
        ",
        &expect![[r#"
            0 a established > fin_wait1 by 42/nc
            0.1 a fin_wait1 > fin_wait2 after 0.1
            4 minisock began in time_wait for 60 + 2.056
            4.000002 a fin_wait2 > close after 3.900002
            4.000002 a closed, then time_wait: active graceful in 4 by 42/nc, fin_wait1 0.1, fin_wait2 3.900002, fin 1000 ack 1001, peer's fin 705033204, sent 300, received 5000000499 after our fin 5000000000
            1 minisocks left
        "#]],
    );
}

/// `shutdown()`, then `close()` in FIN-WAIT-2: a change from a state to itself, then a minisock.
#[test]
fn half_close_then_close() {
    check(
        "\
        0.0 a 1>4 by=42/nc write=1000
        0.1 a 4>5 write=1001 in=1
        2.0 a 5>5 by=43/sh write=1001 in=1
        2.000001 a start fw2
        2.000003 a 5>7 by=43/sh write=1001 in=1
        3.0 a cancel restart tw
        3.0 a start tw
        63.5 a cancel expiry
        63.5 a expire
        ",
        &expect![[r#"
            0 a established > fin_wait1 by 42/nc
            0.1 a fin_wait1 > fin_wait2 after 0.1
            2 a fin_wait2 > fin_wait2 by 43/sh
            2.000001 minisock began in fin_wait2 for 60 + 2.056
            2.000003 a fin_wait2 > close after 1.900003 by 43/sh
            2.000003 a closed, then fin_wait2: active graceful in 4 by 42/nc, fin_wait1 0.1, fin_wait2 ?, fin 1000 ack 1001, sent 0, received 0 after our fin 0
            3 flipped, inferred
            63.5 a minisock ended, expired: began in fin_wait2, minisock 61.499999, fin_wait2 2.9, time_wait 60.5 (60.5 since last restart of 60 + 2.056, 0 restarts, inferred, nominal), peer's fin 0
                active graceful in 4 by 42/nc, fin_wait1 0.1, fin_wait2 2.9, fin 1000 ack 1001, sent 0, received 0 after our fin 0
        "#]],
    );
}

/// The change to itself is no change: it ends no dwell, and tells the closer only where nobody knows it.
#[test]
fn close_after_shutdown_in_every_state() {
    check(
        "\
        0.0 a 1>4 by=42/nc write=1000
        0.5 a 4>4 by=43/sh
        1.0 a 4>11 write=1001 rcv=501
        1.5 a 11>11 by=43/sh write=1001
        2.0 a start tw
        2.0 a 11>7 write=1001 rcv=501
        0.0 b 1>8 rcv=1
        1.0 b 8>9 by=44/srv write=1
        1.5 b 9>9 by=45/init
        2.0 b 9>7 write=2
        5.0 c 5>5 by=46/late
        6.0 c start tw
        6.0 c 5>7
        ",
        &expect![[r#"
            0 a established > fin_wait1 by 42/nc
            0 b established > close_wait
            0.5 a fin_wait1 > fin_wait1 by 43/sh
            1 a fin_wait1 > closing after 1
            1 b close_wait > last_ack after 1 by 44/srv
            1.5 a closing > closing by 43/sh
            1.5 b last_ack > last_ack by 45/init
            2 minisock began in time_wait for 60 + 2.056
            2 a closing > close after 1
            2 b last_ack > close after 1
            2 a closed, then time_wait: simultaneous graceful by 42/nc, fin_wait1 1, closing 1, fin 1000 ack 1001, peer's fin 500, sent 0, received 0 after our fin 0
            2 b closed, then closed: passive graceful in 3 by 44/srv, close_wait 1, last_ack 1, fin 1 ack 2, peer's fin 4294967295, sent 0 after peer's fin 0, received 0
            5 c fin_wait2 > fin_wait2 by 46/late
            6 minisock began in time_wait for 60 + 2.056
            6 c fin_wait2 > close
            6 c closed, then time_wait: active graceful by 46/late, fin_wait2 ?, peer's fin 4294967295, sent 0, received 0
            2 minisocks left
        "#]],
    );
}

/// Nothing is sent between the two FINs: the acknowledgement travels with ours.
#[test]
fn passive_close_in_three_segments() {
    check(
        "\
        0.0 a 1>8 write=700 rcv=501 out=5 tx=70 rx=500
        0.0001 a 8>9 by=7/nginx uid=33 write=700 rcv=501 out=5 tx=70 rx=500
        0.0002 a 9>7 write=701 rcv=501 out=6 tx=70 rx=500
        ",
        &expect![[r#"
            0 a established > close_wait
            0.0001 a close_wait > last_ack after 0.0001 by 7/nginx uid 33
            0.0002 a last_ack > close after 0.0001
            0.0002 a closed, then closed: passive graceful in 3 by 7/nginx, close_wait 0.0001, last_ack 0.0001, fin 700 ack 701, peer's fin 500, sent 70 after peer's fin 0, received 499
        "#]],
    );
}

/// CLOSE-WAIT: the process goes on sending, more than a sequence number can count.
#[test]
fn passive_close_late_and_with_data() {
    check(
        "\
        0.0 a 1>8 write=700 rcv=501 out=5 tx=70 rx=500
        90.0 a 8>9 by=7/nginx write=705033404 rcv=501 out=9999 tx=5000000070 rx=500
        90.25 a 9>7 write=705033405 rcv=501 out=10000 tx=5000000070 rx=500
        ",
        &expect![[r#"
            0 a established > close_wait
            90 a close_wait > last_ack after 90 by 7/nginx
            90.25 a last_ack > close after 0.25
            90.25 a closed, then closed: passive graceful in 4 by 7/nginx, close_wait 90, last_ack 0.25, fin 705033404 ack 705033405, peer's fin 500, sent 5000000070 after peer's fin 5000000000, received 499
        "#]],
    );
}

/// Each FIN crosses the other; both ends get a TIME-WAIT.
#[test]
fn simultaneous_close() {
    check(
        "\
        0.0 a 1>4 by=42/a write=1000 rcv=500 rx=499
        0.1 a 4>11 write=1001 rcv=501 rx=500
        0.2 a start tw rcv=501
        0.200002 a 11>7 write=1001 rcv=501 rx=500
        0.0 b 1>4 by=43/b write=500 rcv=1000 rx=999
        0.1 b 4>11 write=501 rcv=1001 rx=1000
        0.2 b start tw rcv=1001
        0.200002 b 11>7 write=501 rcv=1001 rx=1000
        ",
        &expect![[r#"
            0 a established > fin_wait1 by 42/a
            0 b established > fin_wait1 by 43/b
            0.1 a fin_wait1 > closing after 0.1
            0.1 b fin_wait1 > closing after 0.1
            0.2 minisock began in time_wait for 60 + 2.056
            0.2 minisock began in time_wait for 60 + 2.056
            0.200002 a closing > close after 0.100002
            0.200002 b closing > close after 0.100002
            0.200002 a closed, then time_wait: simultaneous graceful by 42/a, fin_wait1 0.1, closing 0.100002, fin 1000 ack 1001, peer's fin 500, sent 0, received 499 after our fin 0
            0.200002 b closed, then time_wait: simultaneous graceful by 43/b, fin_wait1 0.1, closing 0.100002, fin 500 ack 501, peer's fin 1000, sent 0, received 999 after our fin 0
            2 minisocks left
        "#]],
    );
}

/// From either end, and up to the acknowledgement.
#[test]
fn lost_fins_are_sent_again() {
    check(
        "\
        0.0 a 1>4 by=42/curl write=1000
        0.2 a again 4
        0.6 a again 4
        0.7 a 4>5 write=1001
        0.7 a start fw2
        0.7 a 5>7 write=1001
        1.0 b 1>8 rcv=1
        1.0 b 8>9 by=7/nginx write=1000
        1.2 b again 9
        1.3 b 9>7 write=1001
        ",
        &expect![[r#"
            0 a established > fin_wait1 by 42/curl
            fin retransmitted in fin_wait1
            fin retransmitted in fin_wait1
            0.7 a fin_wait1 > fin_wait2 after 0.7
            0.7 minisock began in fin_wait2 for 60 + 2.056
            0.7 a fin_wait2 > close after 0
            0.7 a closed, then fin_wait2: active graceful in 4 by 42/curl, fin_wait1 0.7, fin_wait2 ?, fin 1000 ack 1001 again 2 after 0.2 0.6, sent 0, received 0 after our fin 0
            1 b established > close_wait
            1 b close_wait > last_ack after 0 by 7/nginx
            fin retransmitted in last_ack
            1.3 b last_ack > close after 0.3
            1.3 b closed, then closed: passive graceful in 3 by 7/nginx, close_wait 0, last_ack 0.3, fin 1000 ack 1001 again 1 after 0.2, peer's fin 4294967295, sent 0 after peer's fin 0, received 0
            1 minisocks left
        "#]],
    );
}

/// From the FIN that was sent first, to the microsecond; sixteen times of it are kept, and none where nobody saw the
/// FIN sent.
#[test]
fn schedule_of_a_fin() {
    let twenty = (1..=20).map(|number| format!("{number}.25 a again 4")).collect::<Vec<_>>().join("\n");
    let text = format!(
        "\
        0.0 a 1>4 by=42/curl write=1000
        {twenty}
        21.0 a 4>7 err=timeout write=1001 una=1000
        0.5 b 1>4 by=42/curl write=1000
        0.7003 b again 4
        1.0 b 4>11 write=1001 rcv=501 una=1000
        1.2 b again 11
        1.3 b start tw rcv=501
        1.3 b 11>7 write=1001 rcv=501
        22.0 c 8>9 by=43/srv write=1000
        22.0 c again 9
        22.4000009 c again 9
        22.5 c 9>7 write=1001
        23.0 d 4>4 by=43/srv
        23.2 d again 4
        23.5 d 4>7 err=reset write=1001
        "
    );
    check(
        &text,
        &expect![[r#"
        0 a established > fin_wait1 by 42/curl
        0.5 b established > fin_wait1 by 42/curl
        fin retransmitted in fin_wait1
        1 b fin_wait1 > closing after 0.5
        fin retransmitted in closing
        fin retransmitted in fin_wait1
        1.3 minisock began in time_wait for 60 + 2.056
        1.3 b closing > close after 0.3
        1.3 b closed, then time_wait: simultaneous graceful by 42/curl, fin_wait1 0.5, closing 0.3, fin 1000 ack 1001 again 2 after 0.2003 0.7, peer's fin 500, sent 0, received 0 after our fin 0
        fin retransmitted in fin_wait1
        fin retransmitted in fin_wait1
        fin retransmitted in fin_wait1
        fin retransmitted in fin_wait1
        fin retransmitted in fin_wait1
        fin retransmitted in fin_wait1
        fin retransmitted in fin_wait1
        fin retransmitted in fin_wait1
        fin retransmitted in fin_wait1
        fin retransmitted in fin_wait1
        fin retransmitted in fin_wait1
        fin retransmitted in fin_wait1
        fin retransmitted in fin_wait1
        fin retransmitted in fin_wait1
        fin retransmitted in fin_wait1
        fin retransmitted in fin_wait1
        fin retransmitted in fin_wait1
        fin retransmitted in fin_wait1
        fin retransmitted in fin_wait1
        21 a fin_wait1 > close after 21
        21 a closed, then closed: active timed_out by 42/curl, fin_wait1 21, fin 1000 again 20 after 1.25 2.25 3.25 4.25 5.25 6.25 7.25 8.25 9.25 10.25 11.25 12.25 13.25 14.25 15.25 16.25, sent 0, received 0 after our fin 0
        22 c close_wait > last_ack by 43/srv
        fin retransmitted in last_ack
        fin retransmitted in last_ack
        22.5 c last_ack > close after 0.5
        22.5 c closed, then closed: passive graceful by 43/srv, close_wait ?, last_ack 0.5, fin 1000 ack 1001 again 2 after 0.000001 0.4, peer's fin 4294967295, sent 0, received 0
        23 d fin_wait1 > fin_wait1 by 43/srv
        fin retransmitted in fin_wait1
        23.5 d fin_wait1 > close
        23.5 d closed, then closed: active reset_received by 43/srv, fin_wait1 ?, fin ? again 1, sent 0, received 0, reset received
        1 minisocks left
    "#]],
    );
}

/// An ICMP error that nobody asked for stays in the socket; our FIN is acknowledged all the same.
#[test]
fn error_from_before_the_close_does_not_matter() {
    check(
        "\
        0.0 a 1>8 rcv=1
        0.1 a 8>9 by=7/nginx write=1000 err=113
        0.2 a 9>7 write=1001 err=113
        ",
        &expect![[r#"
            0 a established > close_wait
            0.1 a close_wait > last_ack after 0.1 by 7/nginx
            0.2 a last_ack > close after 0.1
            0.2 a closed, then closed: passive graceful in 3 by 7/nginx, close_wait 0.1, last_ack 0.1, fin 1000 ack 1001, peer's fin 4294967295, sent 0 after peer's fin 0, received 0
        "#]],
    );
}

/// The bucket limit, or no memory: the socket goes where a minisock was due, and none begins. Where a segment took it
/// there (c), the last byte was the peer's FIN; where its process did (d), that is not known.
#[test]
fn refused_time_wait() {
    check(
        "\
        0.0 a 1>4 by=42/curl write=1000
        0.1 a 4>5 write=1001
        0.2 a 5>7 write=1001
        0.0 b 1>4 by=43/curl write=1000
        0.1 b 4>11 write=1001 rcv=501
        0.2 b 11>7 write=1001 rcv=501
        0.0 c 1>4 by=43/curl write=1000 rx=7
        0.1 c 4>5 write=1001 rx=7
        0.2 c 5>7 write=1001 rcv=508 rx=8
        0.0 d 1>4 by=43/curl write=1000 rx=7
        0.1 d 4>5 write=1001 rx=7
        0.2 d 5>7 by=43/curl write=1001 rcv=508 rx=8
        ",
        &expect![[r#"
            0 a established > fin_wait1 by 42/curl
            0 b established > fin_wait1 by 43/curl
            0 c established > fin_wait1 by 43/curl
            0 d established > fin_wait1 by 43/curl
            0.1 a fin_wait1 > fin_wait2 after 0.1
            0.1 b fin_wait1 > closing after 0.1
            0.1 c fin_wait1 > fin_wait2 after 0.1
            0.1 d fin_wait1 > fin_wait2 after 0.1
            0.2 a fin_wait2 > close after 0.1
            0.2 b closing > close after 0.1
            0.2 c fin_wait2 > close after 0.1
            0.2 d fin_wait2 > close after 0.1 by 43/curl
            0.2 a closed, then refused: active graceful by 42/curl, fin_wait1 0.1, fin_wait2 0.1, fin 1000 ack 1001, sent 0, received 0 after our fin 0
            0.2 b closed, then refused: simultaneous graceful by 43/curl, fin_wait1 0.1, closing 0.1, fin 1000 ack 1001, peer's fin 500, sent 0, received 0 after our fin 0
            0.2 c closed, then refused: active graceful by 43/curl, fin_wait1 0.1, fin_wait2 0.1, fin 1000 ack 1001, peer's fin 507, sent 0, received 7 after our fin 0
            0.2 d closed, then refused: active graceful by 43/curl, fin_wait1 0.1, fin_wait2 0.1, fin 1000 ack 1001, sent 0
        "#]],
    );
}
