//! The JSON: every key always there, and nothing else.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};
use tcp_close::{
    event::{ConnectionId, Pair, TcpState},
    lifecycle::{
        Observation,
        observation::{Absorbed, EndCause, MinisockEnded, ResetSeen, Story, Then, TimeWait, Transition},
    },
    line::{Line, Teller},
    owner::Home,
};

use crate::{
    anchor,
    observations::{
        address, began, closed, fin_wait2_story, inferred, minisock, passive_story, process, story,
        time_wait, transition, unknown_story,
    },
};

const HEAD: [&str; 8] = ["event", "time", "monotonic_ns", "netns", "family", "local", "remote", "cookie"];
const STORY: [&str; 8] = ["role", "manner", "segments", "owner", "states", "fin", "bytes", "reset"];
const TIME_WAIT: [&str; 15] = [
    "cause",
    "by",
    "seconds",
    "minisock_seconds",
    "nominal_seconds",
    "slack_seconds",
    "ratio_of_nominal",
    "ratio_of_rfc_2msl",
    "restarts",
    "since_last_restart_seconds",
    "final_ack_lost",
    "stray_segments",
    "needed_seconds",
    "witness",
    "verdict",
];

/// The one line of an observation, which must be one object on one line.
fn line(observation: &Observation) -> Value {
    let teller = Teller::new(BTreeMap::from([(2, "tcp_abort_on_close".to_owned())]), true);
    let line = teller.line(observation, None, &anchor()).expect("it has a line");
    let json = line.json();
    assert!(!json.chars().any(char::is_control), "{json:?}");
    // It travels over the daemon's socket.
    assert_eq!(serde_json::from_str::<Line>(&json).expect("a line").json(), json);
    serde_json::from_str(&json).expect("a line is an object")
}

#[track_caller]
fn assert_keys(value: &Value, expected: &[&[&str]]) {
    let mut expected = expected.concat();
    let mut keys: Vec<&str> = value.as_object().expect("an object").keys().map(String::as_str).collect();
    expected.sort_unstable();
    keys.sort_unstable();
    assert_eq!(keys, expected);
}

#[track_caller]
fn assert_parts(value: &Value) {
    for end in ["local", "remote"] {
        assert_keys(&value[end], &[&["addr", "port"]]);
    }
    assert_keys(&value["owner"], &[&["opener", "closer", "unit", "container", "pod", "uid"]]);
    let of_owner = value["owner"].as_object().expect("an object").values();
    for part in of_owner.chain([&value["by"], &value["time_wait"]["by"]]).filter(|part| part.is_object()) {
        assert_keys(part, &[&["pid", "comm"]]);
    }
    if value.get("states").is_some() {
        assert_keys(
            &value["fin"],
            &[&["seq", "ack_of_fin", "peer_seq", "retransmits", "retransmitted_after"]],
        );
        assert_keys(&value["bytes"], &[&["sent", "received", "after_our_fin", "after_peer_fin"]]);
        for state in value["states"].as_array().expect("an array") {
            assert_keys(state, &[&["state", "seconds"]]);
        }
        if !value["reset"].is_null() {
            assert_keys(&value["reset"], &[&["direction", "reason"]]);
        }
    }
}

fn reset(reason: Option<u32>) -> Story {
    Story { reset: Some(ResetSeen { sent: true, reason }), ..story() }
}

/// A close whose FIN was sent again at these milliseconds after it was sent first.
fn retransmitted(milliseconds: &[u64]) -> Story {
    let mut story = story();
    for &after in milliseconds {
        story.fin.schedule.push(Duration::from_millis(after));
    }
    story.fin.retransmits = u32::try_from(milliseconds.len()).expect("few");
    story
}

#[test]
fn closed_has_every_key() {
    let resets = [reset(Some(2)), reset(None)];
    let stories = [story(), unknown_story(), passive_story(), fin_wait2_story(), retransmitted(&[200])];
    for story in stories.into_iter().chain(resets) {
        for then in [Some(Then::Closed), Some(Then::FinWait2), None] {
            let value = line(&closed(story, then));
            assert_keys(&value, &[&HEAD, &STORY, &["then", "gap"]]);
            assert_parts(&value);
            assert_eq!(value["event"], "closed");
        }
    }
}

#[test]
fn time_wait_ended_has_every_key() {
    for (story, time_wait) in [(Some(story()), time_wait()), (None, inferred())] {
        let (time_wait, by) = (Some(time_wait), story.map(|_| process(43, b"wget")));
        let value = line(&Observation::MinisockEnded(MinisockEnded { story, time_wait, by, ..minisock() }));
        assert_keys(&value, &[&HEAD, &STORY, &["time_wait", "gap"]]);
        assert_keys(&value["time_wait"], &[&TIME_WAIT]);
        assert_parts(&value);
        assert_eq!(value["event"], "time_wait_ended");
    }
}

