//! What the daemon tells over its socket: as it happens, what it remembers, and to whom.

use std::{
    fs::{self, Permissions},
    io::{BufRead as _, BufReader, Read as _},
    os::unix::{
        fs::{PermissionsExt as _, chown},
        process::CommandExt as _,
    },
    path::Path,
    process::{ChildStdout, Command, Output, Stdio},
    thread,
    time::Duration,
};

use serde_json::Value;
use tcp_close_test::{
    clock::{Deadline, PATIENCE},
    copied,
    netns::Netns,
};

use crate::program::{
    RunningDaemon, daemon, daemon_with, get, loopback_connections, next_event, program, sample, watch,
};

/// Connections of a test; each has two ends.
const CONNECTIONS: u32 = 5;

/// Their ends.
const ENDS: usize = 2 * CONNECTIONS as usize;

/// What a command prints, asked of this daemon.
fn ask(daemon: &RunningDaemon, command: &str, arguments: &[&str]) -> Output {
    program()
        .arg(command)
        .arg("--socket")
        .arg(&daemon.socket)
        .args(arguments)
        .output()
        .expect("start tcp-close; TCP_CLOSE_BIN names it, or cargo build --release makes it")
}

#[track_caller]
fn lines(output: &Output) -> Vec<String> {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

/// Waits until the daemon has told so many ends.
#[track_caller]
fn wait_until_told(daemon: &RunningDaemon, count: usize) {
    let deadline = Deadline::after(PATIENCE);
    while told(daemon) < count {
        assert!(deadline.left().is_some(), "{} of {count} ends are told", told(daemon));
        thread::sleep(Duration::from_millis(20));
    }
}

/// How many ends the daemon has told: those that it remembers, and those that it has forgotten.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small whole number")]
fn told(daemon: &RunningDaemon) -> usize {
    let exposition = get(daemon.address, "/metrics");
    let of = |name: &str| sample(&exposition, &format!("tcp_close_{name}{{table=\"ended\"}}")) as usize;
    of("tracked") + of("tracked_evicted_total")
}

/// The next so many events, by their sockets, without times: who looks a moment later reads another one.
fn next_events(out: &mut BufReader<ChildStdout>, count: usize) -> Vec<Value> {
    let mut events: Vec<Value> = (0..count).map(|_| next_event(out)).collect();
    for event in &mut events {
        let told = event.to_string();
        for key in ["time", "monotonic_ns"] {
            assert!(event.as_object_mut().expect("an object").remove(key).is_some());
        }
        // Where the peer is slow to close, FIN-WAIT-2 goes on in a minisock, and how long it takes is not known yet.
        let goes_on = event["then"] == "fin_wait2";
        for state in event["states"].as_array_mut().expect("states") {
            let is_known = state["seconds"].take().is_f64();
            assert!(is_known || goes_on && state["state"] == "fin_wait2", "{told}");
        }
    }
    events.sort_by_key(|event| event["cookie"].as_u64());
    events
}

/// What the daemon tells is what is seen without it.
#[test]
fn what_the_daemon_tells_is_what_is_seen_here() {
    let netns = Netns::new();
    let daemon = daemon(&netns);
    let (_here, mut here) = watch(&netns, &[]);
    let mut there = program()
        .args(["watch", "-o", "json", "--since", "1h", "--socket"])
        .arg(&daemon.socket)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("start tcp-close");
    let mut told = BufReader::new(there.stdout.take().expect("stdout is piped"));
    loopback_connections(&netns, CONNECTIONS);
    let (told, here) = (next_events(&mut told, ENDS), next_events(&mut here, ENDS));
    for (told, here) in told.iter().zip(&here) {
        assert_eq!(told, here);
    }
    there.kill().expect("it runs");
    there.wait().expect("it ends");
}

/// What is over can be asked for, once and in order, with the filter applied by the daemon.
#[test]
fn what_has_ended_is_remembered() {
    let netns = Netns::new();
    let daemon = daemon(&netns);
    assert_eq!(lines(&ask(&daemon, "list", &["--ended", "-o", "json"])), [""; 0]);
    loopback_connections(&netns, CONNECTIONS);
    wait_until_told(&daemon, ENDS);
    let remembered = lines(&ask(&daemon, "list", &["--ended", "-o", "json"]));
    assert_eq!(remembered.len(), ENDS);
    let again = lines(&ask(&daemon, "watch", &["--since", "1h", "--count", &ENDS.to_string(), "-o", "json"]));
    assert_eq!(again, remembered, "byte for byte");
    let passive =
        lines(&ask(&daemon, "list", &["--ended", "-o", "json", "role = passive and state last-ack"]));
    assert_eq!(passive.len(), ENDS / 2);
    assert!(passive.iter().all(|line| line.contains("\"role\":\"passive\"")), "{passive:?}");
    let table = lines(&ask(&daemon, "list", &["--ended", "--role", "active", "-H"]));
    // The peer may be slow to close.
    let ends = |line: &String| line.ends_with("time-wait") || line.ends_with("fin-wait-2");
    assert_eq!(table.len(), ENDS / 2, "{table:?}");
    assert!(table.iter().all(|line| line.contains(" closed ") && ends(line)), "{table:?}");
    let none = lines(&ask(&daemon, "list", &["--ended", "--since", "1ms", "-H"]));
    assert_eq!(none, [""; 0]);
}

/// A close whose TIME-WAIT is over as well is one line, that of its TIME-WAIT.
#[test]
fn a_connection_is_remembered_once() {
    let netns = Netns::new();
    let daemon = daemon(&netns);
    loopback_connections(&netns, CONNECTIONS);
    wait_until_told(&daemon, ENDS);
    // They go with their namespace.
    drop(netns);
    wait_until_told(&daemon, ENDS + CONNECTIONS as usize);
    let remembered = lines(&ask(&daemon, "list", &["--ended", "-o", "json"]));
    let events: Vec<Value> =
        remembered.iter().map(|line| serde_json::from_str(line).expect("an object")).collect();
    let of = |name: &str| events.iter().filter(|event| event["event"] == name).count();
    assert_eq!((of("closed"), of("time_wait_ended")), (ENDS / 2, ENDS / 2), "{remembered:?}");
    // What is asked is asked of a connection, not of what was told of it before.
    for filter in ["cause = purged", "not cause = purged"] {
        let some = lines(&ask(&daemon, "list", &["--ended", "-o", "json", filter]));
        assert_eq!(some.len(), ENDS / 2, "{filter}: {some:?}");
    }
}

/// Nobody waits for who does not read. He loses what is forgotten by then, and knows how much that is.
#[test]
fn who_does_not_read_loses_what_is_his_and_knows_how_much() {
    const MANY: u32 = 2000;
    let netns = Netns::new();
    netns.sysctl("net/ipv4/tcp_max_tw_buckets", "100000");
    let inode = netns.inode().to_string();
    let daemon = daemon_with(&["--netns", &inode, "--remember", "50"]);
    let mut slow = program()
        .args(["watch", "-o", "json", "--since", "1h", "--socket"])
        .arg(&daemon.socket)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("start tcp-close");
    loopback_connections(&netns, 1);
    let mut out = BufReader::new(slow.stdout.take().expect("stdout is piped"));
    let mut read = next_events(&mut out, 2).len();
    loopback_connections(&netns, MANY);
    wait_until_told(&daemon, 2 * (MANY as usize + 1));
    let told = told(&daemon);
    // The last of it is remembered, so it comes once the rest is read. That there is no more is known by one more.
    let lines = out.by_ref().lines();
    let is_last = |line: &str| {
        let event: Value = serde_json::from_str(line).expect("an object");
        event["reset"]["direction"] == "sent"
    };
    let abort = thread::spawn(move || {
        aborted_connection(&netns);
        // With it, its TIME-WAITs would go.
        netns
    });
    for line in lines {
        let line = line.expect("read a line");
        if is_last(&line) {
            break;
        }
        read += 1;
    }
    let _netns = abort.join().expect("it was aborted");
    slow.kill().expect("it runs");
    let mut complaints = String::new();
    slow.stderr.take().expect("stderr is piped").read_to_string(&mut complaints).expect("read");
    slow.wait().expect("it ends");
    let missed: usize = complaints
        .lines()
        .filter_map(|line| line.split("at most ").nth(1)?.split(' ').next()?.parse::<usize>().ok())
        .sum();
    assert!(missed > 0, "nothing held it up: {complaints}");
    // What is forgotten for everybody is said to everybody.
    let listed = ask(&daemon, "list", &["--ended", "--since", "1h", "-H"]);
    let said = String::from_utf8_lossy(&listed.stderr);
    assert!(said.contains("the daemon remembers nothing from before"), "{said}");
    // Of the last connection, the other end may be told before.
    assert!((told..=told + 1).contains(&(read + missed)), "{read} read and {missed} missed of {told}");
}

/// One end aborts.
fn aborted_connection(netns: &Netns) {
    use tcp_close_test::{address::Family, stream};
    let (client, server) = stream::pair(netns, netns, Family::V4.loopback());
    rustix::net::sockopt::set_socket_linger(&client, Some(Duration::ZERO)).expect("set SO_LINGER");
    drop(client);
    drop(server);
}

/// A user and a group that own nothing here.
pub(crate) const NOBODY: u32 = 65_534;
const GROUP: u32 = 65_500;

/// The program where everybody may run it.
pub(crate) fn for_everybody(directory: &Path) -> Command {
    let copy = directory.join("tcp-close");
    fs::copy(program().get_program(), &copy).expect("copy the program");
    for path in [directory, &copy] {
        fs::set_permissions(path, Permissions::from_mode(0o755)).expect("open it to everybody");
    }
    Command::new(copy)
}

/// A user who is in the group gets everything from the daemon, one who is not a clear refusal.
#[test]
fn the_group_may_ask_and_others_may_not() {
    let netns = Netns::new();
    let daemon = daemon(&netns);
    loopback_connections(&netns, CONNECTIONS);
    wait_until_told(&daemon, ENDS);
    // What the daemon does where there is a group of its name.
    chown(&daemon.socket, None, Some(GROUP)).expect("give the socket to the group");
    let directory = std::env::temp_dir().join(format!("tcp-close-test-{}-everybody", std::process::id()));
    fs::create_dir_all(&directory).expect("a directory");
    let mut member = for_everybody(&directory);
    let program = member.get_program().to_owned();
    let member = member.uid(NOBODY).gid(GROUP).args(["list", "--ended", "-o", "json", "--socket"]);
    member.arg(&daemon.socket);
    for mode in [0o660, 0o666] {
        fs::set_permissions(&daemon.socket, Permissions::from_mode(mode)).expect("it is ours");
        assert_eq!(lines(&copied::output(member)).len(), ENDS);
    }
    // Once by the socket's mode, once whatever that is.
    for (command, mode) in
        [("list", 0o660), ("watch", 0o660), ("ports", 0o660), ("list", 0o666), ("watch", 0o666)]
    {
        fs::set_permissions(&daemon.socket, Permissions::from_mode(mode)).expect("it is ours");
        let mut stranger = Command::new(&program);
        let stranger = stranger.uid(NOBODY).gid(NOBODY).args([command, "--socket"]).arg(&daemon.socket);
        let refused = copied::output(stranger);
        let said = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(refused.status.code(), Some(3), "{command}: {said}");
        assert!(said.contains("is for members of group tcp-close, and for root"), "{command}: {said}");
    }
    fs::remove_dir_all(&directory).expect("remove it");
}

/// Whoever reads the first lines only is no error, and neither is the end of the daemon for who has read enough.
#[test]
fn a_reader_may_go_away_and_a_daemon_that_stops_is_told() {
    let netns = Netns::new();
    let daemon = daemon(&netns);
    loopback_connections(&netns, CONNECTIONS);
    wait_until_told(&daemon, ENDS);
    let mut watching = program()
        .args(["watch", "--since", "1h", "-H", "--socket"])
        .arg(&daemon.socket)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("start tcp-close");
    let mut out = BufReader::new(watching.stdout.take().expect("stdout is piped"));
    let mut line = String::new();
    out.read_line(&mut line).expect("read a line");
    assert!(line.contains(" closed "), "{line}");
    // Nothing happens any more, and still it notices.
    drop(out);
    assert!(watching.wait().expect("it ends").success());

    let mut watching = program()
        .args(["watch", "--socket"])
        .arg(&daemon.socket)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("start tcp-close");
    let mut out = BufReader::new(watching.stdout.take().expect("stdout is piped"));
    out.read_line(&mut line).expect("the header");
    rustix::process::kill_process(daemon.running.pid(), rustix::process::Signal::TERM).expect("it runs");
    let ended = watching.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert!(said.contains("the daemon stopped"), "{said}");
}
