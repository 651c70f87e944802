//! The table, as it looks.
#![expect(clippy::needless_raw_string_hashes, reason = "expect-test writes its strings so")]

use std::{collections::BTreeMap, net::SocketAddr, slice, time::Duration};

use expect_test::{Expect, expect};
use jiff::tz::TimeZone;
use tcp_close::{
    closing::{ClosingSocket, Source},
    event::{Pair, TcpState},
    lifecycle::{
        Observation,
        observation::{EndCause, Manner, MinisockEnded, Role, Story, Then, TimeWait, Transition, Verdict},
    },
    line::Teller,
    owner::{Home, Owner},
    ports::Pressure,
    render::Table,
};

use crate::{
    anchor,
    observations::{
        address, at, closed, fin_wait2_story, minisock, passive_story, process, states, story, time_wait,
        transition, unknown_story,
    },
};

/// The line of an observation that has one.
fn line(table: &Table, observation: &Observation, home: Option<&Home>) -> String {
    let teller = Teller::new(BTreeMap::new(), true);
    table.line(&teller.line(observation, home, &anchor()).expect("it has a line"))
}

fn check(wide: bool, observations: &[Observation], expected: &Expect) {
    let table = Table::new(wide, TimeZone::UTC);
    let lines: Vec<String> = [table.header()]
        .into_iter()
        .chain(observations.iter().map(|observation| line(&table, observation, None)))
        .collect();
    expected.assert_eq(&(lines.join("\n") + "\n"));
}

