//! Ephemeral ports: how many are used, and when there are none left.

use std::{
    io::{self, ErrorKind, Read as _},
    net::{SocketAddr, TcpListener, TcpStream},
    thread::{self, JoinHandle},
    time::Duration,
};

use serde_json::Value;
use tcp_close::{clock::monotonic_now as now, event::Monotonic};
use tcp_close_test::{
    address::Family,
    clock::{Deadline, PATIENCE},
    netns::Netns,
    oracle::{self, TcpState},
    stream,
    wire::Wire,
};

use crate::program::{RunningDaemon, daemon, get, program};

/// Ports that a namespace has to give.
const RANGE: u32 = 1_000;

/// A namespace with only so many ports.
fn with_few_ports() -> Netns {
    let netns = Netns::new();
    netns.sysctl("net/ipv4/ip_local_port_range", "20000 20999");
    // The default depends on the machine's memory.
    netns.sysctl("net/ipv4/tcp_max_tw_buckets", "100000");
    netns
}

/// Accepts so many connections, one after the other, and closes each after its peer.
fn accept(listener: TcpListener, connections: u32) -> JoinHandle<()> {
    thread::spawn(move || {
        for _ in 0..connections {
            let (mut server, _) = listener.accept().expect("accept");
            assert_eq!(server.read(&mut [0]).expect("read"), 0);
        }
    })
}

/// Opens and closes a connection at every beat, at most so many; gives back how many there were, and when and why the last
/// one failed, if it did.
fn burn(
    netns: &Netns,
    to: SocketAddr,
    connections: u32,
    beat: Duration,
) -> JoinHandle<(u32, Option<(Monotonic, io::Error)>)> {
    netns.spawn(move || {
        let begun = now();
        for made in 0..connections {
            match TcpStream::connect(to) {
                Ok(client) => drop(client),
                Err(error) => return (made, Some((now(), error))),
            }
            let next = begun + beat * (made + 1);
            thread::sleep(next.since(now()));
        }
        (connections, None)
    })
}

/// What the daemon says of the ports towards this destination.
#[track_caller]
fn ports(netns: &Netns, daemon: &RunningDaemon, to: SocketAddr) -> Value {
    let (inode, to) = (netns.inode().to_string(), to.to_string());
    let socket = daemon.socket.to_str().expect("text");
    let arguments = ["ports", "-o", "json", "--netns", &inode, "--to", &to, "--socket", socket];
    let output = program().args(arguments).output().expect("start tcp-close");
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("text");
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: one route: {text:?}"))
}

/// Towards another host no port is given again before its minute is over: they run out, and it is known when.
#[test]
fn ports_run_out_when_it_was_said_they_would() {
    let (near, far) = (with_few_ports(), Netns::new());
    near.sysctl("net/ipv4/tcp_tw_reuse", "0");
    let wire = Wire::between(&near, &far);
    let listener = stream::listener(&far, Family::V4.server());
    let to = listener.local_addr().expect("an address");
    let daemon = daemon(&near);
    let server = accept(listener, RANGE);
    let client = burn(&near, to, 2 * RANGE, Duration::from_millis(10));
    thread::sleep(Duration::from_secs(3));
    let said = ports(&near, &daemon, to);
    let said_at = now();
    let (made, failed) = client.join().expect("the client ends");
    let (failed_at, error) = failed.expect("there are not so many ports");
    assert_eq!((made, error.kind()), (RANGE, ErrorKind::AddrNotAvailable), "{error}");
    let predicted = said["exhaustion_seconds"].as_f64().unwrap_or_else(|| panic!("it was to come: {said}"));
    let actual = failed_at.since(said_at).as_secs_f64();
    assert!((predicted - actual).abs() <= actual / 10.0, "{predicted} s were {actual} s: {said}");
    let rate = said["connects_per_second"].as_f64().expect("it was measured");
    assert!((80.0..=110.0).contains(&rate), "{said}");

    server.join().expect("the server ends");
    let table = oracle::sockets(&near);
    let of_route = |state| table.iter().filter(|socket| socket.remote == to && socket.state == state).count();
    // The daemon does not look again at once.
    let deadline = Deadline::after(PATIENCE);
    let full = loop {
        let full = ports(&near, &daemon, to);
        if full["used"] == table.len() {
            break full;
        }
        assert!(deadline.left().is_some(), "{full}");
        thread::sleep(Duration::from_millis(100));
    };
    assert_eq!(full["states"]["time_wait"], of_route(TcpState::TimeWait), "{full}");
    assert_eq!((&full["range"], &full["available"]), (&Value::from(RANGE), &Value::from(0)), "{full}");
    assert_eq!((&full["reusable"], &full["exhaustion_seconds"]), (&Value::from(0), &Value::from(0.0)));
    let series = format!("tcp_close_ports_used{{destination=\"{to}\",");
    let exposition = get(daemon.address, "/metrics");
    let exported = exposition.lines().find(|line| line.starts_with(&series)).expect("it is exported");
    assert!(exported.ends_with(&format!(" {}", table.len())), "{exported}");
    drop(wire);
}

/// Within the host the kernel gives them again after a second, by default: however many connections there are, they do not
/// run out, and nobody says so.
#[test]
fn ports_that_are_given_again_do_not_run_out() {
    let netns = with_few_ports();
    let listener = stream::listener(&netns, Family::V4.loopback());
    let to = listener.local_addr().expect("an address");
    let daemon = daemon(&netns);
    let connections = RANGE * 3 / 2;
    // One after the other: none is left open for a moment longer because its server is late.
    let client = netns.spawn(move || -> io::Result<u32> {
        let begun = now();
        for made in 0..connections {
            let client = TcpStream::connect(to)?;
            let (mut server, _) = listener.accept()?;
            drop(client);
            server.read_exact(&mut [0]).expect_err("the client has closed");
            drop(server);
            thread::sleep((begun + Duration::from_millis(4) * (made + 1)).since(now()));
        }
        Ok(connections)
    });
    thread::sleep(Duration::from_millis(500));
    let mut reusable = 0;
    while !client.is_finished() {
        let said = ports(&netns, &daemon, to);
        assert_eq!(said["exhaustion_seconds"], Value::Null, "{said}");
        reusable = reusable.max(said["reusable"].as_u64().expect("a number"));
        thread::sleep(Duration::from_millis(500));
    }
    assert_eq!(client.join().expect("the client ends").expect("there are ports enough"), connections);
    assert!(reusable > 0, "the kernel gave some again");
}
