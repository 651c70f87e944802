//! Who is in which closing state at a moment, and for how long.

use std::{fmt::Write as _, time::Duration};

use expect_test::{Expect, expect};
use rustix::time::{ClockId, clock_gettime};

use super::notation::{follow, seconds, tracker, witness};
use crate::{
    event::{ConnectionId, EventKind, Monotonic, TcpState},
    lifecycle::{Census, Limits, Sees, Tracker, census::AGE_EDGES},
};

const CLOSING: [TcpState; 6] = [
    TcpState::FinWait1,
    TcpState::FinWait2,
    TcpState::Closing,
    TcpState::CloseWait,
    TcpState::LastAck,
    TcpState::TimeWait,
];

fn at(seconds: u64) -> Monotonic {
    Monotonic::from_nanos(seconds * 1_000_000_000)
}

fn tell(census: &Census) -> String {
    let mut text = String::new();
    for state in CLOSING {
        let in_state = census.in_state(state);
        if in_state.sockets > 0 {
            let oldest = in_state.oldest.map_or_else(|| "?".to_owned(), seconds);
            let (label, sockets, sum) = (state.label(), in_state.sockets, seconds(in_state.ages_sum));
            writeln!(text, "{label} {sockets}, oldest {oldest}, together {sum}").expect("a string takes it");
        }
    }
    if census.unsure > 0 {
        let told = if census.knows_substates { ", told by the kernel" } else { "" };
        writeln!(text, "{} unsure{told}", census.unsure).expect("a string takes it");
    }
    text
}

/// Checks the census, this many seconds after boot, of a tracker that was told of these events.
#[track_caller]
fn check(tracker: Tracker, text: &str, now: u64, expected: &Expect) {
    let tracker = follow(tracker, text);
    assert_eq!(tracker.census(at(now)), tracker.census_one_by_one(at(now)));
    expected.assert_eq(&tell(&tracker.census(at(now))));
}

