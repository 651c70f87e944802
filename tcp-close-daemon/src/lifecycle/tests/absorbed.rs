//! What a TIME-WAIT absorbs: FINs that come again, strays, and segments of strangers.

use expect_test::expect;

use super::notation::check_witnessed;

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
