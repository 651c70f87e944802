//! Round trips, every truncation, and everything a record may not say.

use proptest::{collection::vec, prelude::*};
use zerocopy::IntoBytes as _;

use super::*;

mod cancel_sites;

const HZ: Hz = Hz::new(250);

const INET: abi::Pair = abi::Pair {
    local: [u64::from_ne_bytes([10, 0, 0, 1, 0, 0, 0, 0]), 0],
    remote: [u64::from_ne_bytes([10, 0, 0, 2, 0, 0, 0, 0]), 0],
    local_port: 43210_u16.to_be(),
    remote_port: 80_u16.to_be(),
    family: abi::AF_INET,
    reserved: 0,
};

fn header(kind: abi::RecordKind, flags: u32) -> abi::Header {
    abi::Header { at: 1_234_567_890, socket: 77, kind: kind as u32, netns: 4_026_531_840, flags, reserved: 0 }
}

fn state_change_record() -> abi::StateChange {
    abi::StateChange {
        header: header(abi::RecordKind::StateChange, abi::flag::OWNER | abi::flag::OPENER),
        pair: INET,
        old: 1,
        new: 4,
        error: 0,
        uid: 1000,
        pid: 42,
        opener_pid: 41,
        comm: zerocopy::transmute!(*b"curl\0\0\0\0\0\0\0\0\0\0\0\0"),
        opener_comm: zerocopy::transmute!(*b"sh\0\0\0\0\0\0\0\0\0\0\0\0\0\0"),
        cgroup: 1234,
        write_seq: 1,
        snd_nxt: 2,
        snd_una: 3,
        rcv_nxt: 4,
        segs_in: 5,
        segs_out: 6,
        bytes_sent: 700,
        bytes_retrans: 70,
        bytes_received: 8,
    }
}

fn fin_retransmit_record() -> abi::FinRetransmit {
    abi::FinRetransmit { header: header(abi::RecordKind::FinRetransmit, 0), state: 9, seq: 1000 }
}

fn reset_record(kind: abi::RecordKind, flags: u32) -> abi::Reset {
    abi::Reset { header: header(kind, flags), state: 7, reason: 14 }
}

fn timer_record(kind: abi::RecordKind) -> abi::MinisockTimer {
    abi::MinisockTimer {
        header: header(kind, 0),
        pair: INET,
        minisock: 0xffff_8882_e0ad_5600,
        jiffies: 4_295_000_000,
        expires: 4_295_000_000 + 60 * 250,
        substate: 6,
        rcv_nxt: 501,
        bucket_expiry: 4_295_000_000 + 61 * 250,
        entry_stamp: 1_000,
        has_entry_stamp: 1,
    }
}

fn segment_record(tcp_flags: u32) -> abi::MinisockSegment {
    abi::MinisockSegment {
        timer: timer_record(abi::RecordKind::Segment),
        seq: 499,
        end_seq: 501,
        tcp_flags,
        reserved: 0,
    }
}

fn cancel_record(stack: &[u64]) -> abi::MinisockCancel {
    let mut record = abi::MinisockCancel {
        timer: timer_record(abi::RecordKind::TimerCancel),
        comm: zerocopy::transmute!(*b"wget\0\0\0\0\0\0\0\0\0\0\0\0"),
        pid: 43,
        reserved: 0,
        frames: stack.len() as u64,
        stack: [0; abi::MAX_FRAMES],
    };
    record.stack[..stack.len()].copy_from_slice(stack);
    record
}

fn begin_record() -> abi::MinisockBegin {
    abi::MinisockBegin { timer: timer_record(abi::RecordKind::MinisockBegin), replaces: 78 }
}

/// The expiry of the minisock of [`timer_record`], two jiffies late.
fn expiry_record(flags: u32) -> abi::MinisockExpireV4 {
    let timer = timer_record(abi::RecordKind::TimerExpire);
    let [local, remote] = [timer.pair.local[0], timer.pair.remote[0]]
        .map(|address| u32::try_from(address).expect("an IPv4 address has the first four bytes"));
    abi::MinisockExpireV4 {
        header: abi::Header { flags, ..timer.header },
        minisock: timer.minisock,
        local,
        remote,
        local_port: timer.pair.local_port,
        remote_port: timer.pair.remote_port,
        rcv_nxt: timer.rcv_nxt,
        late: 2,
        entry_stamp: timer.entry_stamp,
    }
}

