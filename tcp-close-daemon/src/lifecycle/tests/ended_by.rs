//! The process, or the segment, behind the end of a minisock.

use expect_test::expect;

use super::notation::{check, check_witnessed};

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
