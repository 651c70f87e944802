//! The ladder, as it looks.
#![expect(clippy::needless_raw_string_hashes, reason = "expect-test writes its strings so")]

use std::{collections::BTreeMap, time::Duration};

use expect_test::{Expect, expect};
use tcp_close::{
    event::TcpState,
    lifecycle::{
        Observation,
        observation::{
            EndCause, Fin, Manner, MinisockEnded, ResetSeen, Role, Schedule, Story, Then, TimeWait, Verdict,
        },
    },
    line::Teller,
    owner::Home,
    render::{Signs, ladder},
};

use crate::{
    anchor,
    observations::{
        address, closed, fin_wait2_story, inferred, minisock, passive_story, process, states, story,
        time_wait, transition, unknown_story,
    },
};

fn draw(observation: &Observation, signs: Signs) -> String {
    let home = Home::of_path("/system.slice/some-service.service");
    let teller = Teller::new(BTreeMap::from([(2, "tcp_abort_on_close".to_owned())]), true);
    let line = teller.line(observation, Some(&home), &anchor()).expect("it has a line");
    let drawn = ladder(&line, signs).expect("a close");
    for line in drawn.lines() {
        assert!(line.chars().count() <= 80, "{line}");
        assert!(!line.ends_with(' '), "{line:?}");
    }
    drawn
}

#[track_caller]
fn check(observation: &Observation, expected: &Expect) {
    expected.assert_eq(&draw(observation, Signs::UNICODE));
}