fn end_record(end: u32) -> abi::MinisockEnd {
    abi::MinisockEnd {
        timer: timer_record(abi::RecordKind::MinisockEnd),
        comm: zerocopy::transmute!(*b"wget\0\0\0\0\0\0\0\0\0\0\0\0"),
        pid: 43,
        end,
    }
}

/// One good record of every kind, and of both forms of the one that has two.
fn records() -> Vec<Vec<u8>> {
    let records = vec![
        state_change_record().as_bytes().to_vec(),
        fin_retransmit_record().as_bytes().to_vec(),
        reset_record(abi::RecordKind::ResetSent, 0).as_bytes().to_vec(),
        reset_record(abi::RecordKind::ResetReceived, 0).as_bytes().to_vec(),
        timer_record(abi::RecordKind::TimerStart).as_bytes().to_vec(),
        cancel_record(&[]).as_bytes().to_vec(),
        timer_record(abi::RecordKind::TimerExpire).as_bytes().to_vec(),
        expiry_record(0).as_bytes().to_vec(),
        segment_record(0).as_bytes().to_vec(),
        begin_record().as_bytes().to_vec(),
        timer_record(abi::RecordKind::MinisockRestart).as_bytes().to_vec(),
        end_record(abi::end::EXPIRY).as_bytes().to_vec(),
        header(abi::RecordKind::MinisockMissed, 0).as_bytes().to_vec(),
    ];
    assert_eq!(records.len(), abi::RecordKind::ALL.len() + 1);
    records
}

fn decoder() -> Decoder {
    Decoder::new(HZ, CancelSites::unknown())
}

fn kind_of(bytes: &[u8]) -> EventKind {
    decoder().decode(bytes).expect("a good record").kind
}

fn change_of(record: &abi::StateChange) -> StateChange {
    match kind_of(record.as_bytes()) {
        EventKind::StateChange(change) => change,
        other => panic!("{other:?}"),
    }
}

fn timer_of(record: &abi::MinisockTimer) -> MinisockTimer {
    match kind_of(record.as_bytes()) {
        EventKind::TimerStarted(timer) => timer,
        other => panic!("{other:?}"),
    }
}

fn ipv4_pair() -> Pair {
    Pair {
        local: "10.0.0.1:43210".parse().expect("an address"),
        remote: "10.0.0.2:80".parse().expect("an address"),
    }
}

#[test]
fn header_says_when_and_to_which_connection() {
    for record in records() {
        let event = decoder().decode(&record).expect("a good record");
        assert_eq!(event.at, Monotonic::from_nanos(1_234_567_890));
        assert_eq!(event.id, ConnectionId { netns: 4_026_531_840, socket: 77 });
    }
}

#[test]
fn state_change_in_full() {
    let expected = StateChange {
        pair: ipv4_pair(),
        from: TcpState::Established,
        to: TcpState::FinWait1,
        error: SocketError::None,
        uid: 1000,
        process: Some(Process { pid: 42, comm: Comm::from_bytes(*b"curl\0\0\0\0\0\0\0\0\0\0\0\0") }),
        opener: Some(Process { pid: 41, comm: Comm::from_bytes(*b"sh\0\0\0\0\0\0\0\0\0\0\0\0\0\0") }),
        cgroup: CgroupId::new(1234),
        write_seq: 1,
        snd_nxt: 2,
        snd_una: 3,
        rcv_nxt: 4,
        segs_in: 5,
        segs_out: 6,
        bytes_sent: 630,
        bytes_received: 8,
    };
    assert_eq!(change_of(&state_change_record()), expected);
}

#[test]
fn process_at_hand_is_the_owner_only_if_flagged() {
    let mut record = state_change_record();
    record.header.flags = 0;
    let change = change_of(&record);
    assert_eq!((change.process, change.opener), (None, None));
}

