//! Tables of sockets in, pressures out.

use super::*;
use crate::{
    event::{ConnectionId, Pair},
    snapshot::{Timer, TimerKind},
};

const REMOTE: ([u8; 4], u16) = ([192, 0, 2, 2], 443);
const LOOPBACK: ([u8; 4], u16) = ([127, 0, 0, 1], 80);

/// The settings of Linux, but for a range of a hundred ports.
fn settings() -> PortSettings {
    PortSettings {
        range: 20_000..=20_099,
        reserved: Vec::new(),
        reuse: Reuse::Loopback,
        reuse_delay: Duration::from_secs(1),
        timestamps: true,
    }
}

/// A socket from this port, with so many seconds to go if it is a minisock.
fn row(port: u16, (ip, to): ([u8; 4], u16), state: TcpState, left: Option<f64>) -> Row {
    let timer = left.map(|left| Timer { kind: TimerKind::Minisock, left: Duration::from_secs_f64(left) });
    let local = if ip[0] == 127 { [127, 0, 0, 1] } else { [192, 0, 2, 1] };
    let pair = Pair { local: SocketAddr::new(local.into(), port), remote: SocketAddr::new(ip.into(), to) };
    Row { id: ConnectionId { netns: 1, socket: u64::from(port) }, pair, state, timer, holder: None }
}

fn sample(seconds: u64, settings: PortSettings, rows: Vec<Row>) -> Sample {
    let at = Monotonic::from_nanos(seconds * 1_000_000_000);
    Sample::of(&[PortTable { netns: 1, name: "host".to_owned(), at, settings, rows }])
}

fn only(pressures: Vec<Pressure>) -> Pressure {
    let [pressure] = <[Pressure; 1]>::try_from(pressures).expect("one route");
    pressure
}

fn time_waits(ports: std::ops::Range<u16>, to: ([u8; 4], u16), left: f64) -> Vec<Row> {
    ports.map(|port| row(port, to, TcpState::TimeWait, Some(left))).collect()
}

#[test]
fn a_port_is_taken_towards_one_destination_only() {
    let mut rows = time_waits(20_000..20_010, REMOTE, 30.0);
    rows.push(row(20_000, (REMOTE.0, 444), TcpState::Established, None));
    let routes = pressures(None, &sample(1, settings(), rows));
    let brief: Vec<_> =
        routes.iter().map(|route| (route.destination.port, route.used, route.available)).collect();
    assert_eq!(brief, [(443, 10, 90), (444, 1, 99)]);
}

#[test]
fn what_is_not_in_the_range_was_not_given() {
    let rows = vec![
        row(20_000, REMOTE, TcpState::Established, None),
        // Bound to ports of their own.
        row(19_999, REMOTE, TcpState::Established, None),
        row(20_007, REMOTE, TcpState::Established, None),
        // Accepted where somebody listens.
        row(20_050, ([0; 4], 0), TcpState::Listen, None),
        row(20_050, ([192, 0, 2, 9], 30_000), TcpState::CloseWait, None),
    ];
    let settings = PortSettings { reserved: vec![20_005..=20_014], ..settings() };
    let pressure = only(pressures(None, &sample(1, settings, rows)));
    assert_eq!((pressure.used, pressure.range, pressure.available), (1, 89, 88));
}

