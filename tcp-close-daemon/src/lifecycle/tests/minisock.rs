//! From the start of a minisock's timer to its end.

use expect_test::expect;

use super::notation::check;

/// The timer is cancelled on its way to the handler.
#[test]
fn expiry_takes_the_wait_and_the_slack_of_its_timer() {
    check(
        "\
        0.0 a 1>4 by=42/curl write=1000
        0.1 a 4>5 write=1001
        0.5 a start tw rcv=501
        0.500002 a 5>7 write=1001 rcv=501 rx=500
        62.4 a cancel expiry rcv=501
        62.4 a expire rcv=501
        ",
        &expect![[r#"
            0 a established > fin_wait1 by 42/curl
            0.1 a fin_wait1 > fin_wait2 after 0.1
            0.5 minisock began in time_wait for 60 + 2.056
            0.500002 a fin_wait2 > close after 0.400002
            0.500002 a closed, then time_wait: active graceful in 3 by 42/curl, fin_wait1 0.1, fin_wait2 0.400002, fin 1000 ack 1001, peer's fin 500, sent 0, received 499 after our fin 499
            62.4 a minisock ended, expired: began in time_wait, minisock 61.9, fin_wait2 0.4, time_wait 61.9 (61.9 since last restart of 60 + 2.056, 0 restarts, inferred, nominal), peer's fin 500
                active graceful in 3 by 42/curl, fin_wait1 0.1, fin_wait2 0.400002, fin 1000 ack 1001, peer's fin 500, sent 0, received 499 after our fin 499
        "#]],
    );
}

/// The FIN comes when the bucket of the timer wheel has changed: cancelled in the new substate, started anew.
#[test]
fn flip_that_leaves_a_trace() {
    check(
        "\
        0.0 a 1>4 by=42/curl write=1000
        0.1 a 4>5 write=1001
        0.1 a start fw2
        0.100002 a 5>7 write=1001
        5.0 a cancel restart tw rcv=501
        5.0 a start tw rcv=501
        66.0 a cancel expiry rcv=501
        66.0 a expire rcv=501
        ",
        &expect![[r#"
            0 a established > fin_wait1 by 42/curl
            0.1 a fin_wait1 > fin_wait2 after 0.1
            0.1 minisock began in fin_wait2 for 60 + 2.056
            0.100002 a fin_wait2 > close after 0.000002
            0.100002 a closed, then fin_wait2: active graceful in 4 by 42/curl, fin_wait1 0.1, fin_wait2 ?, fin 1000 ack 1001, sent 0, received 0 after our fin 0
            5 flipped, inferred
            66 a minisock ended, expired: began in fin_wait2, minisock 65.9, fin_wait2 4.9, time_wait 61 (61 since last restart of 60 + 2.056, 0 restarts, inferred, nominal), peer's fin 500
                active graceful in 4 by 42/curl, fin_wait1 0.1, fin_wait2 4.9, fin 1000 ack 1001, sent 0, received 0 after our fin 0
        "#]],
    );
}

/// The FIN comes into the same bucket: only the end moves.
#[test]
fn flip_that_leaves_none() {
    check(
        "\
        0.0 a 1>4 by=42/curl write=1000
        0.1 a 4>5 write=1001
        0.1 a start fw2
        0.100002 a 5>7 write=1001
        0.9 a (start tw)
        62.0 a cancel expiry rcv=501
        62.0 a expire rcv=501
        ",
        &expect![[r#"
            0 a established > fin_wait1 by 42/curl
            0.1 a fin_wait1 > fin_wait2 after 0.1
            0.1 minisock began in fin_wait2 for 60 + 2.056
            0.100002 a fin_wait2 > close after 0.000002
            0.100002 a closed, then fin_wait2: active graceful in 4 by 42/curl, fin_wait1 0.1, fin_wait2 ?, fin 1000 ack 1001, sent 0, received 0 after our fin 0
            62 a minisock ended, expired: began in fin_wait2, minisock 61.9, fin_wait2 0.8, time_wait 61.1 (61.1 since last restart of 60 + 2.056, 0 restarts, inferred, nominal), peer's fin 500
                active graceful in 4 by 42/curl, fin_wait1 0.1, fin_wait2 0.8, fin 1000 ack 1001, sent 0, received 0 after our fin 0
        "#]],
    );
}

/// The FIN follows the acknowledgement: not even the end moves.
#[test]
fn flip_within_a_tick() {
    check(
        "\
        0.0 a 1>4 by=42/curl write=1000
        0.1 a 4>5 write=1001
        0.1 a start fw2
        0.100002 a 5>7 write=1001
        0.100050 a (start tw)
        61.5 a cancel expiry rcv=501
        61.5 a expire rcv=501
        ",
        &expect![[r#"
            0 a established > fin_wait1 by 42/curl
            0.1 a fin_wait1 > fin_wait2 after 0.1
            0.1 minisock began in fin_wait2 for 60 + 2.056
            0.100002 a fin_wait2 > close after 0.000002
            0.100002 a closed, then fin_wait2: active graceful in 4 by 42/curl, fin_wait1 0.1, fin_wait2 ?, fin 1000 ack 1001, sent 0, received 0 after our fin 0
            61.5 a minisock ended, expired: began in fin_wait2, minisock 61.4, fin_wait2 0.00005, time_wait 61.39995 (61.39995 since last restart of 60 + 2.056, 0 restarts, inferred, nominal), peer's fin 500
                active graceful in 4 by 42/curl, fin_wait1 0.1, fin_wait2 0.00005, fin 1000 ack 1001, sent 0, received 0 after our fin 0
        "#]],
    );
}

/// The timer counts in ticks, and its end may seem to lie before what it was set to.
#[test]
fn flip_is_not_before_the_beginning() {
    check(
        "\
        0.0 a 1>4 by=42/curl write=1000
        0.1 a 4>5 write=1001
        0.103 a start fw2
        0.103 a 5>7 write=1001
        3.0 a cancel connect tw left=57.099
        ",
        &expect![[r#"
            0 a established > fin_wait1 by 42/curl
            0.1 a fin_wait1 > fin_wait2 after 0.1
            0.103 minisock began in fin_wait2 for 60 + 2.056
            0.103 a fin_wait2 > close after 0.003
            0.103 a closed, then fin_wait2: active graceful in 4 by 42/curl, fin_wait1 0.1, fin_wait2 ?, fin 1000 ack 1001, sent 0, received 0 after our fin 0
            3 a minisock ended, reused by 7/current: began in fin_wait2, minisock 2.897, fin_wait2 0.003, time_wait 2.897 (2.897 since last restart of 60 + 2.056, 0 restarts, inferred, premature), peer's fin 0
                active graceful in 4 by 42/curl, fin_wait1 0.1, fin_wait2 0.003, fin 1000 ack 1001, sent 0, received 0 after our fin 0
        "#]],
    );
}

/// FIN-WAIT-2 was to last half a minute; TIME-WAIT always takes its own time.
#[test]
fn flip_to_another_wait() {
    check(
        "\
        0.0 a 1>4 by=42/curl
        0.1 a 4>5
        0.1 a start fw2 left=30
        0.1 a 5>7
        20.0 a cancel restart tw
        20.0 a start tw
        81.0 a cancel expiry
        81.0 a expire
        ",
        &expect![[r#"
            0 a established > fin_wait1 by 42/curl
            0.1 a fin_wait1 > fin_wait2 after 0.1
            0.1 minisock began in fin_wait2 for 30 + 2.056
            0.1 a fin_wait2 > close after 0
            0.1 a closed, then fin_wait2: active graceful in 4 by 42/curl, fin_wait1 0.1, fin_wait2 ?, fin 0 ack 0, sent 0, received 0 after our fin 0
            20 flipped, inferred
            81 a minisock ended, expired: began in fin_wait2, minisock 80.9, fin_wait2 19.9, time_wait 61 (61 since last restart of 60 + 2.056, 0 restarts, inferred, nominal), peer's fin 0
                active graceful in 4 by 42/curl, fin_wait1 0.1, fin_wait2 19.9, fin 0 ack 0, sent 0, received 0 after our fin 0
        "#]],
    );
}

/// The last ACK is lost, and the peer sends its FIN again.
#[test]
fn restarts_that_leave_a_trace() {
    check(
        "\
        0.0 a 1>4 by=42/curl write=1000
        0.1 a 4>5 write=1001
        0.5 a start tw rcv=501
        0.500002 a 5>7 write=1001 rcv=501 rx=500
        5.0 a cancel restart rcv=501
        5.0 a start tw rcv=501
        10.0 a cancel restart rcv=501
        10.0 a start tw rcv=501
        71.0 a cancel expiry rcv=501
        71.0 a expire rcv=501
        ",
        &expect![[r#"
            0 a established > fin_wait1 by 42/curl
            0.1 a fin_wait1 > fin_wait2 after 0.1
            0.5 minisock began in time_wait for 60 + 2.056
            0.500002 a fin_wait2 > close after 0.400002
            0.500002 a closed, then time_wait: active graceful in 3 by 42/curl, fin_wait1 0.1, fin_wait2 0.400002, fin 1000 ack 1001, peer's fin 500, sent 0, received 499 after our fin 499
            5 restarted, inferred
            10 restarted, inferred
            71 a minisock ended, expired: began in time_wait, minisock 70.5, fin_wait2 0.4, time_wait 70.5 (61 since last restart of 60 + 2.056, 2 restarts, inferred, nominal), peer's fin 500
                active graceful in 3 by 42/curl, fin_wait1 0.1, fin_wait2 0.400002, fin 1000 ack 1001, peer's fin 500, sent 0, received 499 after our fin 499
        "#]],
    );
}

/// Into the same bucket: what the timer says at its end gives it away.
#[test]
fn restart_that_leaves_none() {
    check(
        "\
        0.0 a 1>4 by=42/curl write=1000
        0.1 a 4>5 write=1001
        0.5 a start tw rcv=501
        0.500002 a 5>7 write=1001 rcv=501 rx=500
        0.7 a (start tw)
        61.5 a cancel expiry rcv=501
        61.5 a expire rcv=501
        ",
        &expect![[r#"
            0 a established > fin_wait1 by 42/curl
            0.1 a fin_wait1 > fin_wait2 after 0.1
            0.5 minisock began in time_wait for 60 + 2.056
            0.500002 a fin_wait2 > close after 0.400002
            0.500002 a closed, then time_wait: active graceful in 3 by 42/curl, fin_wait1 0.1, fin_wait2 0.400002, fin 1000 ack 1001, peer's fin 500, sent 0, received 499 after our fin 499
            61.5 a minisock ended, expired: began in time_wait, minisock 61, fin_wait2 0.4, time_wait 61 (60.8 since last restart of 60 + 2.056, 1 restarts, inferred, nominal), peer's fin 500
                active graceful in 3 by 42/curl, fin_wait1 0.1, fin_wait2 0.400002, fin 1000 ack 1001, peer's fin 500, sent 0, received 499 after our fin 499
        "#]],
    );
}

/// The end that moved tells of the silent ones, as soon as the timer is seen again.
#[test]
fn restart_of_either_kind_after_a_flip_of_either_kind() {
    check(
        "\
        0.0 a 1>4 by=42/curl write=1000
        0.1 a 4>5 write=1001
        0.1 a start fw2
        0.100002 a 5>7 write=1001
        0.3 a (start tw)
        5.0 a cancel restart
        5.0 a start tw
        6.0 a (start tw)
        68.0 a cancel expiry
        68.0 a expire
        0.0 b 1>4 by=42/curl write=1000
        0.1 b 4>5 write=1001
        0.1 b start fw2
        0.1 b 5>7 write=1001
        5.0 b cancel restart tw
        5.0 b start tw
        5.5 b (start tw)
        12.0 b cancel restart
        12.0 b start tw
        73.0 b cancel expiry
        73.0 b expire
        ",
        &expect![[r#"
            0 a established > fin_wait1 by 42/curl
            0 b established > fin_wait1 by 42/curl
            0.1 a fin_wait1 > fin_wait2 after 0.1
            0.1 minisock began in fin_wait2 for 60 + 2.056
            0.1 b fin_wait1 > fin_wait2 after 0.1
            0.1 minisock began in fin_wait2 for 60 + 2.056
            0.1 b fin_wait2 > close after 0
            0.100002 a fin_wait2 > close after 0.000002
            0.1 b closed, then fin_wait2: active graceful in 4 by 42/curl, fin_wait1 0.1, fin_wait2 ?, fin 1000 ack 1001, sent 0, received 0 after our fin 0
            0.100002 a closed, then fin_wait2: active graceful in 4 by 42/curl, fin_wait1 0.1, fin_wait2 ?, fin 1000 ack 1001, sent 0, received 0 after our fin 0
            5 restarted, inferred
            5 flipped, inferred
            12 restarted, inferred
            68 a minisock ended, expired: began in fin_wait2, minisock 67.9, fin_wait2 0.2, time_wait 67.7 (62 since last restart of 60 + 2.056, 2 restarts, inferred, nominal), peer's fin 0
                active graceful in 4 by 42/curl, fin_wait1 0.1, fin_wait2 0.2, fin 1000 ack 1001, sent 0, received 0 after our fin 0
            73 b minisock ended, expired: began in fin_wait2, minisock 72.9, fin_wait2 4.9, time_wait 68 (61 since last restart of 60 + 2.056, 2 restarts, inferred, nominal), peer's fin 0
                active graceful in 4 by 42/curl, fin_wait1 0.1, fin_wait2 4.9, fin 1000 ack 1001, sent 0, received 0 after our fin 0
        "#]],
    );
}

/// Short of the wait; just so, early by the tick or late by the slack; and longer than both, by more than a softirq is
/// put off.
#[test]
fn verdicts() {
    check(
        "\
        0.0 a start tw rcv=501
        0.1 b start tw rcv=501
        0.2 c start tw rcv=501
        0.3 d start tw rcv=501
        59.9 a cancel connect
        60.09 b cancel expiry
        60.09 b expire
        62.2 c cancel expiry
        62.2 c expire
        62.5 d cancel expiry
        62.5 d expire
        ",
        &expect![[r#"
            0 minisock began in time_wait for 60 + 2.056
            0.1 minisock began in time_wait for 60 + 2.056
            0.2 minisock began in time_wait for 60 + 2.056
            0.3 minisock began in time_wait for 60 + 2.056
            59.9 a minisock ended, reused by 7/current: began in time_wait, minisock 59.9, fin_wait2 ?, time_wait 59.9 (59.9 since last restart of 60 + 2.056, 0 restarts, inferred, premature), peer's fin 0
                nothing known before
            60.09 b minisock ended, expired: began in time_wait, minisock 59.99, fin_wait2 ?, time_wait 59.99 (59.99 since last restart of 60 + 2.056, 0 restarts, inferred, nominal), peer's fin 0
                nothing known before
            62.2 c minisock ended, expired: began in time_wait, minisock 62, fin_wait2 ?, time_wait 62 (62 since last restart of 60 + 2.056, 0 restarts, inferred, nominal), peer's fin 0
                nothing known before
            62.5 d minisock ended, expired: began in time_wait, minisock 62.2, fin_wait2 ?, time_wait 62.2 (62.2 since last restart of 60 + 2.056, 0 restarts, inferred, prolonged), peer's fin 0
                nothing known before
        "#]],
    );
}

/// Only the start of the timer is told here, so nothing is known of the full socket.
#[test]
fn every_end_of_a_time_wait() {
    check(
        "\
        0.0 a start tw rcv=501
        0.1 b start tw rcv=501
        0.2 c start tw rcv=501
        0.3 d start tw rcv=501
        0.4 e start tw rcv=501
        0.5 f start tw rcv=501
        0.6 g start tw rcv=501
        60.9 a cancel expiry
        60.9 a expire
        2.0 b cancel connect
        3.0 c cancel receive
        4.0 d cancel reset
        5.0 e cancel purge
        6.0 f cancel abort
        7.0 g cancel unknown
        ",
        &expect![[r#"
            0 minisock began in time_wait for 60 + 2.056
            0.1 minisock began in time_wait for 60 + 2.056
            0.2 minisock began in time_wait for 60 + 2.056
            0.3 minisock began in time_wait for 60 + 2.056
            0.4 minisock began in time_wait for 60 + 2.056
            0.5 minisock began in time_wait for 60 + 2.056
            0.6 minisock began in time_wait for 60 + 2.056
            2 b minisock ended, reused by 7/current: began in time_wait, minisock 1.9, fin_wait2 ?, time_wait 1.9 (1.9 since last restart of 60 + 2.056, 0 restarts, inferred, premature), peer's fin 0
                nothing known before
            3 c minisock ended, recycled: began in time_wait, minisock 2.8, fin_wait2 ?, time_wait 2.8 (2.8 since last restart of 60 + 2.056, 0 restarts, inferred, premature), peer's fin 0
                nothing known before
            4 d minisock ended, assassinated: began in time_wait, minisock 3.7, fin_wait2 ?, time_wait 3.7 (3.7 since last restart of 60 + 2.056, 0 restarts, inferred, premature), peer's fin 0
                nothing known before
            5 e minisock ended, purged: began in time_wait, minisock 4.6, fin_wait2 ?, time_wait 4.6 (4.6 since last restart of 60 + 2.056, 0 restarts, inferred, premature), peer's fin 0
                nothing known before
            6 f minisock ended, killed by 7/current: began in time_wait, minisock 5.5, fin_wait2 ?, time_wait 5.5 (5.5 since last restart of 60 + 2.056, 0 restarts, inferred, premature), peer's fin 0
                nothing known before
            7 g minisock ended, unknown: began in time_wait, minisock 6.4, fin_wait2 ?, time_wait 6.4 (6.4 since last restart of 60 + 2.056, 0 restarts, inferred, premature), peer's fin 0
                nothing known before
            60.9 a minisock ended, expired: began in time_wait, minisock 60.9, fin_wait2 ?, time_wait 60.9 (60.9 since last restart of 60 + 2.056, 0 restarts, inferred, nominal), peer's fin 0
                nothing known before
        "#]],
    );
}

/// It never was a TIME-WAIT.
#[test]
fn every_end_of_a_fin_wait2() {
    check(
        "\
        0.0 a start fw2 rcv=501
        0.1 b start fw2 rcv=501
        0.2 c start fw2 rcv=501
        0.3 d start fw2 rcv=501
        0.4 e start fw2 rcv=501
        0.5 f start fw2 rcv=501
        0.6 g start fw2 rcv=501
        60.5 a cancel expiry
        60.5 a expire
        2.0 b cancel connect
        3.0 c cancel receive
        4.0 d cancel reset
        5.0 e cancel purge
        6.0 f cancel abort
        7.0 g cancel unknown
        ",
        &expect![[r#"
            0 minisock began in fin_wait2 for 60 + 2.056
            0.1 minisock began in fin_wait2 for 60 + 2.056
            0.2 minisock began in fin_wait2 for 60 + 2.056
            0.3 minisock began in fin_wait2 for 60 + 2.056
            0.4 minisock began in fin_wait2 for 60 + 2.056
            0.5 minisock began in fin_wait2 for 60 + 2.056
            0.6 minisock began in fin_wait2 for 60 + 2.056
            2 b minisock ended, reused by 7/current: began in fin_wait2, minisock 1.9, fin_wait2 ?
                nothing known before
            3 c minisock ended, reset_by_us: began in fin_wait2, minisock 2.8, fin_wait2 ?
                nothing known before
            4 d minisock ended, reset_in_fin_wait2: began in fin_wait2, minisock 3.7, fin_wait2 ?
                nothing known before
            5 e minisock ended, purged: began in fin_wait2, minisock 4.6, fin_wait2 ?
                nothing known before
            6 f minisock ended, killed by 7/current: began in fin_wait2, minisock 5.5, fin_wait2 ?
                nothing known before
            7 g minisock ended, unknown: began in fin_wait2, minisock 6.4, fin_wait2 ?
                nothing known before
            60.5 a minisock ended, fin_wait2_timeout: began in fin_wait2, minisock 60.5, fin_wait2 ?
                nothing known before
        "#]],
    );
}

/// By a `connect()`, while FIN-WAIT-2 and TIME-WAIT are both told from the timer.
#[test]
fn time_wait_after_a_flip_ends_before_its_time() {
    check(
        "\
        0.0 a 1>4 by=42/curl write=1000
        0.1 a 4>5 write=1001
        0.1 a start fw2
        0.100002 a 5>7 write=1001
        0.4 a (start tw)
        2.0 a cancel connect rcv=501
        ",
        &expect![[r#"
            0 a established > fin_wait1 by 42/curl
            0.1 a fin_wait1 > fin_wait2 after 0.1
            0.1 minisock began in fin_wait2 for 60 + 2.056
            0.100002 a fin_wait2 > close after 0.000002
            0.100002 a closed, then fin_wait2: active graceful in 4 by 42/curl, fin_wait1 0.1, fin_wait2 ?, fin 1000 ack 1001, sent 0, received 0 after our fin 0
            2 a minisock ended, reused by 7/current: began in fin_wait2, minisock 1.9, fin_wait2 0.3, time_wait 1.6 (1.6 since last restart of 60 + 2.056, 0 restarts, inferred, premature), peer's fin 500
                active graceful in 4 by 42/curl, fin_wait1 0.1, fin_wait2 0.3, fin 1000 ack 1001, sent 0, received 0 after our fin 0
        "#]],
    );
}

/// The wait is over, and the timer waits for the end of its bucket: still not expired.
#[test]
fn reused_after_its_time() {
    check(
        "\
        0.0 a 1>4 by=42/curl write=1000
        0.1 a 4>5 write=1001
        0.5 a start tw rcv=501
        0.500002 a 5>7 write=1001 rcv=501 rx=500
        61.0 a cancel connect rcv=501
        ",
        &expect![[r#"
            0 a established > fin_wait1 by 42/curl
            0.1 a fin_wait1 > fin_wait2 after 0.1
            0.5 minisock began in time_wait for 60 + 2.056
            0.500002 a fin_wait2 > close after 0.400002
            0.500002 a closed, then time_wait: active graceful in 3 by 42/curl, fin_wait1 0.1, fin_wait2 0.400002, fin 1000 ack 1001, peer's fin 500, sent 0, received 499 after our fin 499
            61 a minisock ended, reused by 7/current: began in time_wait, minisock 60.5, fin_wait2 0.4, time_wait 60.5 (60.5 since last restart of 60 + 2.056, 0 restarts, inferred, nominal), peer's fin 500
                active graceful in 3 by 42/curl, fin_wait1 0.1, fin_wait2 0.400002, fin 1000 ack 1001, peer's fin 500, sent 0, received 499 after our fin 499
        "#]],
    );
}

/// Three segments or four has no answer.
#[test]
fn fin_that_never_comes() {
    check(
        "\
        0.0 a 1>4 by=42/curl write=1000
        0.1 a 4>5 write=1001
        0.1 a start fw2
        0.100002 a 5>7 write=1001
        61.0 a cancel expiry
        61.0 a expire
        ",
        &expect![[r#"
            0 a established > fin_wait1 by 42/curl
            0.1 a fin_wait1 > fin_wait2 after 0.1
            0.1 minisock began in fin_wait2 for 60 + 2.056
            0.100002 a fin_wait2 > close after 0.000002
            0.100002 a closed, then fin_wait2: active graceful in 4 by 42/curl, fin_wait1 0.1, fin_wait2 ?, fin 1000 ack 1001, sent 0, received 0 after our fin 0
            61 a minisock ended, fin_wait2_timeout: began in fin_wait2, minisock 60.9, fin_wait2 60.9
                active graceful by 42/curl, fin_wait1 0.1, fin_wait2 60.9, fin 1000 ack 1001, sent 0, received 0 after our fin 0
        "#]],
    );
}

/// What is known of the socket is told first, and handed over.
#[test]
fn minisock_ends_before_its_socket_has_settled() {
    check(
        "\
        0.0 a 1>4 by=42/curl write=1000
        0.1 a 4>5 write=1001
        0.1 a start fw2
        0.100002 a 5>7 write=1001
        0.100050 a cancel reset
        ",
        &expect![[r#"
            0 a established > fin_wait1 by 42/curl
            0.1 a fin_wait1 > fin_wait2 after 0.1
            0.1 minisock began in fin_wait2 for 60 + 2.056
            0.100002 a fin_wait2 > close after 0.000002
            0.100002 a closed, then fin_wait2: active graceful in 4 by 42/curl, fin_wait1 0.1, fin_wait2 ?, fin 1000 ack 1001, sent 0, received 0 after our fin 0
            0.10005 a minisock ended, reset_in_fin_wait2: began in fin_wait2, minisock 0.00005, fin_wait2 0.00005
                active graceful by 42/curl, fin_wait1 0.1, fin_wait2 0.00005, fin 1000 ack 1001, sent 0, received 0 after our fin 0
        "#]],
    );
}

/// No stack tells anything: expiry and restart still show, an early end is unknown, and known a second late.
#[test]
fn kernel_addresses_are_hidden() {
    check(
        "\
        0.0 a 1>4 by=42/curl write=1000
        0.1 a 4>5 write=1001
        0.5 a start tw rcv=501
        0.500002 a 5>7 write=1001 rcv=501 rx=500
        3.0 a cancel unknown
        3.0 a start tw
        64.0 a cancel unknown
        64.0 a expire
        1.0 b start fw2
        7.0 b cancel unknown
        70.0 b 1>8
        ",
        &expect![[r#"
            0 a established > fin_wait1 by 42/curl
            0.1 a fin_wait1 > fin_wait2 after 0.1
            0.5 minisock began in time_wait for 60 + 2.056
            0.500002 a fin_wait2 > close after 0.400002
            0.500002 a closed, then time_wait: active graceful in 3 by 42/curl, fin_wait1 0.1, fin_wait2 0.400002, fin 1000 ack 1001, peer's fin 500, sent 0, received 499 after our fin 499
            1 minisock began in fin_wait2 for 60 + 2.056
            3 restarted, inferred
            7 b minisock ended, unknown: began in fin_wait2, minisock 6, fin_wait2 ?
                nothing known before
            64 a minisock ended, expired: began in time_wait, minisock 63.5, fin_wait2 0.4, time_wait 63.5 (61 since last restart of 60 + 2.056, 1 restarts, inferred, nominal), peer's fin 0
                active graceful in 3 by 42/curl, fin_wait1 0.1, fin_wait2 0.400002, fin 1000 ack 1001, peer's fin 500, sent 0, received 499 after our fin 499
            70 b established > close_wait
            1 sockets left
        "#]],
    );
}

/// The full socket is found by its pair, within moments; a reader of `sock_diag` may give the minisock a cookie.
#[test]
fn minisock_without_a_cookie() {
    check(
        "\
        0.0 a 1>4 by=42/curl write=1000
        0.1 a 4>5 write=1001
        0.3 a start fw2 cookie=0
        0.300002 a 5>7 write=1001
        3.0 a cancel restart tw cookie=777
        3.0 a start tw cookie=777
        64.0 a cancel expiry cookie=777
        64.0 a expire cookie=777
        ",
        &expect![[r#"
            0 a established > fin_wait1 by 42/curl
            0.1 a fin_wait1 > fin_wait2 after 0.1
            0.3 minisock began in fin_wait2 for 60 + 2.056
            0.300002 a fin_wait2 > close after 0.200002
            0.300002 a closed, then fin_wait2: active graceful in 4 by 42/curl, fin_wait1 0.1, fin_wait2 ?, fin 1000 ack 1001, sent 0, received 0 after our fin 0
            3 flipped, inferred
            64 a minisock ended, expired: began in fin_wait2, minisock 63.7, fin_wait2 2.9, time_wait 61 (61 since last restart of 60 + 2.056, 0 restarts, inferred, nominal), peer's fin 0
                active graceful in 4 by 42/curl, fin_wait1 0.1, fin_wait2 2.9, fin 1000 ack 1001, sent 0, received 0 after our fin 0
        "#]],
    );
}

/// Its own cookie is all there is.
#[test]
fn minisock_without_a_cookie_nor_a_socket() {
    check(
        "\
        0.0 a start tw cookie=0
        5.0 a cancel restart cookie=0
        5.0 a start tw cookie=0
        9.0 a 5>7
        66.0 a cancel expiry cookie=0
        66.0 a expire cookie=0
        ",
        &expect![[r#"
            0 minisock began in time_wait for 60 + 2.056
            5 restarted, inferred
            9 a fin_wait2 > close
            9 a closed, then refused: active graceful, fin_wait2 ?, sent 0, received 0
            66 ? minisock ended, expired: began in time_wait, minisock 66, fin_wait2 ?, time_wait 66 (61 since last restart of 60 + 2.056, 1 restarts, inferred, nominal), peer's fin 0
                nothing known before
        "#]],
    );
}

/// Its beginning is not known; what its timer says is.
#[test]
fn first_seen_midway() {
    check(
        "\
        105.0 a cancel restart left=58
        105.0 a start tw
        166.0 a cancel expiry
        166.0 a expire
        107.0 b cancel expiry left=-1
        107.0 b expire
        108.0 c cancel expiry fw2 left=-1
        108.0 c expire
        109.0 d cancel connect left=30
        ",
        &expect![[r#"
            105 restarted, inferred
            107 b minisock ended, expired: began in ?, minisock ?, fin_wait2 ?, time_wait 61 (61 since last restart of 60 + 2.056, 0 restarts, inferred, nominal), peer's fin 0
                nothing known before
            108 c minisock ended, fin_wait2_timeout: began in ?, minisock ?, fin_wait2 ?
                nothing known before
            109 d minisock ended, reused by 7/current: began in ?, minisock ?, fin_wait2 ?, time_wait 30 (30 since last restart of 60 + 2.056, 0 restarts, inferred, premature), peer's fin 0
                nothing known before
            166 a minisock ended, expired: began in ?, minisock ?, fin_wait2 ?, time_wait 61 (61 since last restart of 60 + 2.056, 1 restarts, inferred, nominal), peer's fin 0
                nothing known before
            4 unmatched
        "#]],
    );
}