#[test]
fn a_cgroup_that_is_not_told_is_unknown() {
    let record = abi::StateChange { cgroup: 0, ..state_change_record() };
    assert_eq!(change_of(&record).cgroup, None);
}

#[test]
fn more_bytes_sent_again_than_sent_are_none() {
    let record = abi::StateChange { bytes_sent: 1, bytes_retrans: 2, ..state_change_record() };
    assert_eq!(change_of(&record).bytes_sent, 0);
}

#[test]
fn socket_errors_by_meaning() {
    let cases = [
        (0, SocketError::None),
        (libc::ETIMEDOUT, SocketError::TimedOut),
        (libc::ECONNRESET, SocketError::Reset),
        (libc::EPIPE, SocketError::Reset),
        (libc::ECONNREFUSED, SocketError::Reset),
        (libc::ECONNABORTED, SocketError::Aborted),
        (libc::EHOSTUNREACH, SocketError::Other(libc::EHOSTUNREACH.cast_unsigned())),
        (-1, SocketError::Other(u32::MAX)),
    ];
    for (errno, expected) in cases {
        let record = abi::StateChange { error: errno.cast_unsigned(), ..state_change_record() };
        assert_eq!(change_of(&record).error, expected, "{errno}");
    }
}

#[test]
fn every_state_of_a_connection_is_one() {
    for number in 0..=u32::from(u8::MAX) {
        let record = abi::StateChange { old: number, new: number, ..state_change_record() };
        let decoded = decoder().decode(record.as_bytes());
        if (1..=11).contains(&number) {
            let change = change_of(&record);
            assert_eq!((change.from as u32, change.to as u32), (number, number));
        } else {
            assert_eq!(decoded, Err(DecodeError::Value { kind: 0, value: number }));
        }
    }
}

#[test]
fn fin_retransmit_and_resets_in_full() {
    assert_eq!(kind_of(fin_retransmit_record().as_bytes()), EventKind::FinRetransmitted(TcpState::LastAck));
    let sent = |flags, reason| {
        let record = abi::Reset { reason, ..reset_record(abi::RecordKind::ResetSent, flags) };
        kind_of(record.as_bytes())
    };
    let expected =
        |active, reason| EventKind::ResetSent(ResetSent { state: TcpState::Close, active, reason });
    assert_eq!(sent(0, 14), expected(false, Some(14)));
    assert_eq!(sent(abi::flag::ACTIVE, 0), expected(true, None));
    assert_eq!(
        kind_of(reset_record(abi::RecordKind::ResetReceived, 0).as_bytes()),
        EventKind::ResetReceived(TcpState::Close)
    );
}

#[test]
fn timers_in_full() {
    let expected = MinisockTimer {
        pair: ipv4_pair(),
        minisock: 0xffff_8882_e0ad_5600,
        substate: TcpState::TimeWait,
        remaining: 60_000_000_000,
        slack: Duration::from_millis(2056),
        fires_in: Some(Duration::from_secs(61)),
        rcv_nxt: 501,
        since_stamp: Some(Duration::from_millis(234)),
    };
    let started = timer_record(abi::RecordKind::TimerStart);
    assert_eq!(kind_of(started.as_bytes()), EventKind::TimerStarted(expected));
    let expired = timer_record(abi::RecordKind::TimerExpire);
    assert_eq!(kind_of(expired.as_bytes()), EventKind::TimerExpired(expected));
    let of_ipv4 = expiry_record(abi::flag::ENTRY_STAMP);
    // Where the timer's bucket ends is told when it starts.
    let expected_of_ipv4 =
        MinisockTimer { remaining: -8_000_000, slack: Duration::ZERO, fires_in: None, ..expected };
    assert_eq!(kind_of(of_ipv4.as_bytes()), EventKind::TimerExpired(expected_of_ipv4));
    let in_fin_wait2 = expiry_record(abi::flag::FIN_WAIT2);
    assert_eq!(
        kind_of(in_fin_wait2.as_bytes()),
        EventKind::TimerExpired(MinisockTimer {
            substate: TcpState::FinWait2,
            since_stamp: None,
            ..expected_of_ipv4
        })
    );
    let cancel = Cancel {
        site: CancelSite::Unknown,
        process: Process { pid: 43, comm: Comm::from_bytes(*b"wget\0\0\0\0\0\0\0\0\0\0\0\0") },
    };
    assert_eq!(kind_of(cancel_record(&[]).as_bytes()), EventKind::TimerCancelled(expected, cancel));
    let segment = Segment { seq: 499, end_seq: 501, fin: false, syn: false, rst: false, ack: true };
    assert_eq!(kind_of(segment_record(16).as_bytes()), EventKind::Segment(expected, segment));
}

