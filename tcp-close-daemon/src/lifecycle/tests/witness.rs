//! What the segments tell that a minisock deals with, and what is told without them.

use expect_test::expect;

use super::notation::{WAIT, WITH_WITNESS, check, check_with, check_witnessed};
use crate::lifecycle::{Limits, Tracker};

// The flip from FIN-WAIT-2.

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

// What a TIME-WAIT absorbs.

/// The final acknowledgement is lost, and the FIN comes again.
#[test]
fn fin_again_once() {
    check_witnessed(
        "\
        0.0 a start tw rcv=501
        0.2 a (start tw)
        0.200001 a segment fin seq=500 rcv=501
        0.0 b start tw rcv=501
        7.0 b cancel restart rcv=501
        7.000001 b start tw rcv=501
        7.000002 b segment fin seq=500 rcv=501
        61.5 a cancel expiry rcv=501
        61.5 a expire rcv=501
        68.0 b cancel expiry rcv=501
        68.0 b expire rcv=501
        ",
        &expect![[r#"
            0 minisock began in time_wait for 60 + 2.056
            0 minisock began in time_wait for 60 + 2.056
            0.200001 restarted, exact
            fin again
            7.000001 restarted, exact
            fin again
            61.5 a minisock ended, expired: began in time_wait, minisock 61.5, fin_wait2 ?, time_wait 61.5 (61.299999 since last restart of 60 + 2.056, 1 restarts, fins again 1, strays 0, needed 30.200001, exact, nominal), peer's fin 500
                nothing known before
            68 b minisock ended, expired: began in time_wait, minisock 68, fin_wait2 ?, time_wait 68 (60.999999 since last restart of 60 + 2.056, 1 restarts, fins again 1, strays 0, needed 37.000002, exact, nominal), peer's fin 500
                nothing known before
        "#]],
    );
}

/// By the peer's schedule, first within a bucket of the timer wheel, then beyond it.
#[test]
fn fin_again_three_times() {
    check_witnessed(
        "\
        0.0 a start fw2
        1.0 a (start tw)
        1.0 a segment fin seq=500 rcv=501
        1.2 a (start tw)
        1.2 a segment fin seq=500 rcv=501
        1.6 a (start tw)
        1.6 a segment fin seq=500 rcv=501
        2.4 a (start tw)
        2.4 a segment fin seq=500 rcv=501
        63.5 a cancel expiry rcv=501
        63.5 a expire rcv=501
        ",
        &expect![[r#"
            0 minisock began in fin_wait2 for 60 + 2.056
            1 flipped, exact
            1.2 restarted, exact
            fin again
            1.6 restarted, exact
            fin again
            2.4 restarted, exact
            fin again
            63.5 a minisock ended, expired: began in fin_wait2, minisock 63.5, fin_wait2 ?, time_wait 62.5 (61.1 since last restart of 60 + 2.056, 3 restarts, fins again 3, strays 0, needed 31.4, exact, nominal), peer's fin 500
                nothing known before
        "#]],
    );
    check_witnessed(
        "\
        0.0 a start fw2
        5.0 a cancel restart tw
        5.000001 a start tw rcv=501
        5.000002 a segment fin seq=500 rcv=501
        10.0 a cancel restart
        10.000001 a start tw rcv=501
        10.000002 a segment fin seq=500 rcv=501
        15.0 a cancel restart
        15.000001 a start tw rcv=501
        15.000002 a segment fin seq=500 rcv=501
        15.4 a (start tw)
        15.4 a segment fin seq=500 rcv=501
        77.0 a cancel expiry rcv=501
        77.0 a expire rcv=501
        ",
        &expect![[r#"
            0 minisock began in fin_wait2 for 60 + 2.056
            5.000001 flipped, exact
            10.000001 restarted, exact
            fin again
            15.000001 restarted, exact
            fin again
            15.4 restarted, exact
            fin again
            77 a minisock ended, expired: began in fin_wait2, minisock 77, fin_wait2 ?, time_wait 71.999999 (61.6 since last restart of 60 + 2.056, 3 restarts, fins again 3, strays 0, needed 40.399999, exact, nominal), peer's fin 500
                nothing known before
        "#]],
    );
}

/// An acknowledgement restarts the wait, and says nothing of ours: it is no FIN.
#[test]
fn strays() {
    check_witnessed(
        "\
        0.0 a start tw rcv=501
        0.3 a (start tw)
        0.3 a segment seq=501 rcv=501
        5.0 a cancel restart rcv=501
        5.000001 a start tw rcv=501
        5.000002 a segment seq=400 end=450 rcv=501
        8.0 a segment seq=400 end=450 rcv=501
        66.0 a cancel expiry rcv=501
        66.0 a expire rcv=501
        ",
        &expect![[r#"
            0 minisock began in time_wait for 60 + 2.056
            0.3 restarted, exact
            stray
            5.000001 restarted, exact
            stray
            stray
            66 a minisock ended, expired: began in time_wait, minisock 66, fin_wait2 ?, time_wait 66 (60.999999 since last restart of 60 + 2.056, 2 restarts, fins again 0, strays 3, needed 30, exact, nominal), peer's fin 500
                nothing known before
        "#]],
    );
}

/// RFC 1337: no end, and no restart.
#[test]
fn reset_that_is_ignored() {
    check_witnessed(
        "\
        0.0 a start tw rcv=501
        3.0 a segment rst seq=501 rcv=501
        61.0 a cancel expiry rcv=501
        61.0 a expire rcv=501
        ",
        &expect![[r#"
            0 minisock began in time_wait for 60 + 2.056
            stray
            61 a minisock ended, expired: began in time_wait, minisock 61, fin_wait2 ?, time_wait 61 (61 since last restart of 60 + 2.056, 0 restarts, fins again 0, strays 1, needed 30, exact, nominal), peer's fin 500
                nothing known before
        "#]],
    );
}

/// The segment that ended it adds nothing, whether the kernel's stack told so or not.
#[test]
fn segment_after_the_end() {
    check_witnessed(
        "\
        0.0 a start tw rcv=501
        3.0 a cancel reset rcv=501
        3.000001 a segment rst seq=501 rcv=501
        0.0 b start tw rcv=501
        4.0 b cancel receive rcv=501
        4.000001 b segment seq=9000 end=9001 rcv=501
        0.0 c start tw rcv=501
        5.0 c cancel unknown rcv=501
        5.000001 c segment rst seq=501 rcv=501
        0.0 d start fw2 rcv=500
        6.0 d cancel reset rcv=500
        6.000001 d segment rst seq=500 rcv=500
        ",
        &expect![[r#"
            0 minisock began in time_wait for 60 + 2.056
            0 minisock began in time_wait for 60 + 2.056
            0 minisock began in time_wait for 60 + 2.056
            0 minisock began in fin_wait2 for 60 + 2.056
            3 a minisock ended, assassinated: began in time_wait, minisock 3, fin_wait2 ?, time_wait 3 (3 since last restart of 60 + 2.056, 0 restarts, fins again 0, strays 0, needed 30, exact, premature), peer's fin 500
                nothing known before
            4 b minisock ended, recycled: began in time_wait, minisock 4, fin_wait2 ?, time_wait 4 (4 since last restart of 60 + 2.056, 0 restarts, fins again 0, strays 0, needed 30, exact, premature), peer's fin 500
                nothing known before
            5 c minisock ended, unknown: began in time_wait, minisock 5, fin_wait2 ?, time_wait 5 (5 since last restart of 60 + 2.056, 0 restarts, fins again 0, strays 0, needed 30, exact, premature), peer's fin 500
                nothing known before
            6 d minisock ended, reset_in_fin_wait2: began in fin_wait2, minisock 6, fin_wait2 ?
                nothing known before
        "#]],
    );
}

/// One nobody follows, and ones that lie where another is followed.
#[test]
fn segment_of_a_stranger() {
    check_witnessed(
        "\
        1.0 a segment fin seq=500
        0.0 b start tw rcv=501
        2.0 c segment fin seq=500 at=b
        2.1 b segment fin seq=500 cookie=99
        3.0 b cancel connect rcv=501
        ",
        &expect![[r#"
            0 minisock began in time_wait for 60 + 2.056
            3 b minisock ended, reused by 7/current: began in time_wait, minisock 3, fin_wait2 ?, time_wait 3 (3 since last restart of 60 + 2.056, 0 restarts, fins again 0, strays 0, needed 30, exact, premature), peer's fin 500
                nothing known before
        "#]],
    );
}

/// A reader of `sock_diag` may have given it a cookie since.
#[test]
fn segment_of_a_minisock_without_a_cookie() {
    check_witnessed(
        "\
        0.0 a start fw2 cookie=0
        2.0 a (start tw)
        2.0 a segment fin seq=500 cookie=777
        3.0 a (start tw)
        3.0 a segment fin seq=500 cookie=777
        64.0 a cancel expiry cookie=777
        64.0 a expire cookie=777
        ",
        &expect![[r#"
            0 minisock began in fin_wait2 for 60 + 2.056
            2 flipped, exact
            3 restarted, exact
            fin again
            64 ? minisock ended, expired: began in fin_wait2, minisock 64, fin_wait2 ?, time_wait 62 (61 since last restart of 60 + 2.056, 1 restarts, fins again 1, strays 0, needed 31, exact, nominal), peer's fin 0
                nothing known before
        "#]],
    );
}

/// Each moves the timer by less than it takes to notice; the segments tell all the same.
#[test]
fn restarts_in_quick_succession() {
    let text = "\
        0.0 a start tw rcv=501
        1.000 a (start tw)
        1.000 a segment seq=501 rcv=501
        1.015 a (start tw)
        1.015 a segment seq=501 rcv=501
        1.030 a (start tw)
        1.030 a segment seq=501 rcv=501
        1.045 a (start tw)
        1.045 a segment seq=501 rcv=501
        1.060 a (start tw)
        1.060 a segment seq=501 rcv=501
        62.5 a cancel expiry rcv=501
        62.5 a expire rcv=501
        ";
    check_witnessed(
        text,
        &expect![[r#"
            0 minisock began in time_wait for 60 + 2.056
            1 restarted, exact
            stray
            1.015 restarted, exact
            stray
            1.03 restarted, exact
            stray
            1.045 restarted, exact
            stray
            1.06 restarted, exact
            stray
            62.5 a minisock ended, expired: began in time_wait, minisock 62.5, fin_wait2 ?, time_wait 62.5 (61.44 since last restart of 60 + 2.056, 5 restarts, fins again 0, strays 5, needed 30, exact, nominal), peer's fin 500
                nothing known before
        "#]],
    );
}

// Where the witness does not see all.

/// What it counts is counted; what is told of the TIME-WAIT is what can be vouched for.
#[test]
fn gap_makes_a_witness_no_witness() {
    check_witnessed(
        "\
        0.0 a start tw rcv=501
        0.2 a (start tw)
        0.2 a segment fin seq=500 rcv=501
        1.0 - gap
        5.0 a cancel restart rcv=501
        5.000001 a start tw rcv=501
        5.000002 a segment fin seq=500 rcv=501
        66.0 a cancel expiry rcv=501
        66.0 a expire rcv=501
        70.0 b start tw rcv=501
        71.0 b cancel connect rcv=501
        ",
        &expect![[r#"
            0 minisock began in time_wait for 60 + 2.056
            0.2 restarted, exact
            fin again
            5.000001 restarted, inferred
            fin again
            66 a minisock ended, expired: began in time_wait, minisock 66, fin_wait2 ?, time_wait 66 (60.999999 since last restart of 60 + 2.056, 2 restarts, inferred, nominal), peer's fin 500, gap
                nothing known before
            70 minisock began in time_wait for 60 + 2.056
            71 b minisock ended, reused by 7/current: began in time_wait, minisock 1, fin_wait2 ?, time_wait 1 (1 since last restart of 60 + 2.056, 0 restarts, fins again 0, strays 0, needed 30, exact, premature), peer's fin 500
                nothing known before
        "#]],
    );
}

/// A start that was lost is a gap, though nobody said so.
#[test]
fn start_after_a_cancel_is_lost() {
    check_witnessed(
        "\
        0.0 a start tw rcv=501
        3.0 a cancel restart rcv=501
        3.000001 a (start tw)
        3.000002 a segment fin seq=500 rcv=501
        64.0 a cancel expiry rcv=501
        64.0 a expire rcv=501
        ",
        &expect![[r#"
            0 minisock began in time_wait for 60 + 2.056
            3.000002 restarted, exact
            fin again
            64 a minisock ended, expired: began in time_wait, minisock 64, fin_wait2 ?, time_wait 64 (60.999998 since last restart of 60 + 2.056, 1 restarts, inferred, nominal), peer's fin 500, gap
                nothing known before
            1 unmatched
        "#]],
    );
}

/// What came before we looked was seen by nobody.
#[test]
fn minisock_that_was_there_before() {
    check_witnessed(
        "\
        105.0 a segment fin seq=500 left=60
        106.0 a cancel restart left=59
        106.000001 a start tw
        106.000002 a segment fin seq=500
        107.0 a segment seq=501
        167.0 a cancel expiry
        167.0 a expire
        108.0 b cancel restart fw2 left=59
        108.000001 b start tw
        108.000002 b segment fin seq=500
        169.0 b cancel expiry
        169.0 b expire
        ",
        &expect![[r#"
            106.000001 restarted, inferred
            fin again
            stray
            108.000001 flipped, inferred
            167 a minisock ended, expired: began in ?, minisock ?, fin_wait2 ?, time_wait 60.999999 (60.999999 since last restart of 60 + 2.056, 1 restarts, inferred, nominal), peer's fin 0
                nothing known before
            169 b minisock ended, expired: began in ?, minisock ?, fin_wait2 ?, time_wait 60.999999 (60.999999 since last restart of 60 + 2.056, 0 restarts, inferred, nominal), peer's fin 0
                nothing known before
            2 unmatched
        "#]],
    );
}

/// One that had to make room is one that is seen late.
#[test]
fn minisock_that_was_evicted() {
    check_with(
        Tracker::new(Limits { sockets: 10, minisocks: 1 }, WAIT, WITH_WITNESS),
        "\
        0.0 a start tw
        1.0 b start tw
        2.0 a segment fin seq=500
        3.0 a cancel connect
        ",
        &expect![[r#"
            0 minisock began in time_wait for 60 + 2.056
            1 minisock began in time_wait for 60 + 2.056
            3 a minisock ended, reused by 7/current: began in ?, minisock ?, fin_wait2 ?, time_wait 3 (3 since last restart of 60 + 2.056, 0 restarts, inferred, premature), peer's fin 0
                nothing known before
            2 minisocks evicted
            1 unmatched
        "#]],
    );
}

// The kernel's own stamp.

/// The peer's FIN carries timestamps, so its moment is known to the millisecond, whatever restarted the wait since:
/// and that something did.
#[test]
fn stamp_of_a_silent_flip() {
    check(
        "\
        0.1003 a start fw2 stamp=0.1003
        0.9004 a (start tw left=60.003 stamp=0.9004)
        62.0 a cancel expiry rcv=501
        62.0 a expire rcv=501
        0.2003 b start fw2 stamp=0.2003
        0.9004 b (start tw stamp=0.9004)
        1.7 b (start tw)
        63.0 b cancel connect rcv=501
        0.3003 c start fw2 stamp=0.3003
        0.3054 c (start tw stamp=0.3054)
        61.5 c cancel expiry rcv=501
        61.5 c expire rcv=501
        ",
        &expect![[r#"
            0.1003 minisock began in fin_wait2 for 60 + 2.056
            0.2003 minisock began in fin_wait2 for 60 + 2.056
            0.3003 minisock began in fin_wait2 for 60 + 2.056
            61.5 c minisock ended, expired: began in fin_wait2, minisock 61.1997, fin_wait2 ?, time_wait 61.195 (61.195 since last restart of 60 + 2.056, 0 restarts, inferred, nominal), peer's fin 500
                nothing known before
            62 a minisock ended, expired: began in fin_wait2, minisock 61.8997, fin_wait2 ?, time_wait 61.1 (61.1 since last restart of 60 + 2.056, 0 restarts, inferred, nominal), peer's fin 500
                nothing known before
            63 b minisock ended, reused by 7/current: began in fin_wait2, minisock 62.7997, fin_wait2 ?, time_wait 62.1 (61.3 since last restart of 60 + 2.056, 1 restarts, inferred, nominal), peer's fin 500
                nothing known before
        "#]],
    );
}

/// Without timestamps it is the stamp of the beginning, and of no use. The kernel takes it from when the full socket
/// last looked at the clock, so it may be older than the minisock.
#[test]
fn stamp_of_the_beginning() {
    check(
        "\
        0.1003 a start fw2 stamp=0.1003
        0.9004 a (start tw)
        62.0 a cancel expiry rcv=501
        62.0 a expire rcv=501
        0.2009 b start fw2 stamp=0.1999
        0.9004 b (start tw)
        62.0002 b cancel connect rcv=501
        0.3001 c start fw2 stamp=0.3001
        0.9004 c (start tw)
        62.0009 c cancel connect rcv=501
        0.4 d start fw2 stamp=0.4
        60.5 d cancel expiry
        60.5 d expire
        ",
        &expect![[r#"
            0.1003 minisock began in fin_wait2 for 60 + 2.056
            0.2009 minisock began in fin_wait2 for 60 + 2.056
            0.3001 minisock began in fin_wait2 for 60 + 2.056
            0.4 minisock began in fin_wait2 for 60 + 2.056
            60.5 d minisock ended, fin_wait2_timeout: began in fin_wait2, minisock 60.1, fin_wait2 ?
                nothing known before
            62 a minisock ended, expired: began in fin_wait2, minisock 61.8997, fin_wait2 ?, time_wait 61.0996 (61.0996 since last restart of 60 + 2.056, 0 restarts, inferred, nominal), peer's fin 500
                nothing known before
            62.0002 b minisock ended, reused by 7/current: began in fin_wait2, minisock 61.7993, fin_wait2 ?, time_wait 61.0998 (61.0998 since last restart of 60 + 2.056, 0 restarts, inferred, nominal), peer's fin 500
                nothing known before
            62.0009 c minisock ended, reused by 7/current: began in fin_wait2, minisock 61.7008, fin_wait2 ?, time_wait 61.1005 (61.1005 since last restart of 60 + 2.056, 0 restarts, inferred, nominal), peer's fin 500
                nothing known before
        "#]],
    );
}

/// Two looks at the clock may make the stamp of the beginning seem younger than that by a millisecond, and no more.
#[test]
fn stamp_a_millisecond_after_the_beginning() {
    check(
        "\
        0.1009 a start fw2 stamp=0.1009
        9.0004 a (start tw)
        20.0019 a cancel connect rcv=501
        0.1 b start fw2 stamp=0.102
        9.0 b (start tw)
        20.0 b cancel connect rcv=501
        ",
        &expect![[r#"
            0.1 minisock began in fin_wait2 for 60 + 2.056
            0.1009 minisock began in fin_wait2 for 60 + 2.056
            20 b minisock ended, reused by 7/current: began in fin_wait2, minisock 19.9, fin_wait2 ?, time_wait 19.898 (11 since last restart of 60 + 2.056, 1 restarts, inferred, premature), peer's fin 500
                nothing known before
            20.0019 a minisock ended, reused by 7/current: began in fin_wait2, minisock 19.901, fin_wait2 ?, time_wait 11.0015 (11.0015 since last restart of 60 + 2.056, 0 restarts, inferred, premature), peer's fin 500
                nothing known before
        "#]],
    );
}

/// What an event showed is better than a millisecond.
#[test]
fn stamp_of_a_visible_flip() {
    check(
        "\
        0.1 a start fw2 stamp=0.1
        5.0004 a cancel restart tw
        5.0004 a start tw stamp=5.0004
        66.0001 a cancel expiry rcv=501
        66.0001 a expire rcv=501
        ",
        &expect![[r#"
            0.1 minisock began in fin_wait2 for 60 + 2.056
            5.0004 flipped, inferred
            66.0001 a minisock ended, expired: began in fin_wait2, minisock 65.9001, fin_wait2 ?, time_wait 60.9997 (60.9997 since last restart of 60 + 2.056, 0 restarts, inferred, nominal), peer's fin 500
                nothing known before
        "#]],
    );
}

/// What looks like a flip was a restart: the flip itself did not move the timer by two ticks.
#[test]
fn stamp_tells_a_restart_from_a_flip() {
    check(
        "\
        0.1 a start fw2 stamp=0.1
        0.11 a (start tw stamp=0.11)
        5.0 a cancel restart
        5.0 a start tw
        66.0 a cancel expiry rcv=501
        66.0 a expire rcv=501
        ",
        &expect![[r#"
            0.1 minisock began in fin_wait2 for 60 + 2.056
            5 flipped, inferred
            66 a minisock ended, expired: began in fin_wait2, minisock 65.9, fin_wait2 ?, time_wait 65.89 (61 since last restart of 60 + 2.056, 1 restarts, inferred, nominal), peer's fin 500
                nothing known before
        "#]],
    );
}

/// A witness needs none, but for what it did not see.
#[test]
fn stamp_and_witness() {
    check_witnessed(
        "\
        0.1 a start fw2 stamp=0.1
        0.9004 a (start tw stamp=0.9004)
        0.900451 a segment fin seq=500 rcv=501
        62.0 a cancel expiry rcv=501
        62.0 a expire rcv=501
        100.1 b start fw2 stamp=100.1
        100.9004 b (start tw stamp=100.9004)
        100.9004 b (segment fin seq=500 rcv=501)
        101.0 - gap
        101.7 b (start tw)
        101.7 b segment fin seq=500 rcv=501
        163.0 b cancel expiry rcv=501
        163.0 b expire rcv=501
        ",
        &expect![[r#"
            0.1 minisock began in fin_wait2 for 60 + 2.056
            0.900451 flipped, exact
            62 a minisock ended, expired: began in fin_wait2, minisock 61.9, fin_wait2 ?, time_wait 61.099549 (61.099549 since last restart of 60 + 2.056, 0 restarts, fins again 0, strays 0, needed 30, exact, nominal), peer's fin 500
                nothing known before
            100.1 minisock began in fin_wait2 for 60 + 2.056
            101.7 flipped, inferred
            163 b minisock ended, expired: began in fin_wait2, minisock 62.9, fin_wait2 ?, time_wait 62.1 (61.3 since last restart of 60 + 2.056, 1 restarts, inferred, nominal), peer's fin 500, gap
                nothing known before
        "#]],
    );
}

/// One that began in TIME-WAIT, or before we looked, has no flip to date.
#[test]
fn stamp_of_no_flip() {
    check(
        "\
        0.0 a start tw stamp=0.0
        61.0 a cancel expiry
        61.0 a expire
        105.0 b cancel connect left=30 stamp=70
        ",
        &expect![[r#"
            0 minisock began in time_wait for 60 + 2.056
            61 a minisock ended, expired: began in time_wait, minisock 61, fin_wait2 ?, time_wait 61 (61 since last restart of 60 + 2.056, 0 restarts, inferred, nominal), peer's fin 0
                nothing known before
            105 b minisock ended, reused by 7/current: began in ?, minisock ?, fin_wait2 ?, time_wait 30 (30 since last restart of 60 + 2.056, 0 restarts, inferred, premature), peer's fin 0
                nothing known before
            1 unmatched
        "#]],
    );
}

// The bucket of the timer wheel.

/// The most that the timer wheel may take is two seconds; the end of the bucket tells what it does take, and two
/// ticks and a tenth of a second are not the wait's.
#[test]
fn bucket_tells_the_slack() {
    check(
        "\
        0.0 a start tw fires=60.5
        60.55 a cancel expiry
        60.55 a expire
        0.0 b start tw fires=60.5
        60.61 b cancel expiry
        60.61 b expire
        0.0 c start tw fires=60.5
        60.63 c cancel expiry
        60.63 c expire
        0.0 d start tw
        62.15 d cancel expiry
        62.15 d expire
        0.0 e start tw
        62.16 e cancel expiry
        62.16 e expire
        0.0 f start tw fires=62.5
        62.6 f cancel expiry
        62.6 f expire
        ",
        &expect![[r#"
            0 minisock began in time_wait for 60 + 2.056
            0 minisock began in time_wait for 60 + 2.056
            0 minisock began in time_wait for 60 + 2.056
            0 minisock began in time_wait for 60 + 2.056
            0 minisock began in time_wait for 60 + 2.056
            0 minisock began in time_wait for 60 + 2.056
            60.55 a minisock ended, expired: began in time_wait, minisock 60.55, fin_wait2 ?, time_wait 60.55 (60.55 since last restart of 60 + 0.52, 0 restarts, inferred, nominal), peer's fin 0
                nothing known before
            60.61 b minisock ended, expired: began in time_wait, minisock 60.61, fin_wait2 ?, time_wait 60.61 (60.61 since last restart of 60 + 0.52, 0 restarts, inferred, nominal), peer's fin 0
                nothing known before
            60.63 c minisock ended, expired: began in time_wait, minisock 60.63, fin_wait2 ?, time_wait 60.63 (60.63 since last restart of 60 + 0.52, 0 restarts, inferred, prolonged), peer's fin 0
                nothing known before
            62.15 d minisock ended, expired: began in time_wait, minisock 62.15, fin_wait2 ?, time_wait 62.15 (62.15 since last restart of 60 + 2.056, 0 restarts, inferred, nominal), peer's fin 0
                nothing known before
            62.16 e minisock ended, expired: began in time_wait, minisock 62.16, fin_wait2 ?, time_wait 62.16 (62.16 since last restart of 60 + 2.056, 0 restarts, inferred, prolonged), peer's fin 0
                nothing known before
            62.6 f minisock ended, expired: began in time_wait, minisock 62.6, fin_wait2 ?, time_wait 62.6 (62.6 since last restart of 60 + 2.52, 0 restarts, inferred, nominal), peer's fin 0
                nothing known before
        "#]],
    );
}

/// A start that leaves no trace leaves the timer in its bucket; one that does may not.
#[test]
fn bucket_and_restarts() {
    check_witnessed(
        "\
        0.0 a start tw fires=61.5
        0.5 a (start tw)
        0.5 a segment fin seq=500
        61.55 a cancel expiry
        61.55 a expire
        0.0 b start tw fires=61.5
        0.5 b (start tw)
        0.5 b segment fin seq=500
        61.7 b cancel expiry
        61.7 b expire
        0.0 c start fw2 fires=60.5
        5.0 c cancel restart tw
        5.0 c start tw fires=61.0
        5.0 c segment fin seq=500
        66.1 c cancel expiry
        66.1 c expire
        0.0 d start fw2 fires=60.5
        5.0 d cancel restart tw
        5.0 d start tw
        5.0 d segment fin seq=500
        66.1 d cancel expiry
        66.1 d expire
        0.0 e start tw fires=62.5
        1.0 e cancel restart
        1.0 e start tw
        1.0 e segment fin seq=500
        62.9 e cancel expiry
        62.9 e expire
        ",
        &expect![[r#"
            0 minisock began in time_wait for 60 + 2.056
            0 minisock began in time_wait for 60 + 2.056
            0 minisock began in fin_wait2 for 60 + 2.056
            0 minisock began in fin_wait2 for 60 + 2.056
            0 minisock began in time_wait for 60 + 2.056
            0.5 restarted, exact
            fin again
            0.5 restarted, exact
            fin again
            1 restarted, exact
            fin again
            5 flipped, exact
            5 flipped, exact
            61.55 a minisock ended, expired: began in time_wait, minisock 61.55, fin_wait2 ?, time_wait 61.55 (61.05 since last restart of 60 + 1.02, 1 restarts, fins again 1, strays 0, needed 30.5, exact, nominal), peer's fin 0
                nothing known before
            61.7 b minisock ended, expired: began in time_wait, minisock 61.7, fin_wait2 ?, time_wait 61.7 (61.2 since last restart of 60 + 1.02, 1 restarts, fins again 1, strays 0, needed 30.5, exact, prolonged), peer's fin 0
                nothing known before
            62.9 e minisock ended, expired: began in time_wait, minisock 62.9, fin_wait2 ?, time_wait 62.9 (61.9 since last restart of 60 + 2.056, 1 restarts, fins again 1, strays 0, needed 31, exact, nominal), peer's fin 0
                nothing known before
            66.1 c minisock ended, expired: began in fin_wait2, minisock 66.1, fin_wait2 ?, time_wait 61.1 (61.1 since last restart of 60 + 1.02, 0 restarts, fins again 0, strays 0, needed 30, exact, nominal), peer's fin 0
                nothing known before
            66.1 d minisock ended, expired: began in fin_wait2, minisock 66.1, fin_wait2 ?, time_wait 61.1 (61.1 since last restart of 60 + 2.056, 0 restarts, fins again 0, strays 0, needed 30, exact, nominal), peer's fin 0
                nothing known before
        "#]],
    );
}

/// The timer is to end after its bucket does: it is in another, and the start that moved it was lost.
#[test]
fn bucket_it_is_not_in_any_more() {
    check(
        "\
        0.0 a start tw fires=60.5
        5.0 a (cancel restart)
        5.0 a (start tw)
        66.5 a cancel expiry
        66.5 a expire
        ",
        &expect![[r#"
            0 minisock began in time_wait for 60 + 2.056
            66.5 a minisock ended, expired: began in time_wait, minisock 66.5, fin_wait2 ?, time_wait 66.5 (61.5 since last restart of 60 + 2.056, 1 restarts, inferred, nominal), peer's fin 0
                nothing known before
        "#]],
    );
}

/// A wait the timer wheel holds to the tick.
#[test]
fn bucket_of_a_tick() {
    check(
        "\
        0.0 a start tw fires=59.996
        60.1 a cancel expiry
        60.1 a expire
        0.0 b start tw fires=60
        60.13 b cancel expiry
        60.13 b expire
        ",
        &expect![[r#"
            0 minisock began in time_wait for 60 + 2.056
            0 minisock began in time_wait for 60 + 2.056
            60.1 a minisock ended, expired: began in time_wait, minisock 60.1, fin_wait2 ?, time_wait 60.1 (60.1 since last restart of 60 + 0.02, 0 restarts, inferred, nominal), peer's fin 0
                nothing known before
            60.13 b minisock ended, expired: began in time_wait, minisock 60.13, fin_wait2 ?, time_wait 60.13 (60.13 since last restart of 60 + 0.02, 0 restarts, inferred, prolonged), peer's fin 0
                nothing known before
        "#]],
    );
}

// Who ended it.

/// A `connect()` and `ss -K`; whoever runs when anything else comes in has nothing to do with it.
#[test]
fn process_behind_the_end_of_a_time_wait() {
    check(
        "\
        0.0 a start tw
        1.0 a cancel connect by=43/wget
        0.0 b start tw
        2.0 b cancel abort by=99/ss
        0.0 c start tw
        3.0 c cancel receive by=1/init
        0.0 d start tw
        4.0 d cancel reset by=1/init
        0.0 e start tw
        5.0 e cancel purge by=1/init
        0.0 f start tw
        6.0 f cancel unknown by=1/init
        0.0 g start tw
        7.0 g cancel restart by=1/init
        7.0 g start tw
        68.0 g cancel expiry by=1/init
        68.0 g expire
        0.0 h start tw
        69.0 h cancel expiry by=1/init
        ",
        &expect![[r#"
            0 minisock began in time_wait for 60 + 2.056
            0 minisock began in time_wait for 60 + 2.056
            0 minisock began in time_wait for 60 + 2.056
            0 minisock began in time_wait for 60 + 2.056
            0 minisock began in time_wait for 60 + 2.056
            0 minisock began in time_wait for 60 + 2.056
            0 minisock began in time_wait for 60 + 2.056
            0 minisock began in time_wait for 60 + 2.056
            1 a minisock ended, reused by 43/wget: began in time_wait, minisock 1, fin_wait2 ?, time_wait 1 (1 since last restart of 60 + 2.056, 0 restarts, inferred, premature), peer's fin 0
                nothing known before
            2 b minisock ended, killed by 99/ss: began in time_wait, minisock 2, fin_wait2 ?, time_wait 2 (2 since last restart of 60 + 2.056, 0 restarts, inferred, premature), peer's fin 0
                nothing known before
            3 c minisock ended, recycled: began in time_wait, minisock 3, fin_wait2 ?, time_wait 3 (3 since last restart of 60 + 2.056, 0 restarts, inferred, premature), peer's fin 0
                nothing known before
            4 d minisock ended, assassinated: began in time_wait, minisock 4, fin_wait2 ?, time_wait 4 (4 since last restart of 60 + 2.056, 0 restarts, inferred, premature), peer's fin 0
                nothing known before
            5 e minisock ended, purged: began in time_wait, minisock 5, fin_wait2 ?, time_wait 5 (5 since last restart of 60 + 2.056, 0 restarts, inferred, premature), peer's fin 0
                nothing known before
            6 f minisock ended, unknown: began in time_wait, minisock 6, fin_wait2 ?, time_wait 6 (6 since last restart of 60 + 2.056, 0 restarts, inferred, premature), peer's fin 0
                nothing known before
            7 restarted, inferred
            68 g minisock ended, expired: began in time_wait, minisock 68, fin_wait2 ?, time_wait 68 (61 since last restart of 60 + 2.056, 1 restarts, inferred, nominal), peer's fin 0
                nothing known before
            69 h minisock ended, unknown: began in time_wait, minisock 69, fin_wait2 ?, time_wait 69 (69 since last restart of 60 + 2.056, 0 restarts, inferred, prolonged), peer's fin 0
                nothing known before
        "#]],
    );
}

/// The same in FIN-WAIT-2.
#[test]
fn process_behind_the_end_of_a_fin_wait2() {
    check(
        "\
        0.0 a start fw2
        1.0 a cancel connect by=43/wget
        0.0 b start fw2
        2.0 b cancel abort by=99/ss
        0.0 c start fw2
        3.0 c cancel receive by=1/init
        0.0 d start fw2
        4.0 d cancel reset by=1/init
        0.0 e start fw2
        60.5 e cancel expiry by=1/init
        60.5 e expire
        ",
        &expect![[r#"
            0 minisock began in fin_wait2 for 60 + 2.056
            0 minisock began in fin_wait2 for 60 + 2.056
            0 minisock began in fin_wait2 for 60 + 2.056
            0 minisock began in fin_wait2 for 60 + 2.056
            0 minisock began in fin_wait2 for 60 + 2.056
            1 a minisock ended, reused by 43/wget: began in fin_wait2, minisock 1, fin_wait2 ?
                nothing known before
            2 b minisock ended, killed by 99/ss: began in fin_wait2, minisock 2, fin_wait2 ?
                nothing known before
            3 c minisock ended, reset_by_us: began in fin_wait2, minisock 3, fin_wait2 ?
                nothing known before
            4 d minisock ended, reset_in_fin_wait2: began in fin_wait2, minisock 4, fin_wait2 ?
                nothing known before
            60.5 e minisock ended, fin_wait2_timeout: began in fin_wait2, minisock 60.5, fin_wait2 ?
                nothing known before
        "#]],
    );
}

/// What the drop of a segment tells of has dealt with it: a SYN that is dropped took no pair, and one that takes it is not
/// dropped.
#[test]
fn a_syn_that_is_dropped_is_a_stray() {
    check_witnessed(
        "\
        0.0 a start tw rcv=501
        1.0 a segment syn seq=9000 rcv=501
        2.0 a cancel receive rcv=501
        ",
        &expect![[r#"
            0 minisock began in time_wait for 60 + 2.056
            stray
            2 a minisock ended, recycled: began in time_wait, minisock 2, fin_wait2 ?, time_wait 2 (2 since last restart of 60 + 2.056, 0 restarts, fins again 0, strays 1, needed 30, exact, premature), peer's fin 500
                nothing known before
        "#]],
    );
}
