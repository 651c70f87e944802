//! What is closing now.

use std::{collections::BTreeMap, time::Duration};

use tcp_close::{
    event::{ConnectionId, Event, EventKind, Monotonic, Pair, StateChange, TcpState},
    lifecycle::{Limits, Sees, Tracker, Wait},
    metrics::Metrics,
    snapshot::{BlindSpot, Row, Snapshot, Substates},
};

use crate::{
    exposition::{fresh, series, text},
    observations::{NOMINAL, SLACK},
};

const WITNESS: Sees = Sees { minisocks: true, starts: false, segments: true };
const NO_WITNESS: Sees = Sees { minisocks: true, starts: false, segments: false };

fn seconds(seconds: u64) -> Monotonic {
    Monotonic::default() + Duration::from_secs(seconds)
}

fn pair() -> Pair {
    Pair {
        local: "192.0.2.1:443".parse().expect("an address"),
        remote: "192.0.2.2:40000".parse().expect("an address"),
    }
}

/// A tracker of full sockets that made these changes, in seconds.
fn tracker(sees: Sees, changes: &[(u64, u64, TcpState, TcpState)]) -> Tracker {
    let limits = Limits { sockets: 100, minisocks: 100 };
    let mut tracker = Tracker::new(limits, Wait { nominal: NOMINAL, slack: SLACK }, sees);
    for &(at, cookie, from, to) in changes {
        let change = StateChange::bare(pair(), from, to);
        let id = ConnectionId { netns: 1, socket: cookie };
        let event = Event { at: seconds(at), id, kind: EventKind::StateChange(change) };
        tracker.apply(&event, &mut Vec::new());
    }
    tracker
}

/// The kernel's table with these sockets in it, by cookie.
fn table(sockets: &[(u64, TcpState)]) -> Substates {
    let row = |&(cookie, state)| Row {
        id: ConnectionId { netns: 1, socket: cookie },
        pair: pair(),
        state,
        timer: None,
        holder: None,
    };
    let rows = sockets.iter().map(row).collect();
    Substates::of(&Snapshot {
        at: Monotonic::default(),
        rows,
        read: Vec::new(),
        blind_spot: None::<BlindSpot>,
    })
}

fn value(series: &BTreeMap<String, f64>, metric: &str, state: &str) -> Option<f64> {
    series.get(&format!("tcp_close_{metric}{{state=\"{state}\"}}")).copied()
}

/// Checks `sockets`, `oldest_seconds`, and the count and sum of `age_seconds` of a state.
#[track_caller]
fn check(metrics: &Metrics, state: &str, expected: [Option<f64>; 4]) {
    let series = series(metrics);
    let names = ["sockets", "oldest_seconds", "age_seconds_count", "age_seconds_sum"];
    assert_eq!(names.map(|name| value(&series, name, state)), expected, "{state}");
}

const FIN_WAIT2: &[(u64, u64, TcpState, TcpState)] = &[
    (1, 1, TcpState::Established, TcpState::FinWait1),
    (2, 1, TcpState::FinWait1, TcpState::FinWait2),
    (3, 2, TcpState::Established, TcpState::FinWait1),
    (4, 2, TcpState::FinWait1, TcpState::FinWait2),
];

#[test]
fn nothing_is_known_to_be_in_a_minisock_before_somebody_looked() {
    let hooks = [];
    let limits = Limits { sockets: 1, minisocks: 1 };
    let wait = Wait { nominal: NOMINAL, slack: SLACK };
    let metrics = Metrics::new(&hooks, BTreeMap::new(), limits, wait).expect("the catalogue is sound");
    check(&metrics, "fin_wait2", [None; 4]);
    check(&metrics, "time_wait", [None; 4]);
    check(&metrics, "close_wait", [Some(0.0); 4]);
    check(&metrics, "last_ack", [Some(0.0); 4]);
    check(&metrics, "fin_wait1", [Some(0.0), Some(0.0), None, None]);
}

