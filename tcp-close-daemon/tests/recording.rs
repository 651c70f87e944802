//! Recordings: written and read again, whole or not.

use std::{collections::BTreeMap, time::Duration};

use proptest::prelude::*;
use tcp_close::{
    clock::Anchor,
    event::{ConnectionId, Event, EventKind, Monotonic, Pair, StateChange, TcpState},
    lifecycle::{Limits, Sees, Wait},
    owner::Home,
    recording::{Header, Host, ReadError, Reader, Rest, Step, Writer},
};

fn header() -> Header {
    let host = Host {
        kernel: "6.12.1".to_owned(),
        architecture: "x86_64".to_owned(),
        hz: 250,
        btf: "00".repeat(32),
    };
    let wait = Wait { nominal: Duration::from_secs(60), slack: Duration::from_secs(2) };
    let sees = Sees { minisocks: true, starts: true, segments: false };
    let limits = Limits { sockets: 10, minisocks: 20 };
    let reasons = BTreeMap::from([(2, "tcp_abort_on_close".to_owned())]);
    Header::new(host, jiff::Timestamp::UNIX_EPOCH, (limits, wait, sees), true, reasons)
}

/// Enough steps for some blocks.
fn steps() -> Vec<Step> {
    let pair = Pair {
        local: "192.0.2.1:40000".parse().expect("an address"),
        remote: "[2001:db8::1]:443".parse().expect("an address"),
    };
    let event = |number: u64| Event {
        at: Monotonic::from_nanos(number),
        id: ConnectionId { netns: 1, socket: number },
        kind: EventKind::StateChange(StateChange::bare(pair, TcpState::Established, TcpState::FinWait1)),
    };
    let mut steps: Vec<Step> = (0..5_000).map(|number| Step::Event(event(number))).collect();
    let home = Home::of_path("/system.slice/nginx.service");
    steps.push(Step::Home(7.try_into().expect("not zero"), Some(home)));
    steps.push(Step::Home(8.try_into().expect("not zero"), None));
    steps.push(Step::Gap(Monotonic::from_nanos(5_000)));
    steps.push(Step::Advance(Monotonic::from_nanos(6_000)));
    steps.push(Step::Finish);
    steps.push(Step::turn_ends(&Anchor::new(Monotonic::from_nanos(7_000), jiff::Timestamp::UNIX_EPOCH)));
    steps
}

fn recorded() -> Vec<u8> {
    let mut file = Vec::new();
    let mut writer = Writer::new(&mut file, &header()).expect("a header");
    for step in &steps() {
        writer.add(step).expect("a step");
    }
    writer.flush().expect("the last block");
    assert_eq!(writer.events(), 5_000);
    let bytes = writer.bytes();
    assert_eq!(bytes, file.len() as u64);
    file
}

fn read(file: &[u8]) -> Result<(Vec<Step>, Rest), ReadError> {
    let mut reader = Reader::new(file)?;
    let mut steps = Vec::new();
    loop {
        match reader.next_block()? {
            Ok(some) => steps.extend(some),
            Err(rest) => return Ok((steps, rest)),
        }
    }
}

#[test]
fn what_is_written_is_read() {
    let file = recorded();
    assert_eq!(Reader::new(file.as_slice()).expect("a recording").header(), &header());
    let (read, rest) = read(&file).expect("a recording");
    assert!(read == steps());
    assert_eq!(rest, Rest::Nothing);
    assert!(file.len() < 5_000 * 20, "{} bytes", file.len());
}

#[test]
fn its_first_line_says_what_it_is() {
    let file = recorded();
    let line = file.split(|&byte| byte == b'\n').next().expect("a line");
    let line: serde_json::Value = serde_json::from_slice(line).expect("an object");
    assert_eq!(line["format"], "tcp-close recording 1");
    assert_eq!(line["kernel"], "6.12.1");
    assert_eq!(line["hz"], 250);
}

#[test]
fn something_else_is_refused() {
    assert!(matches!(read(b""), Err(ReadError::NoRecording)));
    assert!(matches!(read(b"hello\n"), Err(ReadError::NoRecording)));
    let other = String::from_utf8_lossy(&recorded()).replacen("recording 1", "recording 2", 1);
    assert!(matches!(read(other.as_bytes()), Err(ReadError::OtherVersion(_))));
}

/// Every place, near the beginning and the end; and some thousand between them.
#[test]
fn a_file_that_is_cut_off_is_read_up_to_there() {
    let (file, whole) = (recorded(), steps());
    let header = file.iter().position(|&byte| byte == b'\n').expect("a line") + 1;
    let mut lengths: Vec<usize> = (0..file.len()).step_by(file.len() / 1000).collect();
    lengths.extend(0..header + 20);
    lengths.extend(file.len() - 20..file.len());
    for length in lengths {
        let cut = file.get(..length).expect("it is shorter");
        if length < header {
            assert!(read(cut).is_err(), "{length}");
            continue;
        }
        let (steps, rest) = read(cut).expect("a recording");
        assert!(whole.starts_with(&steps), "{length}");
        assert!(
            rest != Rest::Nothing
                || steps.is_empty()
                || length == file.len()
                || is_end_of_block(&file, length)
        );
    }
}

/// Whether a block ends there.
fn is_end_of_block(file: &[u8], length: usize) -> bool {
    let mut at = file.iter().position(|&byte| byte == b'\n').expect("a line") + 1;
    while at < length {
        let head: [u8; 4] = file.get(at..at + 4).and_then(|head| head.try_into().ok()).expect("a length");
        at += 8 + u32::from_le_bytes(head) as usize;
    }
    at == length
}

proptest! {
    /// Whatever a disk does to it.
    #[test]
    fn a_byte_that_changed_makes_nothing_up(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut file = recorded();
        let at = at.index(file.len());
        if let Some(changed) = file.get_mut(at) {
            *changed = byte;
        }
        if let Ok((steps, _)) = read(&file) {
            prop_assert!(self::steps().starts_with(&steps));
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let header = recorded().split_inclusive(|&byte| byte == b'\n').next().expect("a line").to_vec();
        let (steps, _) = read(&[header, bytes].concat()).expect("a recording");
        prop_assert!(steps.is_empty());
    }
}
