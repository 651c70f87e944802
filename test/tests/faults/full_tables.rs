//! More connections than a table has room for: of the kernel side, where who opened one is forgotten for another, and of the
//! daemon, where what has to make room is counted.

use std::{
    ffi::CString,
    fs,
    io::{BufRead as _, BufReader},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{self, Stdio},
    sync::{Arc, Barrier},
};

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with};
use serde_json::Value;
use tcp_close_test::{address::Family, netns::Netns, oracle};

use crate::{
    beside_others, brief_or_full,
    daemon::{Daemon, PATIENCE, Running, exported, lost, sample, told},
    eventually,
    load::connections,
};

/// Connections of one thread.
const AT_EACH: usize = 10_000;

/// They close all at once, which is another fault, and not to be in the way.
const ALL_AT_ONCE: &str = "134217728";

/// A connection that is over leaves one minisock.
const ROOM: f64 = 16.0;
const MINISOCKS: u32 = 200;

/// A table of descriptors of this thread's own, with nothing in it but what every process has: a process may have more
/// than one, and each may have as many as the limit says. What other tests have open stays theirs.
fn own_table() {
    const STDERR: libc::c_uint = 2;
    // SAFETY: the table is a copy, in which this thread has nothing open that it goes on to use.
    let outcome =
        unsafe { libc::close_range(STDERR + 1, libc::c_uint::MAX, libc::CLOSE_RANGE_UNSHARE.cast_signed()) };
    assert_eq!(outcome, 0, "close_range: {}", std::io::Error::last_os_error());
}

/// As many of what is open as the kernel side remembers who opened it: its longest table but the ring.
fn room(daemon: &Daemon) -> usize {
    const BPF_MAP_TYPE_RINGBUF: usize = 27;
    let folder = format!("/proc/{}/fdinfo", daemon.running.pid());
    let of_map = |text: String| {
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        field("max_entries:").filter(|_| field("map_type:") != Some(BPF_MAP_TYPE_RINGBUF))
    };
    let descriptors = fs::read_dir(folder).expect("it runs").flatten();
    descriptors.filter_map(|entry| of_map(fs::read_to_string(entry.path()).ok()?)).max().expect("it has maps")
}

/// What a thread is called that opens connections.
fn name(number: usize) -> String {
    format!("opener-{number}")
}

/// Opens connections that nobody accepts, under a name of its own, and ends them once all are open; gives back the port
/// that they lead to. What they lead to is there until it is enough.
fn open_and_close(number: usize, opened: &Barrier, enough: &Barrier) -> u16 {
    own_table();
    let called = CString::new(name(number)).expect("no NUL");
    // SAFETY: the name ends in NUL and lives through the call.
    unsafe { libc::prctl(libc::PR_SET_NAME, called.as_ptr()) };
    let listener = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None);
    let listener = listener.expect("a socket");
    bind(&listener, &SocketAddr::from((Family::V4.loopback(), 0))).expect("bind");
    listen(&listener, i32::try_from(AT_EACH).expect("a number")).expect("listen");
    let listener = TcpListener::from(listener);
    let address = listener.local_addr().expect("an address");
    let clients = (0..AT_EACH).map(|_| TcpStream::connect(address).expect("connect"));
    let clients: Vec<TcpStream> = clients.collect();
    opened.wait();
    drop(clients);
    enough.wait();
    address.port()
}

