//! The flip from FIN-WAIT-2, seen with a witness of segments.

use expect_test::expect;

use super::notation::check_witnessed;

/// The timer starts anew, and the segment that made it comes a microsecond after: one flip, and a first FIN.
#[test]
fn visible_flip_and_its_fin() {
    check_witnessed(
        "\
        0.0 a start fw2
        5.0 a cancel restart tw
        5.000001 a start tw rcv=501
        5.000002 a segment fin seq=500 rcv=501
        66.0 a cancel expiry rcv=501
        66.0 a expire rcv=501
        ",
        &expect![[r#"
            0 minisock began in fin_wait2 for 60 + 2.056
            5.000001 flipped, exact
            66 a minisock ended, expired: began in fin_wait2, minisock 66, fin_wait2 ?, time_wait 60.999999 (60.999999 since last restart of 60 + 2.056, 0 restarts, fins again 0, strays 0, needed 30, exact, nominal), peer's fin 500
                nothing known before
        "#]],
    );
}

/// The FIN alone tells of it, to the moment; the timer would tell to the tick.
#[test]
fn silent_flip_and_its_fin() {
    check_witnessed(
        "\
        0.0 a 1>4 by=42/curl write=1000
        0.1 a 4>5 write=1001
        0.1 a start fw2
        0.100002 a 5>7 write=1001
        0.9 a (start tw left=60.004)
        0.900007 a segment fin seq=500 rcv=501
        62.0 a cancel expiry rcv=501
        62.0 a expire rcv=501
        ",
        &expect![[r#"
            0 a established > fin_wait1 by 42/curl
            0.1 a fin_wait1 > fin_wait2 after 0.1
            0.1 minisock began in fin_wait2 for 60 + 2.056
            0.100002 a fin_wait2 > close after 0.000002
            0.100002 a closed, then fin_wait2: active graceful in 4 by 42/curl, fin_wait1 0.1, fin_wait2 ?, fin 1000 ack 1001, sent 0, received 0 after our fin 0
            0.900007 flipped, exact
            62 a minisock ended, expired: began in fin_wait2, minisock 61.9, fin_wait2 0.800007, time_wait 61.099993 (61.099993 since last restart of 60 + 2.056, 0 restarts, fins again 0, strays 0, needed 30, exact, nominal), peer's fin 500
                active graceful in 4 by 42/curl, fin_wait1 0.1, fin_wait2 0.800007, fin 1000 ack 1001, sent 0, received 0 after our fin 0
        "#]],
    );
}

/// The end of the timer does not move, and the FIN tells all the same.
#[test]
fn silent_flip_within_a_tick() {
    check_witnessed(
        "\
        0.1 a start fw2
        0.100050 a (start tw)
        0.100051 a segment fin seq=500 rcv=501
        61.5 a cancel expiry rcv=501
        61.5 a expire rcv=501
        ",
        &expect![[r#"
            0.1 minisock began in fin_wait2 for 60 + 2.056
            0.100051 flipped, exact
            61.5 a minisock ended, expired: began in fin_wait2, minisock 61.4, fin_wait2 ?, time_wait 61.399949 (61.399949 since last restart of 60 + 2.056, 0 restarts, fins again 0, strays 0, needed 30, exact, nominal), peer's fin 500
                nothing known before
        "#]],
    );
}

/// The end moves by less than two ticks, and seems to move by a little more as it is read again: that is no restart.
#[test]
fn silent_flip_within_two_ticks() {
    check_witnessed(
        "\
        0.1 a start fw2
        0.119 a (start tw)
        0.119 a segment fin seq=500 rcv=501
        3.0 a segment rst seq=501 rcv=501 left=57.122
        61.5 a cancel expiry rcv=501
        61.5 a expire rcv=501
        ",
        &expect![[r#"
            0.1 minisock began in fin_wait2 for 60 + 2.056
            0.119 flipped, exact
            stray
            61.5 a minisock ended, expired: began in fin_wait2, minisock 61.4, fin_wait2 ?, time_wait 61.381 (61.381 since last restart of 60 + 2.056, 0 restarts, fins again 0, strays 1, needed 30, exact, nominal), peer's fin 500
                nothing known before
        "#]],
    );
}

/// Data that comes in FIN-WAIT-2 is nothing that a TIME-WAIT absorbs.
#[test]
fn segment_before_the_flip() {
    check_witnessed(
        "\
        0.0 a start fw2
        1.0 a segment seq=500 rcv=500
        2.0 a cancel restart tw
        2.000001 a start tw rcv=501
        2.000002 a segment fin seq=500 rcv=501
        3.0 b start fw2
        4.0 b segment rst seq=500
        5.0 b cancel reset
        64.0 a cancel expiry rcv=501
        64.0 a expire rcv=501
        ",
        &expect![[r#"
            0 minisock began in fin_wait2 for 60 + 2.056
            2.000001 flipped, exact
            3 minisock began in fin_wait2 for 60 + 2.056
            5 b minisock ended, reset_in_fin_wait2: began in fin_wait2, minisock 2, fin_wait2 ?
                nothing known before
            64 a minisock ended, expired: began in fin_wait2, minisock 64, fin_wait2 ?, time_wait 61.999999 (61.999999 since last restart of 60 + 2.056, 0 restarts, fins again 0, strays 0, needed 30, exact, nominal), peer's fin 500
                nothing known before
        "#]],
    );
}

/// Two CPUs: another segment is told before the FIN that made the flip, which is the first all the same.
#[test]
fn stray_overtakes_the_first_fin() {
    check_witnessed(
        "\
        0.0 a start fw2
        2.0 a (start tw)
        2.000003 a segment seq=501 rcv=501
        2.000004 a segment fin seq=500 rcv=501
        9.0 a (start tw)
        9.0 a segment fin seq=500 rcv=501
        70.0 a cancel expiry rcv=501
        70.0 a expire rcv=501
        ",
        &expect![[r#"
            0 minisock began in fin_wait2 for 60 + 2.056
            2.000003 flipped, exact
            stray
            2.000004 restarted, exact
            9 restarted, exact
            fin again
            70 a minisock ended, expired: began in fin_wait2, minisock 70, fin_wait2 ?, time_wait 67.999997 (61 since last restart of 60 + 2.056, 2 restarts, fins again 1, strays 1, needed 36.999997, exact, nominal), peer's fin 500
                nothing known before
        "#]],
    );
}

/// The FIN's record was lost, and a gap tells so: the timer knows better than the segment that comes next.
#[test]
fn fin_of_the_flip_is_lost() {
    check_witnessed(
        "\
        0.0 a start fw2
        2.0 a (start tw)
        2.0 a (segment fin seq=500)
        3.0 - gap
        30.0 a segment rst seq=501 rcv=501
        62.5 a cancel expiry rcv=501
        62.5 a expire rcv=501
        ",
        &expect![[r#"
            0 minisock began in fin_wait2 for 60 + 2.056
            2 flipped, inferred
            stray
            62.5 a minisock ended, expired: began in fin_wait2, minisock 62.5, fin_wait2 ?, time_wait 60.5 (60.5 since last restart of 60 + 2.056, 0 restarts, inferred, nominal), peer's fin 500, gap
                nothing known before
        "#]],
    );
}

/// The same, for a restart.
#[test]
fn fin_of_a_restart_is_lost() {
    check_witnessed(
        "\
        0.0 a start tw
        2.0 a (start tw)
        2.0 a (segment fin seq=500)
        3.0 - gap
        30.0 a segment rst seq=501 rcv=501
        62.5 a cancel expiry rcv=501
        62.5 a expire rcv=501
        ",
        &expect![[r#"
            0 minisock began in time_wait for 60 + 2.056
            2 restarted, inferred
            stray
            62.5 a minisock ended, expired: began in time_wait, minisock 62.5, fin_wait2 ?, time_wait 62.5 (60.5 since last restart of 60 + 2.056, 1 restarts, inferred, nominal), peer's fin 500, gap
                nothing known before
        "#]],
    );
}