#[test]
fn events_tell_where_every_segment_is_seen() {
    let mut metrics = fresh();
    check(&metrics, "fin_wait2", [Some(0.0); 4]);
    metrics.census(&tracker(WITNESS, FIN_WAIT2).census(seconds(10)), None);
    check(&metrics, "fin_wait2", [Some(2.0), Some(8.0), Some(2.0), Some(14.0)]);
    check(&metrics, "time_wait", [Some(0.0), None, None, None]);
}

#[test]
fn the_kernels_table_tells_where_not() {
    let tracker = tracker(NO_WITNESS, FIN_WAIT2);
    let mut metrics = fresh();
    metrics.census(&tracker.census(seconds(10)), None);
    check(&metrics, "fin_wait2", [None; 4]);
    check(&metrics, "time_wait", [None; 4]);
    // It knows of sockets that were there before, whose age nobody knows.
    let mut rows: Vec<_> = (1..=5).map(|cookie| (cookie, TcpState::FinWait2)).collect();
    rows.extend([(6, TcpState::TimeWait), (7, TcpState::TimeWait)]);
    // One that it gave twice is one.
    rows.push((5, TcpState::FinWait2));
    let table = table(&rows);
    let census = tracker.census_with(seconds(10), table.at(), |id| table.is_in_fin_wait2(id));
    metrics.census(&census, Some(&table));
    check(&metrics, "fin_wait2", [Some(5.0), Some(8.0), Some(2.0), Some(14.0)]);
    check(&metrics, "time_wait", [Some(2.0), None, None, None]);
    // Nobody knows any more.
    metrics.census(&tracker.census(seconds(20)), None);
    check(&metrics, "fin_wait2", [None; 4]);
    check(&metrics, "time_wait", [None; 4]);
}

#[test]
fn an_age_that_nobody_knows_is_left_out() {
    let seen_late = [(1, 1, TcpState::LastAck, TcpState::LastAck)];
    let mut metrics = fresh();
    metrics.census(&tracker(WITNESS, &seen_late).census(seconds(10)), None);
    let series = series(&metrics);
    assert_eq!(value(&series, "oldest_seconds", "last_ack"), None);
    assert_eq!(value(&series, "age_seconds_count", "last_ack"), Some(0.0));
    // The kernel has one, and we never saw it.
    let nothing = tracker(NO_WITNESS, &[]);
    let table = table(&[(9, TcpState::FinWait2)]);
    metrics
        .census(&nothing.census_with(seconds(10), table.at(), |id| table.is_in_fin_wait2(id)), Some(&table));
    check(&metrics, "fin_wait2", [Some(1.0), None, Some(0.0), Some(0.0)]);
}

#[test]
fn ages_are_of_now() {
    let changes = [
        (1, 1, TcpState::Established, TcpState::CloseWait),
        (90, 2, TcpState::Established, TcpState::CloseWait),
    ];
    let followed = tracker(WITNESS, &changes);
    let mut metrics = fresh();
    metrics.census(&followed.census(seconds(100)), None);
    let buckets = |metrics: &Metrics| {
        let series = series(metrics);
        ["5", "15", "60", "120", "604800", "+Inf"].map(|edge| {
            let bucket = format!("tcp_close_age_seconds_bucket{{state=\"close_wait\",le=\"{edge}\"}}");
            series.get(&bucket).copied()
        })
    };
    assert_eq!(buckets(&metrics), [0.0, 1.0, 1.0, 2.0, 2.0, 2.0].map(Some));
    metrics.census(&followed.census(seconds(1000)), None);
    assert_eq!(buckets(&metrics), [0.0, 0.0, 0.0, 0.0, 2.0, 2.0].map(Some));
    metrics.census(&tracker(WITNESS, &[]).census(seconds(2000)), None);
    assert_eq!(buckets(&metrics), [Some(0.0); 6], "unlike a histogram of all that ever was, it goes down");
    assert!(text(&metrics).contains("# TYPE tcp_close_age_seconds histogram\n"));
}
