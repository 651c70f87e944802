//! The snapshot of a namespace, held against what the lab reads inside it.

use std::{thread, time::Duration};

use caps::{CapSet, Capability};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use tcp_close::{
    event,
    snapshot::{Row, Snapshot, Substates, TimerKind},
};
use tcp_close_test::{
    address::Family,
    clock::{Deadline, PATIENCE},
    netns::Netns,
    oracle::{self, Socket, Timer},
    stream,
};

use crate::stuck::{CLOSING, Stuck};

/// What has passed between two looks, and the ticks of a timer.
const ABOUT: Duration = Duration::from_secs(1);

/// What /proc counts.
const HUNDREDTH: Duration = Duration::from_millis(10);

pub(crate) fn substates(netns: &Netns) -> Substates {
    Substates::read(&[netns.inode()]).expect("sock_diag answers").expect("root sees every namespace")
}

/// Row by row, what the lab reads inside the namespace is what the snapshot fetches out of it.
#[test]
fn a_snapshot_is_the_kernels_table() {
    let mut stuck = Stuck::new();
    stuck.in_every_state();
    let states = CLOSING.map(|(_, ours)| ours);
    let snapshot = Snapshot::take(&[stuck.netns.inode()], &states).expect("sock_diag answers");
    assert_eq!(snapshot.blind_spot, None);
    let table = oracle::sockets(&stuck.netns);
    assert_eq!(snapshot.rows.len(), table.len(), "{snapshot:#?}");
    for socket in &table {
        let row = snapshot.rows.iter().find(|row| row.id.cookie() == Some(socket.cookie));
        same(row.unwrap_or_else(|| panic!("{socket} is missing: {snapshot:#?}")), socket, &stuck.netns);
    }
    // The kernel picks the states, minisocks by their substate.
    let some =
        Snapshot::take(&[stuck.netns.inode()], &[event::TcpState::FinWait2]).expect("sock_diag answers");
    assert_eq!(some.rows.len(), 7);
    assert_eq!(some.rows.iter().filter(|row| row.is_minisock()).count(), 5);
}

#[track_caller]
fn same(row: &Row, socket: &Socket, netns: &Netns) {
    assert_eq!(row.id.netns, netns.inode());
    assert_eq!((row.pair.local, row.pair.remote), (socket.local, socket.remote));
    assert!(CLOSING.contains(&(socket.state, row.state)), "{row:?} {socket}");
    let kind = match socket.timer {
        Timer::Off => None,
        Timer::Retransmission => Some(TimerKind::Retransmit),
        Timer::KeepAlive => Some(TimerKind::KeepAlive),
        Timer::TimeWait => Some(TimerKind::Minisock),
        Timer::Probe => Some(TimerKind::ZeroWindow),
        Timer::Unknown(other) => Some(TimerKind::Other(other)),
    };
    assert_eq!(row.timer.map(|timer| timer.kind), kind, "{row:?} {socket}");
    if let Some(timer) = row.timer.filter(|_| row.is_minisock()) {
        // The snapshot came first; /proc counts hundredths of a second.
        let (least, most) = (socket.expires.saturating_sub(HUNDREDTH), socket.expires + ABOUT);
        assert!(timer.left >= least && timer.left < most, "{row:?} {socket}");
    }
    let inode = Some(socket.inode).filter(|&inode| inode != 0);
    let holder = (!row.is_minisock()).then_some((0, inode));
    assert_eq!(row.holder.map(|holder| (holder.uid, holder.inode)), holder, "{row:?} {socket}");
}

/// Whoever may not enter a namespace sees what a process in it sees. That tells no cookies, and all the rest.
#[test]
fn a_namespace_that_may_not_be_entered_is_read_from_outside() {
    let mut stuck = Stuck::new();
    stuck.in_every_state();
    let (inode, states) = (stuck.netns.inode(), CLOSING.map(|(_, ours)| ours));
    let confined = thread::spawn(move || {
        caps::drop(None, CapSet::Effective, Capability::CAP_SYS_ADMIN).expect("it can be given up");
        Snapshot::take(&[inode], &states)
    });
    let snapshot = confined.join().expect("the thread ends").expect("/proc is there");
    assert_eq!(snapshot.blind_spot, None);
    let table = oracle::sockets(&stuck.netns);
    assert_eq!(snapshot.rows.len(), table.len(), "{snapshot:#?}");
    for socket in &table {
        let is_it = |row: &&Row| (row.pair.local, row.pair.remote) == (socket.local, socket.remote);
        let row = snapshot.rows.iter().find(is_it);
        let row = row.unwrap_or_else(|| panic!("{socket} is missing: {snapshot:#?}"));
        assert_eq!(row.id.cookie(), None);
        same(row, socket, &stuck.netns);
    }
}

/// This thread stays where it is, and so does everybody else.
#[test]
fn a_snapshot_leaves_nobody_in_another_namespace() {
    let stuck = Stuck::new();
    stuck.in_time_wait(Family::V4);
    let own = || std::fs::read_link("/proc/thread-self/ns/net").expect("our own namespace");
    let before = own();
    assert_eq!(substates(&stuck.netns).time_wait(), 1);
    assert_eq!(own(), before);
}

#[test]
fn a_namespace_that_is_gone_has_no_sockets() {
    let stuck = Stuck::new();
    let inode = stuck.netns.inode();
    stuck.in_time_wait(Family::V4);
    assert_eq!(substates(&stuck.netns).time_wait(), 1);
    drop(stuck);
    let states = [event::TcpState::TimeWait];
    let deadline = Deadline::after(PATIENCE);
    // The kernel takes it down on a thread of its own.
    while !Snapshot::take(&[inode], &states).expect("sock_diag answers").rows.is_empty() {
        assert!(deadline.left().is_some(), "the namespace goes away");
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(Snapshot::take(&[inode], &states).expect("it is no error").blind_spot, None);
}

/// In every namespace of the host that can be found; those of the lab belong to single threads, and cannot.
#[test]
fn the_whole_host_is_read() {
    let snapshot = Snapshot::take(&[], &[event::TcpState::Listen]).expect("sock_diag answers");
    assert_eq!(snapshot.blind_spot, None, "root sees every namespace");
}

/// Container runtimes keep a namespace by a file, wherever they like, and nobody may live in it.
#[test]
fn a_namespace_that_only_a_file_keeps_is_found() {
    let netns = Netns::new();
    let (client, server) = stream::pair(&netns, &netns, Family::V4.loopback());
    drop((client, server));
    let inode = netns.inode();
    let file = std::env::temp_dir().join(format!("tcp-close-test-{inode}.netns"));
    std::fs::write(&file, "").expect("a file");
    let kept = file.clone();
    netns
        .run(move || {
            mount(Some("/proc/thread-self/ns/net"), &kept, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        })
        .expect("bind it there");
    netns.destroy();
    let states = [event::TcpState::TimeWait];
    let whole_host = Snapshot::take(&[], &states).expect("sock_diag answers");
    umount2(&file, MntFlags::MNT_DETACH).expect("let go of it");
    std::fs::remove_file(&file).expect("remove the file");
    let found = whole_host.rows.iter().filter(|row| row.id.netns == inode).count();
    assert_eq!(found, 1, "its TIME-WAIT: {:?}", whole_host.read);
}
