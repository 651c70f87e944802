//! Whatever stands in the ring, a record is one event or an error, as a whole and only as a whole; the lifecycle takes what
//! was read, and a recording and a line say it as it was.
//!
//! An input is a record, and once more as many records as it has room for, one behind the other.

#![no_main]

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;
use tcp_close::{
    api::told,
    clock::Anchor,
    decode::{CancelSites, DecodeError, Decoder, Frame},
    event::{CancelSite, Event, EventKind, MinisockTimer, Monotonic, TcpState},
    kernel::tick::Hz,
    lifecycle::{Limits, Observation, Sees, Sequencer, Tracker, Wait},
    line::Teller,
    recording::{Header, Host, Reader, Step, Writer},
};
use tcp_close_abi::{self as abi, RecordKind, flag};
use zerocopy::FromBytes as _;

/// How long events wait for earlier ones.
const HELD_BACK: Duration = Duration::from_millis(10);

const LIMITS: Limits = Limits { sockets: 8, minisocks: 8 };
const WAIT: Wait = Wait { nominal: Duration::from_secs(60), slack: Duration::from_secs(2) };
const SEES: Sees = Sees { minisocks: true, starts: true, segments: true };

fuzz_target!(|data: &[u8]| {
    let sites = [(1..2, Frame::PassedOver), (2..3, Frame::Site(CancelSite::Connect))];
    let decoder = Decoder::new(Hz::new(250), CancelSites::from_ranges(sites));
    check(&decoder, data);
    let mut events = Vec::new();
    let mut rest = data;
    while let Some((record, next)) = next(rest) {
        events.extend(check(&decoder, record));
        rest = next;
    }
    check_recording(&events);
    follow(&events);
});

/// The first record, if it has the size of its kind, and what is behind it.
fn next(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (header, _) = abi::Header::read_from_prefix(bytes).ok()?;
    let kind = RecordKind::from_raw(header.kind)?;
    // One kind has two sizes; which it is here, a field says that is always 0 in the ring.
    let is_short = kind == RecordKind::TimerExpire && header.reserved != 0;
    bytes.split_at_checked(if is_short { SHORT } else { size(kind) })
}

/// The size of an expiry over IPv4.
const SHORT: usize = size_of::<abi::MinisockExpireV4>();

const fn size(kind: RecordKind) -> usize {
    match kind {
        RecordKind::StateChange => size_of::<abi::StateChange>(),
        RecordKind::FinRetransmit => size_of::<abi::FinRetransmit>(),
        RecordKind::ResetSent | RecordKind::ResetReceived => size_of::<abi::Reset>(),
        RecordKind::TimerStart | RecordKind::TimerExpire | RecordKind::MinisockRestart => {
            size_of::<abi::MinisockTimer>()
        }
        RecordKind::TimerCancel => size_of::<abi::MinisockCancel>(),
        RecordKind::Segment => size_of::<abi::MinisockSegment>(),
        RecordKind::MinisockBegin => size_of::<abi::MinisockBegin>(),
        RecordKind::MinisockEnd => size_of::<abi::MinisockEnd>(),
        RecordKind::MinisockMissed => size_of::<abi::Header>(),
    }
}

