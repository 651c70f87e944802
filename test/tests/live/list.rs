//! What `list` prints is the kernel's table, who holds what, and what the daemon knows beyond it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};

use serde_json::Value;
use tcp_close::clock::monotonic_now as now;
use tcp_close_test::{
    clock::{Deadline, PATIENCE},
    netns::Netns,
    oracle::{self, Socket, Timer},
    stream,
};

use crate::{
    census::daemon,
    program::{daemon_with, program},
    read_to_fin,
    stuck::{CLOSING, Stuck, count},
};

/// Every namespace has it.
const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// What it prints of these sockets, and on stderr.
pub(crate) fn list(stuck: &Stuck, arguments: &[&str]) -> (String, String) {
    let output = program()
        .args(["list", "--netns", &stuck.netns.inode().to_string()])
        .args(arguments)
        .output()
        .expect("start tcp-close; TCP_CLOSE_BIN names it, or cargo build --release makes it");
    assert!(output.status.success(), "{output:?}");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (text(output.stdout), text(output.stderr))
}

/// The lines of a list, each an object.
pub(crate) fn rows(lines: &str) -> Vec<Value> {
    lines.lines().map(|line| serde_json::from_str(line).expect("a line is an object")).collect()
}

/// In every state there are as many as the kernel has.
#[track_caller]
fn add_up(rows: &[Value], table: &[Socket]) {
    for (kernels, ours) in CLOSING {
        let listed = rows.iter().filter(|row| row["state"] == ours.label()).count();
        assert_eq!(listed, count(table, kernels), "{ours:?}: {rows:?}");
    }
}

/// The socket in the kernel's table.
#[track_caller]
fn in_table<'a>(row: &Value, table: &'a [Socket]) -> &'a Socket {
    table.iter().find(|socket| row["cookie"] == socket.cookie).expect("it is in the table")
}

/// Whether a socket was closed by this process; or by a child that another test was about to start, which has every
/// descriptor too until it becomes another program.
fn is_ours(closer: &Value) -> bool {
    closer["pid"] == std::process::id() || closer["comm"] == "tcp-close" || closer["comm"] == "exe"
}

/// Where the daemon saw them close, each has an owner and an age, those in TIME-WAIT too.
#[test]
fn the_daemon_knows_whose_they_are_and_since_when() {
    let mut stuck = Stuck::new();
    let daemon = daemon(&stuck, &[]);
    let begun = now();
    stuck.in_every_state();
    let socket = daemon.socket.to_str().expect("text");
    let (lines, complaints) = list(&stuck, &["--socket", socket, "-o", "json"]);
    let most = now().since(begun).as_secs_f64();
    let table = oracle::sockets(&stuck.netns);
    assert_eq!(complaints, "");
    let rows = rows(&lines);
    add_up(&rows, &table);
    for row in &rows {
        let socket = in_table(row, &table);
        assert_eq!(row["source"], "observed", "{row}");
        assert_eq!(row["owner"]["opener"]["pid"], std::process::id(), "{row}");
        // Whoever is in CLOSE-WAIT was closed by its peer alone.
        let closer = &row["owner"]["closer"];
        assert_eq!(closer.is_null(), row["state"] == "close_wait", "{row}");
        assert!(closer.is_null() || is_ours(closer), "{row}");
        let age = row["age_seconds"].as_f64().unwrap_or_else(|| panic!("it was seen: {row}"));
        assert!(age > 0.0 && age < most, "{row} of {most}");
        let left = row["left_seconds"].as_f64();
        let expected = (socket.timer == Timer::TimeWait).then_some(socket.expires.as_secs_f64());
        assert!(left.is_none() == expected.is_none(), "{row} {socket}");
        assert!(left.zip(expected).is_none_or(|(left, expected)| (left - expected).abs() < 1.0), "{row}");
    }
    let roles = |state: &str| {
        let mut roles: Vec<_> =
            rows.iter().filter(|row| row["state"] == state).map(|row| row["role"].clone()).collect();
        roles.dedup();
        roles
    };
    assert_eq!(roles("time_wait"), ["active"]);
    assert_eq!(roles("last_ack"), ["passive"]);

    let (only, _) = list(&stuck, &["--socket", socket, "--state", "time-wait", "-H"]);
    assert_eq!(only.lines().count(), count(&table, oracle::TcpState::TimeWait), "{only}");
    let owner = |line: &str| line.split_whitespace().nth(1).map(|owner| owner.contains('/'));
    assert!(only.lines().all(|line| owner(line) == Some(true)), "{only}");
}

/// A daemon that was named and is not there is an error; one that watches another namespace says so.
#[test]
fn a_daemon_that_cannot_answer_is_an_error() {
    let stuck = Stuck::new();
    let other = Stuck::new();
    let daemon = daemon(&other, &[]);
    let refused = |socket: &str| {
        let inode = stuck.netns.inode().to_string();
        let arguments = ["list", "--netns", &inode, "--socket", socket];
        let output = program().args(arguments).output().expect("start tcp-close");
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert_eq!(output.stdout, b"");
        String::from_utf8(output.stderr).expect("text")
    };
    let complaint = refused(daemon.socket.to_str().expect("text"));
    assert!(complaint.contains("does not watch network namespace"), "{complaint}");
    let complaint = refused("/nowhere/tcp-close.sock");
    assert!(complaint.contains("no daemon answers at /nowhere/tcp-close.sock"), "{complaint}");
}