#[test]
fn minisocks_by_function() {
    let EventKind::MinisockBegan(timer, socket) = kind_of(begin_record().as_bytes()) else {
        panic!("a minisock begins");
    };
    assert_eq!(timer, timer_of(&timer_record(abi::RecordKind::TimerStart)));
    assert_eq!(socket, ConnectionId { netns: 4_026_531_840, socket: 78 });
    let restart = timer_record(abi::RecordKind::MinisockRestart);
    assert_eq!(kind_of(restart.as_bytes()), EventKind::MinisockRestarted(timer));

    let sites = [
        (abi::end::UNKNOWN, CancelSite::Unknown),
        (abi::end::EXPIRY, CancelSite::Expiry),
        (abi::end::CONNECT, CancelSite::Connect),
        (abi::end::RECEIVE, CancelSite::Receive),
        (abi::end::RESET, CancelSite::Reset),
        (abi::end::PURGE, CancelSite::Purge),
        (abi::end::ABORT, CancelSite::Abort),
        (u32::MAX, CancelSite::Unknown),
    ];
    for (end, site) in sites {
        let process = Process { pid: 43, comm: Comm::from_bytes(*b"wget\0\0\0\0\0\0\0\0\0\0\0\0") };
        let ended = EventKind::MinisockEnded(timer, Cancel { site, process });
        assert_eq!(kind_of(end_record(end).as_bytes()), ended);
    }
}

/// Nobody is shown an address of the kernel.
#[test]
fn address_is_no_cookie() {
    let cookie = |socket| ConnectionId { netns: 1, socket }.cookie();
    assert_eq!(cookie(77), Some(77));
    assert_eq!(cookie(0), None);
    assert_eq!(cookie(0xffff_8880_1234_5678), None);
}

#[test]
fn flags_of_a_segment() {
    let flags = |tcp_flags| match kind_of(segment_record(tcp_flags).as_bytes()) {
        EventKind::Segment(_, Segment { fin, syn, rst, ack, .. }) => [fin, syn, rst, ack],
        other => panic!("{other:?}"),
    };
    let (fin, syn, rst, psh, ack) = (1, 2, 4, 8, 16);
    assert_eq!(flags(0), [false; 4]);
    assert_eq!(flags(fin | ack), [true, false, false, true]);
    assert_eq!(flags(rst), [false, false, true, false]);
    assert_eq!(flags(syn | psh), [false, true, false, false]);
    assert_eq!(flags(u32::MAX), [true; 4]);
}

/// The end of the bucket is told at a start, by some kernels.
#[test]
fn time_to_the_end_of_the_bucket() {
    let fires_in = |jiffies, bucket_expiry| {
        let record =
            abi::MinisockTimer { jiffies, bucket_expiry, ..timer_record(abi::RecordKind::TimerStart) };
        timer_of(&record).fires_in
    };
    assert_eq!(fires_in(1000, 0), None);
    assert_eq!(fires_in(1000, 1001), Some(Duration::from_millis(4)));
    assert_eq!(fires_in(1000, 1000), Some(Duration::ZERO));
    assert_eq!(fires_in(1000, 999), Some(Duration::ZERO));
    // No timer runs for ages, and no figure overflows.
    assert_eq!(fires_in(0, u64::MAX), Some(HZ.duration(u64::MAX)));
}

