//! Whatever the kernel answers about its sockets, it is read to some point or refused; a row is read as it was written, and
//! whoever wants to know of sockets takes it.
//!
//! An input is a datagram, and once more the body of one message.

#![no_main]

use std::{net::IpAddr, time::Duration};

use libfuzzer_sys::fuzz_target;
use tcp_close::{
    event::{ConnectionId, Event, EventKind, Monotonic, TcpState},
    kernel::port_settings::{PortSettings, Reuse},
    lifecycle::{Limits, Sees, Tracker, Wait},
    ports::{Sample, pressures},
    snapshot::{Answer, DumpError, PortTable, Row, Snapshot, Substates, TimerKind},
};

// Of include/uapi/linux/netlink.h and sock_diag.h.
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_MULTI: u16 = 2;

/// `struct nlmsghdr` and `struct inet_diag_msg`: no row takes less.
const SHORTEST: usize = 16 + 72;

const NETNS: u32 = 7;
const LIMITS: Limits = Limits { sockets: 8, minisocks: 8 };
const AT: Monotonic = Monotonic::from_nanos(1_000_000_000_000);

fuzz_target!(|data: &[u8]| {
    check(data);
    check(&message(data));
});

fn check(datagram: &[u8]) {
    let mut answer = Answer::new(NETNS);
    let outcome = answer.take(datagram);
    assert!(answer.rows.len() * SHORTEST <= datagram.len() + 3, "{} rows", answer.rows.len());
    check_pieces(datagram, &answer, outcome.is_ok());
    if let Err(error) = outcome {
        assert!(!matches!(error, DumpError::Changing), "no datagram says that by itself");
    }
    for row in &answer.rows {
        check_row(row);
    }
    follow(&answer.rows);
    count(answer.rows);
}

/// Messages say the same in one datagram and in as many as they are.
fn check_pieces(datagram: &[u8], whole: &Answer, is_sound: bool) {
    let mut answer = Answer::new(NETNS);
    let mut rest = datagram;
    let mut outcome = Ok(());
    while !rest.is_empty() && !answer.done && outcome.is_ok() {
        let length = rest.first_chunk().map_or(u32::MAX, |length| u32::from_ne_bytes(*length));
        let length = usize::try_from(length).map_or(rest.len(), |length| length.next_multiple_of(4));
        let (message, next) = rest.split_at_checked(length).unwrap_or((rest, &[]));
        // One without a length is refused as a whole.
        outcome = answer.take(if message.is_empty() { rest } else { message });
        rest = next;
    }
    assert_eq!(outcome.is_ok(), is_sound);
    assert_eq!((&answer.rows, answer.done), (&whole.rows, whole.done));
    assert_eq!(answer.interrupted, whole.interrupted);
}

/// Whatever a row says, a message that says so is read as that row.
fn check_row(row: &Row) {
    assert_eq!((row.id.netns, row.holder.is_none()), (NETNS, row.is_minisock()));
    let mut answer = Answer::new(NETNS);
    answer.take(&message(&body(row))).expect("it is whole");
    assert_eq!(answer.rows, [*row]);
}

