//! What is no close, and what is seen from its middle on.

use expect_test::expect;

use super::notation::{LIMITS, WAIT, check, check_with};
use crate::lifecycle::{Sees, Tracker};

/// Failed attempts, listeners and openings are changes of state, and no more.
#[test]
fn not_a_close() {
    check(
        "\
        0.0 a 7>2 by=42/curl
        1.0 a 2>7 err=111
        2.0 b 7>10 by=43/srv
        3.0 b 10>7 by=43/srv
        4.0 c 10>3
        4.1 c received 3
        4.1 c 3>7
        5.0 d 7>2 by=42/curl
        5.1 d 2>1
        ",
        &expect![[r#"
            0 a close > syn_sent by 42/curl
            1 a syn_sent > close
            2 b close > listen by 43/srv
            3 b listen > close by 43/srv
            4 c listen > syn_recv
            4.1 c syn_recv > close
            5 d close > syn_sent by 42/curl
            5.1 d syn_sent > established
        "#]],
    );
}

/// What came before is not known, and not made up.
#[test]
fn first_seen_midway() {
    check(
        "\
        0.0 a 4>5 write=1001 in=10
        0.5 a start tw rcv=501
        0.5 a 5>7 write=1001 in=11 rcv=501 rx=500
        0.0 b 8>9 by=43/srv write=1000 rcv=501
        0.1 b 9>7 write=1001 rcv=501 rx=500
        0.0 c 9>7 write=1001 rcv=501 rx=500
        0.0 d 11>7 write=1001 rcv=501 rx=500
        0.0 e 8>7 err=reset rcv=501 rx=500
        ",
        &expect![[r#"
            0 a fin_wait1 > fin_wait2
            0 b close_wait > last_ack by 43/srv
            0 c last_ack > close
            0 d closing > close
            0 e close_wait > close
            0 c closed, then closed: passive graceful, last_ack ?, peer's fin 500, sent 0, received 499
            0 d closed, then refused: simultaneous graceful, closing ?, peer's fin 500, sent 0, received 499
            0 e closed, then closed: passive reset_received, close_wait ?, peer's fin 500, sent 0, received 499, reset received
            0.1 b last_ack > close after 0.1
            0.1 b closed, then closed: passive graceful by 43/srv, close_wait ?, last_ack 0.1, fin 1000 ack 1001, peer's fin 500, sent 0, received 499
            0.5 minisock began in time_wait for 60 + 2.056
            0.5 a fin_wait2 > close after 0.5
            0.5 a closed, then time_wait: active graceful in 4, fin_wait1 ?, fin_wait2 0.5, fin ? ack 1001, peer's fin 500, sent 0, received 499
            1 minisocks left
        "#]],
    );
}

/// The socket and its minisock still belong together, whether or not they say so by cookie.
#[test]
fn first_seen_as_its_minisock_begins() {
    check(
        "\
        0.0 a start tw rcv=501
        0.000002 a 5>7 write=1001 rcv=501 rx=500
        0.000003 b start fw2 cookie=0
        0.000005 b 5>7 write=1001 rcv=500 rx=499
        61.0 a cancel expiry
        61.0 a expire
        61.5 b cancel expiry cookie=0
        61.5 b expire cookie=0
        ",
        &expect![[r#"
            0 minisock began in time_wait for 60 + 2.056
            0.000002 a fin_wait2 > close
            0.000003 minisock began in fin_wait2 for 60 + 2.056
            0.000005 b fin_wait2 > close
            0.000002 a closed, then time_wait: active graceful, fin_wait2 ?, peer's fin 500, sent 0, received 499
            0.000005 b closed, then fin_wait2: active graceful, fin_wait2 ?, sent 0, received 499
            61 a minisock ended, expired: began in time_wait, minisock 61, fin_wait2 ?, time_wait 61 (61 since last restart of 60 + 2.056, 0 restarts, inferred, nominal), peer's fin 0
                active graceful, fin_wait2 ?, peer's fin 500, sent 0, received 499
            61.5 b minisock ended, fin_wait2_timeout: began in fin_wait2, minisock 61.499997, fin_wait2 ?
                active graceful, fin_wait2 ?, sent 0, received 499
        "#]],
    );
}

/// Where minisocks are not seen, nobody can say whether one was refused, nor how long FIN-WAIT-2 takes.
#[test]
fn without_sight_of_minisocks() {
    check_with(
        Tracker::new(LIMITS, WAIT, Sees { minisocks: false, starts: false, segments: false }),
        "\
        0.0 a 1>4 by=42/curl write=1000
        0.1 a 4>5 write=1001
        0.1 a 5>7 write=1001
        0.0 b 1>4 by=42/curl write=1000
        0.1 b 4>11 write=1001 rcv=501
        0.2 b 11>7 write=1001 rcv=501
        0.0 c 1>8 rcv=501
        0.1 c 8>9 by=43/srv write=1000
        0.2 c 9>7 write=1001 rcv=501
        0.0 d 1>4 by=42/curl write=1000
        0.1 d 4>5 write=1001
        0.2 d received 5
        0.2 d 5>7 err=reset write=1001
        ",
        &expect![[r#"
            0 a established > fin_wait1 by 42/curl
            0 b established > fin_wait1 by 42/curl
            0 c established > close_wait
            0 d established > fin_wait1 by 42/curl
            0.1 a fin_wait1 > fin_wait2 after 0.1
            0.1 a fin_wait2 > close after 0
            0.1 b fin_wait1 > closing after 0.1
            0.1 c close_wait > last_ack after 0.1 by 43/srv
            0.1 d fin_wait1 > fin_wait2 after 0.1
            0.1 a closed, then ?: active graceful by 42/curl, fin_wait1 0.1, fin_wait2 ?, fin 1000 ack 1001, sent 0, received 0 after our fin 0
            0.2 b closing > close after 0.1
            0.2 c last_ack > close after 0.1
            0.2 d fin_wait2 > close after 0.1
            0.2 b closed, then ?: simultaneous graceful by 42/curl, fin_wait1 0.1, closing 0.1, fin 1000 ack 1001, peer's fin 500, sent 0, received 0 after our fin 0
            0.2 c closed, then closed: passive graceful in 3 by 43/srv, close_wait 0.1, last_ack 0.1, fin 1000 ack 1001, peer's fin 500, sent 0 after peer's fin 0, received 0
            0.2 d closed, then closed: active reset_received by 42/curl, fin_wait1 0.1, fin_wait2 0.1, fin 1000 ack 1001, sent 0, received 0 after our fin 0, reset received
        "#]],
    );
}