#[test]
fn an_active_close_and_its_time_wait() {
    check(
        &Observation::MinisockEnded(minisock()),
        &expect![[r#"
            we      10.0.0.1:51234
            peer    10.0.0.2:443
            owner   curl/4242
                    some-service.service
                    uid 1000
            netns   4026531840, cookie sk:11
            close   active, graceful, 4 segments
            ended   2026-04-05 07:01:01.470 UTC
            bytes   512 sent, 2048 received

              ESTABLISHED │                                          │ ESTABLISHED
                          │─── FIN seq 1001 ────────────────────────▶│               +0
               FIN-WAIT-1 │ 0.21ms                                   │
                          │◀─── ACK 1002 ────────────────────────────│               +0.21ms
               FIN-WAIT-2 │ 48.2ms                                   │ CLOSE-WAIT
                          │◀─── FIN seq 5001 ────────────────────────│               +48.4ms
                          │─── ACK 5002 ────────────────────────────▶│               +48.4ms
                TIME-WAIT │ 60.42s                                   │ LAST-ACK
                   CLOSED │ expired                                  │

            TIME-WAIT ███████████████░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░
                                     60.00s nominal                      240s 2MSL
            lasted 60.42s, 1.007 of nominal, 0.252 of RFC 9293's 2MSL; verdict: nominal
            30.00s would have been enough to answer a FIN that comes again (an MSL of 30 s)
        "#]],
    );
}

#[test]
fn in_ascii() {
    let drawn = draw(&Observation::MinisockEnded(minisock()), Signs::ASCII);
    assert!(drawn.is_ascii(), "{drawn}");
    expect![[r#"
        we      10.0.0.1:51234
        peer    10.0.0.2:443
        owner   curl/4242
                some-service.service
                uid 1000
        netns   4026531840, cookie sk:11
        close   active, graceful, 4 segments
        ended   2026-04-05 07:01:01.470 UTC
        bytes   512 sent, 2048 received

          ESTABLISHED |                                          | ESTABLISHED
                      |--- FIN seq 1001 ------------------------>|               +0
           FIN-WAIT-1 | 0.21ms                                   |
                      |<--- ACK 1002 ----------------------------|               +0.21ms
           FIN-WAIT-2 | 48.2ms                                   | CLOSE-WAIT
                      |<--- FIN seq 5001 ------------------------|               +48.4ms
                      |--- ACK 5002 ---------------------------->|               +48.4ms
            TIME-WAIT | 60.42s                                   | LAST-ACK
               CLOSED | expired                                  |

        TIME-WAIT ###############.............................................
                                 60.00s nominal                      240s 2MSL
        lasted 60.42s, 1.007 of nominal, 0.252 of RFC 9293's 2MSL; verdict: nominal
        30.00s would have been enough to answer a FIN that comes again (an MSL of 30 s)
    "#]]
    .assert_eq(&drawn);
}

#[test]
fn a_time_wait_that_goes_on() {
    check(
        &closed(story(), Some(Then::TimeWait)),
        &expect![[r#"
            we      10.0.0.1:51234
            peer    10.0.0.2:443
            owner   curl/4242
                    some-service.service
                    uid 1000
            netns   4026531840, cookie sk:11
            close   active, graceful, 4 segments
            ended   2026-04-05 07:00:01.000 UTC
            bytes   512 sent, 2048 received

              ESTABLISHED │                                          │ ESTABLISHED
                          │─── FIN seq 1001 ────────────────────────▶│               +0
               FIN-WAIT-1 │ 0.21ms                                   │
                          │◀─── ACK 1002 ────────────────────────────│               +0.21ms
               FIN-WAIT-2 │ 48.2ms                                   │ CLOSE-WAIT
                          │◀─── FIN seq 5001 ────────────────────────│               +48.4ms
                          │─── ACK 5002 ────────────────────────────▶│               +48.4ms
                TIME-WAIT │ goes on                                  │ LAST-ACK
        "#]],
    );
}

#[test]
fn a_fin_wait_2_that_goes_on() {
    check(
        &closed(fin_wait2_story(), Some(Then::FinWait2)),
        &expect![[r#"
            we      10.0.0.1:51234
            peer    10.0.0.2:443
            owner   curl/4242
                    some-service.service
                    uid 1000
            netns   4026531840, cookie sk:11
            close   active, graceful
            ended   2026-04-05 07:00:01.000 UTC
            bytes   512 sent, 2048 received

              ESTABLISHED │                                          │ ESTABLISHED
                          │─── FIN seq 1001 ────────────────────────▶│               +0
               FIN-WAIT-1 │ 0.21ms                                   │
                          │◀─── ACK 1002 ────────────────────────────│               +0.21ms
               FIN-WAIT-2 │ goes on                                  │ CLOSE-WAIT
        "#]],
    );
}

#[test]
fn a_passive_close() {
    check(
        &closed(passive_story(), Some(Then::Closed)),
        &expect![[r#"
            we      10.0.0.1:51234
            peer    10.0.0.2:443
            owner   closed by nginx/80, opened by curl/4242
                    some-service.service
                    uid 1000
            netns   4026531840, cookie sk:11
            close   passive, graceful, 3 segments
            ended   2026-04-05 07:00:01.000 UTC
            bytes   512 sent, 2048 received

              ESTABLISHED │                                          │ ESTABLISHED
                          │◀─── FIN seq 5001 ────────────────────────│               +0
               CLOSE-WAIT │ 1.50s                                    │ FIN-WAIT-1
                          │─── FIN seq 1001, ACK 5002 ──────────────▶│               +1.50s
                 LAST-ACK │ 44.0µs                                   │
                          │◀─── ACK 1002 ────────────────────────────│               +1.50s
                   CLOSED │                                          │ TIME-WAIT
        "#]],
    );
}

#[test]
fn three_segments() {
    let story = Story { segments: Some(3), ..story() };
    check(
        &closed(story, Some(Then::TimeWait)),
        &expect![[r#"
            we      10.0.0.1:51234
            peer    10.0.0.2:443
            owner   curl/4242
                    some-service.service
                    uid 1000
            netns   4026531840, cookie sk:11
            close   active, graceful, 3 segments
            ended   2026-04-05 07:00:01.000 UTC
            bytes   512 sent, 2048 received

              ESTABLISHED │                                          │ ESTABLISHED
                          │─── FIN seq 1001 ────────────────────────▶│               +0
               FIN-WAIT-1 │ 0.21ms                                   │
                          │◀─── ACK 1002, FIN seq 5001 ──────────────│               +0.21ms
               FIN-WAIT-2 │ 48.2ms                                   │ LAST-ACK
                          │─── ACK 5002 ────────────────────────────▶│               +48.4ms
                TIME-WAIT │ goes on                                  │ LAST-ACK
        "#]],
    );
    let passive = Story { segments: Some(3), ..passive_story() };
    check(
        &closed(passive, Some(Then::Closed)),
        &expect![[r#"
            we      10.0.0.1:51234
            peer    10.0.0.2:443
            owner   closed by nginx/80, opened by curl/4242
                    some-service.service
                    uid 1000
            netns   4026531840, cookie sk:11
            close   passive, graceful, 3 segments
            ended   2026-04-05 07:00:01.000 UTC
            bytes   512 sent, 2048 received

              ESTABLISHED │                                          │ ESTABLISHED
                          │◀─── FIN seq 5001 ────────────────────────│               +0
               CLOSE-WAIT │ 1.50s                                    │ FIN-WAIT-1
                          │─── FIN seq 1001, ACK 5002 ──────────────▶│               +1.50s
                 LAST-ACK │ 44.0µs                                   │
                          │◀─── ACK 1002 ────────────────────────────│               +1.50s
                   CLOSED │                                          │ TIME-WAIT
        "#]],
    );
}

#[test]
fn a_simultaneous_close() {
    let simultaneous = Story {
        role: Role::Simultaneous,
        states: states(&[(TcpState::FinWait1, Some(300)), (TcpState::Closing, Some(400))]),
        ..story()
    };
    check(
        &closed(simultaneous, Some(Then::TimeWait)),
        &expect![[r#"
            we      10.0.0.1:51234
            peer    10.0.0.2:443
            owner   curl/4242
                    some-service.service
                    uid 1000
            netns   4026531840, cookie sk:11
            close   simultaneous, graceful, 4 segments
            ended   2026-04-05 07:00:01.000 UTC
            bytes   512 sent, 2048 received

              ESTABLISHED │                                          │ ESTABLISHED
                          │─── FIN seq 1001 ────────────────────────▶│               +0
               FIN-WAIT-1 │ 0.30ms                                   │
                          │◀─── FIN seq 5001 ────────────────────────│               +0.30ms
                          │─── ACK 5002 ────────────────────────────▶│               +0.30ms
                  CLOSING │ 0.40ms                                   │ CLOSING
                          │◀─── ACK 1002 ────────────────────────────│               +0.70ms
                TIME-WAIT │ goes on                                  │ TIME-WAIT
        "#]],
    );
}

#[test]
fn a_fin_that_is_lost_twice_and_a_peer_that_is_gone() {
    let mut schedule = Schedule::default();
    schedule.push(Duration::from_millis(210));
    schedule.push(Duration::from_millis(640));
    let lost = Story {
        manner: Some(Manner::TimedOut),
        segments: None,
        fin: Fin { retransmits: 3, schedule, ack_of_fin: None, peer_seq: None, ..story().fin },
        states: states(&[(TcpState::FinWait1, Some(120_000_000))]),
        ..story()
    };
    check(
        &closed(lost, Some(Then::Closed)),
        &expect![[r#"
            we      10.0.0.1:51234
            peer    10.0.0.2:443
            owner   curl/4242
                    some-service.service
                    uid 1000
            netns   4026531840, cookie sk:11
            close   active, timed out
            ended   2026-04-05 07:00:01.000 UTC
            bytes   512 sent, 2048 received

              ESTABLISHED │                                          │ ESTABLISHED
                          │─── FIN seq 1001 ────────────────────────▶│               +0
                          │─── FIN again ───────────────────────────▶│               +210ms
                          │─── FIN again ───────────────────────────▶│               +640ms
                          │ FIN again, once more                     │
               FIN-WAIT-1 │ 120.0s                                   │
                   CLOSED │ nobody answered any more                 │
        "#]],
    );
}

#[test]
fn aborts() {
    let aborted = Story {
        role: Role::None,
        manner: Some(Manner::ResetSent),
        segments: None,
        states: states(&[]),
        reset: Some(ResetSeen { sent: true, reason: Some(2) }),
        opener: Some(process(7, b"sh")),
        ..story()
    };
    check(
        &closed(aborted, Some(Then::Closed)),
        &expect![[r#"
            we      10.0.0.1:51234
            peer    10.0.0.2:443
            owner   closed by curl/4242, opened by sh/7
                    some-service.service
                    uid 1000
            netns   4026531840, cookie sk:11
            close   without a FIN, reset sent
            ended   2026-04-05 07:00:01.000 UTC
            bytes   512 sent, 2048 received

              ESTABLISHED │                                          │ ESTABLISHED
                          │─── RST, tcp abort on close ─────────────▶│               +0
                   CLOSED │                                          │
        "#]],
    );
    let received = Story {
        manner: Some(Manner::ResetReceived),
        reset: Some(ResetSeen { sent: false, reason: None }),
        ..passive_story()
    };
    check(
        &closed(received, Some(Then::Closed)),
        &expect![[r#"
            we      10.0.0.1:51234
            peer    10.0.0.2:443
            owner   closed by nginx/80, opened by curl/4242
                    some-service.service
                    uid 1000
            netns   4026531840, cookie sk:11
            close   passive, reset received, 3 segments
            ended   2026-04-05 07:00:01.000 UTC
            bytes   512 sent, 2048 received

              ESTABLISHED │                                          │ ESTABLISHED
                          │◀─── FIN seq 5001 ────────────────────────│               +0
               CLOSE-WAIT │ 1.50s                                    │ FIN-WAIT-1
                          │─── FIN seq 1001, ACK 5002 ──────────────▶│               +1.50s
                 LAST-ACK │ 44.0µs                                   │
                          │◀─── RST ─────────────────────────────────│               +1.50s
                   CLOSED │                                          │
        "#]],
    );
}

#[test]
fn a_wait_that_began_again_and_was_cut_short() {
    let restless = TimeWait {
        dwell: Duration::from_secs(250),
        since_last_restart: Duration::from_secs(1),
        restarts: 5,
        final_acks_lost: Some(1),
        strays: Some(4),
        verdict: Verdict::Premature,
        ..time_wait()
    };
    let reused = MinisockEnded {
        cause: EndCause::Reused,
        by: Some(process(4321, b"wget")),
        time_wait: Some(restless),
        ..minisock()
    };
    check(
        &Observation::MinisockEnded(reused),
        &expect![[r#"
            we      10.0.0.1:51234
            peer    10.0.0.2:443
            owner   curl/4242
                    some-service.service
                    uid 1000
            netns   4026531840, cookie sk:11
            close   active, graceful, 4 segments
            ended   2026-04-05 07:01:01.470 UTC
            bytes   512 sent, 2048 received

              ESTABLISHED │                                          │ ESTABLISHED
                          │─── FIN seq 1001 ────────────────────────▶│               +0
               FIN-WAIT-1 │ 0.21ms                                   │
                          │◀─── ACK 1002 ────────────────────────────│               +0.21ms
               FIN-WAIT-2 │ 48.2ms                                   │ CLOSE-WAIT
                          │◀─── FIN seq 5001 ────────────────────────│               +48.4ms
                          │─── ACK 5002 ────────────────────────────▶│               +48.4ms
                TIME-WAIT │ 250.0s                                   │ LAST-ACK
                   CLOSED │ reused by wget/4321                      │

            TIME-WAIT ███████████████████████████████████████████████████████████│+
                                     60.00s nominal                      240s 2MSL
            lasted 250.0s, 4.167 of nominal, 1.042 of RFC 9293's 2MSL; verdict: premature
            began again 5 times, the last time 1.00s before its end
            final ACK lost: 1, stray segments: 4
            30.00s would have been enough to answer a FIN that comes again (an MSL of 30 s)
        "#]],
    );
}

/// What ends a minisock is a segment too, where it is one.
#[test]
fn resets_of_minisocks() {
    let early = TimeWait { dwell: Duration::from_secs(1), verdict: Verdict::Premature, ..time_wait() };
    let assassinated = MinisockEnded { cause: EndCause::Assassinated, time_wait: Some(early), ..minisock() };
    check(
        &Observation::MinisockEnded(assassinated),
        &expect![[r#"
        we      10.0.0.1:51234
        peer    10.0.0.2:443
        owner   curl/4242
                some-service.service
                uid 1000
        netns   4026531840, cookie sk:11
        close   active, graceful, 4 segments
        ended   2026-04-05 07:01:01.470 UTC
        bytes   512 sent, 2048 received

          ESTABLISHED │                                          │ ESTABLISHED
                      │─── FIN seq 1001 ────────────────────────▶│               +0
           FIN-WAIT-1 │ 0.21ms                                   │
                      │◀─── ACK 1002 ────────────────────────────│               +0.21ms
           FIN-WAIT-2 │ 48.2ms                                   │ CLOSE-WAIT
                      │◀─── FIN seq 5001 ────────────────────────│               +48.4ms
                      │─── ACK 5002 ────────────────────────────▶│               +48.4ms
            TIME-WAIT │ 1.00s                                    │ LAST-ACK
                      │◀─── RST ─────────────────────────────────│               +1.05s
               CLOSED │ assassinated                             │

        TIME-WAIT █░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░
                                 60.00s nominal                      240s 2MSL
        lasted 1.00s, 0.017 of nominal, 0.004 of RFC 9293's 2MSL; verdict: premature
        30.00s would have been enough to answer a FIN that comes again (an MSL of 30 s)
    "#]],
    );
    for (cause, segments) in [
        (EndCause::ResetInFinWait2, &["◀─── RST"][..]),
        (EndCause::ResetByUs, &["◀─── data or SYN", "─── RST"]),
    ] {
        let reset = MinisockEnded { cause, time_wait: None, ..minisock() };
        let drawn = draw(&Observation::MinisockEnded(reset), Signs::UNICODE);
        assert!(segments.iter().all(|segment| drawn.contains(segment)), "{drawn}");
    }
    let refused = closed(story(), Some(Then::Refused));
    check(
        &refused,
        &expect![[r#"
        we      10.0.0.1:51234
        peer    10.0.0.2:443
        owner   curl/4242
                some-service.service
                uid 1000
        netns   4026531840, cookie sk:11
        close   active, graceful, 4 segments
        ended   2026-04-05 07:00:01.000 UTC
        bytes   512 sent, 2048 received

          ESTABLISHED │                                          │ ESTABLISHED
                      │─── FIN seq 1001 ────────────────────────▶│               +0
           FIN-WAIT-1 │ 0.21ms                                   │
                      │◀─── ACK 1002 ────────────────────────────│               +0.21ms
           FIN-WAIT-2 │ 48.2ms                                   │ CLOSE-WAIT
                      │◀─── FIN seq 5001 ────────────────────────│               +48.4ms
                      │─── ACK 5002 ────────────────────────────▶│               +48.4ms
               CLOSED │ the kernel refused it a TIME-WAIT        │
    "#]],
    );
}

#[test]
fn what_is_not_known_is_said() {
    check(
        &closed(unknown_story(), None),
        &expect![[r#"
            we      10.0.0.1:51234
            peer    10.0.0.2:443
            owner   nobody known
                    some-service.service
            netns   4026531840, cookie sk:11
            close   without a FIN, unknown
            ended   2026-04-05 07:00:01.000 UTC
            bytes   ? sent, ? received

                   CLOSED │ what came then was not seen              │
        "#]],
    );
    let unseen = MinisockEnded { story: None, time_wait: Some(inferred()), ..minisock() };
    check(
        &Observation::MinisockEnded(unseen),
        &expect![[r#"
            we      10.0.0.1:51234
            peer    10.0.0.2:443
            owner   nobody known
            netns   4026531840, cookie sk:11
            close   unknown, unknown
            ended   2026-04-05 07:01:01.470 UTC
            bytes   ? sent, ? received

                TIME-WAIT │ 60.42s                                   │ LAST-ACK
                   CLOSED │ expired                                  │

            TIME-WAIT ███████████████░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░
                                     60.00s nominal                      240s 2MSL
            lasted 60.42s, 1.007 of nominal, 0.252 of RFC 9293's 2MSL; verdict: nominal
            whether it began again was not seen
        "#]],
    );
    let timeout = MinisockEnded { cause: EndCause::FinWait2Timeout, time_wait: None, ..minisock() };
    check(
        &Observation::MinisockEnded(timeout),
        &expect![[r#"
            we      10.0.0.1:51234
            peer    10.0.0.2:443
            owner   curl/4242
                    some-service.service
                    uid 1000
            netns   4026531840, cookie sk:11
            close   active, graceful, 4 segments
            ended   2026-04-05 07:01:01.470 UTC
            bytes   512 sent, 2048 received

              ESTABLISHED │                                          │ ESTABLISHED
                          │─── FIN seq 1001 ────────────────────────▶│               +0
               FIN-WAIT-1 │ 0.21ms                                   │
                          │◀─── ACK 1002 ────────────────────────────│               +0.21ms
               FIN-WAIT-2 │ 48.2ms                                   │ CLOSE-WAIT
                   CLOSED │ FIN-WAIT-2 timeout                       │
        "#]],
    );
}

#[test]
fn the_longest_of_everything_fits() {
    let long = Story {
        pair: tcp_close::event::Pair {
            local: address("[2001:db8:ffff:ffff:ffff:ffff:ffff:ffff]:65535"),
            remote: address("[2001:db8:ffff:ffff:ffff:ffff:ffff:fffe]:65534"),
        },
        fin: Fin { seq: Some(u32::MAX), ack_of_fin: Some(u32::MAX), peer_seq: Some(u32::MAX), ..story().fin },
        segments: Some(3),
        opener: Some(process(4_194_304, b"systemd-resolved")),
        closer: Some(process(4_194_303, b"systemd-resolved")),
        ..story()
    };
    draw(&closed(long, Some(Then::TimeWait)), Signs::UNICODE);
    let passive = Story { states: passive_story().states, role: Role::Passive, ..long };
    draw(&closed(passive, Some(Then::Closed)), Signs::UNICODE);
}

#[test]
fn a_change_of_state_is_no_close() {
    let change = Observation::Transition(transition(TcpState::Established, TcpState::FinWait1, None));
    let line = Teller::new(BTreeMap::new(), true).line(&change, None, &anchor()).expect("a line");
    assert_eq!(ladder(&line, Signs::UNICODE), None);
}

#[test]
fn a_name_cannot_break_the_ladder() {
    let home = Home { unit: Some("\x1b[2J\n.service".to_owned()), ..Home::default() };
    let teller = Teller::new(BTreeMap::new(), true);
    let line = teller.line(&closed(story(), None), Some(&home), &anchor()).expect("it has a line");
    let drawn = ladder(&line, Signs::UNICODE).expect("a close");
    assert!(drawn.contains("\n        ?[2J?.service\n"), "{drawn}");
}
