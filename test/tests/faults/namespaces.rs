//! Network namespaces come and go by the hundred, as on a host where containers are started and removed, and the daemon
//! watches all of the host.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    ops::Range,
    process::{self, Command, Stdio},
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
};

use serde_json::Value;
use tcp_close_test::{netns::Netns, stream};

use crate::{
    alone, brief_or_full,
    daemon::{Daemon, PATIENCE, Running, lost, sample},
    eventually,
};

/// Connections in each, and what is told of one: either end, and later its TIME-WAIT.
const IN_EACH: usize = 5;
const LINES: usize = 3;

/// One in so many has a process that lives in it, by which it is found; the others belong to a thread.
const FOUND: usize = 4;

/// What the daemon may grow by, however many namespaces there were.
const GROWTH: f64 = (8 << 20) as f64;

/// What it may take for each socket that it follows, and for each end that it remembers: docs/interface.md and `--help`.
const FOLLOWED: f64 = 600.0;
const REMEMBERED: f64 = 512.0;

/// Names that have series of their own.
const TOP: usize = 10;

/// What the daemon takes.
#[derive(Debug)]
struct Taken {
    memory: f64,
    descriptors: usize,
    threads: f64,
    /// What it has of others on this host too.
    followed: f64,
    remembered: f64,
}

impl Taken {
    fn by(daemon: &Daemon) -> Self {
        let exposition = daemon.metrics();
        let is = |series: &str| sample(&exposition, series);
        let followed =
            is("tcp_close_tracked{table=\"minisocks\"}") + is("tcp_close_tracked{table=\"sockets\"}");
        Self {
            memory: is("process_resident_memory_bytes"),
            descriptors: daemon.descriptors(),
            threads: is("process_threads"),
            followed,
            remembered: is("tcp_close_tracked{table=\"ended\"}"),
        }
    }
}

/// Where connections are from, and where they lead: nobody else on this host has one between these.
type Addresses = [Ipv4Addr; 2];

/// The last bytes of the addresses of those that the daemon is tried out with, and of those that count.
const TRIAL: [u8; 2] = [3, 4];
const COUNTED: [u8; 2] = [1, 2];

fn addresses(last: [u8; 2]) -> Addresses {
    let [.., high, low] = process::id().to_be_bytes();
    last.map(|last| Ipv4Addr::new(127, high | 128, low, last))
}

/// Opens and closes connections in a namespace of their own, which then goes away with their TIME-WAITs.
fn namespace_with_connections([near, far]: Addresses, with_process: bool) {
    let netns = Netns::new();
    let process = with_process.then(|| {
        let sleeping = netns.run(|| Command::new("sleep").arg("600").stdin(Stdio::null()).spawn());
        Running(sleeping.expect("a process that does nothing"))
    });
    netns.run(move || {
        let listener = TcpListener::bind((far, 0)).expect("listen");
        let to = listener.local_addr().expect("an address");
        for _ in 0..IN_EACH {
            let client = stream::connect_bound(SocketAddr::from((near, 0)), to).expect("connect");
            let (mut server, _) = listener.accept().expect("accept");
            drop(client);
            assert_eq!(server.read(&mut [0]).expect("read"), 0);
        }
    });
    drop(process);
}

/// What `watch` tells of connections between any of them, as it comes.
struct Told {
    lines: Arc<Mutex<Vec<Value>>>,
    /// What it complains of.
    complaints: Arc<Mutex<String>>,
    watching: Running,
    readers: [JoinHandle<()>; 2],
}