/// Milliseconds in 32 bits, which wrap after seven weeks; some kernels keep none.
#[test]
fn time_since_the_stamp() {
    const WEEKS: u64 = 1 << 32;
    let since = |milliseconds: u64, entry_stamp, has_entry_stamp| {
        let mut record = timer_record(abi::RecordKind::TimerExpire);
        record.header.at = milliseconds * 1_000_000 + 999_999;
        let record = abi::MinisockTimer { entry_stamp, has_entry_stamp, ..record };
        match kind_of(record.as_bytes()) {
            EventKind::TimerExpired(timer) => {
                timer.since_stamp.map(|since| since.as_nanos()).inspect(|nanoseconds| {
                    assert_eq!(nanoseconds % 1_000_000, 0, "whole milliseconds");
                })
            }
            other => panic!("{other:?}"),
        }
        .map(|nanoseconds| nanoseconds / 1_000_000)
    };
    assert_eq!(since(61_000, 1_000, 0), None);
    assert_eq!(since(61_000, 0, 0), None);
    assert_eq!(since(61_000, 1_000, 1), Some(60_000));
    // A stamp of 0 is one, right after the wrap.
    assert_eq!(since(WEEKS + 5, 0, 1), Some(5));
    assert_eq!(since(WEEKS + 59_000, u32::MAX - 999, 1), Some(60_000));
    assert_eq!(since(3 * WEEKS + 7, 7, 1), Some(0));
    // Of the next millisecond, also across the wrap.
    assert_eq!(since(61_000, 61_001, 1), Some(0));
    assert_eq!(since(WEEKS - 1, 0, 1), Some(0));
    // The longest there is; what seems longer is yet to come.
    assert_eq!(since(0x7fff_ffff, 0, 1), Some(0x7fff_ffff));
    assert_eq!(since(0x8000_0000, 0, 1), Some(0));
}

#[test]
fn time_left_by_jiffies() {
    let left = |jiffies: u64, expires: u64| {
        let record = abi::MinisockTimer { jiffies, expires, ..timer_record(abi::RecordKind::TimerStart) };
        let timer = timer_of(&record);
        (timer.remaining, timer.slack)
    };
    let (tick, no_slack) = (4_000_000, Duration::ZERO);
    let least_slack = Duration::from_millis(12);
    assert_eq!(left(1000, 1000), (0, least_slack));
    assert_eq!(left(1000, 1001), (tick, least_slack));
    // The timer waits for its bucket, past its nominal end.
    assert_eq!(left(1001, 1000), (-tick, no_slack));
    assert_eq!(left(1000, 500), (-500 * tick, no_slack));
    // Jiffies wrap.
    assert_eq!(left(u64::MAX, 0), (tick, least_slack));
    assert_eq!(left(0, u64::MAX), (-tick, no_slack));
    // No timer runs for ages, and no figure overflows.
    assert_eq!(left(0, i64::MAX.cast_unsigned()).0, i64::MAX);
    assert_eq!(left(0, i64::MIN.cast_unsigned()), (-i64::MAX, no_slack));
}

#[test]
fn minisock_has_one_of_two_substates() {
    for substate in 0..20 {
        for kind in [abi::RecordKind::TimerStart, abi::RecordKind::TimerExpire] {
            let decoded = decoder().decode(abi::MinisockTimer { substate, ..timer_record(kind) }.as_bytes());
            let refused = Err(DecodeError::Value { kind: kind as u32, value: substate });
            assert_eq!(decoded == refused, !matches!(substate, 5 | 6), "{substate}");
        }
        let mut record = cancel_record(&[]);
        record.timer.substate = substate;
        assert_eq!(decoder().decode(record.as_bytes()).is_err(), !matches!(substate, 5 | 6), "{substate}");
        let mut record = segment_record(0);
        record.timer.substate = substate;
        assert_eq!(decoder().decode(record.as_bytes()).is_err(), !matches!(substate, 5 | 6), "{substate}");
    }
}

