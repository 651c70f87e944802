//! The kernel's table and what is known, joined.

use super::*;
use crate::{
    event::{ConnectionId, Event, EventKind, StateChange},
    lifecycle::{Entry, Left, Limits, Sees, Tracker, Wait},
    snapshot::{Holder, Timer, TimerKind},
};

const NETNS: u32 = 1;

fn pair(port: u16) -> Pair {
    Pair {
        local: SocketAddr::new([192, 0, 2, 1].into(), port),
        remote: SocketAddr::new([192, 0, 2, 2].into(), 443),
    }
}

fn seconds(seconds: u64) -> Monotonic {
    Monotonic::from_nanos(seconds * 1_000_000_000)
}

const fn id(cookie: u64) -> ConnectionId {
    ConnectionId { netns: NETNS, socket: cookie }
}

fn row(cookie: u64, port: u16, state: TcpState, left: Option<u64>) -> Row {
    let timer = left.map(|left| Timer { kind: TimerKind::Minisock, left: Duration::from_secs(left) });
    let holder = Holder { uid: 1000, inode: None, cgroup: None };
    Row { id: id(cookie), pair: pair(port), state, timer, holder: timer.is_none().then_some(holder) }
}

fn known(cookie: u64, port: u16, state: TcpState, since: u64) -> Closing {
    Closing {
        id: id(cookie),
        pair: pair(port),
        state,
        since: Some(seconds(since)),
        ends: None,
        observed: true,
        story: None,
    }
}

/// Joins a table that was read of these namespaces with what was known a hundred seconds after the beginning.
fn joined(rows: &[Row], read: &[u32], closing: &[Closing]) -> Vec<ClosingSocket> {
    let read = read.iter().map(|&netns| (netns, seconds(100))).collect();
    let snapshot = Snapshot { at: seconds(100), rows: rows.to_vec(), read, blind_spot: None };
    let mut known = Known::at(seconds(100), closing.len());
    known.add(closing.iter().copied());
    join(snapshot, known, &TcpState::CLOSING, Holders::default(), |_| None).collect()
}

#[test]
fn the_kernel_says_what_there_is() {
    let rows = [row(1, 1, TcpState::CloseWait, None), row(2, 2, TcpState::TimeWait, Some(47))];
    let closing = [known(1, 1, TcpState::CloseWait, 40), known(3, 3, TcpState::CloseWait, 0)];
    let sockets = joined(&rows, &[NETNS], &closing);
    // One that the table lacks has ended.
    let brief: Vec<_> = sockets
        .iter()
        .map(|socket| (socket.cookie, socket.age_seconds, socket.left_seconds, socket.source))
        .collect();
    assert_eq!(
        brief,
        [(Some(2), None, Some(47.0), Source::Snapshot), (Some(1), Some(60.0), None, Source::Observed)]
    );
}

#[test]
fn another_life_of_the_socket_pair_is_another_socket() {
    let rows = [row(2, 1, TcpState::CloseWait, None)];
    let [socket] = &joined(&rows, &[NETNS], &[known(1, 1, TcpState::CloseWait, 40)])[..] else {
        panic!("one socket");
    };
    assert_eq!((socket.age_seconds, socket.source), (None, Source::Snapshot));
    // What had no cookie before is known by its socket pair.
    let [socket] = &joined(&rows, &[NETNS], &[known(0, 1, TcpState::CloseWait, 40)])[..] else {
        panic!("one socket");
    };
    assert_eq!((socket.age_seconds, socket.source), (Some(60.0), Source::Observed));
}

#[test]
fn of_another_state_the_age_is_not_known() {
    let rows = [row(1, 1, TcpState::TimeWait, Some(60))];
    let [socket] = &joined(&rows, &[NETNS], &[known(1, 1, TcpState::FinWait2, 40)])[..] else {
        panic!("one socket");
    };
    assert_eq!((socket.state, socket.age_seconds), (TcpState::TimeWait, None));
}

#[test]
fn past_its_nominal_end_the_bucket_of_the_timer_wheel_tells() {
    let ends = Some(seconds(102));
    let closing = Closing { ends, ..known(1, 1, TcpState::TimeWait, 39) };
    let left =
        |left| joined(&[row(1, 1, TcpState::TimeWait, Some(left))], &[NETNS], &[closing])[0].left_seconds;
    assert_eq!((left(0), left(1)), (Some(2.0), Some(1.0)));
}