impl Told {
    fn by(daemon: &Daemon) -> Self {
        let [near, _] = addresses(COUNTED);
        let filter = format!("src = {near}/24");
        let watch = daemon.asked_by("watch", &["-o", "json", &filter]).spawn();
        let mut watching = Running(watch.expect("start tcp-close"));
        let out = BufReader::new(watching.0.stdout.take().expect("stdout is piped"));
        let err = BufReader::new(watching.0.stderr.take().expect("stderr is piped"));
        let complaints = Arc::<Mutex<String>>::default();
        let said = Arc::clone(&complaints);
        let listener = thread::spawn(move || {
            for line in err.lines().map_while(Result::ok) {
                *said.lock().expect("nobody panicked") += &(line + "\n");
            }
        });
        let lines = Arc::<Mutex<Vec<Value>>>::default();
        let all = Arc::clone(&lines);
        let reader = thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                let event = serde_json::from_str(&line).expect("an object");
                all.lock().expect("nobody panicked").push(event);
            }
        });
        Self { lines, complaints, watching, readers: [reader, listener] }
    }

    /// How many lines it says it lacks at most: others on this host close connections too, faster than it reads.
    fn missed(&self) -> usize {
        let complaints = self.complaints.lock().expect("nobody panicked");
        let counts = complaints.lines().filter_map(|line| line.split("at most ").nth(1)?.split(' ').next());
        counts.map(|count| count.parse::<usize>().expect("a number")).sum()
    }

    /// How many of these lines there are.
    fn count(&self, which: impl Fn(&Value) -> bool) -> usize {
        self.lines.lock().expect("nobody panicked").iter().filter(|line| which(line)).count()
    }

    fn end(mut self) {
        self.watching.kill();
        for reader in self.readers {
            reader.join().expect("every line is an object");
        }
    }
}

/// Whether a line is of a connection that counts.
fn counts(line: &Value) -> bool {
    addresses(COUNTED).iter().any(|address| line["local"]["addr"] == address.to_string())
}

#[test]
fn however_many_namespaces_there_were_it_is_as_before() {
    let _alone = alone();
    let count = brief_or_full(200, 1_000);
    let daemon =
        Daemon::with(&["--remember", "20000", "--top", &TOP.to_string(), "--reconcile-interval", "1s"]);
    let told = Told::by(&daemon);
    eventually(PATIENCE, || {
        namespace_with_connections(addresses(TRIAL), false);
        if told.count(|_| true) > 0 { Ok(()) } else { Err("nothing is told".to_owned()) }
    });

    let storm = |numbers: Range<usize>| {
        for number in numbers {
            namespace_with_connections(addresses(COUNTED), number % FOUND == 0);
        }
    };
    storm(0..count / 4);
    let before = Taken::by(&daemon);
    storm(count / 4..count);
    let due = count * IN_EACH * LINES;
    let exposition = eventually(PATIENCE, || {
        let exposition = daemon.metrics();
        let (missed, told, lost) = (told.missed(), told.count(counts), lost(&exposition));
        let is_enough = (told + missed) as f64 + lost >= due as f64;
        let so_far = || format!("{told} of {due} are told, {lost} lost, {missed} came too fast");
        if is_enough { Ok(exposition) } else { Err(so_far()) }
    });
    let ended = |line: &Value| counts(line) && line["event"] == "time_wait_ended";
    let purged = |line: &Value| ended(line) && line["time_wait"]["cause"] == "purged";
    println!(
        "{due} due, {} told, {} lost, {} came too fast",
        told.count(counts),
        lost(&exposition),
        told.missed()
    );
    assert!(told.count(counts) <= due && told.count(ended) <= count * IN_EACH, "each is told once");
    assert_eq!(told.count(ended), told.count(purged), "they went with their namespaces");

    // It has done with what is over, and has no more than it had.
    let after = eventually(PATIENCE, || {
        let after = Taken::by(&daemon);
        let is_back = after.descriptors <= before.descriptors && after.threads <= before.threads;
        if is_back { Ok(after) } else { Err(format!("{before:?}, then {after:?}")) }
    });
    println!("{before:?}, then {after:?}");
    let tables = FOLLOWED * (after.followed - before.followed).max(0.0)
        + REMEMBERED * (after.remembered - before.remembered).max(0.0);
    assert!(after.memory - before.memory <= GROWTH + tables, "{before:?}, then {after:?}");
    for metric in ["used", "available", "exhaustion_seconds"] {
        let is_of = |line: &&str| line.starts_with(&format!("tcp_close_ports_{metric}{{"));
        let series = exposition.lines().filter(is_of).count();
        assert!(series <= TOP + 1, "{series} of {metric}");
    }
    for table in ["minisocks", "sockets"] {
        let evicted = sample(&exposition, &format!("tcp_close_tracked_evicted_total{{table=\"{table}\"}}"));
        assert_eq!(evicted, 0.0, "{table}");
    }
    told.end();
}
