//! Every kind of ending at once, at a pace at which tables soon hold what they will ever hold.

use std::{fs, thread, time::Duration};

use tcp_close_test::{
    clock::{self, Deadline},
    netns::Netns,
};

use crate::{
    alone,
    daemon::Daemon,
    duration, ending,
    reckoning::{Reckoning, nothing_is_left, nothing_is_lost},
};

/// How much memory the daemon may have taken between the warm-up and the end, in bytes: room for tables that double late,
/// and for a turn that is longer than any before. In an hour twenty million ends come: a byte kept of each would be more.
/// Seen were two steps of 7.5 MB in all, the last of them in the second minute, and 0.4 MB besides.
const GROWTH: f64 = 20e6;

/// How long tables go on to fill: as long as a TIME-WAIT lasts, and some seconds more.
const TABLES_FILL: Duration = Duration::from_secs(66);

#[test]
fn of_every_kind() {
    let _alone = alone();
    let settings: [&[(&str, &str)]; 5] = [
        // So few ports that pairs are taken again all the time, by connect and by the peer's SYN.
        &[("net/ipv4/tcp_tw_reuse", "1"), ("net/ipv4/ip_local_port_range", "20000 20199")],
        &[("net/ipv4/tcp_max_tw_buckets", "50")],
        // So that the number of TIME-WAITs does not go on rising for a minute.
        &[("net/ipv4/tcp_max_tw_buckets", "3000")],
        &[("net/ipv4/tcp_fin_timeout", "1")],
        &[],
    ];
    let namespaces = settings.map(|settings| {
        let netns = Netns::new();
        for (name, value) in settings {
            netns.sysctl(name, value);
        }
        netns
    });
    let [reused, full, aborted, timed_out, scripted] = &namespaces;
    // In milliseconds; before Linux 6.14 it is a second, in which there are ports enough.
    reused.try_sysctl("net/ipv4/tcp_tw_reuse_delay", "1");
    let daemon = Daemon::watching(&namespaces.each_ref(), &[]);
    let reckoning = Reckoning::of(namespaces.iter().collect());

    let time = duration(90, 3600);
    let begun = clock::now();
    let until = begun + time;
    let ways = [
        reused.spawn(move || ending::orderly(until)),
        full.spawn(move || ending::orderly(until)),
        aborted.spawn(move || ending::abortive(until)),
        timed_out.spawn(move || ending::timed_out(until)),
    ];
    let (ends, warm) = thread::scope(|scope| {
        let scripted = scope.spawn(|| ending::scripted(scripted, until));
        let warm = warm_up(&daemon, begun + TABLES_FILL.max(time / 3));
        while clock::now() < until {
            nothing_is_lost(&daemon.scrape());
            thread::sleep(Duration::from_secs(1).min(until.saturating_sub(clock::now())));
        }
        let ends = ways.map(|way| way.join().expect("it goes on"));
        (ends.iter().sum::<u64>() + scripted.join().expect("it goes on"), warm)
    });

    let (exposition, kernel) = reckoning.agrees(&daemon, ends);
    assert!(kernel.get("TcpExt", "TCPTimeWaitOverflow") > 0.0, "no TIME-WAIT is refused");
    for cause in
        ["assassinated", "fin_wait2_timeout", "recycled", "reset_by_us", "reset_in_fin_wait2", "reused"]
    {
        let label = format!("cause=\"{cause}\"");
        assert!(
            exposition.sum_of("tcp_close_minisocks_ended_total", &label) > 0.0,
            "{cause} does not happen"
        );
    }
    for label in ["simultaneous", "reset_sent", "reset_received", "graceful"] {
        assert!(
            exposition.sum_of("tcp_close_endpoints_closed_total", label) > 0.0,
            "{label} does not happen"
        );
    }
    assert_eq!(
        exposition.get("tcp_close_attempts_failed_total{state=\"syn_sent\"}"),
        kernel.get("Tcp", "AttemptFails")
    );

    let grown = daemon.memory() - warm.memory;
    println!("{ends} ends; grown by {grown} bytes, {:?}", Used::by(&daemon));
    assert!(grown <= GROWTH, "{grown} bytes more than after the warm-up; {exposition}");
    drop(namespaces);
    nothing_is_lost(&nothing_is_left(&daemon));
    let grown = daemon.memory() - warm.memory;
    assert!(grown <= GROWTH, "{grown} bytes more than after the warm-up; {exposition}");
    warm.is_all_there_is(&daemon);
}

/// What the daemon uses.
#[derive(Debug)]
struct Used {
    memory: f64,
    threads: usize,
    files: usize,
}

/// Waits until the daemon has had time to fill its tables, and what it remembers of ends.
#[track_caller]
fn warm_up(daemon: &Daemon, until: Duration) -> Used {
    /// `--remember`, by default, of connections and as many TIME-WAITs.
    const REMEMBERED: f64 = 50_000.0;
    let left = until.saturating_sub(clock::now());
    daemon.scrape_until((4 * left).max(Duration::from_secs(60)), |exposition| {
        let ends = exposition.sum("tcp_close_endpoints_closed_total");
        (clock::now() < until || ends < REMEMBERED).then(|| format!("{ends} ends are told"))
    });
    Used::by(daemon)
}

impl Used {
    fn by(daemon: &Daemon) -> Self {
        let count = |what| fs::read_dir(format!("/proc/{}/{what}", daemon.pid())).expect("it runs").count();
        Self { memory: daemon.memory(), threads: count("task"), files: count("fd") }
    }

    /// Threads and files come and go with scrapes, but no more than there were are left.
    #[track_caller]
    fn is_all_there_is(&self, daemon: &Daemon) {
        let deadline = Deadline::after(Duration::from_secs(30));
        loop {
            let now = Self::by(daemon);
            if now.threads <= self.threads && now.files <= self.files {
                break;
            }
            assert!(deadline.left().is_some(), "{now:?} after {self:?}");
            thread::sleep(Duration::from_millis(100));
        }
    }
}
