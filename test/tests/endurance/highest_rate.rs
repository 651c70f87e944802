//! Connections as fast as this machine can make them, while the daemon loses none of it.

use std::{
    io::Read as _,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use tcp_close_test::{clock, netns::Netns};

use crate::{
    alone,
    daemon::Daemon,
    duration,
    reckoning::{Kernel, Reckoning, nothing_is_left},
};

/// Destination addresses, each of which has the ephemeral ports for itself: more TIME-WAITs than end in a minute.
const DESTINATIONS: u64 = 128;

/// How long a table takes to fill, on a machine that is slow: were it longer, what came first would be over by then.
const FULL_WITHIN: Duration = Duration::from_secs(60);

/// What a table may hold that is to be full soon.
const FEW: &str = "30000";

/// The kernel's own limit of minisocks, where there is time enough to come to it: most of the time there is no room for
/// another.
#[test]
fn with_a_table_that_is_full() {
    let _alone = alone();
    let netns = Netns::new();
    if time() < FULL_WITHIN {
        netns.sysctl("net/ipv4/tcp_max_tw_buckets", FEW);
    }
    let daemon = Daemon::watching(&[&netns], &[]);
    let refused = run(&netns, &daemon, |kernel| kernel.get("TcpExt", "TCPTimeWaitOverflow") > 0.0);
    assert!(refused > 0.0, "the table does not fill within {FULL_WITHIN:?}");
    no_minisock_is_left(netns, &daemon);
}

/// Room for four million minisocks, and a daemon that may follow as many.
#[test]
fn with_a_table_that_has_room() {
    let _alone = alone();
    let netns = Netns::new();
    netns.sysctl("net/ipv4/tcp_max_tw_buckets", "4000000");
    let daemon = Daemon::watching(&[&netns], &["--max-minisocks", "4000000"]);
    let refused = run(&netns, &daemon, |_| true);
    assert_eq!(refused, 0.0);
    no_minisock_is_left(netns, &daemon);
}

fn time() -> Duration {
    duration(20, 600)
}

/// Two threads for each processor open and close, so that none of them is ever idle, until it is time and the kernel's
/// counts are as wanted. Gives back how many TIME-WAITs were refused.
#[track_caller]
fn run(netns: &Netns, daemon: &Daemon, is_enough: impl Fn(&Kernel) -> bool) -> f64 {
    let reckoning = Reckoning::of(vec![netns]);
    let threads = 2 * thread::available_parallelism().expect("there is one").get();
    let (begun, time) = (clock::now(), time());
    let enough = Arc::new(AtomicBool::new(false));
    let workers: Vec<_> = (0..threads)
        .map(|_| {
            let enough = Arc::clone(&enough);
            netns.spawn(move || open_and_close(&enough))
        })
        .collect();
    let age = || clock::now().saturating_sub(begun);
    while age() < time || !is_enough(&reckoning.kernel()) && age() < FULL_WITHIN {
        thread::sleep(Duration::from_millis(100));
    }
    enough.store(true, Ordering::Relaxed);
    let connections = workers.into_iter().map(|worker| worker.join().expect("it goes on")).sum::<u64>();
    let seconds = age().as_secs_f64();
    let (exposition, kernel) = reckoning.agrees(daemon, 2 * connections);
    assert_eq!(kernel.get("Tcp", "ActiveOpens"), connections as f64);
    let refused = exposition.sum("tcp_close_time_wait_refused_total");
    println!(
        "{connections} connections, {:.0} a second; {refused} refused; {:.0} % of a processor; {} bytes",
        connections as f64 / seconds,
        100.0 * exposition.get("process_cpu_seconds_total") / seconds,
        daemon.memory()
    );
    refused
}

/// Opens connections to many destinations and closes them, the client first; gives back how many.
fn open_and_close(enough: &AtomicBool) -> u64 {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("listen");
    let port = listener.local_addr().expect("an address").port();
    let mut connections: u64 = 0;
    while !enough.load(Ordering::Relaxed) {
        let [.., last] = (1 + connections % DESTINATIONS).to_be_bytes();
        let to = SocketAddr::from((Ipv4Addr::new(127, 0, 1, last), port));
        let client = TcpStream::connect(to).unwrap_or_else(|error| panic!("connect to {to}: {error}"));
        let (mut server, _) = listener.accept().expect("accept");
        drop(client);
        assert_eq!(server.read(&mut [0]).expect("read to the client's FIN"), 0);
        drop(server);
        connections += 1;
    }
    connections
}

/// The namespace goes, and its minisocks with it: as many as there are, at once. What of that the ring has no room for is
/// lost and counted, and that there is no way into the namespace any more shows that they are gone.
#[track_caller]
fn no_minisock_is_left(netns: Netns, daemon: &Daemon) {
    netns.destroy();
    let begun = clock::now();
    let exposition = nothing_is_left(daemon);
    let purged = exposition.sum_of("tcp_close_minisocks_ended_total", "cause=\"purged\"");
    let lost = exposition.sum("tcp_close_events_lost_total");
    println!("{purged} purged, {lost} lost, known after {:?}", clock::now().saturating_sub(begun));
}
