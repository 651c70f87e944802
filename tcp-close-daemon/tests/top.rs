//! The screens of `top`, as they look, and what keys do.
#![expect(clippy::needless_raw_string_hashes, reason = "expect-test writes its strings so")]

#[path = "samples/observations.rs"]
#[expect(dead_code, reason = "it has samples for other tests too")]
mod observations;

use std::{collections::BTreeMap, time::Duration};

use expect_test::{Expect, expect};
use jiff::Timestamp;
use observations::{at, closed, minisock, passive_story, process, states, story};
use ratatui::{Terminal, backend::TestBackend};
use tcp_close::{
    clock::Anchor,
    closing::{ClosingSocket, Source},
    event::{Monotonic, TcpState},
    filter::{self, Expression, Numbers},
    lifecycle::{
        Observation,
        observation::{Manner, MinisockEnded, Role, Story, Then, TimeWait, Verdict},
    },
    line::{Line, Teller},
    owner::Owner,
    ports::Pressure,
    top::{Key, Model, Screen, Wish, draw},
};

fn line(observation: &Observation) -> Line {
    let anchor = Anchor::new(Monotonic::default(), Timestamp::UNIX_EPOCH);
    Teller::new(BTreeMap::new(), true).line(observation, None, &anchor).expect("it has a line")
}

fn socket(state: TcpState, age: f64) -> ClosingSocket {
    ClosingSocket {
        state,
        age_seconds: Some(age),
        left_seconds: None,
        netns: 1,
        family: story().pair.family(),
        local: story().pair.local.into(),
        remote: story().pair.remote.into(),
        cookie: Some(17),
        role: Some(Role::Passive),
        owner: Owner { closer: Some(process(80, b"nginx")), ..Owner::default() },
        holders: Vec::new(),
        source: Source::Observed,
    }
}

/// Some closes of curl and nginx, three seconds of them.
fn model() -> Model {
    let mut model = Model::new(Expression::default());
    for second in 0..3 {
        model.advance(at(second * 1000));
        for _ in 0..=second * 2 {
            model.add(line(&closed(story(), Some(Then::TimeWait))));
        }
    }
    let slow = Story { states: states(&[(TcpState::CloseWait, Some(90_000_000))]), ..passive_story() };
    model.add(line(&closed(slow, Some(Then::Closed))));
    let aborted = Story { role: Role::None, manner: Some(Manner::ResetSent), states: states(&[]), ..story() };
    model.add(line(&closed(aborted, Some(Then::Closed))));
    model.add(line(&Observation::MinisockEnded(minisock())));
    let early = TimeWait {
        dwell: Duration::from_millis(500),
        verdict: Verdict::Premature,
        ..minisock().time_wait.expect("it has one")
    };
    model.add(line(&Observation::MinisockEnded(MinisockEnded { time_wait: Some(early), ..minisock() })));
    model.set_sockets(vec![
        socket(TcpState::CloseWait, 3700.0),
        socket(TcpState::CloseWait, 12.0),
        socket(TcpState::TimeWait, 30.5),
    ]);
    model.set_routes(vec![Pressure {
        netns: 1,
        netns_name: "host".to_owned(),
        source: story().pair.local.ip(),
        destination: story().pair.remote.into(),
        used: 900,
        states: BTreeMap::from([(TcpState::TimeWait, 800)]),
        reusable: 700,
        available: 800,
        range: 1000,
        connects_per_second: Some(10.0),
        releases_per_second: Some(9.0),
        exhaustion_seconds: Some(75.0),
    }]);
    model.advance(at(3000));
    model
}

fn drawn(model: &Model, screen: &Screen, (width, height): (u16, u16)) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal");
    terminal.draw(|frame| draw(frame, model, screen)).expect("it is drawn");
    let text = terminal.backend().to_string();
    let lines = text.lines().map(|line| line.trim_matches('"').trim_end());
    lines.collect::<Vec<_>>().join("\n") + "\n"
}

#[track_caller]
fn check(keys: &[Key], expected: &Expect) {
    let model = model();
    let mut screen = Screen::new(false);
    for &key in keys {
        assert_eq!(screen.key(key, &model), None);
    }
    expected.assert_eq(&drawn(&model, &screen, (80, 24)));
    // Whatever the terminal is, it is drawn on.
    for size in [(200, 50), (20, 5), (1, 1), (80, 2)] {
        drawn(&model, &screen, size);
    }
}