#[test]
fn fin_wait2_ended_has_every_key() {
    for story in [Some(fin_wait2_story()), None] {
        let cause = EndCause::FinWait2Timeout;
        let by = story.map(|_| process(43, b"wget"));
        let ended = MinisockEnded { story, cause, by, time_wait: None, ..minisock() };
        let value = line(&Observation::MinisockEnded(ended));
        assert_keys(&value, &[&HEAD, &STORY, &["cause", "by", "minisock_seconds", "gap"]]);
        assert_parts(&value);
        assert_eq!(
            (&value["event"], &value["cause"]),
            (&"fin_wait2_ended".into(), &"fin_wait2_timeout".into())
        );
    }
}

#[test]
fn transition_has_every_key() {
    let dwell = Some(Duration::from_micros(210));
    let known = transition(TcpState::FinWait1, TcpState::FinWait2, dwell);
    for transition in [known, Transition { dwell: None, process: None, ..known }] {
        let value = line(&Observation::Transition(transition));
        assert_keys(&value, &[&HEAD, &["owner", "from", "to", "seconds"]]);
        assert_parts(&value);
        assert_eq!((&value["from"], &value["to"]), (&"fin_wait1".into(), &"fin_wait2".into()));
    }
}

#[test]
fn what_is_not_known_is_null() {
    let mut story = unknown_story();
    story.id = ConnectionId { netns: 1, socket: 0 };
    let value = line(&closed(story, None));
    for key in ["cookie", "manner", "segments", "reset", "then"] {
        assert!(value[key].is_null(), "{key}: {}", value[key]);
    }
    for (object, key) in [
        ("owner", "opener"),
        ("owner", "closer"),
        ("owner", "unit"),
        ("owner", "container"),
        ("owner", "uid"),
        ("fin", "seq"),
        ("fin", "ack_of_fin"),
        ("fin", "peer_seq"),
        ("bytes", "sent"),
        ("bytes", "received"),
        ("bytes", "after_our_fin"),
        ("bytes", "after_peer_fin"),
    ] {
        assert!(value[object][key].is_null(), "{object}.{key}: {}", value[object][key]);
    }
    let unseen = MinisockEnded { story: None, peer_fin: None, time_wait: Some(inferred()), ..minisock() };
    let value = line(&Observation::MinisockEnded(unseen));
    assert!(value["role"].is_null());
    for key in ["retransmits", "retransmitted_after"] {
        assert!(value["fin"][key].is_null(), "{key}");
    }
    for key in ["by", "final_ack_lost", "stray_segments", "needed_seconds"] {
        assert!(value["time_wait"][key].is_null(), "{key}");
    }
    let ended = MinisockEnded { time_wait: None, ..minisock() };
    assert!(line(&Observation::MinisockEnded(ended))["by"].is_null());
}

/// What was looked for and did not come is 0, and a list of nothing.
#[test]
fn what_did_not_come_is_not_null() {
    let value = line(&Observation::MinisockEnded(minisock()));
    assert_eq!(
        (&value["time_wait"]["final_ack_lost"], &value["time_wait"]["stray_segments"]),
        (&0.into(), &0.into())
    );
    assert_eq!(value["time_wait"]["witness"], "exact");
    assert_eq!(value["fin"]["retransmitted_after"], json!([]));
}

#[test]
fn what_a_time_wait_absorbed_is_told() {
    let needed = Some(Duration::from_millis(37_400));
    let time_wait = TimeWait { final_acks_lost: Some(3), strays: Some(2), needed, ..time_wait() };
    let ended = MinisockEnded { time_wait: Some(time_wait), ..minisock() };
    let value = &line(&Observation::MinisockEnded(ended))["time_wait"];
    assert_eq!((&value["final_ack_lost"], &value["stray_segments"]), (&3.into(), &2.into()));
    assert_eq!(value["needed_seconds"], json!(37.4));
}

/// Who took the socket pair, or killed it.
#[test]
fn the_process_behind_an_end_is_told() {
    let by = Some(process(43, b"wget"));
    let reused = MinisockEnded { cause: EndCause::Reused, by, ..minisock() };
    let expected = json!({"pid": 43, "comm": "wget"});
    assert_eq!(line(&Observation::MinisockEnded(reused))["time_wait"]["by"], expected);
    let killed = MinisockEnded { cause: EndCause::Killed, by, time_wait: None, ..minisock() };
    assert_eq!(line(&Observation::MinisockEnded(killed))["by"], expected);
}

#[test]
fn the_schedule_of_a_fin_is_told() {
    let value = line(&closed(retransmitted(&[200, 600, 1400]), None));
    assert_eq!(value["fin"]["retransmits"], 3);
    assert_eq!(value["fin"]["retransmitted_after"], json!([0.2, 0.6, 1.4]));
}

