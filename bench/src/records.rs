//! The records of one close within the host: the client closes first, and its TIME-WAIT expires.

use tcp_close_abi::{AF_INET, Header, MinisockExpireV4, MinisockTimer, Pair, RecordKind, StateChange, flag};
use zerocopy::IntoBytes as _;

use super::Ipv4Addr;

/// Nanoseconds of `CLOCK_MONOTONIC` at the beginning.
const BEGIN: u64 = 1_000_000_000_000;

const MICROSECOND: u64 = 1_000;
const MINUTE: u64 = 60_000_000_000;

/// The cookies of both ends.
const CLIENT: u64 = 1_001;
const SERVER: u64 = 1_002;

// Of include/net/tcp_states.h.
const ESTABLISHED: u32 = 1;
const FIN_WAIT1: u32 = 4;
const FIN_WAIT2: u32 = 5;
const TIME_WAIT: u32 = 6;
const CLOSE: u32 = 7;
const CLOSE_WAIT: u32 = 8;
const LAST_ACK: u32 = 9;

/// As the kernel side writes them, in their order.
pub(super) fn of_a_close() -> Vec<Vec<u8>> {
    let change = |after: u64, socket, old, new| state_change(BEGIN + after * MICROSECOND, socket, old, new);
    vec![
        change(0, CLIENT, ESTABLISHED, FIN_WAIT1),
        change(2, SERVER, ESTABLISHED, CLOSE_WAIT),
        change(3, CLIENT, FIN_WAIT1, FIN_WAIT2),
        change(10, SERVER, CLOSE_WAIT, LAST_ACK),
        timer(RecordKind::TimerStart, BEGIN + 12 * MICROSECOND),
        change(13, CLIENT, FIN_WAIT2, CLOSE),
        change(14, SERVER, LAST_ACK, CLOSE),
        expiry(BEGIN + MINUTE + 500_000_000),
    ]
}

const fn header(kind: RecordKind, at: u64, socket: u64, flags: u32) -> Header {
    Header { at, socket, kind: kind as u32, netns: 4_026_531_840, flags, reserved: 0 }
}

const fn pair(socket: u64) -> Pair {
    let [a, b, c, d] = Ipv4Addr::LOCALHOST.octets();
    let address = [u64::from_ne_bytes([a, b, c, d, 0, 0, 0, 0]), 0];
    let ports = if socket == CLIENT { (51_234, 443) } else { (443, 51_234) };
    let (local_port, remote_port): (u16, u16) = ports;
    Pair {
        local: address,
        remote: address,
        local_port: local_port.to_be(),
        remote_port: remote_port.to_be(),
        family: AF_INET,
        reserved: 0,
    }
}

fn state_change(at: u64, socket: u64, old: u32, new: u32) -> Vec<u8> {
    let by_owner = matches!(new, FIN_WAIT1 | LAST_ACK);
    let is_first = old == ESTABLISHED;
    let name = |name: &[u8; 16], told: bool| if told { zerocopy::transmute!(*name) } else { [0; 2] };
    let flags = if by_owner { flag::OWNER } else { 0 } | if is_first { flag::OPENER } else { 0 };
    StateChange {
        header: header(RecordKind::StateChange, at, socket, flags),
        pair: pair(socket),
        old,
        new,
        error: 0,
        uid: 1000,
        pid: if by_owner { 42 } else { 0 },
        opener_pid: if is_first { 41 } else { 0 },
        comm: name(b"curl\0\0\0\0\0\0\0\0\0\0\0\0", by_owner),
        opener_comm: name(b"sh\0\0\0\0\0\0\0\0\0\0\0\0\0\0", is_first),
        cgroup: 0,
        write_seq: 5_001,
        snd_nxt: 5_001,
        snd_una: 5_001,
        rcv_nxt: 9_001,
        segs_in: 4,
        segs_out: 5,
        bytes_sent: 700,
        bytes_retrans: 0,
        bytes_received: 1_400,
    }
    .as_bytes()
    .to_vec()
}

/// `jiffies` have passed since the minisock began.
const MINISOCK: u64 = 0xffff_8882_e0ad_5600;

fn timer(kind: RecordKind, at: u64) -> Vec<u8> {
    const BEGAN: u64 = 4_295_000_000;
    MinisockTimer {
        header: header(kind, at, CLIENT, 0),
        pair: pair(CLIENT),
        minisock: MINISOCK,
        jiffies: BEGAN,
        expires: BEGAN + 60 * 250,
        substate: TIME_WAIT,
        rcv_nxt: 9_002,
        bucket_expiry: BEGAN + 61 * 250,
        entry_stamp: 0,
        has_entry_stamp: 0,
    }
    .as_bytes()
    .to_vec()
}

fn expiry(at: u64) -> Vec<u8> {
    let Pair { local_port, remote_port, .. } = pair(CLIENT);
    let address = u32::from_ne_bytes(Ipv4Addr::LOCALHOST.octets());
    MinisockExpireV4 {
        header: header(RecordKind::TimerExpire, at, CLIENT, 0),
        minisock: MINISOCK,
        local: address,
        remote: address,
        local_port,
        remote_port,
        rcv_nxt: 9_002,
        late: 0,
        entry_stamp: 0,
    }
    .as_bytes()
    .to_vec()
}