#[test]
fn overview() {
    check(
        &[],
        &expect![[r#"
            tcp-close top  3.7 closes/s  11 closed
             1 overview  2 owners  3 peers and ports  4 TIME-WAIT  5 slow closes
            CLOSED                        SOCKETS   CLOSING NOW        SOCKETS  OLDEST
            active        graceful        9         fin-wait-1         0        -
            none          reset sent      1         fin-wait-2         0        -
            passive       graceful        1         time-wait          1        30.50s
                                                    close-wait         2        1h01m
                                                    last-ack           0        -
                                                    closing            0        -






            closes in each of the last 120 seconds, at most 10
             █
             █
             █
             █
             █
             █
            ▅█
            q quit  Tab next  space pause  s sort  / filter  Enter ladder  ? help
        "#]],
    );
}

#[test]
fn owners() {
    check(
        &[Key::Char('2')],
        &expect![[r#"
        tcp-close top  3.7 closes/s  11 closed
         1 overview  2 owners  3 peers and ports  4 TIME-WAIT  5 slow closes
        OWNER (by closed) CLOSED ACTIVE RESETS     TW    NOW   FIN2     TW  CWAIT   LACK
        curl                  10      9      1      9      0      0      0      0      0
        nginx                  1      0      0      0      3      0      1      2      0


















        q quit  Tab next  space pause  s sort  / filter  Enter ladder  ? help
    "#]],
    );
}

#[test]
fn owners_by_what_is_closing_now() {
    check(
        &[Key::Tab, Key::Char('s'), Key::Down],
        &expect![[r#"
        tcp-close top  3.7 closes/s  11 closed
         1 overview  2 owners  3 peers and ports  4 TIME-WAIT  5 slow closes
        OWNER (by now)    CLOSED ACTIVE RESETS     TW    NOW   FIN2     TW  CWAIT   LACK
        nginx                  1      0      0      0      3      0      1      2      0
        curl                  10      9      1      9      0      0      0      0      0


















        q quit  Tab next  space pause  s sort  / filter  Enter ladder  ? help
    "#]],
    );
}

#[test]
fn peers_and_ports() {
    check(
        &[Key::Char('3')],
        &expect![[r#"
        tcp-close top  3.7 closes/s  11 closed
         1 overview  2 owners  3 peers and ports  4 TIME-WAIT  5 slow closes
        PEER (by closed)  CLOSED ACTIVE RESETS     TW    NOW   FIN2     TW  CWAIT   LACK
        10.0.0.2              11      9      1      9      3      0      1      2      0











        NETNS    SOURCE          DESTINATION            USED     TW  REUSE  AVAIL EMPTY
        host     10.0.0.1        10.0.0.2:443            900    800    700    800 75.00s






        q quit  Tab next  space pause  s sort  / filter  Enter ladder  ? help
    "#]],
    );
}

#[test]
fn time_waits() {
    check(
        &[Key::Char('4')],
        &expect![[r#"
        tcp-close top  3.7 closes/s  11 closed
         1 overview  2 owners  3 peers and ports  4 TIME-WAIT  5 slow closes
        LASTED      ENDED
        < 0.1s          0
        < 1s            1 ████████████████████████████████████████████████████████████
        < 10s           0
        < 60s           0
        60-62s          1 ████████████████████████████████████████████████████████████
        < 2m            0
        longer          0

        ENDED BY               MINISOCKS        VERDICT                TIME-WAITS
        expired                2                nominal                1
                                                premature              1









        q quit  Tab next  space pause  s sort  / filter  Enter ladder  ? help
    "#]],
    );
}

#[test]
fn slow_closes() {
    check(
        &[Key::BackTab],
        &expect![[r#"
        tcp-close top  3.7 closes/s  11 closed
         1 overview  2 owners  3 peers and ports  4 TIME-WAIT  5 slow closes
        LONGEST IN         OWNER        LOCAL              REMOTE             HOW
        90.00s  close-wait nginx        10.0.0.1:51234     10.0.0.2:443       graceful
        48.2ms  fin-wait-2 curl         10.0.0.1:51234     10.0.0.2:443       graceful
        48.2ms  fin-wait-2 curl         10.0.0.1:51234     10.0.0.2:443       graceful
        48.2ms  fin-wait-2 curl         10.0.0.1:51234     10.0.0.2:443       graceful
        48.2ms  fin-wait-2 curl         10.0.0.1:51234     10.0.0.2:443       graceful
        48.2ms  fin-wait-2 curl         10.0.0.1:51234     10.0.0.2:443       graceful
        48.2ms  fin-wait-2 curl         10.0.0.1:51234     10.0.0.2:443       graceful
        48.2ms  fin-wait-2 curl         10.0.0.1:51234     10.0.0.2:443       graceful
        48.2ms  fin-wait-2 curl         10.0.0.1:51234     10.0.0.2:443       graceful
        48.2ms  fin-wait-2 curl         10.0.0.1:51234     10.0.0.2:443       graceful










        q quit  Tab next  space pause  s sort  / filter  Enter ladder  ? help
    "#]],
    );
}

#[test]
fn a_slow_close_as_a_ladder() {
    check(
        &[Key::Char('5'), Key::Enter],
        &expect![[r#"
        tcp-close top  3.7 closes/s  11 closed
         1 overview  2 owners  3 peers and ports  4 TIME-WAIT  5 slow closes
        we      10.0.0.1:51234
        peer    10.0.0.2:443
        owner   closed by nginx/80, opened by curl/4242
                uid 1000
        netns   4026531840, cookie sk:11
        close   passive, graceful, 3 segments
        ended   1970-01-01 00:00:01.000 UTC
        bytes   512 sent, 2048 received

          ESTABLISHED │                                          │ ESTABLISHED
                      │◀─── FIN seq 5001 ────────────────────────│               +0
           CLOSE-WAIT │ 90.00s                                   │ FIN-WAIT-1
               CLOSED │                                          │








        q quit  Tab next  space pause  s sort  / filter  Enter ladder  ? help
    "#]],
    );
}

#[test]
fn help() {
    check(
        &[Key::Char('?')],
        &expect![[r#"
            tcp-close top  3.7 closes/s  11 closed
             1 overview  2 owners  3 peers and ports  4 TIME-WAIT  5 slow closes
            1-5, Tab      overview, owners, peers and ports, TIME-WAIT, slow closes
            up, down      mark a line; page up, page down
            Enter         the marked slow close as a ladder; any other key closes it
            s             sort owners and peers by closed, now, resets, name
            /             filter, in the language of ss: dport = :443 and not comm = curl
            space, p      pause and go on
            q, ^C         quit
            ^Z            back to the shell; fg returns

            CLOSED, ACTIVE, RESETS and TW count what ended since this was begun;
            NOW and what is right of it count what is closing at this moment.










            q quit  Tab next  space pause  s sort  / filter  Enter ladder  ? help
        "#]],
    );
}

#[test]
fn nothing_is_known_at_first() {
    let text = drawn(&Model::default(), &Screen::new(true), (80, 24));
    assert!(text.contains("0.0 closes/s  0 closed") && text.contains("not looked at yet"), "{text}");
    assert!(text.is_ascii(), "{text}");
}

#[test]
fn what_is_paused_stands_still() {
    let mut model = model();
    let mut screen = Screen::new(false);
    screen.key(Key::Char(' '), &model);
    let before = drawn(&model, &screen, (80, 24));
    assert!(before.contains("PAUSED"), "{before}");
    model.add(line(&closed(story(), Some(Then::TimeWait))));
    assert_eq!(drawn(&model, &screen, (80, 24)), before);
    screen.key(Key::Char(' '), &model);
    assert!(drawn(&model, &screen, (80, 24)).contains("12 closed"));
}

/// A host that is busy is looked at less often, and that is when somebody looks.
#[test]
fn what_was_seen_a_while_ago_is_not_called_present() {
    let mut model = Model::new(Expression::default());
    let title = |model: &Model| drawn(model, &Screen::new(false), (80, 24)).lines().next().map(str::to_owned);
    let said = |model: &Model, words: &str| title(model).is_some_and(|title| title.contains(words));
    model.advance(at(100_000));
    assert!(!said(&model, "ago"), "nothing was seen yet");
    model.set_sockets(vec![socket(TcpState::CloseWait, 1.0)]);
    model.advance(at(105_000));
    assert!(!said(&model, "ago"));
    model.advance(at(106_000));
    assert!(said(&model, "sockets of 6 s ago"), "{:?}", title(&model));
    model.set_sockets(Vec::new());
    assert!(!said(&model, "ago"));
}

/// Sockets that were seen are there for the next filter too: when somebody looks again may be a while off.
#[test]
fn another_filter_is_asked_of_what_was_seen() {
    let filter = |text| filter::parse(text, &Numbers).expect("a filter");
    let mut model = Model::new(filter("state last-ack"));
    model.advance(at(100_000));
    model.set_sockets(vec![socket(TcpState::CloseWait, 1.0), socket(TcpState::LastAck, 2.0)]);
    let sockets = |model: &Model, state: &str| {
        let screen = drawn(model, &Screen::new(false), (80, 24));
        // The first line may name it in the filter.
        let line =
            screen.lines().rfind(|line| line.contains(state)).expect("every state has a line").to_owned();
        line.split_whitespace().skip_while(|word| *word != state).nth(1).map(str::to_owned)
    };
    assert_eq!(
        (sockets(&model, "close-wait").as_deref(), sockets(&model, "last-ack").as_deref()),
        (Some("0"), Some("1"))
    );
    model.set_filter(filter("state close-wait"));
    assert_eq!(
        (sockets(&model, "close-wait").as_deref(), sockets(&model, "last-ack").as_deref()),
        (Some("1"), Some("0"))
    );
    model.set_filter(Expression::default());
    assert_eq!(
        (sockets(&model, "close-wait").as_deref(), sockets(&model, "last-ack").as_deref()),
        (Some("1"), Some("1"))
    );
}

#[test]
fn a_filter_is_typed_and_mended() {
    let mut model = model();
    let mut screen = Screen::new(false);
    let type_in = |screen: &mut Screen, text: &str| {
        for character in text.chars() {
            assert_eq!(screen.key(Key::Char(character), &Model::default()), None);
        }
    };
    screen.key(Key::Char('/'), &model);
    type_in(&mut screen, "role = q");
    assert_eq!(screen.key(Key::Enter, &model), None);
    let wrong = drawn(&model, &screen, (80, 24));
    assert!(wrong.contains("\"q\" is not active") && wrong.contains("filter: role = q_"), "{wrong}");
    screen.key(Key::Backspace, &model);
    type_in(&mut screen, "passive");
    let filter = filter::parse("role = passive", &Numbers).expect("a filter");
    assert_eq!(screen.key(Key::Enter, &model), Some(Wish::Filter(filter.clone())));
    model.set_filter(filter);
    model.add(line(&closed(story(), Some(Then::TimeWait))));
    model.add(line(&closed(passive_story(), Some(Then::Closed))));
    let text = drawn(&model, &screen, (80, 24));
    assert!(text.contains("1 closed  role = passive"), "{text}");
    // Another one is left as it was.
    screen.key(Key::Char('/'), &model);
    type_in(&mut screen, "nonsense");
    screen.key(Key::Escape, &model);
    assert!(!drawn(&model, &screen, (80, 24)).contains("nonsense"));
}

#[test]
fn it_ends_when_somebody_wants_it_to() {
    let model = model();
    let mut screen = Screen::new(false);
    screen.key(Key::Char('/'), &model);
    assert_eq!(screen.key(Key::Char('q'), &model), None, "it is part of a filter");
    assert_eq!(screen.key(Key::Interrupt, &model), Some(Wish::Quit));
    assert_eq!(screen.key(Key::Suspend, &model), Some(Wish::Suspend));
    screen.key(Key::Escape, &model);
    assert_eq!(screen.key(Key::Char('q'), &model), Some(Wish::Quit));
}

/// Names are chosen by others: they are counted as long as there is room, and those with the most closes stay.
#[test]
fn there_is_room_for_so_many_names_and_no_more() {
    let mut model = Model::new(Expression::default());
    model.advance(at(0));
    for number in 0..5000_u32 {
        let name = format!("p{number}");
        let story = Story { closer: Some(process(number, name.as_bytes())), ..story() };
        model.add(line(&closed(story, None)));
        model.add(line(&closed(Story { closer: Some(process(1, b"often")), ..story }, None)));
    }
    let mut screen = Screen::new(false);
    screen.key(Key::Char('2'), &model);
    let text = drawn(&model, &screen, (80, 24));
    assert!(text.contains("often") && text.contains("5000"), "{text}");
}
