//! The daemon stands still while connections close, until the ring is full and far beyond that.

use std::{thread, time::Duration};

use rustix::process::Signal;
use tcp_close_test::{
    address::Family,
    clock::{Deadline, now},
    oracle::Netstat,
};

use crate::{
    agreement::agrees,
    beside_others, brief_or_full,
    daemon::{Daemon, PATIENCE, get, lost, sample, told},
    eventually,
    load::{Load, connections},
    stuck::Stuck,
};

/// A connection leaves six records of almost 200 bytes, and the ring has 16 MiB.
const TOO_MANY: u64 = 50_000;

#[test]
fn who_stood_still_agrees_again() {
    let _not_alone = beside_others();
    let mut stuck = Stuck::new();
    let daemon = Daemon::of(&stuck.netns, &[]);
    let before = Netstat::of(&stuck.netns);
    assert_eq!((lost(&agrees(&stuck.netns, &daemon)), told(&daemon.metrics())), (0.0, 0.0));

    daemon.running.stop();
    let asked = thread::spawn({
        let address = daemon.address;
        move || get(address, "/metrics")
    });
    let load = Load::start(&stuck.netns, 2, 100_000);
    let stands_still = Deadline::after(brief_or_full(Duration::from_secs(3), Duration::from_secs(30)));
    let at_last = Deadline::after(Duration::from_secs(120));
    while stands_still.left().is_some() || load.made() < TOO_MANY {
        assert!(at_last.left().is_some(), "{} connections", load.made());
        thread::sleep(Duration::from_millis(20));
    }
    let made = load.finish() as f64;
    // By now nothing of these finds room in the ring; among the kernel's minisocks it has to.
    stuck.netns.sysctl("net/ipv4/tcp_max_tw_buckets", "200000");
    for family in Family::BOTH {
        stuck.in_fin_wait1(family);
        stuck.in_fin_wait2_as_minisock(family);
        stuck.in_close_wait(family);
        stuck.in_last_ack(family);
    }
    let goes_on = now();
    daemon.running.signal(Signal::CONT);

    asked.join().expect("who asked meanwhile is answered");
    let exposition = agrees(&stuck.netns, &daemon);
    println!(
        "{made} connections; agrees {:?} later, {} lost",
        now().saturating_sub(goes_on),
        lost(&exposition)
    );
    assert!(sample(&exposition, "tcp_close_events_lost_total{cause=\"ring_full\"}") > 0.0, "{exposition}");
    assert!(sample(&exposition, "tcp_close_reconcile_corrections_total{correction=\"added\"}") >= 8.0);
    // Each end that was not told is among what was lost. Two more have gone over into minisocks.
    let ends = 2.0 * made + 2.0;
    assert!(told(&exposition) <= ends && ends - told(&exposition) <= lost(&exposition), "{exposition}");
    // What the kernel side counts, no ring loses.
    let transitions = |from: &str, to: &str| {
        sample(&exposition, &format!("tcp_close_transitions_total{{from=\"{from}\",to=\"{to}\"}}"))
    };
    let opened = Netstat::of(&stuck.netns).since(&before).get("Tcp", "ActiveOpens") as f64;
    let skipped = sample(&exposition, "tcp_close_events_lost_total{cause=\"recursion\"}");
    assert!(opened - transitions("close", "syn_sent") <= skipped, "{opened} opened: {exposition}");
    assert!(made - transitions("last_ack", "close") <= skipped, "{made} made: {exposition}");

    // From then on it is as it was before.
    let before = daemon.metrics();
    connections(&stuck.netns, 50);
    let after = eventually(PATIENCE, || {
        let exposition = daemon.metrics();
        let more = told(&exposition) - told(&before);
        if more >= 100.0 { Ok(exposition) } else { Err(format!("{more} ends of 100 are told")) }
    });
    assert_eq!((told(&after) - told(&before), lost(&after)), (100.0, lost(&before)));
    stuck.flip();
    agrees(&stuck.netns, &daemon);
    stuck.let_go();
    agrees(&stuck.netns, &daemon);
}
