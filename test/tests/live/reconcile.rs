//! The daemon and what it has not seen: sockets older than itself, and events that were lost.

use std::{
    collections::BTreeMap,
    io::Read as _,
    net::{TcpListener, TcpStream},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use rustix::process::{Signal, kill_process};
use tcp_close::clock::monotonic_now as now;
use tcp_close_test::{
    address::Family,
    clock::{Deadline, PATIENCE},
    oracle::{self, NotDestroyed, TcpState, Timer},
};

use crate::{
    census::{agrees_with_the_kernel, daemon},
    list::{list, rows},
    program::{daemon_with, get, loopback_connections},
    stuck::{Stuck, count},
};

/// How often the kernel's table put something right.
fn corrections(exposition: &str, correction: &str) -> u64 {
    let series = format!("tcp_close_reconcile_corrections_total{{correction=\"{correction}\"}} ");
    let value = exposition.lines().find_map(|line| line.strip_prefix(&series)).expect("it is exported");
    value.parse().expect("a number")
}

/// Sockets that were stuck before the daemon came are known to it, and what becomes of them is seen.
#[test]
fn what_was_there_before_is_known() {
    let mut stuck = Stuck::new();
    stuck.in_every_state();
    let running = daemon(&stuck, &[]);
    let exposition = agrees_with_the_kernel(&stuck, running.address);
    assert_eq!(corrections(&exposition, "added"), 21, "{exposition}");
    stuck.flip();
    agrees_with_the_kernel(&stuck, running.address);
    let sockets = stuck.let_go();
    let exposition = agrees_with_the_kernel(&stuck, running.address);
    assert!(sockets > 0 && corrections(&exposition, "removed") == 0, "{exposition}");
    assert_eq!(corrections(&exposition, "changed"), 0, "{exposition}");
}

/// A number that no namespace has is no error, for there are namespaces that nobody can find; but whoever mistyped it hears
/// of it.
#[test]
fn a_namespace_that_is_not_to_be_found_is_named() {
    let running = daemon_with(&["--netns", "1"]);
    running.running.wait_for("network namespace 1 is not to be found");
}

/// With a ring of one page, and nobody who reads it, nearly every event is lost: of sockets that begin to close, and of
/// those that end. The kernel's table puts both right.
#[test]
fn what_was_lost_is_put_right() {
    let mut stuck = Stuck::new();
    let running = daemon(&stuck, &["--ring-bytes", "4096"]);
    agrees_with_the_kernel(&stuck, running.address);
    let pause = |signal| kill_process(running.running.pid(), signal).expect("it runs");

    pause(Signal::STOP);
    stuck.in_every_state();
    pause(Signal::CONT);
    let exposition = agrees_with_the_kernel(&stuck, running.address);
    assert!(corrections(&exposition, "added") > 0, "{exposition}");

    for _ in 0..40 {
        stuck.in_close_wait(Family::V4);
    }
    agrees_with_the_kernel(&stuck, running.address);
    pause(Signal::STOP);
    let full_sockets = |socket: &oracle::Socket| socket.timer != Timer::TimeWait;
    assert_eq!(oracle::destroy(&stuck.netns, full_sockets), Ok::<(), NotDestroyed>(()));
    pause(Signal::CONT);
    let exposition = agrees_with_the_kernel(&stuck, running.address);
    assert!(corrections(&exposition, "removed") > 0, "{exposition}");
}

/// Servers' ends of connections of which the client has closed its own.
fn in_close_wait() -> Vec<TcpStream> {
    let listener = TcpListener::bind((Family::V4.loopback(), 0)).expect("listen");
    let address = listener.local_addr().expect("an address");
    let server = |_| {
        let client = TcpStream::connect(address).expect("connect");
        let (mut server, _) = listener.accept().expect("accept");
        drop(client);
        assert_eq!(server.read(&mut [0]).expect("read"), 0);
        server
    };
    (0..40).map(server).collect()
}

/// A namespace goes away while nobody reads the ring. No way leads to its table any more, and nothing is left of what was
/// in it.
#[test]
fn what_was_lost_of_a_namespace_that_is_gone_is_put_right() {
    let stuck = Stuck::new();
    stuck.netns.acknowledge_at_once();
    let running = daemon(&stuck, &["--ring-bytes", "4096"]);
    loopback_connections(&stuck.netns, 100);
    let held = stuck.netns.run(in_close_wait);
    agrees_with_the_kernel(&stuck, running.address);
    let pause = |signal| kill_process(running.running.pid(), signal).expect("it runs");

    pause(Signal::STOP);
    drop((held, stuck));
    pause(Signal::CONT);
    let deadline = Deadline::after(PATIENCE);
    let exposition = loop {
        let exposition = get(running.address, "/metrics");
        let left = |series: &str| {
            let values = exposition.lines().filter_map(|line| line.strip_prefix(series)?.rsplit_once(' '));
            values.map(|(_, value)| value.parse::<u64>().expect("a number")).sum::<u64>()
        };
        let left = [
            left("tcp_close_sockets{"),
            left("tcp_close_tracked{table=\"sockets"),
            left("tcp_close_tracked{table=\"minisocks"),
        ];
        if left == [0; 3] {
            break exposition;
        }
        assert!(deadline.left().is_some(), "{left:?} are left; {exposition}");
        thread::sleep(Duration::from_millis(20));
    };
    assert!(corrections(&exposition, "removed") > 0, "{exposition}");
}

/// A daemon that comes in the middle of thousands of TIME-WAITs, and of sockets that are stuck, shows within two seconds
/// what there is, and how long each has yet to go.
#[test]
fn thousands_that_were_there_before_are_known() {
    const TIME_WAITS: u32 = 5_000;
    let mut stuck = Stuck::new();
    stuck.netns.sysctl("net/ipv4/tcp_max_tw_buckets", "100000");
    // On a slow machine some would be a second old before all are made, and be taken for the next.
    stuck.netns.sysctl("net/ipv4/tcp_tw_reuse", "0");
    for _ in 0..50 {
        stuck.in_close_wait(Family::V4);
        stuck.in_fin_wait2_as_full_socket(Family::V4);
        stuck.in_last_ack(Family::V6);
        stuck.in_fin_wait1(Family::V6);
    }
    loopback_connections(&stuck.netns, TIME_WAITS);
    // The last one's ACK may be on its way on a busy machine; the daemon would see it come.
    let deadline = Deadline::after(PATIENCE);
    while count(&oracle::sockets(&stuck.netns), TcpState::TimeWait) < TIME_WAITS as usize {
        assert!(deadline.left().is_some(), "not all of them are in TIME-WAIT");
    }
    let daemon = daemon(&stuck, &[]);
    let ready = now();
    agrees_with_the_kernel(&stuck, daemon.address);
    assert!(now().since(ready) < Duration::from_secs(2), "it takes {:?}", now().since(ready));
    let deadline = Deadline::after(PATIENCE);
    loop {
        // They are counted from the table of the moment; each is taken in, too.
        let exposition = get(daemon.address, "/metrics");
        if corrections(&exposition, "added") >= u64::from(TIME_WAITS) + 200 {
            break;
        }
        assert!(deadline.left().is_some(), "{exposition}");
    }

    let socket = daemon.socket.to_str().expect("text");
    let before = oracle::sockets(&stuck.netns);
    let (lines, _) = list(&stuck, &["--socket", socket, "-o", "json"]);
    let listed = rows(&lines);
    let table = oracle::sockets(&stuck.netns);
    let by_cookie = |table: &[oracle::Socket]| -> BTreeMap<u64, oracle::Socket> {
        table.iter().map(|socket| (socket.cookie, socket.clone())).collect()
    };
    let (most, least) = (by_cookie(&before), by_cookie(&table));
    assert_eq!(count(&table, TcpState::TimeWait), TIME_WAITS as usize, "the minute is not over");
    assert_eq!(listed.len(), table.len(), "all of them are closing");
    for row in &listed {
        let cookie = row["cookie"].as_u64().expect("the kernel gives one");
        let (socket, earlier) = (&least[&cookie], &most[&cookie]);
        let left = row["left_seconds"].as_f64();
        assert_eq!(left.is_some(), socket.timer == Timer::TimeWait, "{row} {socket}");
        // To the tick: what passed between the looks is all that may differ.
        let is_so = |left: f64| {
            left >= socket.expires.as_secs_f64() - 0.02 && left <= earlier.expires.as_secs_f64() + 0.02
        };
        assert!(left.is_none_or(is_so), "{row} {socket} {earlier}");
        assert_eq!(row["source"], "snapshot", "{row}");
    }
}

/// Whatever only ever grows, by series.
fn counters(exposition: &str) -> BTreeMap<String, f64> {
    let grows = |name: &str| {
        let name = name.split('{').next().unwrap_or_default();
        name.ends_with("_total") || (name.ends_with("_count") && !name.contains("age_seconds"))
    };
    exposition
        .lines()
        .filter_map(|line| line.rsplit_once(' '))
        .filter(|(name, _)| !name.starts_with('#') && grows(name))
        .map(|(name, value)| (name.to_owned(), value.parse().expect("a number")))
        .collect()
}

/// It may be stopped and started again at any time.
#[test]
fn a_daemon_that_is_started_again_under_load_agrees_again() {
    // On a small machine the daemon's own bound is lower than what a fast one makes meanwhile.
    const MOST: &str = "100000";
    let stuck = Stuck::new();
    stuck.netns.sysctl("net/ipv4/tcp_max_tw_buckets", MOST);
    let enough = AtomicBool::new(false);
    thread::scope(|scope| {
        let load = scope.spawn(|| {
            while !enough.load(Ordering::Relaxed) {
                loopback_connections(&stuck.netns, 100);
            }
        });
        for _ in 0..2 {
            let daemon = daemon(&stuck, &[]);
            let mut before = BTreeMap::new();
            for _ in 0..10 {
                let after = counters(&get(daemon.address, "/metrics"));
                for (series, value) in before {
                    assert!(after.get(&series).is_some_and(|now| *now >= value), "{series} goes back");
                }
                before = after;
                thread::sleep(Duration::from_millis(20));
            }
            assert!(before["tcp_close_time_wait_started_total"] > 0.0, "there is no load: {before:?}");
        }
        let daemon = daemon(&stuck, &["--reconcile-interval", "1s", "--max-minisocks", MOST]);
        enough.store(true, Ordering::Relaxed);
        load.join().expect("the load ends");
        let exposition = agrees_with_the_kernel(&stuck, daemon.address);
        assert!(corrections(&exposition, "added") > 0, "{exposition}");
        assert_eq!(counters(&exposition)["tcp_close_events_lost_total{cause=\"ring_full\"}"], 0.0);
    });
}
