//! What the kernel may answer.

use std::time::Duration;

use super::*;
use crate::{
    event::{CgroupId, ConnectionId, Pair},
    snapshot::{Holder, Timer, TimerKind},
};

/// A message: its header, its body, and padding to four bytes.
fn message(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(16 + body.len()).expect("a short message");
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend([0; 8]);
    bytes.extend(body);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// `struct inet_diag_msg`: family, state, timer and retransmits; addresses; expiry; user and inode.
fn body(head: [u8; 4], local: &[u8], remote: &[u8], expires: u32, holder: [u32; 2]) -> Vec<u8> {
    let mut bytes = head.to_vec();
    bytes.extend(443_u16.to_be_bytes());
    bytes.extend(51_234_u16.to_be_bytes());
    for address in [local, remote] {
        bytes.extend(address);
        bytes.resize(bytes.len() + 16 - address.len(), 0);
    }
    bytes.extend(0_u32.to_ne_bytes());
    bytes.extend(0x1111_2222_u32.to_ne_bytes());
    bytes.extend(0x3333_4444_u32.to_ne_bytes());
    for number in [expires, 5, 6].into_iter().chain(holder) {
        bytes.extend(number.to_ne_bytes());
    }
    bytes
}

const LOCAL: [u8; 4] = [192, 0, 2, 1];
const REMOTE: [u8; 4] = [192, 0, 2, 2];

fn minisock() -> Vec<u8> {
    body([2, 5, 3, 0], &LOCAL, &REMOTE, 59_996, [0, 0])
}

fn take(datagrams: &[&[u8]]) -> Result<Answer, DumpError> {
    let mut answer = Answer::new(7);
    for datagram in datagrams {
        answer.take(datagram)?;
    }
    Ok(answer)
}

#[track_caller]
fn check(body: &[u8], expected: Option<Row>) {
    assert_eq!(Row::parse(7, body), expected);
}

fn row() -> Row {
    Row {
        id: ConnectionId { netns: 7, socket: 0x3333_4444_1111_2222 },
        pair: Pair {
            local: "192.0.2.1:443".parse().expect("an address"),
            remote: "192.0.2.2:51234".parse().expect("an address"),
        },
        state: TcpState::FinWait2,
        timer: Some(Timer { kind: TimerKind::Minisock, left: Duration::from_millis(59_996) }),
        holder: None,
    }
}

#[test]
fn a_minisock_in_fin_wait2() {
    check(&minisock(), Some(row()));
    assert!(row().is_minisock());
}

#[test]
fn a_full_socket_and_who_holds_it() {
    let held = Row {
        state: TcpState::CloseWait,
        timer: None,
        holder: Some(Holder { uid: 1000, inode: Some(4711), cgroup: None }),
        ..row()
    };
    check(&body([2, 8, 0, 0], &LOCAL, &REMOTE, 0, [1000, 4711]), Some(held));
    assert!(!held.is_minisock());
    let orphan = Row {
        state: TcpState::LastAck,
        timer: Some(Timer { kind: TimerKind::Retransmit, left: Duration::from_millis(204) }),
        holder: Some(Holder { uid: 0, inode: None, cgroup: None }),
        ..row()
    };
    check(&body([2, 9, 1, 3], &LOCAL, &REMOTE, 204, [0, 0]), Some(orphan));
}

/// Attributes come behind, each with its length and its kind, padded to four bytes.
#[test]
fn a_full_socket_and_where_it_was_made() {
    let attribute = |kind: u16, value: &[u8]| {
        let length = u16::try_from(4 + value.len()).expect("a short attribute");
        let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    };
    let held = |attributes: &[Vec<u8>]| {
        let body = [body([2, 8, 0, 0], &LOCAL, &REMOTE, 0, [0, 1]), attributes.concat()].concat();
        Row::parse(7, &body).expect("a row").holder.expect("a full socket").cgroup
    };
    let id = attribute(21, &2345_u64.to_ne_bytes());
    assert_eq!(held(&[attribute(8, &[0]), id.clone()]), CgroupId::new(2345));
    assert_eq!(held(&[attribute(8, &[0])]), None);
    assert_eq!(held(&[attribute(21, &[1, 2, 3, 4])]), None, "too short for one");
    assert_eq!(held(&[id.get(..7).expect("twelve bytes").to_vec()]), None, "cut short");
}

#[test]
fn an_ipv4_address_mapped_into_ipv6_is_shown_as_ipv4() {
    let mapped = |last: [u8; 4]| [[0; 10].as_slice(), &[0xff, 0xff], &last].concat();
    check(&body([10, 5, 3, 0], &mapped(LOCAL), &mapped(REMOTE), 59_996, [0, 0]), Some(row()));
    let local = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    let six = Row::parse(7, &body([10, 6, 3, 0], &local, &local, 0, [0, 0])).expect("a row");
    assert_eq!(six.pair.local.to_string(), "[2001:db8::1]:443");
    assert_eq!(six.timer, Some(Timer { kind: TimerKind::Minisock, left: Duration::ZERO }));
}

#[test]
fn every_truncation_and_every_stranger_is_refused() {
    let whole = minisock();
    for length in 0..whole.len() {
        check(&whole[..length], None);
    }
    // Attributes may follow.
    check(&[whole, vec![8, 0, 15, 0, 0, 0, 0, 0]].concat(), Some(row()));
    check(&body([1, 5, 3, 0], &LOCAL, &REMOTE, 0, [0, 0]), None);
    check(&body([2, 0, 3, 0], &LOCAL, &REMOTE, 0, [0, 0]), None);
    check(&body([2, 99, 3, 0], &LOCAL, &REMOTE, 0, [0, 0]), None);
    let timer = Row::parse(7, &body([2, 5, 9, 0], &LOCAL, &REMOTE, 0, [0, 0])).and_then(|row| row.timer);
    assert_eq!(timer.map(|timer| timer.kind), Some(TimerKind::Other(9)));
}

#[test]
fn an_answer_of_several_datagrams() {
    let row = message(SOCK_DIAG_BY_FAMILY, 2, &minisock());
    let done = message(NLMSG_DONE, 2, &0_i32.to_ne_bytes());
    let answer = take(&[&[row.clone(), row.clone()].concat(), &row, &done]).expect("it is sound");
    assert_eq!((answer.rows.len(), answer.done, answer.interrupted), (3, true, false));
    let answer = take(&[&[row.as_slice(), &done, &row].concat()]).expect("it is sound");
    assert_eq!((answer.rows.len(), answer.done), (1, true), "nothing comes after the end");
    let answer = take(&[&row]).expect("it is sound");
    assert!(!answer.done, "more is to come");
}

#[test]
fn an_inconsistent_answer_is_known_by_any_of_its_messages() {
    let row = message(SOCK_DIAG_BY_FAMILY, 2, &minisock());
    let flagged = message(SOCK_DIAG_BY_FAMILY, 2 | NLM_F_DUMP_INTR, &minisock());
    let done = |flags| message(NLMSG_DONE, flags, &0_i32.to_ne_bytes());
    for datagram in [[flagged, row.clone(), done(2)].concat(), [row, done(2 | NLM_F_DUMP_INTR)].concat()] {
        assert!(take(&[&datagram]).expect("it is sound").interrupted);
    }
}

#[test]
fn errors_say_what_is_missing() {
    let refused = |kind, errno: i32| {
        let body = [(-errno).to_ne_bytes().as_slice(), &[0; 16]].concat();
        take(&[&message(kind, 0, &body)]).expect_err("an error").to_string()
    };
    for kind in [NLMSG_ERROR, NLMSG_DONE] {
        assert!(refused(kind, libc::ENOENT).contains("tcp_diag"));
        assert_eq!(refused(kind, libc::EPERM), "cannot read the socket table");
    }
    let malformed = [
        vec![1, 2, 3],
        message(NLMSG_ERROR, 0, &0_i32.to_ne_bytes()),
        message(SOCK_DIAG_BY_FAMILY, 0, b"short"),
        [&8_u32.to_ne_bytes(), [0; 16].as_slice()].concat(),
        [&100_u32.to_ne_bytes(), [0; 16].as_slice()].concat(),
    ];
    for datagram in malformed {
        assert!(matches!(take(&[&datagram]), Err(DumpError::Malformed)), "{datagram:?}");
    }
}
