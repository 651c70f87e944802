//! What may be mistaken for another: a socket connected anew, a cookie or an address used again.

use expect_test::expect;

use super::notation::{WAIT, WITHOUT_WITNESS, check, check_with};
use crate::lifecycle::{Limits, Tracker};

/// One cookie, two lives, the second before the first has settled; its resets are its own.
#[test]
fn socket_is_connected_anew() {
    check(
        "\
        0.0 a 1>7 by=42/curl
        0.00001 a sent 7 active reason=14
        0.001 a 7>2 by=42/curl
        0.002 a 2>1
        0.003 a received 1
        0.003 a 1>7 err=reset
        0.01 a 1>8 rcv=1
        0.02 a received 8
        0.02 a 8>7 err=reset
        ",
        &expect![[r#"
            0 a established > close by 42/curl
            0 a closed, then closed: none reset_sent by 42/curl, sent 0, received 0, reset sent for reason 14
            0.001 a close > syn_sent by 42/curl
            0.002 a syn_sent > established
            0.003 a established > close
            0.003 a closed, then closed: none reset_received, sent 0, received 0, reset received
            0.01 a established > close_wait
            0.02 a close_wait > close after 0.01
            0.02 a closed, then closed: passive reset_received, close_wait 0.01, peer's fin 4294967295, sent 0 after peer's fin 0, received 0, reset received
        "#]],
    );
}

/// Openings are not always told: a sign of life is enough.
#[test]
fn socket_is_connected_anew_unseen() {
    check(
        "\
        0.0 a 1>7 by=42/curl
        0.00001 a sent 7 active reason=14
        0.003 a received 1
        0.003 a 1>7 err=reset
        ",
        &expect![[r#"
            0 a established > close by 42/curl
            0 a closed, then closed: none reset_sent by 42/curl, sent 0, received 0, reset sent for reason 14
            0.003 a established > close
            0.003 a closed, then closed: none reset_received, sent 0, received 0, reset received
        "#]],
    );
}

/// A socket that was half-closed, disconnected and connected anew leaves two, alive at once.
#[test]
fn two_minisocks_of_one_cookie() {
    check(
        "\
        0.0 a 1>4 by=42/curl write=1000
        0.1 a 4>5 write=1001
        0.5 a start tw rcv=501
        0.500002 a 5>7 write=1001 rcv=501 rx=500
        1.0 a 1>4 by=42/curl write=5000
        1.1 a 4>5 write=5001
        1.5 a start tw at=second rcv=801
        1.500002 a 5>7 write=5001 rcv=801 rx=800
        2.0 a cancel connect at=second rcv=801
        61.0 a cancel expiry rcv=501
        61.0 a expire rcv=501
        ",
        &expect![[r#"
            0 a established > fin_wait1 by 42/curl
            0.1 a fin_wait1 > fin_wait2 after 0.1
            0.5 minisock began in time_wait for 60 + 2.056
            0.500002 a fin_wait2 > close after 0.400002
            0.500002 a closed, then time_wait: active graceful in 3 by 42/curl, fin_wait1 0.1, fin_wait2 0.400002, fin 1000 ack 1001, peer's fin 500, sent 0, received 499 after our fin 499
            1 a established > fin_wait1 by 42/curl
            1.1 a fin_wait1 > fin_wait2 after 0.1
            1.5 minisock began in time_wait for 60 + 2.056
            1.500002 a fin_wait2 > close after 0.400002
            1.500002 a closed, then time_wait: active graceful in 3 by 42/curl, fin_wait1 0.1, fin_wait2 0.400002, fin 5000 ack 5001, peer's fin 800, sent 0, received 799 after our fin 799
            2 a minisock ended, reused by 7/current: began in time_wait, minisock 0.5, fin_wait2 0.4, time_wait 0.5 (0.5 since last restart of 60 + 2.056, 0 restarts, inferred, premature), peer's fin 800
                active graceful in 3 by 42/curl, fin_wait1 0.1, fin_wait2 0.400002, fin 5000 ack 5001, peer's fin 800, sent 0, received 799 after our fin 799
            61 a minisock ended, expired: began in time_wait, minisock 60.5, fin_wait2 0.4, time_wait 60.5 (60.5 since last restart of 60 + 2.056, 0 restarts, inferred, nominal), peer's fin 500
                active graceful in 3 by 42/curl, fin_wait1 0.1, fin_wait2 0.400002, fin 1000 ack 1001, peer's fin 500, sent 0, received 499 after our fin 499
        "#]],
    );
}

/// The next minisock lies where the last one lay; how that ended was seen only in part, or not at all.
#[test]
fn minisock_address_is_used_again() {
    check(
        "\
        0.0 a start tw
        1.0 a cancel unknown
        1.5 b start tw at=a
        1.6 a (cancel connect)
        2.0 b cancel connect at=a
        3.0 c start tw
        3.5 c (cancel connect)
        4.0 d start fw2 at=c
        5.0 d cancel connect at=c
        6.0 e start tw
        6.5 e (cancel connect)
        7.0 f (start tw at=e)
        8.0 f cancel connect at=e
        ",
        &expect![[r#"
            0 minisock began in time_wait for 60 + 2.056
            1 a minisock ended, unknown: began in time_wait, minisock 1, fin_wait2 ?, time_wait 1 (1 since last restart of 60 + 2.056, 0 restarts, inferred, premature), peer's fin 0
                nothing known before
            1.5 minisock began in time_wait for 60 + 2.056
            2 b minisock ended, reused by 7/current: began in time_wait, minisock 0.5, fin_wait2 ?, time_wait 0.5 (0.5 since last restart of 60 + 2.056, 0 restarts, inferred, premature), peer's fin 0
                nothing known before
            3 minisock began in time_wait for 60 + 2.056
            4 minisock began in fin_wait2 for 60 + 2.056
            5 d minisock ended, reused by 7/current: began in fin_wait2, minisock 1, fin_wait2 ?
                nothing known before
            6 minisock began in time_wait for 60 + 2.056
            8 f minisock ended, reused by 7/current: began in ?, minisock ?, fin_wait2 ?, time_wait 1 (1 since last restart of 60 + 2.056, 0 restarts, inferred, premature), peer's fin 0
                nothing known before
            3 unmatched
        "#]],
    );
}

/// Its socket pair tells the next one from the last, whose cancellation nobody has explained yet.
#[test]
fn minisock_address_is_used_again_without_cookies() {
    check(
        "\
        0.0 a start tw cookie=0
        1.0 a cancel unknown cookie=0
        1.1 b start tw cookie=0 at=a
        3.0 b cancel unknown cookie=0 at=a
        ",
        &expect![[r#"
            0 minisock began in time_wait for 60 + 2.056
            1 ? minisock ended, unknown: began in time_wait, minisock 1, fin_wait2 ?, time_wait 1 (1 since last restart of 60 + 2.056, 0 restarts, inferred, premature), peer's fin 0
                nothing known before
            1.1 minisock began in time_wait for 60 + 2.056
            3 ? minisock ended, unknown: began in time_wait, minisock 1.9, fin_wait2 ?, time_wait 1.9 (1.9 since last restart of 60 + 2.056, 0 restarts, inferred, premature), peer's fin 0
                nothing known before
        "#]],
    );
}

/// The last one was to be restarted when it was last seen: that was no end, and the end is not known.
#[test]
fn minisock_address_is_used_again_after_a_restart() {
    check(
        "\
        0.0 a start tw
        5.0 a cancel restart
        5.0 a (start tw)
        5.1 a (cancel connect)
        5.2 b start tw at=a
        6.0 b cancel connect at=a
        ",
        &expect![[r#"
            0 minisock began in time_wait for 60 + 2.056
            5.2 minisock began in time_wait for 60 + 2.056
            6 b minisock ended, reused by 7/current: began in time_wait, minisock 0.8, fin_wait2 ?, time_wait 0.8 (0.8 since last restart of 60 + 2.056, 0 restarts, inferred, premature), peer's fin 0
                nothing known before
            1 unmatched
        "#]],
    );
}

/// What is known of a socket is not handed to a stranger.
#[test]
fn minisock_address_is_used_again_after_eviction() {
    check_with(
        Tracker::new(Limits { sockets: 10, minisocks: 1 }, WAIT, WITHOUT_WITNESS),
        "\
        0.0 a 1>4 by=42/curl
        0.1 a 4>5
        0.1 a start fw2
        0.1 a 5>7
        0.101 b start tw
        0.102 c start tw at=a
        2.0 c cancel connect at=a
        ",
        &expect![[r#"
            0 a established > fin_wait1 by 42/curl
            0.1 a fin_wait1 > fin_wait2 after 0.1
            0.1 minisock began in fin_wait2 for 60 + 2.056
            0.1 a fin_wait2 > close after 0
            0.101 minisock began in time_wait for 60 + 2.056
            0.102 minisock began in time_wait for 60 + 2.056
            0.1 a closed, then fin_wait2: active graceful in 4 by 42/curl, fin_wait1 0.1, fin_wait2 ?, fin 0 ack 0, sent 0, received 0 after our fin 0
            2 c minisock ended, reused by 7/current: began in time_wait, minisock 1.898, fin_wait2 ?, time_wait 1.898 (1.898 since last restart of 60 + 2.056, 0 restarts, inferred, premature), peer's fin 0
                nothing known before
            2 minisocks evicted
        "#]],
    );
}

/// FIN-WAIT-2 is never restarted, so it cannot be the first one.
#[test]
fn second_minisock_of_one_cookie_at_the_same_address() {
    check(
        "\
        0.0 a start fw2
        1.0 a (cancel connect)
        2.0 a start fw2
        3.0 a cancel connect
        ",
        &expect![[r#"
            0 minisock began in fin_wait2 for 60 + 2.056
            2 minisock began in fin_wait2 for 60 + 2.056
            3 a minisock ended, reused by 7/current: began in fin_wait2, minisock 1, fin_wait2 ?
                nothing known before
            2 unmatched
        "#]],
    );
}
