//! The bucket of the timer wheel that a minisock waits in.

use expect_test::expect;

use super::notation::{check, check_witnessed};

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
