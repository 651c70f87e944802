//! Sockets that are not quite like others: docs/limitations.md says what becomes of each.

use std::{
    io::Write as _,
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::AsRawFd as _,
};

use nix::sys::socket::{setsockopt, sockopt::TcpRepair};
use rustix::{
    io::Errno,
    net::{AddressFamily, SocketType, bind, connect, getsockname, ipproto::MPTCP, listen, socket},
};
use tcp_close::{
    event::TcpState,
    lifecycle::observation::{Manner, Role, Then},
    owner::Holders,
    snapshot::Snapshot,
};
use tcp_close_test::{address::Family, netns::Netns, stream};

use crate::{observer::Observer, orderly::by_role, read_to_fin};

/// Both ends of a connection over Multipath TCP, which ordinary streams may hold; `None` on a kernel without it.
fn multipath_pair(netns: &Netns) -> Option<(TcpStream, TcpStream)> {
    let made = netns.run(|| {
        let listener = match socket(AddressFamily::INET, SocketType::STREAM, Some(MPTCP)) {
            Err(Errno::PROTONOSUPPORT) => return Ok(None),
            made => made?,
        };
        bind(&listener, &SocketAddr::new(Family::V4.loopback(), 0))?;
        listen(&listener, 1)?;
        let client = socket(AddressFamily::INET, SocketType::STREAM, Some(MPTCP))?;
        connect(&client, &SocketAddr::try_from(getsockname(&listener)?)?)?;
        let (server, _) = TcpListener::from(listener).accept().expect("accept");
        rustix::io::Result::Ok(Some((TcpStream::from(client), server)))
    });
    made.expect("sockets of Multipath TCP")
}

/// What is a connection to a program is one to the peer as well: the subflow. Its own socket is of another protocol, and
/// has no TIME-WAIT.
#[test]
fn of_multipath_tcp_the_subflows_are_followed() {
    let netns = Netns::new();
    let observer = Observer::attach(&[&netns]);
    let Some((client, mut server)) = multipath_pair(&netns) else {
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
    let Some((client, server)) = multipath_pair(&netns) else {
        return;
    };
    let snapshot = Snapshot::take(&[netns.inode()], &[TcpState::Established]).expect("sock_diag answers");
    let holders = Holders::of(&snapshot.inodes());
    assert_eq!(snapshot.rows.len(), 2, "{snapshot:?}");
    for row in &snapshot.rows {
        let inode = row.holder.and_then(|holder| holder.inode).expect("it is open");
        let by: Vec<u32> = holders.get(inode).iter().map(|held| held.by.pid).collect();
        assert_eq!(by, [std::process::id()], "{row:?}");
    }
    drop((client, server));
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
    assert!(server.as_raw_fd() > 0, "the other end knows nothing of it");
    observer.agrees_with_the_kernel(&[&netns]);
}
