//! Whose a connection is.

use expect_test::expect;

use super::notation::check;

/// Who connected, and where the socket was made, is told once, and kept.
#[test]
fn the_opener_and_the_cgroup_go_from_the_first_change_to_the_minisock() {
    check(
        "\
        0.0 a 1>4 opener=41/sh by=42/curl cgroup=2345
        0.1 a 4>5
        0.2 a start tw
        0.2 a 5>7
        60.5 a expire tw left=-0.5
        ",
        &expect![[r#"
            0 a established > fin_wait1 by 42/curl
            0.1 a fin_wait1 > fin_wait2 after 0.1
            0.2 minisock began in time_wait for 60 + 2.056
            0.2 a fin_wait2 > close after 0.1
            0.2 a closed, then time_wait: active graceful in 3 opened by 41/sh by 42/curl in cgroup 2345, fin_wait1 0.1, fin_wait2 0.1, fin 0 ack 0, peer's fin 4294967295, sent 0, received 0 after our fin 0
            60.5 a minisock ended, expired: began in time_wait, minisock 60.3, fin_wait2 0.1, time_wait 60.3 (60.3 since last restart of 60 + 2.056, 0 restarts, inferred, nominal), peer's fin 0
                active graceful in 3 opened by 41/sh by 42/curl in cgroup 2345, fin_wait1 0.1, fin_wait2 0.1, fin 0 ack 0, peer's fin 4294967295, sent 0, received 0 after our fin 0
        "#]],
    );
}

/// A connection that nobody is known to have opened is that of whoever listens at its address.
#[test]
fn what_is_accepted_is_opened_by_its_listener() {
    check(
        "\
        0.0 l 7>10 by=1/systemd local=80
        1.0 a 1>8 local=80
        1.1 a 8>9 by=50/srv local=80
        1.2 a 9>7 local=80
        2.0 b 1>7 err=104 local=80
        3.0 c 1>7 err=104 local=81
        4.0 d 1>7 err=104 local=80 opener=41/sh
        ",
        &expect![[r#"
            0 l close > listen by 1/systemd
            1 a established > close_wait
            1.1 a close_wait > last_ack after 0.1 by 50/srv
            1.2 a last_ack > close after 0.1
            1.2 a closed, then closed: passive graceful in 3 opened by 1/systemd by 50/srv, close_wait 0.1, last_ack 0.1, fin 0, peer's fin 4294967295, sent 0 after peer's fin 0, received 0
            2 b established > close
            2 b closed, then closed: none timed_out opened by 1/systemd, sent 0, received 0
            3 c established > close
            3 c closed, then closed: none timed_out, sent 0, received 0
            4 d established > close
            4 d closed, then closed: none timed_out opened by 41/sh, sent 0, received 0
        "#]],
    );
}