/// What the kernel takes back, by its own rule.
#[test]
fn a_time_wait_gives_its_port_back() {
    let cases = [
        // Within the host, by default; not in the first second, nor without timestamps, nor in FIN-WAIT-2.
        (Reuse::Loopback, true, LOOPBACK, TcpState::TimeWait, 59.0, 1),
        (Reuse::Loopback, true, LOOPBACK, TcpState::TimeWait, 59.1, 0),
        (Reuse::Loopback, false, LOOPBACK, TcpState::TimeWait, 30.0, 0),
        (Reuse::Loopback, true, LOOPBACK, TcpState::FinWait2, 30.0, 0),
        (Reuse::Loopback, true, REMOTE, TcpState::TimeWait, 30.0, 0),
        (Reuse::Always, true, REMOTE, TcpState::TimeWait, 30.0, 1),
        (Reuse::Never, true, LOOPBACK, TcpState::TimeWait, 30.0, 0),
    ];
    for (reuse, timestamps, to, state, left, reusable) in cases {
        let settings = PortSettings { reuse, timestamps, ..settings() };
        let rows = vec![row(20_000, to, state, Some(left))];
        let pressure = only(pressures(None, &sample(1, settings, rows)));
        let expected = (1, reusable, 99 + reusable);
        assert_eq!(
            (pressure.used, pressure.reusable, pressure.available),
            expected,
            "{reuse:?} {to:?} {state:?} {left}"
        );
    }
}

#[test]
fn ports_that_stay_taken_run_out() {
    let before = sample(1, settings(), time_waits(20_000..20_010, REMOTE, 50.0));
    let mut rows = time_waits(20_002..20_010, REMOTE, 48.0);
    rows.extend(time_waits(20_010..20_050, REMOTE, 59.0));
    let pressure = only(pressures(Some(&before), &sample(3, settings(), rows)));
    assert_eq!((pressure.connects_per_second, pressure.releases_per_second), (Some(20.0), Some(1.0)));
    // 52 are left, and 19 are taken in a second.
    assert_eq!(pressure.available, 52);
    assert!((pressure.exhaustion_seconds.expect("it comes") - 52.0 / 19.0).abs() < 1e-9, "{pressure:?}");
    assert_eq!(pressure.states, BTreeMap::from([(TcpState::TimeWait, 48)]));
}

/// As many connections within the host as there may be: each port is given again after a second.
#[test]
fn ports_that_are_taken_back_do_not_run_out() {
    let before = sample(1, settings(), time_waits(20_000..20_005, LOOPBACK, 59.5));
    let mut rows = time_waits(20_000..20_005, LOOPBACK, 58.5);
    rows.extend(time_waits(20_005..20_095, LOOPBACK, 59.5));
    let pressure = only(pressures(Some(&before), &sample(2, settings(), rows)));
    assert_eq!((pressure.used, pressure.reusable, pressure.available), (95, 5, 10));
    assert_eq!((pressure.connects_per_second, pressure.exhaustion_seconds), (Some(90.0), None));
}

#[test]
fn connections_that_come_and_go_by_chance_are_no_trend() {
    let established = |ports: std::ops::Range<u16>| -> Vec<Row> {
        ports.map(|port| row(port, REMOTE, TcpState::Established, None)).collect()
    };
    let before = sample(1, settings(), established(20_000..20_050));
    // Forty go and fifty come.
    let pressure = only(pressures(Some(&before), &sample(2, settings(), established(20_040..20_100))));
    assert_eq!((pressure.used, pressure.exhaustion_seconds), (60, None));
}

#[test]
fn none_left_is_none_left() {
    let full = sample(1, settings(), time_waits(20_000..20_100, REMOTE, 30.0));
    let pressure = only(pressures(None, &full));
    assert_eq!((pressure.available, pressure.exhaustion_seconds), (0, Some(0.0)));
    assert_eq!(pressure.connects_per_second, None);
}

/// A port that was given back and taken again meanwhile was both.
#[test]
fn another_life_of_a_socket_pair_is_another_connection() {
    let life = |cookie| {
        let row = row(20_000, REMOTE, TcpState::Established, None);
        vec![Row { id: ConnectionId { netns: 1, socket: cookie }, ..row }]
    };
    let pressure = only(pressures(Some(&sample(1, settings(), life(1))), &sample(2, settings(), life(2))));
    assert_eq!((pressure.connects_per_second, pressure.releases_per_second), (Some(1.0), Some(1.0)));
    assert_eq!(pressure.exhaustion_seconds, None);
}
