//! Sockets that are not quite like others: docs/limitations.md says what becomes of each.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::Ipv4Addr,
};

use nix::sys::socket::{setsockopt, sockopt::TcpRepair};
use tcp_close::{
    event::TcpState,
    lifecycle::observation::{Manner, Role, Then},
    owner::{Held, Holders},
    snapshot::Snapshot,
};
use tcp_close_test::{
    address::Family,
    clock::PATIENCE,
    multipath::{self, Connection},
    netns::Netns,
    oracle::{self, TcpState as KernelState},
    stream,
};

use crate::{observer::Observer, orderly::by_role, read_to_fin};

/// Addresses of one host.
const HERE: Ipv4Addr = Ipv4Addr::LOCALHOST;
const ALSO_HERE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// What is a connection to a program is one to the peer as well: the subflow. Its own socket is of another protocol, and
/// has no TIME-WAIT.
#[test]
fn of_multipath_tcp_the_subflows_are_followed() {
    let netns = Netns::new();
    let observer = Observer::attach(&[&netns]);
    let Some(Connection { client, mut server, .. }) = multipath::connection(&netns, HERE) else {
        return;
    };
    server.write_all(b"over").expect("write");
    drop(server);
    assert_eq!(read_to_fin(&client), b"over");
    drop(client);
    let closed = observer.closed(2);
    for closed in &closed {
        assert_eq!(closed.story.manner, Some(Manner::Graceful), "{closed:#?}");
    }
    let (active, _) = by_role(&closed);
    assert!(matches!(active.then, Some(Then::FinWait2 | Then::TimeWait)), "{active:#?}");
    observer.agrees_with_the_kernel(&[&netns]);
}

/// The kernel makes subflows for itself, and yet whoever has the connection open is found.
#[test]
fn a_subflow_is_held_by_whoever_holds_its_connection() {
    let netns = Netns::new();
    let Some(connection) = multipath::connection(&netns, HERE) else {
        return;
    };
    let snapshot = Snapshot::take(&[netns.inode()], &[TcpState::Established]).expect("sock_diag answers");
    let holders = Holders::of(&snapshot.inodes());
    assert_eq!(snapshot.rows.len(), 2, "{snapshot:?}");
    for row in &snapshot.rows {
        let inode = row.holder.and_then(|holder| holder.inode).expect("it is open");
        // A child that another test was about to start has it too, for a moment.
        let is_here = |held: &Held| held.by.pid == std::process::id();
        assert!(holders.get(inode).iter().any(is_here), "{row:?} {holders:?}");
    }
    drop(connection);
}

/// A further path is opened by one of the kernel's own threads, and that is who its opener is.
#[test]
fn a_socket_of_the_kernels_own_is_opened_by_the_kernel() {
    let netns = Netns::new();
    let observer = Observer::attach(&[&netns]);
    let Some(probe) = multipath::connection(&netns, HERE) else {
        return;
    };
    drop(probe);
    observer.closed(2);
    multipath::add_path(&netns, ALSO_HERE);
    let connection = multipath::connection(&netns, HERE).expect("it was there a moment ago");
    let Connection { mut client, mut server, listener } = connection;
    // It is added once data has gone both ways.
    client.write_all(b"first").expect("write");
    server.write_all(b"second").expect("write");
    server.read_exact(&mut [0; 5]).expect("read");
    let is_further = |socket: &oracle::Socket| socket.local.ip() == ALSO_HERE;
    oracle::wait_until(&netns, PATIENCE, |table| {
        table.iter().any(|socket| is_further(socket) && socket.state == KernelState::Established)
    });
    drop(server);
    assert_eq!(read_to_fin(&client), b"second");
    drop((client, listener));
    let closed = observer.closed(6);
    let further = closed.iter().find(|closed| closed.story.pair.local.ip() == ALSO_HERE).expect("it closes");
    let opener = further.story.opener.expect("somebody connected it");
    assert!(opener.comm.to_string().starts_with("kworker/"), "{further:#?}");
}

/// A connection that was frozen to be carried elsewhere ends here without a word to its peer: nobody closed it in any
/// manner there is a name for, and no TIME-WAIT follows.
#[test]
fn a_connection_that_is_carried_away_ends_in_no_known_manner() {
    let netns = Netns::new();
    let observer = Observer::attach(&[&netns]);
    let (client, server) = stream::pair(&netns, &netns, Family::V4.loopback());
    setsockopt(&client, TcpRepair, &1).expect("set TCP_REPAIR");
    drop(client);
    let [closed] = observer.closed(1)[..] else {
        panic!("one end");
    };
    assert_eq!((closed.story.role, closed.story.manner, closed.then), (Role::None, None, Some(Then::Closed)));
    assert_eq!(closed.story.closer.map(|closer| closer.pid), Some(std::process::id()));
    server.set_nonblocking(true).expect("do not wait");
    let nothing = (&server).read(&mut [0]).expect_err("the other end knows nothing of it");
    assert_eq!(nothing.kind(), ErrorKind::WouldBlock);
    observer.agrees_with_the_kernel(&[&netns]);
}