#[test]
fn every_socket_that_closes_is_listed_with_its_holder() {
    let mut stuck = Stuck::new();
    stuck.in_every_state();
    let (lines, complaints) = list(&stuck, &["--standalone", "-o", "json"]);
    let table = oracle::sockets(&stuck.netns);
    assert_eq!(complaints, "");
    let rows = rows(&lines);
    add_up(&rows, &table);
    for row in &rows {
        let socket = in_table(row, &table);
        assert_eq!(row["local"]["port"], socket.local.port());
        assert_eq!(row["remote"]["addr"], socket.remote.ip().to_string());
        let left = (socket.timer == Timer::TimeWait).then_some(socket.expires.as_secs_f64());
        // The list came first.
        let apart = row["left_seconds"].as_f64().zip(left).map(|(listed, left)| listed - left);
        assert_eq!(apart.is_some(), left.is_some(), "{row} {socket}");
        assert!(apart.is_none_or(|apart| (0.0..1.0).contains(&apart)), "{row} {socket}");
        // This process holds whatever is held; a child that another test was about to start does so too, for a moment.
        let holders = row["holders"].as_array().expect("an array");
        let here: Vec<&Value> = holders.iter().filter(|holder| holder["pid"] == std::process::id()).collect();
        assert_eq!(here.len(), usize::from(socket.inode != 0), "{row} {socket}");
        for holder in here {
            let fd = holder["fd"].as_i64().expect("a number");
            let link = std::fs::read_link(format!("/proc/self/fd/{fd}")).expect("it is open");
            assert_eq!(link.to_str(), Some(&*format!("socket:[{}]", socket.inode)));
        }
    }

    let (only, _) = list(&stuck, &["--standalone", "--state", "close-wait", "-H", "-4"]);
    assert_eq!(only.lines().count(), 2, "{only}");
    assert!(only.lines().all(|line| line.starts_with("close-wait ") && line.contains('/')), "{only}");
}

/// The same addresses and ports in several namespaces are different connections, each its own.
#[test]
fn namespaces_with_the_same_addresses_are_kept_apart() {
    let mut namespaces = [Netns::new(), Netns::new(), Netns::new()];
    let inodes = namespaces.each_ref().map(|netns| netns.inode().to_string());
    let daemon = daemon_with(&["--netns", &inodes.join(",")]);
    let (from, to) = (SocketAddr::new(HERE, 40_000), SocketAddr::new(HERE, 41_000));
    for netns in &namespaces {
        let listener = netns.run(move || TcpListener::bind(to)).expect("listen");
        let client = netns.run(move || stream::connect_bound(from, to));
        let client = client.expect("connect");
        let (server, _) = listener.accept().expect("accept");
        drop(client);
        assert_eq!(read_to_fin(&server), b"");
    }
    let listed = || {
        let socket = daemon.socket.to_str().expect("text");
        let arguments = ["list", "-o", "json", "--socket", socket];
        let output = program().args(arguments).output().expect("start tcp-close");
        assert!(output.status.success(), "{output:?}");
        let rows = rows(&String::from_utf8(output.stdout).expect("text"));
        let mut listed: Vec<String> = rows
            .iter()
            .map(|row| {
                assert_eq!(
                    (&row["state"], &row["source"]),
                    (&"time_wait".into(), &"observed".into()),
                    "{row}"
                );
                assert_eq!((&row["local"]["port"], &row["remote"]["port"]), (&40_000.into(), &41_000.into()));
                assert_eq!(row["owner"]["opener"]["pid"], std::process::id(), "{row}");
                row["netns"].to_string()
            })
            .collect();
        listed.sort();
        listed
    };
    let mut expected = inodes.to_vec();
    expected.sort();
    assert_eq!(listed(), expected);
    // One goes, with its TIME-WAIT, and the others stay.
    let [first, ..] = &mut namespaces;
    std::mem::replace(first, Netns::new()).destroy();
    expected.retain(|netns| *netns != inodes[0]);
    let deadline = Deadline::after(PATIENCE);
    while listed() != expected {
        assert!(deadline.left().is_some(), "{:?} are not {expected:?}", listed());
    }
}

/// Of a namespace that is not to be found nothing is listed, and that is said, once.
#[test]
fn a_namespace_that_is_not_to_be_found_is_named() {
    for arguments in [
        &["list", "--standalone", "-H"][..],
        &["ports", "--standalone", "-H"],
        &["watch", "--standalone", "-H", "--duration", "100ms"],
    ] {
        // None has this number.
        let output = program()
            .args(arguments)
            .args(["--netns", "1", "--netns", "1"])
            .output()
            .expect("start tcp-close");
        assert!(output.status.success() && output.stdout.is_empty(), "{output:?}");
        let complaint = String::from_utf8(output.stderr).expect("text");
        let said = complaint.matches("nothing is found that leads to network namespace 1\n").count();
        assert_eq!(said, 1, "{complaint}");
    }
}