/// By the same end of the timer wheel's bucket that is told.
#[test]
fn past_their_nominal_end_they_are_in_order_too() {
    let late = |cookie, ends| Closing {
        ends: Some(seconds(ends)),
        ..known(cookie, u16::try_from(cookie).expect("a port"), TcpState::TimeWait, 39)
    };
    let rows = [1, 2, 3].map(|port| row(u64::from(port), port, TcpState::TimeWait, Some(0)));
    let sockets = joined(&rows, &[NETNS], &[late(1, 103), late(2, 101), late(3, 102)]);
    let order: Vec<_> = sockets.iter().map(|socket| (socket.cookie, socket.left_seconds)).collect();
    assert_eq!(order, [(Some(2), Some(1.0)), (Some(3), Some(2.0)), (Some(1), Some(3.0))]);
}

#[test]
fn of_a_namespace_that_cannot_be_read_there_is_what_is_known() {
    let sockets =
        joined(&[], &[2], &[known(1, 1, TcpState::LastAck, 40), known(2, 2, TcpState::TimeWait, 90)]);
    let states: Vec<_> = sockets.iter().map(|socket| (socket.state, socket.age_seconds)).collect();
    assert_eq!(states, [(TcpState::TimeWait, Some(10.0)), (TcpState::LastAck, Some(60.0))]);
}

/// A line of `list` is what a line of it says, both ways.
#[test]
fn a_line_is_read_as_it_was_written() {
    let [socket] = &joined(&[row(1, 1, TcpState::FinWait2, Some(3))], &[NETNS], &[])[..] else {
        panic!("one socket");
    };
    let line = serde_json::to_string(socket).expect("a line");
    assert_eq!(serde_json::from_str::<ClosingSocket>(&line).expect("a socket"), *socket);
    let expected = expect_test::expect![[
        r#"{"state":"fin_wait2","age_seconds":null,"left_seconds":3.0,"netns":1,"family":"ipv4","local":{"addr":"192.0.2.1","port":1},"remote":{"addr":"192.0.2.2","port":443},"cookie":1,"role":"active","owner":{"opener":null,"closer":null,"unit":null,"container":null,"pod":null,"uid":null},"holders":[],"source":"snapshot"}"#
    ]];
    expected.assert_eq(&line);
}

/// What the tracker knows of a socket in CLOSE-WAIT, and who holds it.
#[test]
fn a_socket_that_is_left_in_close_wait_is_looked_for_until_its_holder_is_known() {
    let wait = Wait { nominal: Duration::from_secs(60), slack: Duration::from_secs(2) };
    let sees = Sees { minisocks: true, starts: true, segments: true };
    let mut tracker = Tracker::new(Limits { sockets: 8, minisocks: 8 }, wait, sees);
    let change = StateChange::bare(pair(1), TcpState::Established, TcpState::CloseWait);
    let event = |at, kind| Event { at: seconds(at), id: id(1), kind };
    tracker.apply(&event(1, EventKind::StateChange(change)), &mut Vec::new());
    let left = |tracker: &Tracker, at| tracker.left_in_close_wait(seconds(at), Duration::from_secs(60), 8);
    assert_eq!(left(&tracker, 60), []);
    assert_eq!(left(&tracker, 61), [Left { id: id(1), pair: pair(1), holder: None }]);
    let holder = Process { pid: 7, comm: "leaker".parse().expect("a name") };
    tracker.apply(&event(62, EventKind::Held(holder)), &mut Vec::new());
    assert_eq!(left(&tracker, 62), [Left { id: id(1), pair: pair(1), holder: Some(holder) }]);
    let closing = tracker.closing(Entry::Socket(id(1)), seconds(62)).expect("it still closes");
    assert_eq!(closing.since, Some(seconds(1)));
    let [(owner, states)] = &tracker.census(seconds(62)).by_owner.into_iter().collect::<Vec<_>>()[..] else {
        panic!("one owner");
    };
    assert_eq!(owner.expect("it is known").comm, Some(holder.comm));
    assert_eq!(states[TcpState::CloseWait as usize], 1);
}