#[test]
fn values_are_what_they_are() {
    let value = line(&closed(fin_wait2_story(), Some(Then::FinWait2)));
    assert_eq!(value["time"], "2026-04-05T07:00:01.000000000Z");
    assert_eq!(value["monotonic_ns"], 1_000_000_000_u64);
    assert_eq!((&value["family"], &value["netns"]), (&"ipv4".into(), &4_026_531_840_u64.into()));
    assert_eq!((&value["local"]["addr"], &value["local"]["port"]), (&"10.0.0.1".into(), &51234.into()));
    assert_eq!(value["owner"]["closer"], json!({"pid": 4242, "comm": "curl"}));
    assert_eq!(
        value["states"],
        json!([{"state": "fin_wait1", "seconds": 0.00021}, {"state": "fin_wait2", "seconds": null}])
    );
    assert_eq!(value["then"], "fin_wait2");

    assert_eq!(
        line(&closed(reset(Some(2)), Some(Then::Closed)))["reset"],
        json!({"direction": "sent", "reason": "tcp_abort_on_close"})
    );
    assert!(line(&closed(reset(Some(999)), Some(Then::Closed)))["reset"]["reason"].is_null());

    let value = line(&Observation::MinisockEnded(minisock()));
    let is_about = |number: &Value, expected: f64| {
        assert!(number.as_f64().is_some_and(|number| (number - expected).abs() < 1e-9), "{number}");
    };
    is_about(&value["time_wait"]["seconds"], 60.42);
    is_about(&value["time_wait"]["ratio_of_nominal"], 1.007);
    is_about(&value["time_wait"]["ratio_of_rfc_2msl"], 0.25175);
    is_about(&value["states"][2]["seconds"], 60.42);
}

#[test]
fn the_end_of_a_minisock_tells_every_state() {
    for time_wait in [Some(time_wait()), None] {
        let ended = MinisockEnded { began_in: Some(TcpState::FinWait2), time_wait, ..minisock() };
        let value = line(&Observation::MinisockEnded(ended));
        let states = value["states"].as_array().expect("an array");
        assert_eq!(states.get(1), Some(&json!({"state": "fin_wait2", "seconds": 0.0482})));
        assert_eq!(states.len(), if time_wait.is_some() { 3 } else { 2 });
    }
}

#[test]
fn nothing_is_divided_by_nothing() {
    let odd = TimeWait { nominal: Duration::ZERO, ..time_wait() };
    let value = line(&Observation::MinisockEnded(MinisockEnded { time_wait: Some(odd), ..minisock() }));
    assert!(value["time_wait"]["ratio_of_nominal"].is_null());
}

#[test]
fn ipv6_is_named_as_it_is() {
    let pair = Pair { local: address("[::1]:40000"), remote: address("[2001:db8::2]:443") };
    let value = line(&closed(Story { pair, ..story() }, None));
    assert_eq!((&value["family"], &value["remote"]["addr"]), (&"ipv6".into(), &"2001:db8::2".into()));
}

#[test]
fn a_name_cannot_break_a_line() {
    let names: [&[u8]; 5] = [b"a\"b\\c", b"\n\r\t\x00rest", b"\x1b[31m", b"\xff\xfe\xc3", "имя".as_bytes()];
    for name in names {
        let value = line(&closed(Story { closer: Some(process(7, name)), ..story() }, None));
        assert!(value["owner"]["closer"]["comm"].is_string(), "{name:?}");
    }
    let value = line(&closed(Story { closer: Some(process(7, b"a\"b\\c")), ..story() }, None));
    assert_eq!(value["owner"]["closer"]["comm"], "a\"b\\c");
}

#[test]
fn what_has_no_line_has_none() {
    let teller = Teller::new(BTreeMap::new(), true);
    for observation in [
        began(TcpState::TimeWait),
        Observation::ResetNotReceived,
        Observation::Absorbed(Absorbed::FinAgain),
        Observation::Absorbed(Absorbed::Stray),
    ] {
        assert_eq!(teller.line(&observation, None, &anchor()), None);
    }
}

#[test]
fn the_owner_is_who_opened_who_closed_and_where_they_live() {
    let home =
        Home::of_path("/kubepods.slice/kubepods-pod8dbc5577_d0e2_4706_8787_57d52c03ddf2.slice/crio-a.scope");
    let teller = Teller::new(BTreeMap::new(), true);
    let shell = Story { opener: Some(process(7, b"sh")), ..story() };
    let line = teller.line(&closed(shell, None), Some(&home), &anchor()).expect("a line");
    let value: Value = serde_json::from_str(&line.json()).expect("JSON");
    let expected = json!({
        "opener": {"pid": 7, "comm": "sh"},
        "closer": {"pid": 4242, "comm": "curl"},
        "unit": "crio-a.scope",
        "container": null,
        "pod": "8dbc5577-d0e2-4706-8787-57d52c03ddf2",
        "uid": 1000,
    });
    assert_eq!(value["owner"], expected);
}

/// Where the hook is missing nobody has counted.
#[test]
fn retransmissions_that_are_not_seen_are_unknown() {
    let teller = Teller::new(BTreeMap::new(), false);
    let line = teller.line(&closed(story(), None), None, &anchor()).expect("a line");
    let value: Value = serde_json::from_str(&line.json()).expect("JSON");
    for key in ["retransmits", "retransmitted_after"] {
        assert_eq!(value["fin"][key], Value::Null, "{key}");
    }
}