#[test]
fn a_close_and_its_time_wait() {
    check(
        false,
        &[
            closed(fin_wait2_story(), Some(Then::FinWait2)),
            Observation::MinisockEnded(MinisockEnded { began_in: Some(TcpState::FinWait2), ..minisock() }),
            closed(story(), Some(Then::TimeWait)),
            Observation::MinisockEnded(minisock()),
            closed(passive_story(), Some(Then::Closed)),
        ],
        &expect![[r#"
            TIME         EVENT     ROLE    OWNER                LOCAL                 REMOTE                HOW        FIN1   FIN2   CWAIT  LACK   TW     END
            07:00:01.000 closed    active  curl/4242            10.0.0.1:51234        10.0.0.2:443          graceful   0.21ms …      -      -      -      fin-wait-2
            07:01:01.470 tw-ended  active  curl/4242            10.0.0.1:51234        10.0.0.2:443          -          0.21ms 48.2ms -      -      60.42s expired (nominal)
            07:00:01.000 closed    active  curl/4242            10.0.0.1:51234        10.0.0.2:443          graceful   0.21ms 48.2ms -      -      …      time-wait
            07:01:01.470 tw-ended  active  curl/4242            10.0.0.1:51234        10.0.0.2:443          -          0.21ms 48.2ms -      -      60.42s expired (nominal)
            07:00:01.000 closed    passive nginx/80             10.0.0.1:51234        10.0.0.2:443          graceful   -      -      1.50s  44.0µs -      closed
        "#]],
    );
}

#[test]
fn every_word_fits_its_column() {
    let long = Story {
        role: Role::Simultaneous,
        manner: Some(Manner::ResetReceived),
        closer: Some(process(4_194_304, b"systemd-resolved")),
        pair: Pair { local: address("203.0.113.100:51234"), remote: address("203.0.113.101:65535") },
        states: states(&[
            (TcpState::FinWait1, Some(999_600)),
            (TcpState::Closing, Some(20)),
            (TcpState::CloseWait, Some(99_996_000)),
            (TcpState::LastAck, Some(86_399_000_000)),
        ]),
        ..story()
    };
    check(
        false,
        &[
            closed(long, Some(Then::TimeWait)),
            closed(Story { manner: Some(Manner::TimedOut), ..long }, Some(Then::Refused)),
            closed(Story { manner: Some(Manner::ResetSent), role: Role::None, ..long }, Some(Then::Closed)),
            closed(Story { manner: Some(Manner::Killed), role: Role::Passive, ..long }, Some(Then::Closed)),
        ],
        &expect![[r#"
            TIME         EVENT     ROLE    OWNER                LOCAL                 REMOTE                HOW        FIN1   FIN2   CWAIT  LACK   TW     END
            07:00:01.000 closed    simult. systemd-res…/4194304 203.0.113.100:51234   203.0.113.101:65535   reset-recv 1.00s  -      100.0s 23h59m …      time-wait
            07:00:01.000 closed    simult. systemd-res…/4194304 203.0.113.100:51234   203.0.113.101:65535   timed-out  1.00s  -      100.0s 23h59m -      refused
            07:00:01.000 closed    none    systemd-res…/4194304 203.0.113.100:51234   203.0.113.101:65535   reset-sent 1.00s  -      100.0s 23h59m -      closed
            07:00:01.000 closed    passive systemd-res…/4194304 203.0.113.100:51234   203.0.113.101:65535   killed     1.00s  -      100.0s 23h59m -      closed
        "#]],
    );
}

#[test]
fn what_is_not_known_is_said() {
    let unseen = MinisockEnded {
        story: None,
        began_in: None,
        minisock: None,
        fin_wait2: None,
        cause: EndCause::Unknown,
        time_wait: None,
        ..minisock()
    };
    let premature = TimeWait { dwell: Duration::from_millis(1), verdict: Verdict::Premature, ..time_wait() };
    check(
        false,
        &[
            closed(unknown_story(), None),
            closed(Story { states: states(&[(TcpState::LastAck, None)]), ..unknown_story() }, None),
            Observation::MinisockEnded(unseen),
            Observation::MinisockEnded(MinisockEnded {
                cause: EndCause::ResetInFinWait2,
                time_wait: None,
                ..minisock()
            }),
            Observation::MinisockEnded(MinisockEnded {
                cause: EndCause::Assassinated,
                time_wait: Some(premature),
                ..minisock()
            }),
        ],
        &expect![[r#"
            TIME         EVENT     ROLE    OWNER                LOCAL                 REMOTE                HOW        FIN1   FIN2   CWAIT  LACK   TW     END
            07:00:01.000 closed    none    -                    10.0.0.1:51234        10.0.0.2:443          unknown    -      -      -      -      -      unknown
            07:00:01.000 closed    none    -                    10.0.0.1:51234        10.0.0.2:443          unknown    -      -      -      ?      -      unknown
            07:01:01.470 fw2-ended unknown -                    10.0.0.1:51234        10.0.0.2:443          -          -      -      -      -      -      unknown
            07:01:01.470 fw2-ended active  curl/4242            10.0.0.1:51234        10.0.0.2:443          -          0.21ms 48.2ms -      -      -      reset-in-fin-wait2
            07:01:01.470 tw-ended  active  curl/4242            10.0.0.1:51234        10.0.0.2:443          -          0.21ms 48.2ms -      -      1.00ms assassinated (premature)
        "#]],
    );
}

/// The process that took the socket pair, or killed it.
#[test]
fn whoever_ends_a_minisock_is_named() {
    let premature = TimeWait { dwell: Duration::from_millis(1), verdict: Verdict::Premature, ..time_wait() };
    let by = |pid, name: &[u8]| Some(process(pid, name));
    check(
        false,
        &[
            Observation::MinisockEnded(MinisockEnded {
                cause: EndCause::Reused,
                by: by(43, b"wget"),
                time_wait: Some(premature),
                ..minisock()
            }),
            Observation::MinisockEnded(MinisockEnded {
                cause: EndCause::Killed,
                by: by(99, b"ss"),
                time_wait: None,
                ..minisock()
            }),
            Observation::MinisockEnded(MinisockEnded {
                cause: EndCause::Reused,
                by: by(7, b"a_b\x1b[2J\n"),
                ..minisock()
            }),
        ],
        &expect![[r#"
            TIME         EVENT     ROLE    OWNER                LOCAL                 REMOTE                HOW        FIN1   FIN2   CWAIT  LACK   TW     END
            07:01:01.470 tw-ended  active  curl/4242            10.0.0.1:51234        10.0.0.2:443          -          0.21ms 48.2ms -      -      1.00ms reused by wget/43 (premature)
            07:01:01.470 fw2-ended active  curl/4242            10.0.0.1:51234        10.0.0.2:443          -          0.21ms 48.2ms -      -      -      killed by ss/99
            07:01:01.470 tw-ended  active  curl/4242            10.0.0.1:51234        10.0.0.2:443          -          0.21ms 48.2ms -      -      60.42s reused by a_b?[2J?/7 (nominal)
        "#]],
    );
}

#[test]
fn ipv6_is_cut_in_the_middle_unless_there_is_room() {
    let short = Pair { local: address("[::1]:40000"), remote: address("[2001:db8::2]:443") };
    let long = Pair {
        local: address("[2001:db8:1111:2222:3333:4444:5555:6666]:51234"),
        remote: address("[2001:db8:ffff:ffff:ffff:ffff:ffff:fffe]:65535"),
    };
    let observations = [short, long].map(|pair| closed(Story { pair, ..story() }, Some(Then::TimeWait)));
    check(
        false,
        &observations,
        &expect![[r#"
        TIME         EVENT     ROLE    OWNER                LOCAL                 REMOTE                HOW        FIN1   FIN2   CWAIT  LACK   TW     END
        07:00:01.000 closed    active  curl/4242            [::1]:40000           [2001:db8::2]:443     graceful   0.21ms 48.2ms -      -      …      time-wait
        07:00:01.000 closed    active  curl/4242            [2001:db8…6666]:51234 [2001:db8…fffe]:65535 graceful   0.21ms 48.2ms -      -      …      time-wait
    "#]],
    );
    check(
        true,
        &observations,
        &expect![[r#"
        TIME         EVENT     ROLE    OWNER                LOCAL                                           REMOTE                                          HOW        FIN1   FIN2   CWAIT  LACK   TW     END
        07:00:01.000 closed    active  curl/4242            [::1]:40000                                     [2001:db8::2]:443                               graceful   0.21ms 48.2ms -      -      …      time-wait
        07:00:01.000 closed    active  curl/4242            [2001:db8:1111:2222:3333:4444:5555:6666]:51234  [2001:db8:ffff:ffff:ffff:ffff:ffff:fffe]:65535  graceful   0.21ms 48.2ms -      -      …      time-wait
    "#]],
    );
}

#[test]
fn a_name_cannot_break_the_table() {
    let names: [&[u8]; 4] = [b"a b/c", b"\x1b[2J\n\r\t", b"\xff\xfe", "имя-процесса".as_bytes()];
    let observations =
        names.map(|name| closed(Story { closer: Some(process(7, name)), ..story() }, Some(Then::TimeWait)));
    check(
        false,
        &observations,
        &expect![[r#"
        TIME         EVENT     ROLE    OWNER                LOCAL                 REMOTE                HOW        FIN1   FIN2   CWAIT  LACK   TW     END
        07:00:01.000 closed    active  a b/c/7              10.0.0.1:51234        10.0.0.2:443          graceful   0.21ms 48.2ms -      -      …      time-wait
        07:00:01.000 closed    active  ?[2J???/7            10.0.0.1:51234        10.0.0.2:443          graceful   0.21ms 48.2ms -      -      …      time-wait
        07:00:01.000 closed    active  ��/7                 10.0.0.1:51234        10.0.0.2:443          graceful   0.21ms 48.2ms -      -      …      time-wait
        07:00:01.000 closed    active  имя-проц/7           10.0.0.1:51234        10.0.0.2:443          graceful   0.21ms 48.2ms -      -      …      time-wait
    "#]],
    );
}

#[test]
fn transitions() {
    let table = Table::new(false, TimeZone::UTC);
    let dwell = Some(Duration::from_micros(210));
    let rows = [
        transition(TcpState::Established, TcpState::FinWait1, None),
        transition(TcpState::FinWait1, TcpState::FinWait2, dwell),
        Transition { process: None, ..transition(TcpState::CloseWait, TcpState::LastAck, dwell) },
        transition(TcpState::FinWait1, TcpState::FinWait1, None),
    ];
    let lines: Vec<String> = [table.transitions_header()]
        .into_iter()
        .chain(rows.iter().map(|row| line(&table, &Observation::Transition(*row), None)))
        .collect();
    expect![[r#"
        TIME         OWNER                LOCAL                 REMOTE                OLDSTATE       NEWSTATE    DWELL
        07:00:01.000 curl/4242            10.0.0.1:51234        10.0.0.2:443          ESTABLISHED -> FIN_WAIT1   -
        07:00:01.000 curl/4242            10.0.0.1:51234        10.0.0.2:443          FIN_WAIT1   -> FIN_WAIT2   0.21ms
        07:00:01.000 -                    10.0.0.1:51234        10.0.0.2:443          CLOSE_WAIT  -> LAST_ACK    0.21ms
        07:00:01.000 curl/4242            10.0.0.1:51234        10.0.0.2:443          FIN_WAIT1   -> FIN_WAIT1   -
    "#]].assert_eq(&(lines.join("\n") + "\n"));
}

/// Who closed comes first, then who opened, then where they live.
#[test]
fn the_owner_is_the_closest_that_is_known() {
    let home = Home::of_path("/system.slice/some-service-with-a-long-name.service");
    let table = Table::new(false, TimeZone::UTC);
    let owner = |story, home: Option<&Home>| {
        let line = line(&table, &closed(story, None), home);
        line.split_ascii_whitespace().nth(3).expect("a column").to_owned()
    };
    let opened = Story { opener: Some(process(7, b"sh")), closer: None, ..story() };
    let nobody = Story { opener: None, ..opened };
    assert_eq!(owner(Story { closer: Some(process(8, b"bash")), ..opened }, Some(&home)), "bash/8");
    assert_eq!(owner(opened, Some(&home)), "sh/7");
    assert_eq!(owner(nobody, Some(&home)), "some-service-with-a…");
    assert_eq!(owner(nobody, None), "-");
    // In a recording, that may be anything.
    let odd = Home { unit: Some("\x1b[2J\n.service".to_owned()), ..Home::default() };
    assert_eq!(owner(nobody, Some(&odd)), "?[2J?.service");
}

#[test]
fn times_are_of_the_zone() {
    let zone = TimeZone::fixed(jiff::tz::offset(-3));
    let line = line(&Table::new(false, zone), &closed(story(), None), None);
    assert!(line.starts_with("04:00:01.000 closed"), "{line}");
    assert_eq!(at(1000).as_nanos(), 1_000_000_000);
}

fn listed(local: &str, remote: &str, by: &[u8]) -> ClosingSocket {
    let [local, remote] = [local, remote].map(|address| address.parse::<SocketAddr>().expect("an address"));
    ClosingSocket {
        state: TcpState::FinWait2,
        age_seconds: Some(3.521),
        left_seconds: Some(56.5),
        netns: 1,
        family: Pair { local, remote }.family(),
        local: local.into(),
        remote: remote.into(),
        cookie: Some(17),
        role: Some(Role::Active),
        owner: Owner { closer: Some(process(4242, by)), ..Owner::default() },
        holders: Vec::new(),
        source: Source::Observed,
    }
}

/// A list is no wider than what is in it, and no wider than `watch`.
#[test]
fn a_list_fits_what_is_in_it() {
    let check = |sockets: &[ClosingSocket], expected: &Expect| {
        let table = Table::new(false, TimeZone::UTC).fitted_to(sockets);
        let lines = sockets.iter().map(|socket| table.closing(socket));
        expected.assert_eq(
            &([table.list_header()].into_iter().chain(lines).collect::<Vec<_>>().join("\n") + "\n"),
        );
    };
    let short = listed("192.0.2.1:40000", "192.0.2.2:443", b"curl");
    check(
        slice::from_ref(&short),
        &expect![[r#"
        STATE      OWNER     LOCAL           REMOTE          AGE    LEFT
        fin-wait-2 curl/4242 192.0.2.1:40000 192.0.2.2:443   3.52s  56.50s
    "#]],
    );
    check(
        &[short, listed("[2001:db8:1:2:3:4:5:6]:40000", "[2001:db8::2]:443", b"a-name-as-long-")],
        &expect![[r#"
            STATE      OWNER                LOCAL                 REMOTE                AGE    LEFT
            fin-wait-2 curl/4242            192.0.2.1:40000       192.0.2.2:443         3.52s  56.50s
            fin-wait-2 a-name-as-long-/4242 [2001:db8…:5:6]:40000 [2001:db8::2]:443     3.52s  56.50s
        "#]],
    );
}

#[test]
fn ports_fit_what_is_in_them() {
    let route = Pressure {
        netns: 1,
        netns_name: "host".to_owned(),
        source: "192.0.2.1".parse().expect("an address"),
        destination: "192.0.2.2:443".parse::<SocketAddr>().expect("an address").into(),
        used: 28_000,
        states: BTreeMap::from([(TcpState::TimeWait, 27_000)]),
        reusable: 26_000,
        available: 26_232,
        range: 28_232,
        connects_per_second: Some(450.4),
        releases_per_second: Some(440.0),
        exhaustion_seconds: Some(22.3),
    };
    let table = Table::new(false, TimeZone::UTC).fitted_to_routes(&[&route]);
    expect![[r#"
        NETNS SOURCE    DESTINATION      USED    TW REUSE AVAIL RANGE CONN/S FREE/S EMPTY
        host  192.0.2.1 192.0.2.2:443   28000 27000 26000 26232 28232    450    440 22.30s
    "#]]
    .assert_eq(&format!("{}\n{}\n", table.ports_header(), table.ports(&route)));
}
