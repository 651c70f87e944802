//! The program itself, as a user starts it: `watch` and `daemon`, on real connections.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, ChildStderr, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

use rustix::process::Pid;
use serde_json::Value;
use tcp_close_test::{
    address::Family,
    clock::{Deadline, PATIENCE},
    netns::Netns,
    oracle::{self, Netstat},
    stream,
};

use crate::{many_connections, read_to_fin};

/// The release binary that `cargo xtask test` built, or the one of an ordinary release build.
pub(crate) fn program() -> Command {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/release/tcp-close");
    Command::new(std::env::var_os("TCP_CLOSE_BIN").unwrap_or_else(|| default.into()))
}

/// A running tcp-close, ended when the test is.
pub(crate) struct Running {
    child: Child,
    /// What it says on stderr once it is running.
    log: Arc<Mutex<String>>,
}

impl Running {
    /// Goes on to read what it says, which must not fill the pipe.
    pub(crate) fn new(child: Child, mut log: BufReader<ChildStderr>) -> Self {
        let running = Self { child, log: Arc::default() };
        let said = Arc::clone(&running.log);
        thread::spawn(move || {
            let mut line = String::new();
            while log.read_line(&mut line).is_ok_and(|read| read > 0) {
                said.lock().expect("nobody panicked").push_str(&std::mem::take(&mut line));
            }
        });
        running
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Waits until it has said this.
    #[track_caller]
    pub(crate) fn wait_for(&self, words: &str) -> String {
        let deadline = Deadline::after(PATIENCE);
        loop {
            let said = self.log.lock().expect("nobody panicked").clone();
            if let Some(line) = said.lines().find(|line| line.contains(words)) {
                return line.to_owned();
            }
            assert!(deadline.left().is_some(), "it does not say {words:?}: {said}");
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }
}

/// A daemon, and where it answers.
pub(crate) struct RunningDaemon {
    pub(crate) running: Running,
    /// HTTP.
    pub(crate) address: SocketAddr,
    /// The socket that other commands ask at.
    pub(crate) socket: PathBuf,
}

impl Drop for RunningDaemon {
    fn drop(&mut self) {
        // It is killed, and leaves that behind.
        let _removed = std::fs::remove_file(&self.socket);
    }
}

/// Starts `watch -o json` on a namespace, and waits until its hooks are attached.
pub(crate) fn watch(netns: &Netns, arguments: &[&str]) -> (Running, BufReader<std::process::ChildStdout>) {
    let mut child = program()
        .args(["-v", "watch", "--standalone", "-o", "json", "--netns", &netns.inode().to_string()])
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("start tcp-close; TCP_CLOSE_BIN names it, or cargo build --release makes it");
    let mut log = BufReader::new(child.stderr.take().expect("stderr is piped"));
    let out = BufReader::new(child.stdout.take().expect("stdout is piped"));
    wait_for_line(&mut log, "attached");
    (Running::new(child, log), out)
}

pub(crate) fn wait_for_line(log: &mut impl std::io::BufRead, word: &str) -> String {
    let mut seen = String::new();
    loop {
        let mut line = String::new();
        assert_ne!(
            log.read_line(&mut line).expect("read the log"),
            0,
            "it ended before it said {word:?}: {seen}"
        );
        if line.contains(word) {
            return line;
        }
        seen.push_str(&line);
    }
}

pub(crate) fn next_event(out: &mut impl std::io::BufRead) -> Value {
    let mut line = String::new();
    assert_ne!(out.read_line(&mut line).expect("read a line"), 0, "tcp-close ended");
    serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

#[test]
fn watch_tells_a_close_within_a_second_and_its_time_wait_a_minute_later() {
    let netns = Netns::new();
    let (_running, mut out) = watch(&netns, &[]);
    let (client, server) = stream::pair(&netns, &netns, Family::V4.loopback());
    let client_address = client.local_addr().expect("an address");
    drop(client);
    assert_eq!(read_to_fin(&server), b"");
    drop(server);
    let deadline = Deadline::after(Duration::from_secs(1));
    let closed = [next_event(&mut out), next_event(&mut out)];
    assert!(deadline.left().is_some(), "both ends are told within a second");
    for event in &closed {
        assert_eq!(event["event"], "closed");
        assert_eq!(event["owner"]["closer"]["pid"], std::process::id());
    }
    let roles: Vec<&Value> = closed.iter().map(|event| &event["role"]).collect();
    assert!(roles.contains(&&Value::from("active")) && roles.contains(&&Value::from("passive")), "{roles:?}");

    let ended = next_event(&mut out);
    assert_eq!(ended["event"], "time_wait_ended", "{ended}");
    assert_eq!(ended["local"]["port"], client_address.port());
    assert_eq!(ended["role"], "active");
    assert_eq!(ended["owner"]["closer"]["pid"], std::process::id());
    let time_wait = &ended["time_wait"];
    assert_eq!(
        (&time_wait["cause"], &time_wait["verdict"]),
        (&Value::from("expired"), &Value::from("nominal"))
    );
    let number = |key: &str| time_wait[key].as_f64().unwrap_or_else(|| panic!("{key} in {time_wait}"));
    let (dwell, minisock) = (number("seconds"), number("minisock_seconds"));
    let latest = number("nominal_seconds") + number("slack_seconds");
    assert!((59.98..latest).contains(&dwell), "{time_wait}");
    assert!(minisock + 0.02 >= dwell && minisock < latest + 0.1, "{time_wait}");
    assert_eq!(oracle::sockstat(&netns)["tw"], 0, "the kernel agrees that it is over");
}

/// A daemon or `watch` that rests looks into the ring once a second; what happens then wakes it.
#[test]
fn after_a_rest_a_close_is_told_at_once() {
    // After the last event: longer than it takes until it rests, and shorter than until it looks after that.
    const QUIET: Duration = Duration::from_millis(2400);
    let netns = Netns::new();
    let (_running, mut out) = watch(&netns, &[]);
    loopback_connections(&netns, 1);
    let _first = [next_event(&mut out), next_event(&mut out)];
    for _ in 0..2 {
        thread::sleep(QUIET);
        let deadline = Deadline::after(Duration::from_millis(400));
        loopback_connections(&netns, 1);
        let told = [next_event(&mut out), next_event(&mut out)];
        assert!(deadline.left().is_some(), "it is told late: {told:?}");
    }
}

/// As fast as one thread can: open, close, close.
pub(crate) fn loopback_connections(netns: &Netns, count: u32) {
    netns.run(move || {
        let listener = TcpListener::bind((Family::V4.loopback(), 0)).expect("listen");
        let address = listener.local_addr().expect("an address");
        for _ in 0..count {
            let client = TcpStream::connect(address).expect("connect");
            let (mut server, _) = listener.accept().expect("accept");
            drop(client);
            assert_eq!(server.read(&mut [0]).expect("read"), 0);
            drop(server);
        }
    });
}

/// Starts `daemon` on a namespace and waits until it is ready.
pub(crate) fn daemon(netns: &Netns) -> RunningDaemon {
    daemon_with(&["--netns", &netns.inode().to_string()])
}

/// Starts a daemon by this command, whose stderr is piped, and waits until it is ready.
pub(crate) fn start(command: &mut Command) -> Running {
    let mut child = command.spawn().expect("start tcp-close; cargo build --release makes it");
    let mut log = BufReader::new(child.stderr.take().expect("stderr is piped"));
    wait_for_line(&mut log, "ready");
    Running::new(child, log)
}

/// [`daemon`] with arguments of one's own.
pub(crate) fn daemon_with(arguments: &[&str]) -> RunningDaemon {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let socket = std::env::temp_dir().join(format!("tcp-close-test-{}-{number}.sock", std::process::id()));
    let mut child = program()
        .args(["daemon", "--web.listen-address", "127.0.0.1:0", "--socket"])
        .arg(&socket)
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("start tcp-close; TCP_CLOSE_BIN names it, or cargo build --release makes it");
    let mut log = BufReader::new(child.stderr.take().expect("stderr is piped"));
    let line = wait_for_line(&mut log, "ready");
    let running = Running::new(child, log);
    let address = line.split("127.0.0.1:").nth(1).expect("it says where it listens");
    let port: String = address.chars().take_while(char::is_ascii_digit).collect();
    let address = SocketAddr::new(Family::V4.loopback(), port.parse().expect("a port"));
    RunningDaemon { running, address, socket }
}

/// A page of the daemon. It is served in the namespace of the test process, outside of those under test.
pub(crate) fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("connect to the daemon");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").expect("ask");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("read the answer");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    answer
}

/// The sample of a series, named with its labels as the exposition has them.
pub(crate) fn sample(exposition: &str, series: &str) -> f64 {
    let value = exposition.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("{series} in {exposition}")).parse().expect("a number")
}

fn sum(exposition: &str, name: &str) -> f64 {
    let samples = exposition
        .lines()
        .filter(|line| line.starts_with(&format!("{name}{{")) || line.starts_with(&format!("{name} ")));
    samples.map(|line| line.rsplit(' ').next().expect("a value").parse::<f64>().expect("a number")).sum()
}

/// Sockets that the kernel cloned from a listener, as the daemon counted them.
fn clones(exposition: &str) -> f64 {
    sample(exposition, "tcp_close_transitions_total{from=\"listen\",to=\"syn_recv\"}")
}

/// All of them, or none where changes of state are told by `tcp_set_state`, which a clone does not pass through.
fn expected_clones(exposition: &str, made: f64) -> f64 {
    let hook = "tcp_close_hook_info{hook=\"state_change\",rung=\"";
    let rung = exposition.lines().find_map(|line| line.strip_prefix(hook)).expect("the hook has a rung");
    if rung.starts_with("tp_btf") { made } else { 0.0 }
}

#[test]
fn ten_thousand_connections_are_counted_one_by_one() {
    let count = many_connections();
    let netns = Netns::new();
    // The default depends on the machine's memory, and on a small one most TIME-WAITs would be refused.
    netns.sysctl("net/ipv4/tcp_max_tw_buckets", "100000");
    let before = Netstat::of(&netns);
    let running = daemon(&netns);
    get(running.address, "/healthz");
    get(running.address, "/readyz");
    loopback_connections(&netns, count);
    let connections = f64::from(count);
    let deadline = Deadline::after(Duration::from_secs(10));
    let exposition = loop {
        let exposition = get(running.address, "/metrics");
        if sum(&exposition, "tcp_close_endpoints_closed_total") >= 2.0 * connections {
            break exposition;
        }
        assert!(deadline.left().is_some(), "every end is told: {exposition}");
        thread::sleep(Duration::from_millis(20));
    };
    let kernel = Netstat::of(&netns).since(&before);
    let kernel = |group: &str, name: &str| kernel.get(group, name) as f64;
    let is = |series: &str| sample(&exposition, series);
    assert_eq!(sum(&exposition, "tcp_close_endpoints_closed_total"), 2.0 * connections);
    assert_eq!(is("tcp_close_endpoints_closed_total{manner=\"graceful\",role=\"active\"}"), connections);
    assert_eq!(is("tcp_close_endpoints_closed_total{manner=\"graceful\",role=\"passive\"}"), connections);
    assert_eq!(sum(&exposition, "tcp_close_events_lost_total"), 0.0);
    let cells = [
        ("close", "syn_sent"),
        ("syn_sent", "established"),
        ("syn_recv", "established"),
        ("established", "fin_wait1"),
        ("established", "close_wait"),
        ("fin_wait1", "fin_wait2"),
        ("close_wait", "last_ack"),
        ("last_ack", "close"),
        ("fin_wait2", "close"),
    ];
    for (from, to) in cells {
        assert_eq!(
            is(&format!("tcp_close_transitions_total{{from=\"{from}\",to=\"{to}\"}}")),
            connections,
            "{from} > {to}"
        );
    }
    let counted = kernel("TcpExt", "TW") + kernel("TcpExt", "TWKilled");
    let made = if oracle::counts_minisocks_as_they_begin() {
        counted
    } else {
        oracle::sockstat(&netns)["tw"] as f64 + counted
    };
    assert_eq!(sum(&exposition, "tcp_close_minisocks_created_total"), made);
    assert_eq!(
        is("tcp_close_transitions_total{from=\"established\",to=\"close\"}")
            + is("tcp_close_transitions_total{from=\"close_wait\",to=\"close\"}"),
        kernel("Tcp", "EstabResets")
    );
    assert_eq!(clones(&exposition), expected_clones(&exposition, kernel("Tcp", "PassiveOpens")));
    assert_eq!(is("tcp_close_tracked{table=\"sockets\"}"), 0.0, "nothing is left open");
}

#[test]
fn resets_of_established_connections_are_the_kernels() {
    const ABORTS: u32 = 100;
    let netns = Netns::new();
    let before = Netstat::of(&netns);
    let running = daemon(&netns);
    for _ in 0..ABORTS {
        let (client, server) = stream::pair(&netns, &netns, Family::V4.loopback());
        rustix::net::sockopt::set_socket_linger(&client, Some(Duration::ZERO)).expect("set SO_LINGER");
        drop(client);
        drop(server);
    }
    let deadline = Deadline::after(Duration::from_secs(10));
    let exposition = loop {
        let exposition = get(running.address, "/metrics");
        if sum(&exposition, "tcp_close_endpoints_closed_total") >= f64::from(2 * ABORTS) {
            break exposition;
        }
        assert!(deadline.left().is_some(), "every end is told: {exposition}");
        thread::sleep(Duration::from_millis(20));
    };
    let is = |series: &str| sample(&exposition, series);
    let ours = is("tcp_close_transitions_total{from=\"established\",to=\"close\"}")
        + is("tcp_close_transitions_total{from=\"close_wait\",to=\"close\"}");
    let kernel = Netstat::of(&netns).since(&before);
    assert_eq!(ours, kernel.get("Tcp", "EstabResets") as f64);
    assert_eq!(ours, f64::from(2 * ABORTS));
    let passive_opens = kernel.get("Tcp", "PassiveOpens") as f64;
    assert_eq!(clones(&exposition), expected_clones(&exposition, passive_opens));
}
