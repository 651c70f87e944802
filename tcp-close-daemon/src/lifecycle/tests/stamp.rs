//! The kernel's own stamp of a TIME-WAIT's beginning.

use expect_test::expect;

use super::notation::{check, check_witnessed};

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
