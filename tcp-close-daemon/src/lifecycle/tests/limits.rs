//! What is known to be lost, too much, or out of order.

use expect_test::expect;

use super::notation::{WAIT, WITHOUT_WITNESS, check, check_with, events, tracker};
use crate::lifecycle::{Limits, Observation, Sequencer, Tracker};

/// And nothing else.
#[test]
fn gap_marks_what_lives_through_it() {
    check(
        "\
        0.0 a 1>8 rcv=1
        0.0 b start tw
        1.0 - gap
        2.0 c 1>8 rcv=1
        2.0 d start tw
        3.0 a 8>9 by=43/srv write=1000
        3.1 a 9>7 write=1001
        3.0 c 8>9 by=43/srv write=1000
        3.1 c 9>7 write=1001
        4.0 b cancel connect
        4.0 d cancel connect
        ",
        &expect![[r#"
            0 a established > close_wait
            0 minisock began in time_wait for 60 + 2.056
            2 c established > close_wait
            2 minisock began in time_wait for 60 + 2.056
            3 a close_wait > last_ack after 3 by 43/srv
            3 c close_wait > last_ack after 1 by 43/srv
            3.1 a last_ack > close after 0.1
            3.1 c last_ack > close after 0.1
            3.1 a closed, then closed: passive graceful in 3 by 43/srv, close_wait 3, last_ack 0.1, fin 1000 ack 1001, peer's fin 4294967295, sent 0 after peer's fin 0, received 0, gap
            3.1 c closed, then closed: passive graceful in 3 by 43/srv, close_wait 1, last_ack 0.1, fin 1000 ack 1001, peer's fin 4294967295, sent 0 after peer's fin 0, received 0
            4 b minisock ended, reused by 7/current: began in time_wait, minisock 4, fin_wait2 ?, time_wait 4 (4 since last restart of 60 + 2.056, 0 restarts, inferred, premature), peer's fin 0, gap
                nothing known before
            4 d minisock ended, reused by 7/current: began in time_wait, minisock 2, fin_wait2 ?, time_wait 2 (2 since last restart of 60 + 2.056, 0 restarts, inferred, premature), peer's fin 0
                nothing known before
        "#]],
    );
}

/// The loss is known before the events that were held back with it are told.
#[test]
fn gap_marks_what_begins_in_it() {
    check(
        "\
        2.5 - gap
        2.0 c 1>8 rcv=1
        2.0 d start tw
        3.0 c 8>7 err=reset
        4.0 d cancel connect
        ",
        &expect![[r#"
            2 c established > close_wait
            2 minisock began in time_wait for 60 + 2.056
            3 c close_wait > close after 1
            3 c closed, then closed: passive reset_received, close_wait 1, peer's fin 4294967295, sent 0 after peer's fin 0, received 0, reset received, gap
            4 d minisock ended, reused by 7/current: began in time_wait, minisock 2, fin_wait2 ?, time_wait 2 (2 since last restart of 60 + 2.056, 0 restarts, inferred, premature), peer's fin 0, gap
                nothing known before
        "#]],
    );
}

/// The one that was touched least recently makes room.
#[test]
fn eviction_is_counted() {
    check_with(
        Tracker::new(Limits { sockets: 2, minisocks: 2 }, WAIT, WITHOUT_WITNESS),
        "\
        0.0 a 1>4 by=1/a
        0.1 b 1>4 by=2/b
        0.2 c 1>4 by=3/c
        0.3 a 4>5
        1.0 d start tw
        1.1 e start tw
        1.2 f start tw
        2.0 d cancel connect
        2.0 e cancel connect
        2.0 f cancel connect
        ",
        &expect![[r#"
            0 a established > fin_wait1 by 1/a
            0.1 b established > fin_wait1 by 2/b
            0.2 c established > fin_wait1 by 3/c
            0.3 a fin_wait1 > fin_wait2
            1 minisock began in time_wait for 60 + 2.056
            1.1 minisock began in time_wait for 60 + 2.056
            1.2 minisock began in time_wait for 60 + 2.056
            2 d minisock ended, reused by 7/current: began in ?, minisock ?, fin_wait2 ?, time_wait 1 (1 since last restart of 60 + 2.056, 0 restarts, inferred, premature), peer's fin 0
                nothing known before
            2 e minisock ended, reused by 7/current: began in ?, minisock ?, fin_wait2 ?, time_wait 0.9 (0.9 since last restart of 60 + 2.056, 0 restarts, inferred, premature), peer's fin 0
                nothing known before
            2 f minisock ended, reused by 7/current: began in time_wait, minisock 0.8, fin_wait2 ?, time_wait 0.8 (0.8 since last restart of 60 + 2.056, 0 restarts, inferred, premature), peer's fin 0
                nothing known before
            2 sockets left
            2 sockets evicted
            2 minisocks evicted
            2 unmatched
        "#]],
    );
}

/// It sees no whole life, and says so.
#[test]
fn no_room_at_all() {
    check_with(
        Tracker::new(Limits { sockets: 0, minisocks: 0 }, WAIT, WITHOUT_WITNESS),
        "\
        0.0 a 1>4 by=42/curl
        0.1 a 4>5
        0.1 a start fw2
        0.1 a 5>7
        9.0 a cancel connect
        ",
        &expect![[r#"
            0 a established > fin_wait1 by 42/curl
            0.1 a fin_wait1 > fin_wait2
            0.1 minisock began in fin_wait2 for 60 + 2.056
            0.1 a fin_wait2 > close
            3 sockets evicted
            2 minisocks evicted
            1 unmatched
        "#]],
    );
}

/// Resets of sockets that nobody follows are kept a moment for their change of state, and no longer.
#[test]
fn signs_of_strangers() {
    check(
        "\
        0.0 a received 1
        5.0 a 1>8 rcv=1
        5.1 a 8>9 by=43/srv write=1000
        5.2 a 9>7 write=1001
        6.0 b again 4
        7.0 c sent 10
        8.0 d sent 7
        ",
        &expect![[r#"
            5 a established > close_wait
            5.1 a close_wait > last_ack after 0.1 by 43/srv
            5.2 a last_ack > close after 0.1
            5.2 a closed, then closed: passive graceful in 3 by 43/srv, close_wait 0.1, last_ack 0.1, fin 1000 ack 1001, peer's fin 4294967295, sent 0 after peer's fin 0, received 0
            fin retransmitted in fin_wait1
            1 unmatched
        "#]],
    );
}

const TWO_CPUS: &str = "\
    0.000000 a 1>4 by=42/curl write=1000 in=9
    0.000100 a 4>5 write=1001 in=10
    0.000101 a start fw2
    0.000103 a 5>7 write=1001 in=10
    0.000110 b 1>8 rcv=501 rx=500
    0.000120 b 8>9 by=7/nginx write=500 rcv=501 rx=500
    0.000140 b 9>7 write=501 rcv=501 rx=500
    3.000000 a cancel restart tw
    3.000001 a start tw
    64.00000 a cancel expiry
    64.00001 a expire
";

/// Two CPUs hand over two halves of one close the wrong way round.
#[test]
fn pairs_out_of_order_are_put_into_order() {
    let in_order = events(TWO_CPUS);
    let mut expected = Vec::new();
    let mut plain = tracker();
    for event in &in_order {
        plain.apply(event, &mut expected);
    }
    plain.finish(&mut expected);

    let mut swapped = in_order;
    for pair in swapped.chunks_mut(2) {
        pair.reverse();
    }
    let (mut sequencer, mut tracker, mut out) = (Sequencer::default(), tracker(), Vec::new());
    for pair in swapped.chunks(2) {
        for event in pair {
            sequencer.push(*event);
        }
        let certain = pair.iter().map(|event| event.at).max().expect("not empty");
        sequencer.release(certain, |event| tracker.apply(event, &mut out));
    }
    sequencer.finish(|event| tracker.apply(event, &mut out));
    tracker.finish(&mut out);
    assert_eq!(out, expected);
    assert_eq!(sequencer.late(), 0);
}

/// What is due is told when its time has come, and not by the next event alone.
#[test]
fn time_alone_settles() {
    let (mut tracker, mut out) = (tracker(), Vec::new());
    let mut advance_to = |tracker: &mut Tracker, now: &str| {
        out.clear();
        tracker.advance(events(&format!("{now} - received 1"))[0].at, &mut out);
        out.iter()
            .map(|told| matches!(told, Observation::Closed(_) | Observation::MinisockEnded(_)))
            .collect::<Vec<_>>()
    };
    let mut ignored = Vec::new();
    for event in events("1.0 a 1>7\n 1.0 b start tw\n 1.0 b cancel unknown") {
        tracker.apply(&event, &mut ignored);
    }
    assert_eq!(advance_to(&mut tracker, "1.049"), Vec::<bool>::new());
    assert_eq!(advance_to(&mut tracker, "1.05"), [true]);
    assert_eq!(advance_to(&mut tracker, "1.999"), Vec::<bool>::new());
    assert_eq!(advance_to(&mut tracker, "2.0"), [true]);
}

/// However many close within the time they take to settle, no more wait than fit.
#[test]
fn waiting_has_its_limit() {
    let limits = Limits { sockets: 10, minisocks: 10 };
    let (mut tracker, mut out) = (Tracker::new(limits, WAIT, WITHOUT_WITNESS), Vec::new());
    let restart = events("1.0 a start tw\n 1.0 a cancel unknown\n 1.0 a start tw\n 1.0 a 1>7");
    for _ in 0..5000 {
        for event in &restart {
            tracker.apply(event, &mut out);
        }
        let (sockets, minisocks) = tracker.waiting();
        assert!(sockets <= 1100 && minisocks <= 1100, "{sockets} and {minisocks} wait");
    }
    tracker.finish(&mut out);
    assert_eq!(tracker.waiting(), (0, 0));
    assert_eq!(tracker.stats().sockets, 0);
}

/// A gauge of every closing state.
#[test]
fn sockets_are_counted_by_state() {
    use crate::event::TcpState::{CloseWait, Closing, FinWait1, FinWait2, LastAck};
    let (mut tracker, mut out) = (tracker(), Vec::new());
    let mut counts = |lines: &str| {
        for event in events(lines) {
            tracker.apply(&event, &mut out);
        }
        [FinWait1, FinWait2, Closing, CloseWait, LastAck].map(|state| tracker.sockets_in(state))
    };
    assert_eq!(counts("1.0 a 1>4\n 1.0 b 1>4\n 1.0 c 1>8"), [2, 0, 0, 1, 0]);
    assert_eq!(counts("2.0 a 4>5\n 2.0 b 4>11\n 2.0 c 8>9"), [0, 1, 1, 0, 1]);
    assert_eq!(counts("3.0 a 5>5\n 3.0 a 5>7\n 3.0 b 11>11\n 3.0 c 9>9"), [0, 0, 1, 0, 1]);
    assert_eq!(counts("4.0 a 1>8\n 4.0 b 1>4\n 4.0 b 4>7 err=reset"), [0, 0, 0, 1, 1]);
}

/// The end of a minisock is lost, and nobody knows: long after it was due, it is followed no longer.
#[test]
fn an_end_that_never_came() {
    check(
        "\
        0.0 a start tw
        1.0 b start tw left=90
        70.0 c 1>4
        80.0 c 4>5
        140.0 c 5>7
        ",
        &expect![[r#"
            0 minisock began in time_wait for 60 + 2.056
            1 minisock began in time_wait for 90 + 2.056
            70 c established > fin_wait1
            80 c fin_wait1 > fin_wait2 after 10
            140 c fin_wait2 > close after 60
            140 c closed, then refused: active graceful, fin_wait1 10, fin_wait2 60, fin 0 ack 0, sent 0, received 0 after our fin 0
            2 unmatched
        "#]],
    );
}