/// `struct inet_diag_msg`, and the cgroup where there is one.
fn body(row: &Row) -> Vec<u8> {
    let kind = row.timer.map_or(0, |timer| match timer.kind {
        TimerKind::Retransmit => 1,
        TimerKind::KeepAlive => 2,
        TimerKind::Minisock => 3,
        TimerKind::ZeroWindow => 4,
        TimerKind::Other(other) => other,
    });
    // Of an IPv4 address and one of IPv6, the first is one that was mapped.
    let is_ipv4 = row.pair.local.is_ipv4() && row.pair.remote.is_ipv4();
    let mut body = vec![if is_ipv4 { 2 } else { 10 }, row.state as u8, kind, 0];
    body.extend(row.pair.local.port().to_be_bytes());
    body.extend(row.pair.remote.port().to_be_bytes());
    for address in [row.pair.local, row.pair.remote] {
        match address.ip() {
            IpAddr::V4(address) if is_ipv4 => body.extend([&address.octets()[..], &[0; 12]].concat()),
            IpAddr::V4(address) => body.extend(address.to_ipv6_mapped().octets()),
            IpAddr::V6(address) => body.extend(address.octets()),
        }
    }
    let left = row.timer.map_or(0, |timer| u32::try_from(timer.left.as_millis()).expect("32 bits"));
    body.extend([0; 4]);
    for half in row.id.socket.to_le_bytes().as_chunks::<4>().0 {
        body.extend(u32::from_le_bytes(*half).to_ne_bytes());
    }
    let (uid, inode) = row.holder.map_or((0, 0), |holder| (holder.uid, holder.inode.unwrap_or(0)));
    for number in [left, 0, 0, uid, inode] {
        body.extend(number.to_ne_bytes());
    }
    if let Some(cgroup) = row.holder.and_then(|holder| holder.cgroup) {
        body.extend([12_u16.to_ne_bytes(), 21_u16.to_ne_bytes()].concat());
        body.extend(cgroup.get().to_ne_bytes());
    }
    body
}

fn message(body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(16 + body.len()).expect("less than 4 GiB");
    let mut message = length.to_ne_bytes().to_vec();
    message.extend([SOCK_DIAG_BY_FAMILY.to_ne_bytes(), NLM_F_MULTI.to_ne_bytes()].concat());
    message.extend([0; 8]);
    message.extend(body);
    message
}

/// The lifecycle takes them as a table.
fn follow(rows: &[Row]) {
    let wait = Wait { nominal: Duration::from_secs(60), slack: Duration::from_secs(2) };
    let mut tracker = Tracker::new(LIMITS, wait, Sees { minisocks: true, starts: true, segments: true });
    let mut observations = Vec::new();
    let namespace = ConnectionId { netns: NETNS, socket: 0 };
    let mut tell = |id, kind| tracker.apply(&Event { at: AT, id, kind }, &mut observations);
    // What only one table has is given up after the second.
    for table in [rows, &[]] {
        tell(namespace, EventKind::ListingBegan);
        for row in table.iter().filter(|row| row.state.is_closing()) {
            tell(row.id, EventKind::Listed(row.listed(AT)));
        }
        tell(namespace, EventKind::NamespaceListed);
        tell(namespace, EventKind::ListingEnded);
    }
    tracker.finish(&mut observations);
    let stats = tracker.stats();
    assert!(stats.sockets <= LIMITS.sockets && stats.minisocks <= LIMITS.minisocks, "{stats:?}");
}

/// Whoever counts them counts no more than there are.
fn count(rows: Vec<Row>) {
    let many = rows.len();
    let settings = PortSettings {
        range: 400..=500,
        reserved: Vec::new(),
        reuse: Reuse::Always,
        reuse_delay: Duration::from_secs(1),
        timestamps: true,
    };
    let table = PortTable { netns: NETNS, name: "host".to_owned(), at: AT, settings, rows };
    let before = Sample::of(&[PortTable { rows: Vec::new(), ..table.clone() }]);
    let at = AT + Duration::from_secs(1);
    let pressures = pressures(Some(&before), &Sample::of(&[PortTable { at, ..table.clone() }]));
    let used: u32 = pressures.iter().map(|pressure| pressure.used).sum();
    assert!(used as usize <= many);
    for pressure in &pressures {
        assert!(pressure.reusable <= pressure.used && pressure.available <= pressure.range, "{pressure:?}");
        assert_eq!(pressure.states.values().sum::<u32>(), pressure.used);
    }
    let snapshot = Snapshot { at: AT, rows: table.rows, read: vec![(NETNS, AT)], blind_spot: None };
    let in_state = |state: TcpState| snapshot.rows.iter().filter(|row| row.state == state).count() as u64;
    let substates = Substates::of(&snapshot);
    assert!(substates.fin_wait2() <= in_state(TcpState::FinWait2));
    assert_eq!(substates.time_wait(), in_state(TcpState::TimeWait));
}