/// None is said to be somebody else's. By default all have room; in full there are more, and of those nobody knows.
#[test]
fn who_opened_a_connection_is_known_or_unknown_and_never_another() {
    let _not_alone = beside_others();
    let netns = Netns::new();
    netns.acknowledge_at_once();
    netns.sysctl("net/core/somaxconn", "65535");
    netns.sysctl("net/ipv4/tcp_max_tw_buckets", "400000");
    let limits = ["--max-sockets", "400000", "--remember", "400000", "--ring-bytes", ALL_AT_ONCE];
    let daemon = Daemon::of(&netns, &limits);
    let room = room(&daemon);
    let openers = brief_or_full(2, room / AT_EACH + 1);
    let connections = openers * AT_EACH;
    let [opened, enough] = [openers, openers + 1].map(|threads| Arc::new(Barrier::new(threads)));
    let threads: Vec<_> = (0..openers)
        .map(|number| {
            let (opened, enough) = (Arc::clone(&opened), Arc::clone(&enough));
            netns.spawn(move || open_and_close(number, &opened, &enough))
        })
        .collect();
    let closed = "tcp_close_transitions_total{from=\"established\",to=\"fin_wait1\"}";
    eventually(6 * PATIENCE, || match exported(&daemon.metrics_of_a_busy_one()?, closed) {
        Some(count) if count >= connections as f64 => Ok(()),
        count => Err(format!("{count:?} of {connections} close")),
    });
    enough.wait();
    let ports: Vec<u16> =
        threads.into_iter().map(|thread| thread.join().expect("all are open at a time")).collect();
    eventually(6 * PATIENCE, || match told(&daemon.metrics_of_a_busy_one()?) {
        told if told >= 2.0 * connections as f64 => Ok(()),
        told => Err(format!("{told} of {connections} twice are told")),
    });
    assert_eq!(lost(&daemon.metrics()), 0.0);

    let list = daemon.asked_by("list", &["--ended", "-o", "json", "role = active"]);
    let mut list = Running({ list }.stderr(Stdio::inherit()).spawn().expect("start tcp-close"));
    let out = BufReader::new(list.0.stdout.take().expect("stdout is piped"));
    let (mut known, mut unknown) = (0, 0);
    for line in out.lines() {
        let line: Value = serde_json::from_str(&line.expect("a line")).expect("an object");
        let opener = &line["owner"]["opener"];
        let number =
            ports.iter().position(|port| line["remote"]["port"] == *port).expect("it is one of these");
        if opener.is_null() {
            unknown += 1;
        } else {
            assert_eq!(
                (&opener["pid"], &opener["comm"]),
                (&process::id().into(), &name(number).into()),
                "{line}"
            );
            known += 1;
        }
    }
    assert!(list.ended().success());
    println!("of {connections} there is room for {room}; {known} are known and {unknown} are not");
    assert_eq!(known + unknown, connections);
    assert!(unknown >= connections.saturating_sub(room), "{unknown} had to make room");
    // Other connections of this host have places, too.
    assert!(unknown <= brief_or_full(connections / 100, connections / 4), "{unknown}");
    let evicted = sample(&daemon.metrics(), "tcp_close_tracked_evicted_total{table=\"openers\"}");
    assert!(evicted >= unknown as f64, "{evicted} are counted, {unknown} are unknown");
}

/// What there is no room for is counted, and what is then not followed is a difference to the kernel that is told.
#[test]
fn what_makes_room_is_counted() {
    let _not_alone = beside_others();
    let netns = Netns::new();
    let room = ROOM.to_string();
    let daemon = Daemon::of(
        &netns,
        &[
            "--max-sockets",
            &room,
            "--max-minisocks",
            &room,
            "--remember",
            "50",
            "--reconcile-interval",
            "200ms",
        ],
    );
    connections(&netns, MINISOCKS);
    let of = |exposition: &str, metric: &str, table: &str| {
        sample(exposition, &format!("tcp_close_{metric}{{table=\"{table}\"}}"))
    };
    let ends = f64::from(2 * MINISOCKS);
    let exposition = eventually(PATIENCE, || {
        let exposition = daemon.metrics();
        let (told, evicted) = (told(&exposition), of(&exposition, "tracked_evicted_total", "sockets"));
        let is_all = told + evicted >= ends;
        if is_all { Ok(exposition) } else { Err(format!("{told} are told, {evicted} made room")) }
    });
    let of = |metric: &str, table: &str| of(&exposition, metric, table);
    println!("{} ends are told, {} made room", told(&exposition), of("tracked_evicted_total", "sockets"));
    assert_eq!(told(&exposition) + of("tracked_evicted_total", "sockets"), ends);
    assert!(told(&exposition) > 0.0 && of("tracked_evicted_total", "sockets") > 0.0);
    for (table, all) in [("minisocks", f64::from(MINISOCKS)), ("ended", told(&exposition))] {
        assert!(of("tracked", table) <= of("tracked_limit", table), "{exposition}");
        // Minisocks that the kernel's table shows again make room again.
        assert!(of("tracked", table) + of("tracked_evicted_total", table) >= all, "{table}: {exposition}");
    }
    assert_eq!(lost(&exposition), 0.0);
    assert_eq!(oracle::sockstat(&netns)["tw"], i64::from(MINISOCKS));
    eventually(PATIENCE, || {
        let difference = exported(&daemon.metrics(), "tcp_close_kernel_difference{counter=\"sockstat_tw\"}");
        let is_so = difference == Some(ROOM - f64::from(MINISOCKS));
        if is_so { Ok(()) } else { Err(format!("{difference:?}")) }
    });
}
