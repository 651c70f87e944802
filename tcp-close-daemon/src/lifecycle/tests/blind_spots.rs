//! Where the witness does not see all.

use expect_test::expect;

use super::notation::{WAIT, WITH_WITNESS, check_with, check_witnessed};
use crate::lifecycle::{Limits, Tracker};

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
