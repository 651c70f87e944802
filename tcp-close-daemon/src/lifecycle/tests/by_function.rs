//! Minisocks as the functions that deal with them tell: every start, every segment, every end as it happens.

use expect_test::expect;

use super::notation::{BY_FUNCTION, LIMITS, WAIT, check_with};
use crate::lifecycle::Tracker;

fn by_function() -> Tracker {
    Tracker::new(LIMITS, WAIT, BY_FUNCTION)
}

/// Three restarts within a tick are three.
#[test]
fn a_close_and_its_time_wait() {
    check_with(
        by_function(),
        "\
        0.0 a 1>4 by=42/curl write=1000
        0.1 a 4>5 write=1001
        0.1 a begin fw2
        0.100002 a 5>7 write=1001
        0.9 a wait tw rcv=501
        0.900001 a segment fin seq=500 rcv=501
        1.1 a wait tw rcv=501
        1.100001 a segment fin seq=500 rcv=501
        1.101 a wait tw rcv=501
        1.101001 a segment seq=501 rcv=501
        1.102 a segment rst seq=400 rcv=501
        61.5 a end expiry rcv=501
        ",
        &expect![[r#"
            0 a established > fin_wait1 by 42/curl
            0.1 a fin_wait1 > fin_wait2 after 0.1
            0.1 minisock began in fin_wait2 for 60 + 2.056
            0.100002 a fin_wait2 > close after 0.000002
            0.100002 a closed, then fin_wait2: active graceful in 4 by 42/curl, fin_wait1 0.1, fin_wait2 ?, fin 1000 ack 1001, sent 0, received 0 after our fin 0
            0.9 flipped, exact
            1.1 restarted, exact
            fin again
            1.101 restarted, exact
            stray
            stray
            61.5 a minisock ended, expired: began in fin_wait2, minisock 61.4, fin_wait2 0.8, time_wait 60.6 (60.399 since last restart of 60 + 2.056, 2 restarts, fins again 1, strays 2, needed 30.200001, exact, nominal), peer's fin 500
                active graceful in 4 by 42/curl, fin_wait1 0.1, fin_wait2 0.8, fin 1000 ack 1001, sent 0, received 0 after our fin 0
        "#]],
    );
}

/// A SYN that nobody listens for is one more stray, once it shows that the minisock is still there; one that somebody
/// listens for takes the pair, and was none.
#[test]
fn a_syn_takes_the_pair_or_is_a_stray() {
    check_with(
        by_function(),
        "\
        0.0 a begin tw rcv=501
        1.0 a segment syn seq=9000 rcv=501
        2.0 a segment syn seq=9000 rcv=501
        2.000001 a end receive rcv=501
        3.0 b begin tw rcv=501
        4.0 b segment syn seq=9000 rcv=501
        5.0 b end abort by=9/ss rcv=501
        6.0 c begin fw2
        7.0 c segment syn seq=9000
        7.000001 c end receive
        ",
        &expect![[r#"
            0 minisock began in time_wait for 60 + 2.056
            stray
            2.000001 a minisock ended, recycled: began in time_wait, minisock 2.000001, fin_wait2 ?, time_wait 2.000001 (2.000001 since last restart of 60 + 2.056, 0 restarts, fins again 0, strays 1, needed 30, exact, premature), peer's fin 500
                nothing known before
            3 minisock began in time_wait for 60 + 2.056
            stray
            5 b minisock ended, killed by 9/ss: began in time_wait, minisock 2, fin_wait2 ?, time_wait 2 (2 since last restart of 60 + 2.056, 0 restarts, fins again 0, strays 1, needed 30, exact, premature), peer's fin 500
                nothing known before
            6 minisock began in fin_wait2 for 60 + 2.056
            7.000001 c minisock ended, reset_by_us: began in fin_wait2, minisock 1.000001, fin_wait2 ?
                nothing known before
        "#]],
    );
}

/// The address of a minisock is used again, and the end of the last one was lost.
#[test]
fn another_begins_at_the_same_address() {
    check_with(
        by_function(),
        "\
        0.0 a begin tw rcv=501
        1.0 b begin tw at=a rcv=501
        2.0 b end reset at=a rcv=501
        ",
        &expect![[r#"
            0 minisock began in time_wait for 60 + 2.056
            1 minisock began in time_wait for 60 + 2.056
            2 b minisock ended, assassinated: began in time_wait, minisock 1, fin_wait2 ?, time_wait 1 (1 since last restart of 60 + 2.056, 0 restarts, fins again 0, strays 0, needed 30, exact, premature), peer's fin 500
                nothing known before
            1 unmatched
        "#]],
    );
}

/// What is restarted or ends and was never seen to begin was there before us.
#[test]
fn one_that_was_there_before() {
    check_with(
        by_function(),
        "\
        0.0 a wait tw rcv=501
        9.0 a end purge rcv=501
        ",
        &expect![[r#"
            9 a minisock ended, purged: began in ?, minisock ?, fin_wait2 ?, time_wait 9 (9 since last restart of 60 + 2.056, 0 restarts, inferred, premature), peer's fin 500
                nothing known before
            2 unmatched
        "#]],
    );
}

/// A minisock that may have begun unseen leaves it open where its socket went.
#[test]
fn a_beginning_that_was_missed() {
    check_with(
        by_function(),
        "\
        0.0 a 1>4 by=42/curl write=1000
        0.1 a 4>5 write=1001
        0.2 a missed
        0.200001 a 5>7 write=1001
        5.0 b missed
        5.000001 b 5>7 write=1001
        9.0 c 5>7 write=1001
        ",
        &expect![[r#"
            0 a established > fin_wait1 by 42/curl
            0.1 a fin_wait1 > fin_wait2 after 0.1
            0.200001 a fin_wait2 > close after 0.100001
            0.200001 a closed, then ?: active graceful by 42/curl, fin_wait1 0.1, fin_wait2 ?, fin 1000 ack 1001, sent 0, received 0 after our fin 0, gap
            5.000001 b fin_wait2 > close
            5.000001 b closed, then ?: active graceful, fin_wait2 ?, sent 0, received 0, gap
            9 c fin_wait2 > close
            9 c closed, then refused: active graceful, fin_wait2 ?, sent 0, received 0
        "#]],
    );
}