#[test]
fn addresses_of_both_families() {
    let v6 = |text: &str| zerocopy::transmute!(text.parse::<Ipv6Addr>().expect("an address").octets());
    let shown = |local, remote| {
        let pair = abi::Pair { local, remote, family: abi::AF_INET6, ..INET };
        let pair = change_of(&abi::StateChange { pair, ..state_change_record() }).pair;
        (pair.local.to_string(), pair.remote.to_string())
    };
    assert_eq!(
        shown(v6("2001:db8::1"), v6("fe80::2")),
        ("[2001:db8::1]:43210".to_owned(), "[fe80::2]:80".to_owned())
    );
    // A dual-stack socket: IPv4 on the wire.
    assert_eq!(
        shown(v6("::ffff:192.0.2.1"), v6("::ffff:192.0.2.2")),
        ("192.0.2.1:43210".to_owned(), "192.0.2.2:80".to_owned())
    );
    // Compatible is not mapped.
    assert_eq!(shown(v6("::1"), v6("::192.0.2.2")).0, "[::1]:43210");
    for family in [0, 1, 3, 9, 11, 40, u16::MAX] {
        let pair = abi::Pair { family, ..INET };
        let refused = |kind| Err(DecodeError::Value { kind: kind as u32, value: u32::from(family) });
        let change = abi::StateChange { pair, ..state_change_record() };
        assert_eq!(decoder().decode(change.as_bytes()), refused(abi::RecordKind::StateChange));
        let timer = abi::MinisockTimer { pair, ..timer_record(abi::RecordKind::TimerStart) };
        assert_eq!(decoder().decode(timer.as_bytes()), refused(abi::RecordKind::TimerStart));
    }
}

#[test]
fn every_other_length_is_refused() {
    for record in records() {
        let (header, _) = abi::Header::read_from_prefix(&record).expect("it has one");
        let is_short_expiry = |length| {
            header.kind == abi::RecordKind::TimerExpire as u32 && length == size_of::<abi::MinisockExpireV4>()
        };
        for length in (0..record.len()).filter(|&length| !is_short_expiry(length)) {
            let expected = if length < size_of::<abi::Header>() {
                DecodeError::NoHeader(length)
            } else {
                DecodeError::Length { kind: header.kind, length }
            };
            assert_eq!(decoder().decode(&record[..length]), Err(expected));
        }
        for more in [1, 4, 8, 1000] {
            let mut record = record.clone();
            record.resize(record.len() + more, 0);
            let expected = DecodeError::Length { kind: header.kind, length: record.len() };
            assert_eq!(decoder().decode(&record), Err(expected));
        }
    }
}

#[test]
fn unknown_kinds_are_refused() {
    for mut record in records() {
        for kind in [12, 13, 255, u32::MAX] {
            record[16..20].copy_from_slice(&kind.to_ne_bytes());
            assert_eq!(decoder().decode(&record), Err(DecodeError::Kind(kind)));
        }
    }
}

#[test]
fn unreadable_fields_are_refused() {
    for mut record in records() {
        let (header, _) = abi::Header::read_from_prefix(&record).expect("it has one");
        record[24..28].copy_from_slice(&(header.flags | abi::flag::UNREADABLE).to_ne_bytes());
        assert_eq!(decoder().decode(&record), Err(DecodeError::Unreadable(header.kind)));
    }
}

/// Bytes that say they are a record of some kind, which is the better part of the way.
fn plausible() -> impl Strategy<Value = Vec<u8>> {
    let count = records().len();
    (0..count, any::<u32>(), vec(any::<u8>(), 0..300)).prop_map(move |(which, flags, noise)| {
        let good = records().swap_remove(which);
        let mut record = good.clone();
        let reaches = record.len().min(noise.len());
        record[..reaches].copy_from_slice(&noise[..reaches]);
        record[16..20].copy_from_slice(&good[16..20]);
        record[24..28].copy_from_slice(&(flags & !abi::flag::UNREADABLE).to_ne_bytes());
        record
    })
}

proptest! {
    #[test]
    fn no_bytes_are_a_cause_for_panic(bytes in vec(any::<u8>(), 0..400)) {
        let _event = decoder().decode(&bytes);
    }

    #[test]
    fn no_values_are_a_cause_for_panic(record in plausible()) {
        for hz in [100, 250, 300, 1000] {
            let decoder = Decoder::new(Hz::new(hz), cancel_sites::cancel_sites());
            let refused = decoder.decode(&record).err();
            let by_value = matches!(refused, None | Some(DecodeError::Value { .. }));
            prop_assert!(by_value, "{:?}", refused);
        }
    }
}