#[test]
fn every_state_of_a_full_socket() {
    check(
        witness(),
        "\
        1.0 a 1>4
        2.0 b 1>4
        2.5 b 4>5
        3.0 c 1>4
        3.5 c 4>11
        4.0 d 1>8
        5.0 e 1>8
        5.5 e 8>9
        6.0 f 1>8
        6.5 f 8>7
        7.0 g 1>7
        8.0 h 2>7
        9.0 i 2>1
        ",
        10,
        &expect![[r#"
            fin_wait1 1, oldest 9, together 9
            fin_wait2 1, oldest 7.5, together 7.5
            closing 1, oldest 6.5, together 6.5
            close_wait 1, oldest 6, together 6
            last_ack 1, oldest 4.5, together 4.5
        "#]],
    );
}

#[test]
fn the_oldest_of_several() {
    check(
        witness(),
        "\
        1.0 a 1>8
        2.0 b 1>8
        3.0 c 1>8
        4.0 a 8>9
        ",
        10,
        &expect![[r#"
            close_wait 2, oldest 8, together 15
            last_ack 1, oldest 6, together 6
        "#]],
    );
}

/// `close()` after `shutdown()` changes no state, and is the first that is seen of this one.
#[test]
fn an_entry_that_was_not_seen_has_no_age() {
    check(
        witness(),
        "\
        1.0 a 5>5
        ",
        10,
        &expect![[r#"
            fin_wait2 1, oldest ?, together 0
        "#]],
    );
    check(
        witness(),
        "\
        1.0 a 5>5
        2.0 b 1>4
        3.0 b 4>5
        ",
        10,
        &expect![[r#"
            fin_wait2 2, oldest 7, together 7
        "#]],
    );
}

/// FIN-WAIT-2 goes on in the minisock, and neither counts twice for the moment when there are both.
#[test]
fn fin_wait2_is_one_over_full_socket_and_minisock() {
    let handed_over = "\
        1.0 a 1>4
        2.0 a 4>5
        3.0 a start fw2
        ";
    let expected = expect![[r#"
        fin_wait2 1, oldest 8, together 8
    "#]];
    check(witness(), handed_over, 10, &expected);
    check(witness(), &format!("{handed_over}3.000001 a 5>7\n"), 10, &expected);
}

#[test]
fn a_flip_ends_fin_wait2_and_begins_time_wait() {
    let unseen = "\
        1.0 a 1>4
        2.0 a 4>5
        3.0 a start fw2
        3.000001 a 5>7
        5.0 a (start tw)
        ";
    let seen = format!("{unseen}5.0 a segment fin seq=500 rcv=501\n");
    let flipped = expect![[r#"
        time_wait 1, oldest 5, together 5
    "#]];
    check(witness(), &seen, 10, &flipped);
    check(
        tracker(),
        unseen,
        10,
        &expect![[r#"
            fin_wait2 1, oldest 8, together 8
            1 unsure
        "#]],
    );
    // A restart does not make it younger, and shows where the timer stood before.
    let restart = "7.0 a cancel restart\n7.000001 a start tw\n";
    check(witness(), &format!("{seen}{restart}"), 10, &flipped);
    check(tracker(), &format!("{unseen}{restart}"), 10, &flipped);
    check(witness(), &format!("{seen}8.0 a cancel connect\n"), 10, &expect![[""]]);
}

#[test]
fn time_wait_from_the_start() {
    let text = "\
        1.0 a 1>4
        2.0 a 4>5
        3.0 a start tw
        3.000001 a 5>7
        4.0 b 1>4
        5.0 b 4>11
        6.0 b start tw
        6.000001 b 11>7
        ";
    let expected = expect![[r#"
        time_wait 2, oldest 7, together 11
    "#]];
    check(witness(), text, 10, &expected);
    check(tracker(), text, 10, &expected);
}

/// The minisock was there before we looked; its timer is seen on the way to a restart.
#[test]
fn a_time_wait_that_was_there_before_has_no_age() {
    check(
        witness(),
        "\
        1.0 a cancel restart tw left=30
        1.000001 a start tw
        ",
        10,
        &expect![[r#"
            time_wait 1, oldest ?, together 0
        "#]],
    );
}

/// What was lost may have been the peer's FIN.
#[test]
fn after_a_loss_nobody_knows_who_flipped() {
    check(
        witness(),
        "\
        1.0 a 1>4
        2.0 a 4>5
        3.0 a start fw2
        3.000001 a 5>7
        3.1 b start tw
        4.0 - gap
        5.0 c start fw2
        ",
        10,
        &expect![[r#"
            fin_wait2 2, oldest 8, together 8
            time_wait 1, oldest 6.9, together 6.9
            1 unsure
        "#]],
    );
}

#[test]
fn the_kernel_may_tell_who_flipped() {
    let text = "\
        1.0 a 1>4
        2.0 a 4>5
        3.0 a start fw2
        3.000001 a 5>7
        4.0 b 1>4
        5.0 b 4>5
        6.0 b start fw2
        6.000001 b 5>7
        7.0 c 1>4
        7.5 c 4>5
        ";
    let only_a = |id: ConnectionId| Some(id.socket == 1);
    let census = follow(tracker(), text).census_with(at(10), at(10), only_a);
    // The full socket is known to be where it is.
    expect![[r#"
        fin_wait2 2, oldest 8, together 10.5
        time_wait 1, oldest ?, together 0
        2 unsure, told by the kernel
    "#]]
    .assert_eq(&tell(&census));
    // Who sees it all asks nobody.
    let census = follow(witness(), text).census_with(at(10), at(10), |_| Some(false));
    assert_eq!(census, follow(witness(), text).census(at(10)));
    assert!(census.knows_substates);
}

#[test]
fn what_makes_room_is_not_counted() {
    let two = Limits { sockets: 2, minisocks: 1 };
    let small = Tracker::new(two, super::notation::WAIT, super::notation::WITH_WITNESS);
    check(
        small,
        "\
        1.0 a 1>8
        2.0 b 1>8
        3.0 c 1>8
        4.0 d start tw
        5.0 e start tw
        ",
        10,
        &expect![[r#"
            close_wait 2, oldest 8, together 15
            time_wait 1, oldest 5, together 5
        "#]],
    );
}

#[test]
fn ages_fall_into_ranges_that_include_their_upper_edge() {
    let text = "\
        1.0 a 1>8
        8.999999999 b 1>8
        9.0 c 1>8
        9.5 d 1>8
        10.0 e 1>8
        ";
    let ages = follow(witness(), text).census(at(10)).in_state(TcpState::CloseWait).ages;
    assert_eq!(AGE_EDGES.get(..3), Some([1, 5, 15].map(Duration::from_secs).as_slice()));
    assert_eq!(ages.get(..4), Some([3, 1, 1, 0].as_slice()));
    let later = follow(witness(), text).census(at(10_000_000)).in_state(TcpState::CloseWait).ages;
    assert_eq!(later.last(), Some(&5), "beyond the last edge");
}

/// Without a witness it takes the kernel to tell who is in FIN-WAIT-2; without minisocks, there is no telling who is
/// closing.
#[test]
fn what_is_not_seen_is_not_known() {
    let sees = |minisocks, segments| Sees { minisocks, starts: false, segments };
    for (sees, alone, with_the_kernel) in [
        (sees(true, true), true, true),
        (sees(true, false), false, true),
        (sees(false, true), false, false),
        (sees(false, false), false, false),
    ] {
        let tracker = Tracker::new(super::notation::LIMITS, super::notation::WAIT, sees);
        assert_eq!(tracker.census(at(0)).knows_substates, alone, "{sees:?}");
        assert_eq!(
            tracker.census_with(at(0), at(0), |_| Some(true)).knows_substates,
            with_the_kernel,
            "{sees:?}"
        );
    }
}

/// The pipeline stands still meanwhile. The machine may be a slow one, and this build is; it takes a millisecond. Of the
/// processor's time: others may have it meanwhile.
#[test]
fn a_hundred_thousand_are_counted_in_no_time() {
    const SOCKETS: u64 = 100_000;
    let roomy = Limits { sockets: 200_000, minisocks: 200_000 };
    let mut tracker = Tracker::new(roomy, super::notation::WAIT, super::notation::WITH_WITNESS);
    let life = super::notation::events("1.0 a 1>4\n2.0 a 4>5\n3.0 a start fw2\n3.0 a 5>7\n");
    let mut out = Vec::new();
    for event in &life {
        for cookie in 1..=SOCKETS {
            let mut event = *event;
            event.id.socket = cookie;
            if let EventKind::TimerStarted(timer) = &mut event.kind {
                timer.minisock = cookie << 8;
            }
            tracker.apply(&event, &mut out);
        }
        out.clear();
    }
    let worked = || Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).expect("it is not negative");
    let before = worked();
    let census = tracker.census(at(10));
    let took = worked().saturating_sub(before);
    assert_eq!(census.in_state(TcpState::FinWait2).sockets, SOCKETS);
    assert_eq!(census.in_state(TcpState::FinWait2).oldest, Some(Duration::from_secs(8)));
    println!("{SOCKETS} were counted in {took:?}");
    assert!(took < Duration::from_millis(100), "{took:?}");
}

/// A look tells nothing of what began after it.
#[test]
fn a_look_may_be_older_than_a_minisock() {
    let text = "\
        1.0 a 4>5
        1.0 a start fw2
        5.0 b 4>5
        5.0 b start fw2
        ";
    let census = follow(tracker(), text).census_with(at(10), at(3), |_| Some(false));
    assert_eq!(census.in_state(TcpState::FinWait2).sockets, 1, "the one that was not there to be seen");
    assert_eq!(census.in_state(TcpState::TimeWait).sockets, 1);
}
