//! Events that are lost, one by one, and not known to be.

use expect_test::expect;

use super::notation::check;

/// The minisock tells that its socket closed; a next life tells it too.
#[test]
fn entry_into_close_is_lost() {
    check(
        "\
        0.0 a 1>4 by=42/curl write=1000
        0.1 a 4>5 write=1001
        0.1 a start fw2
        0.1 a (5>7)
        2.0 a cancel connect
        3.0 b 1>4 by=42/curl write=1000
        3.1 b 4>5 write=1001
        3.1 b (5>7)
        5.0 b 1>8 rcv=1
        5.1 b received 8
        5.1 b 8>7 err=reset
        6.0 c 1>4 by=42/curl write=1000
        6.1 c 4>5 write=1001
        6.1 c start fw2
        6.1 c (5>7)
        7.0 c 1>7 by=42/curl
        7.0 c sent 7 active
        8.0 c cancel reset
        ",
        &expect![[r#"
            0 a established > fin_wait1 by 42/curl
            0.1 a fin_wait1 > fin_wait2 after 0.1
            0.1 minisock began in fin_wait2 for 60 + 2.056
            2 a minisock ended, reused by 7/current: began in fin_wait2, minisock 1.9, fin_wait2 1.9, gap
                active graceful by 42/curl, fin_wait1 0.1, fin_wait2 1.9, fin 1000 ack 1001, gap
            3 b established > fin_wait1 by 42/curl
            3.1 b fin_wait1 > fin_wait2 after 0.1
            5 b established > close_wait
            5.1 b close_wait > close after 0.1
            5.1 b closed, then closed: passive reset_received, close_wait 0.1, peer's fin 4294967295, sent 0 after peer's fin 0, received 0, reset received
            6 c established > fin_wait1 by 42/curl
            6.1 c fin_wait1 > fin_wait2 after 0.1
            6.1 minisock began in fin_wait2 for 60 + 2.056
            7 c established > close by 42/curl
            7 c closed, then closed: none reset_sent by 42/curl, sent 0, received 0, reset sent
            8 c minisock ended, reset_in_fin_wait2: began in fin_wait2, minisock 1.9, fin_wait2 1.9, gap
                active graceful by 42/curl, fin_wait1 0.1, fin_wait2 1.9, fin 1000 ack 1001, gap
            3 unmatched
        "#]],
    );
}

/// The time in a state whose entry nobody saw is not known.
#[test]
fn change_of_state_is_lost() {
    check(
        "\
        0.0 a 1>4 by=42/curl write=1000
        0.1 a (4>5)
        2.0 a start tw rcv=501
        2.0 a 5>7 write=1001 rcv=501 rx=500
        3.0 b 1>8 rcv=1
        3.1 b (8>9)
        3.2 b 9>7 write=1001
        ",
        &expect![[r#"
            0 a established > fin_wait1 by 42/curl
            2 minisock began in time_wait for 60 + 2.056
            2 a fin_wait2 > close
            2 a closed, then time_wait: active graceful by 42/curl, fin_wait1 ?, fin_wait2 ?, fin 1000 ack 1001, peer's fin 500, sent 0, received 499 after our fin 499, gap
            3 b established > close_wait
            3.2 b last_ack > close
            3.2 b closed, then closed: passive graceful, close_wait ?, last_ack ?, peer's fin 4294967295, sent 0 after peer's fin 0, received 0, gap
            1 minisocks left
        "#]],
    );
}

/// Without a word of the loss it looks refused; with one, nothing is claimed.
#[test]
fn start_is_lost() {
    check(
        "\
        0.0 a 1>4 by=42/curl write=1000
        0.1 a 4>5 write=1001
        0.5 a (start tw)
        0.5 a 5>7 write=1001
        61.0 a cancel expiry
        61.0 a expire
        100.0 b 1>4 by=42/curl write=1000
        100.1 b 4>5 write=1001
        100.5 b (start tw)
        100.5 - gap
        100.5 b 5>7 write=1001
        ",
        &expect![[r#"
            0 a established > fin_wait1 by 42/curl
            0.1 a fin_wait1 > fin_wait2 after 0.1
            0.5 a fin_wait2 > close after 0.4
            0.5 a closed, then refused: active graceful by 42/curl, fin_wait1 0.1, fin_wait2 0.4, fin 1000 ack 1001, sent 0, received 0 after our fin 0
            61 a minisock ended, expired: began in ?, minisock ?, fin_wait2 ?, time_wait 60.5 (60.5 since last restart of 60 + 2.056, 0 restarts, inferred, nominal), peer's fin 0
                nothing known before
            100 b established > fin_wait1 by 42/curl
            100.1 b fin_wait1 > fin_wait2 after 0.1
            100.5 b fin_wait2 > close after 0.4
            100.5 b closed, then ?: active graceful by 42/curl, fin_wait1 0.1, fin_wait2 ?, fin 1000 ack 1001, sent 0, received 0 after our fin 0, gap
            1 unmatched
        "#]],
    );
}

/// Expiry tells enough; so does the start of a timer.
#[test]
fn cancel_is_lost() {
    check(
        "\
        0.0 a 1>4 by=42/curl write=1000
        0.1 a 4>5 write=1001
        0.1 a start fw2
        0.100002 a 5>7 write=1001
        3.0 a (cancel restart tw)
        3.0 a start tw
        9.0 a (cancel restart)
        9.0 a start tw
        70.5 a (cancel expiry)
        70.5 a expire
        ",
        &expect![[r#"
            0 a established > fin_wait1 by 42/curl
            0.1 a fin_wait1 > fin_wait2 after 0.1
            0.1 minisock began in fin_wait2 for 60 + 2.056
            0.100002 a fin_wait2 > close after 0.000002
            0.100002 a closed, then fin_wait2: active graceful in 4 by 42/curl, fin_wait1 0.1, fin_wait2 ?, fin 1000 ack 1001, sent 0, received 0 after our fin 0
            3 flipped, inferred
            9 restarted, inferred
            70.5 a minisock ended, expired: began in fin_wait2, minisock 70.4, fin_wait2 2.9, time_wait 67.5 (61.5 since last restart of 60 + 2.056, 1 restarts, inferred, nominal), peer's fin 0
                active graceful in 4 by 42/curl, fin_wait1 0.1, fin_wait2 2.9, fin 1000 ack 1001, sent 0, received 0 after our fin 0
        "#]],
    );
}

/// A timer cancelled to be restarted was restarted: the minisock lives on, and its timer tells since when.
#[test]
fn start_after_a_cancel_is_lost() {
    check(
        "\
        0.0 a 1>4 by=42/curl write=1000
        0.1 a 4>5 write=1001
        0.1 a start fw2
        0.100002 a 5>7 write=1001
        3.0 a cancel restart tw
        3.0 a (start tw)
        64.0 a cancel expiry
        64.0 a expire
        ",
        &expect![[r#"
            0 a established > fin_wait1 by 42/curl
            0.1 a fin_wait1 > fin_wait2 after 0.1
            0.1 minisock began in fin_wait2 for 60 + 2.056
            0.100002 a fin_wait2 > close after 0.000002
            0.100002 a closed, then fin_wait2: active graceful in 4 by 42/curl, fin_wait1 0.1, fin_wait2 ?, fin 1000 ack 1001, sent 0, received 0 after our fin 0
            64 a minisock ended, expired: began in fin_wait2, minisock 63.9, fin_wait2 2.9, time_wait 61 (61 since last restart of 60 + 2.056, 0 restarts, inferred, nominal), peer's fin 0, gap
                active graceful in 4 by 42/curl, fin_wait1 0.1, fin_wait2 2.9, fin 1000 ack 1001, sent 0, received 0 after our fin 0
            1 unmatched
        "#]],
    );
}

/// The time was up, as it seems; nothing proves it.
#[test]
fn expiry_is_lost() {
    check(
        "\
        0.0 a 1>4 by=42/curl write=1000
        0.1 a 4>5 write=1001
        0.5 a start tw rcv=501
        0.500002 a 5>7 write=1001 rcv=501 rx=500
        61.0 a cancel expiry rcv=501
        61.0 a (expire)
        ",
        &expect![[r#"
            0 a established > fin_wait1 by 42/curl
            0.1 a fin_wait1 > fin_wait2 after 0.1
            0.5 minisock began in time_wait for 60 + 2.056
            0.500002 a fin_wait2 > close after 0.400002
            0.500002 a closed, then time_wait: active graceful in 3 by 42/curl, fin_wait1 0.1, fin_wait2 0.400002, fin 1000 ack 1001, peer's fin 500, sent 0, received 499 after our fin 499
            61 a minisock ended, unknown: began in time_wait, minisock 60.5, fin_wait2 0.4, time_wait 60.5 (60.5 since last restart of 60 + 2.056, 0 restarts, inferred, nominal), peer's fin 500
                active graceful in 3 by 42/curl, fin_wait1 0.1, fin_wait2 0.400002, fin 1000 ack 1001, peer's fin 500, sent 0, received 499 after our fin 499
        "#]],
    );
}

/// The minisock stays until something makes room.
#[test]
fn whole_end_is_lost() {
    check(
        "\
        0.0 a 1>4 by=42/curl write=1000
        0.1 a 4>5 write=1001
        0.5 a start tw rcv=501
        0.500002 a 5>7 write=1001 rcv=501 rx=500
        61.0 a (cancel expiry)
        61.0 a (expire)
        ",
        &expect![[r#"
            0 a established > fin_wait1 by 42/curl
            0.1 a fin_wait1 > fin_wait2 after 0.1
            0.5 minisock began in time_wait for 60 + 2.056
            0.500002 a fin_wait2 > close after 0.400002
            0.500002 a closed, then time_wait: active graceful in 3 by 42/curl, fin_wait1 0.1, fin_wait2 0.400002, fin 1000 ack 1001, peer's fin 500, sent 0, received 499 after our fin 499
            1 minisocks left
        "#]],
    );
}
