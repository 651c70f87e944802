//! Whose a connection is: who opened it, who closed it, and where they live.

use std::{
    io::Write as _,
    os::fd::OwnedFd,
    process::{Command, Stdio},
};

use rustix::pipe::fcntl_getpipe_size;
use tcp_close::{
    clock::monotonic_now,
    event::{Process, TcpState},
    owner::Homes,
    snapshot::Snapshot,
};
use tcp_close_test::{address::Family, cgroup::Cgroup, netns::Netns, stream, wire::Wire};

use crate::{Lab, observer::Observer, orderly::by_role, read_to_fin};

/// A process that inherits a socket, and leaves it to its own end to close it; gives back its number. The socket is nobody
/// else's by then.
fn close_by_heir(socket: impl Into<OwnedFd>) -> u32 {
    let (mut written, mut pipe) = std::io::pipe().expect("a pipe");
    let room = fcntl_getpipe_size(&pipe).expect("its size");
    // As long as it is full, the heir cannot come to its end.
    pipe.write_all(&vec![0; room]).expect("fill the pipe");
    let mut command = Command::new("/proc/self/exe");
    command.arg("--list").stdin(Stdio::from(socket.into())).stdout(pipe);
    let mut heir = command.spawn().expect("start this program again");
    drop(command);
    std::io::copy(&mut written, &mut std::io::sink()).expect("read to its end");
    assert!(heir.wait().expect("it ends").success());
    heir.id()
}

/// A socket is closed by the last process that has it, which need not be the one that opened it; nor need it be there
/// any more when anybody hears of it.
#[test]
fn a_process_that_inherits_a_socket_closes_it_as_it_ends() {
    for family in Family::BOTH {
        let lab = Lab::new();
        let (client, server) = lab.pair(family);
        let pid = lab.observer.stall(|| close_by_heir(client));
        assert_eq!(read_to_fin(&server), b"");
        drop(server);
        let (active, passive) = by_role(&lab.observer.closed(2));
        let pid_of = |process: Option<Process>| process.map(|process| process.pid);
        let here = Some(std::process::id());
        assert_eq!((pid_of(active.story.opener), pid_of(active.story.closer)), (here, Some(pid)));
        assert_eq!(active.story.closer.map(|closer| closer.comm.to_string()), Some("exe".to_owned()));
        // Who listened is seen only where that is no change of state like any other.
        let listener = here.filter(|_| lab.observer.sees_clones());
        assert_eq!((pid_of(passive.story.opener), pid_of(passive.story.closer)), (listener, here));
        lab.observer.agrees_with_the_kernel(&[&lab.client, &lab.server]);
    }
}

/// The kernel remembers where a socket was made, and what is accepted is its listener's. A minisock has no such memory.
#[test]
fn a_socket_lives_in_the_cgroup_it_was_made_in_and_so_does_its_time_wait() {
    for family in Family::BOTH {
        let [clients, servers] = [Cgroup::new(), Cgroup::new()];
        let (near, far) = (Netns::new(), Netns::new());
        let wire = Wire::between(&near, &far);
        let observer = Observer::attach(&[&near, &far]);
        let listener = servers.run(|| stream::listener(&far, family.server()));
        let address = listener.local_addr().expect("an address");
        let client = clients.run(|| stream::connect(&near, address));
        let (server, _) = listener.accept().expect("accept");
        drop(client);
        assert_eq!(read_to_fin(&server), b"");
        drop(server);

        let mut homes = Homes::of_this_host();
        let mut unit = |cgroup| homes.get(cgroup, monotonic_now).and_then(|home| home.unit.clone());
        let (active, passive) = by_role(&observer.closed(2));
        let [of_client, of_server] =
            [active, passive].map(|closed| closed.story.cgroup.expect("the kernel keeps it"));
        assert_eq!(unit(of_client).as_deref(), Some(clients.name()));
        assert_eq!(unit(of_server).as_deref(), Some(servers.name()));
        observer.agrees_with_the_kernel(&[&near, &far]);

        drop(wire);
        near.destroy();
        let told = observer.wait_until("the TIME-WAIT is purged", |told| !told.minisocks_ended().is_empty());
        let [ended] = told.minisocks_ended()[..] else {
            panic!("one TIME-WAIT: {told:?}", told = told.minisocks_ended())
        };
        let story = ended.story.expect("its close was seen");
        assert_eq!((story.cgroup, story.opener), (Some(of_client), active.story.opener));
    }
}

/// The kernel's table tells it too, of sockets that nobody saw being made.
#[test]
fn a_snapshot_tells_where_a_socket_was_made() {
    for family in Family::BOTH {
        let cgroup = Cgroup::new();
        let netns = Netns::new();
        let (client, server) = cgroup.run(|| stream::pair(&netns, &netns, family.loopback()));
        let snapshot = Snapshot::take(&[netns.inode()], &[TcpState::Established]).expect("sock_diag answers");
        let mut homes = Homes::of_this_host();
        let units: Vec<Option<String>> = snapshot
            .rows
            .iter()
            .map(|row| homes.get(row.holder?.cgroup?, monotonic_now)?.unit.clone())
            .collect();
        assert_eq!(units, [Some(cgroup.name().to_owned()), Some(cgroup.name().to_owned())], "{snapshot:?}");
        drop((client, server));
    }
}