/// Decodes a record, and holds what comes of it against the record.
fn check(decoder: &Decoder, record: &[u8]) -> Option<Event> {
    let header = abi::Header::read_from_prefix(record).map(|(header, _)| header);
    let event = match decoder.decode(record) {
        Ok(event) => event,
        Err(error) => {
            assert_eq!(header.is_err(), matches!(error, DecodeError::NoHeader(_)), "{error}");
            return None;
        }
    };
    let header = header.expect("it was decoded");
    assert_eq!(header.flags & flag::UNREADABLE, 0, "what is not known is not told");
    assert_eq!(
        (event.at.as_nanos(), event.id.netns, event.id.socket),
        (header.at, header.netns, header.socket)
    );
    let kind = RecordKind::from_raw(header.kind).expect("it was decoded");
    let is_short = kind == RecordKind::TimerExpire && record.len() == SHORT;
    assert!(is_short || record.len() == size(kind));
    let cut_short = record.get(..record.len() - 1).unwrap_or_default();
    for other in [cut_short, &[record, &[0]].concat()] {
        decoder.decode(other).expect_err("it has another length");
    }
    if let EventKind::StateChange(change) = &event.kind {
        let told = abi::StateChange::read_from_bytes(record).expect("it was decoded");
        assert_eq!((change.from as u32, change.to as u32, change.uid), (told.old, told.new, told.uid));
        assert!(change.bytes_sent <= told.bytes_sent && change.bytes_received == told.bytes_received);
        assert_eq!(change.process.is_some(), told.header.flags & flag::OWNER != 0);
        assert_eq!(change.opener.is_some(), told.header.flags & flag::OPENER != 0);
    }
    if let Some(timer) = timer(&event.kind) {
        let told = if is_short {
            abi::MinisockExpireV4::read_from_bytes(record).expect("it was decoded").timer()
        } else {
            abi::MinisockTimer::read_from_prefix(record).expect("it was decoded").0
        };
        assert_eq!((timer.minisock, timer.rcv_nxt), (told.minisock, told.rcv_nxt));
        assert!(matches!(timer.substate, TcpState::FinWait2 | TcpState::TimeWait));
        assert!(timer.remaining >= 0 || timer.slack.is_zero(), "what is over has no slack");
        assert_eq!(timer.since_stamp.is_some(), told.has_entry_stamp != 0);
    }
    Some(event)
}

const fn timer(kind: &EventKind) -> Option<&MinisockTimer> {
    match kind {
        EventKind::TimerStarted(timer)
        | EventKind::TimerCancelled(timer, _)
        | EventKind::TimerExpired(timer)
        | EventKind::Segment(timer, _)
        | EventKind::MinisockBegan(timer, _)
        | EventKind::MinisockRestarted(timer)
        | EventKind::MinisockEnded(timer, _) => Some(timer),
        _ => None,
    }
}

/// What is recorded is read as it was.
fn check_recording(events: &[Event]) {
    let host =
        Host { kernel: "6.12.1".to_owned(), architecture: "x86_64".to_owned(), hz: 250, btf: String::new() };
    let header = Header::new(host, Timestamp::UNIX_EPOCH, (LIMITS, WAIT, SEES), true, BTreeMap::new());
    let mut file = Vec::new();
    let mut writer = Writer::new(&mut file, &header).expect("a header");
    for event in events {
        writer.add(&Step::Event(*event)).expect("memory takes it");
    }
    writer.flush().expect("memory takes it");
    let mut reader = Reader::new(file.as_slice()).expect("the header is whole");
    let mut read = Vec::new();
    while let Ok(steps) = reader.next_block().expect("memory is read without errors") {
        read.extend(steps);
    }
    assert!(read.iter().eq(events.iter().map(|event| Step::Event(*event)).collect::<Vec<_>>().iter()));
}

/// Tells the lifecycle, in the order of their times as far as they came in it.
fn follow(events: &[Event]) {
    let mut sequencer = Sequencer::default();
    let mut tracker = Tracker::new(LIMITS, WAIT, SEES);
    let mut observations = Vec::new();
    let mut latest = Monotonic::default();
    for event in events {
        latest = latest.max(event.at);
        sequencer.push(*event);
        sequencer.release(latest - HELD_BACK, |event| tracker.apply(event, &mut observations));
        let stats = tracker.stats();
        assert!(stats.sockets <= LIMITS.sockets && stats.minisocks <= LIMITS.minisocks, "{stats:?}");
    }
    sequencer.finish(|event| tracker.apply(event, &mut observations));
    tracker.finish(&mut observations);
    assert!(sequencer.late() <= events.len() as u64);
    check_lines(&observations);
}

/// What is told in JSON is read as it was.
fn check_lines(observations: &[Observation]) {
    let teller = Teller::new(BTreeMap::new(), true);
    let anchor = Anchor::new(Monotonic::default(), Timestamp::UNIX_EPOCH);
    for line in observations.iter().filter_map(|observation| teller.line(observation, None, &anchor)) {
        let read = told(line.json().as_bytes()).expect("a line is understood");
        assert_eq!(read.head(), line.head());
        // Names are cut to what the kernel's have; one whose every byte is shown as a sign of three is longer than that.
        let again = told(read.json().as_bytes()).expect("a line is understood");
        assert_eq!(again.json(), read.json());
    }
}
