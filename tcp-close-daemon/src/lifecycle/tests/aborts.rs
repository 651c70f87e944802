//! Closes by reset, closes that nobody answered, and closes by an operator.

use expect_test::expect;

use super::notation::check;

/// The socket closes first, and sends its reset then.
#[test]
fn abort_by_linger_zero() {
    check(
        "\
        0.0 a 1>7 by=42/curl write=1000 una=900
        0.00001 a sent 7 active reason=14
        1.0 b 1>8 rcv=1
        1.1 b 8>7 by=43/srv
        1.10001 b sent 7 active reason=14
        ",
        &expect![[r#"
            0 a established > close by 42/curl
            0 a closed, then closed: none reset_sent by 42/curl, sent 0, received 0, reset sent for reason 14
            1 b established > close_wait
            1.1 b close_wait > close after 0.1 by 43/srv
            1.1 b closed, then closed: passive reset_sent by 43/srv, close_wait 0.1, peer's fin 4294967295, sent 0 after peer's fin 0, received 0, reset sent for reason 14
        "#]],
    );
}

/// `close()` with data in the receive queue.
#[test]
fn abort_for_unread_data() {
    check(
        "\
        0.0 a 1>7 by=42/curl
        0.00001 a sent 7 active reason=11
        1.0 b 1>8 rcv=1
        1.1 b 8>7 by=43/srv
        1.10001 b sent 7 active reason=11
        ",
        &expect![[r#"
            0 a established > close by 42/curl
            0 a closed, then closed: none reset_sent by 42/curl, sent 0, received 0, reset sent for reason 11
            1 b established > close_wait
            1.1 b close_wait > close after 0.1 by 43/srv
            1.1 b closed, then closed: passive reset_sent by 43/srv, close_wait 0.1, peer's fin 4294967295, sent 0 after peer's fin 0, received 0, reset sent for reason 11
        "#]],
    );
}

/// In LAST-ACK no reset is sent, and nobody acknowledged our FIN: not an orderly end.
#[test]
fn abort_by_linger_zero_after_shutdown() {
    check(
        "\
        0.0 a 1>8 rcv=1
        0.1 a 8>9 by=42/srv write=1000
        0.2 a 9>7 by=42/srv write=1001 una=1000
        ",
        &expect![[r#"
            0 a established > close_wait
            0.1 a close_wait > last_ack after 0.1 by 42/srv
            0.2 a last_ack > close after 0.1 by 42/srv
            0.2 a closed, then closed: passive ? by 42/srv, close_wait 0.1, last_ack 0.1, fin 1000, peer's fin 4294967295, sent 0 after peer's fin 0, received 0
        "#]],
    );
}

/// `TCP_LINGER2` below 0: by `close()` in FIN-WAIT-2, and as our FIN is acknowledged.
#[test]
fn fin_wait2_that_may_not_linger() {
    check(
        "\
        0.0 a 1>4 by=42/curl write=1000
        0.1 a 4>5 write=1001
        0.2 a 5>5 by=42/curl write=1001
        0.2 a 5>7 by=42/curl write=1001
        0.20001 a sent 7 active reason=12
        1.0 b 1>4 by=43/curl write=1000
        1.1 b 4>5 write=1001
        1.1 b 5>7 write=1001
        1.10001 b sent 7
        ",
        &expect![[r#"
            0 a established > fin_wait1 by 42/curl
            0.1 a fin_wait1 > fin_wait2 after 0.1
            0.2 a fin_wait2 > fin_wait2 by 42/curl
            0.2 a fin_wait2 > close after 0.1 by 42/curl
            0.2 a closed, then closed: active reset_sent by 42/curl, fin_wait1 0.1, fin_wait2 0.1, fin 1000 ack 1001, sent 0, received 0 after our fin 0, reset sent for reason 12
            1 b established > fin_wait1 by 43/curl
            1.1 b fin_wait1 > fin_wait2 after 0.1
            1.1 b fin_wait2 > close after 0
            1.1 b closed, then closed: active reset_sent by 43/curl, fin_wait1 0.1, fin_wait2 0, fin 1000 ack 1001, sent 0, received 0 after our fin 0, reset sent
        "#]],
    );
}

/// Longer than a minute, it stays a full socket at first; its keepalive timer resets the peer, then closes.
#[test]
fn fin_wait2_runs_out_in_the_full_socket() {
    check(
        "\
        0.0 a 1>4 by=42/curl write=1000
        0.1 a 4>5 write=1001
        60.1 a sent 5 active
        60.1 a 5>7 write=1001
        ",
        &expect![[r#"
            0 a established > fin_wait1 by 42/curl
            0.1 a fin_wait1 > fin_wait2 after 0.1
            60.1 a fin_wait2 > close after 60
            60.1 a closed, then closed: active reset_sent by 42/curl, fin_wait1 0.1, fin_wait2 60, fin 1000 ack 1001, sent 0, received 0 after our fin 0, reset sent
        "#]],
    );
}

/// The kernel runs through its reset code, though it is the one that sends the reset.
#[test]
fn data_after_full_close() {
    check(
        "\
        0.0 a 1>4 by=42/curl write=1000
        0.1 a received 4
        0.1 a 4>7 err=reset write=1001 una=1000
        0.10001 a sent 7 reason=5
        ",
        &expect![[r#"
            0 a established > fin_wait1 by 42/curl
            0.1 a fin_wait1 > close after 0.1
            reset not received
            0.1 a closed, then closed: active reset_sent by 42/curl, fin_wait1 0.1, fin 1000, sent 0, received 0 after our fin 0, reset sent for reason 5
        "#]],
    );
}

/// The process has no part in it.
#[test]
fn reset_received_in_every_state() {
    check(
        "\
        1.0 a received 1
        1.0 a 1>7 err=reset by=9/else
        2.0 b 1>4 by=42/curl write=1
        2.1 b received 4
        2.1 b 4>7 err=reset write=2 una=1
        3.0 c 1>4 by=42/curl write=1
        3.1 c 4>5 write=2
        3.2 c received 5
        3.2 c 5>7 err=reset write=2
        4.0 d 1>8 rcv=501 rx=500
        4.1 d received 8
        4.1 d 8>7 err=reset rcv=501 rx=500
        5.0 e 1>8 rcv=501
        5.1 e 8>9 by=42/srv write=1
        5.2 e received 9
        5.2 e 9>7 err=reset write=2 una=1
        6.0 f 1>4 by=42/curl write=1
        6.1 f 4>11 write=2 rcv=501
        6.2 f received 11
        6.2 f 11>7 err=reset write=2 una=1
        ",
        &expect![[r#"
            1 a established > close by 9/else
            1 a closed, then closed: none reset_received, sent 0, received 0, reset received
            2 b established > fin_wait1 by 42/curl
            2.1 b fin_wait1 > close after 0.1
            2.1 b closed, then closed: active reset_received by 42/curl, fin_wait1 0.1, fin 1, sent 0, received 0 after our fin 0, reset received
            3 c established > fin_wait1 by 42/curl
            3.1 c fin_wait1 > fin_wait2 after 0.1
            3.2 c fin_wait2 > close after 0.1
            3.2 c closed, then closed: active reset_received by 42/curl, fin_wait1 0.1, fin_wait2 0.1, fin 1 ack 2, sent 0, received 0 after our fin 0, reset received
            4 d established > close_wait
            4.1 d close_wait > close after 0.1
            4.1 d closed, then closed: passive reset_received, close_wait 0.1, peer's fin 500, sent 0 after peer's fin 0, received 499, reset received
            5 e established > close_wait
            5.1 e close_wait > last_ack after 0.1 by 42/srv
            5.2 e last_ack > close after 0.1
            5.2 e closed, then closed: passive reset_received by 42/srv, close_wait 0.1, last_ack 0.1, fin 1, peer's fin 4294967295, sent 0 after peer's fin 0, received 0, reset received
            6 f established > fin_wait1 by 42/curl
            6.1 f fin_wait1 > closing after 0.1
            6.2 f closing > close after 0.1
            6.2 f closed, then closed: simultaneous reset_received by 42/curl, fin_wait1 0.1, closing 0.1, fin 1, peer's fin 4294967295, sent 0, received 0 after our fin 0, reset received
        "#]],
    );
}

// Ends nobody answered, and ends by an operator.

/// In FIN-WAIT-1, CLOSING and LAST-ACK; a soft error takes the place of the timeout.
#[test]
fn retransmission_times_out() {
    check(
        "\
        0.0 a 1>4 by=42/curl write=1000
        0.2 a again 4
        99.0 a 4>7 err=timeout write=1001 una=1000
        0.0 b 1>4 by=42/curl write=1000
        99.0 b 4>7 err=113 write=1001 una=1000
        0.0 c 1>4 by=42/curl write=1000
        1.0 c 4>11 write=1001 una=1000 rcv=501
        99.0 c 11>7 err=timeout write=1001 una=1000
        0.0 d 1>8 rcv=1
        1.0 d 8>9 by=43/srv write=1000
        99.0 d 9>7 err=113 write=1001 una=1000
        99.0 e 1>7 err=timeout write=1000 una=900
        ",
        &expect![[r#"
            0 a established > fin_wait1 by 42/curl
            0 b established > fin_wait1 by 42/curl
            0 c established > fin_wait1 by 42/curl
            0 d established > close_wait
            fin retransmitted in fin_wait1
            1 c fin_wait1 > closing after 1
            1 d close_wait > last_ack after 1 by 43/srv
            99 a fin_wait1 > close after 99
            99 b fin_wait1 > close after 99
            99 c closing > close after 98
            99 d last_ack > close after 98
            99 e established > close
            99 a closed, then closed: active timed_out by 42/curl, fin_wait1 99, fin 1000 again 1 after 0.2, sent 0, received 0 after our fin 0
            99 b closed, then closed: active timed_out by 42/curl, fin_wait1 99, fin 1000, sent 0, received 0 after our fin 0
            99 c closed, then closed: simultaneous timed_out by 42/curl, fin_wait1 1, closing 98, fin 1000, peer's fin 4294967295, sent 0, received 0 after our fin 0
            99 d closed, then closed: passive timed_out by 43/srv, close_wait 1, last_ack 98, fin 1000, peer's fin 4294967295, sent 0 after peer's fin 0, received 0
            99 e closed, then closed: none timed_out, sent 0, received 0
        "#]],
    );
}

/// The reset is sent before the socket closes; a soft error changes nothing.
#[test]
fn keepalive_times_out() {
    check(
        "\
        7.0 a sent 1 active reason=15
        7.0 a 1>7 err=timeout
        8.0 b sent 1 active reason=15
        8.0 b 1>7 err=113
        9.0 c 1>8 rcv=1
        9.9 c sent 8 active reason=15
        9.9 c 8>7 err=timeout
        ",
        &expect![[r#"
            7 a established > close
            7 a closed, then closed: none timed_out, sent 0, received 0, reset sent for reason 15
            8 b established > close
            8 b closed, then closed: none timed_out, sent 0, received 0, reset sent for reason 15
            9 c established > close_wait
            9.9 c close_wait > close after 0.9
            9.9 c closed, then closed: passive timed_out, close_wait 0.9, peer's fin 4294967295, sent 0 after peer's fin 0, received 0, reset sent for reason 15
        "#]],
    );
}

/// ss -K: a reset first, and the process at hand is not the closer.
#[test]
fn killed_by_an_operator() {
    check(
        "\
        1.0 a sent 1 active reason=14
        1.0 a 1>7 err=aborted by=99/ss
        2.0 b 1>4 by=42/curl write=1000
        2.1 b 4>5 write=1001
        2.2 b sent 5 active
        2.2 b 5>7 err=aborted by=99/ss write=1001
        3.0 c 1>8 rcv=1
        3.1 c 8>9 by=43/srv write=1000
        3.2 c 9>7 err=aborted by=99/ss write=1001 una=1000
        ",
        &expect![[r#"
            1 a established > close by 99/ss
            1 a closed, then closed: none killed, sent 0, received 0, reset sent for reason 14
            2 b established > fin_wait1 by 42/curl
            2.1 b fin_wait1 > fin_wait2 after 0.1
            2.2 b fin_wait2 > close after 0.1 by 99/ss
            2.2 b closed, then closed: active killed by 42/curl, fin_wait1 0.1, fin_wait2 0.1, fin 1000 ack 1001, sent 0, received 0 after our fin 0, reset sent
            3 c established > close_wait
            3.1 c close_wait > last_ack after 0.1 by 43/srv
            3.2 c last_ack > close after 0.1 by 99/ss
            3.2 c closed, then closed: passive killed by 43/srv, close_wait 0.1, last_ack 0.1, fin 1000, peer's fin 4294967295, sent 0 after peer's fin 0, received 0
        "#]],
    );
}

/// The namespace dies, memory runs out, a socket is under repair.
#[test]
fn end_without_a_sign_is_not_explained() {
    check(
        "\
        1.0 a 1>7
        2.0 b 1>8 rcv=1
        2.1 b 8>7
        ",
        &expect![[r#"
            1 a established > close
            1 a closed, then closed: none ?, sent 0, received 0
            2 b established > close_wait
            2.1 b close_wait > close after 0.1
            2.1 b closed, then closed: passive ?, close_wait 0.1, peer's fin 4294967295, sent 0 after peer's fin 0, received 0
        "#]],
    );
}
