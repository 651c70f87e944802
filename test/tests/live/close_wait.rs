//! A process that does not close what its peers have closed.

use std::fs;

use tcp_close_test::{address::Family, cgroup::Cgroup, clock::Deadline, clock::PATIENCE};

use crate::{census::daemon, program::get, stuck::Stuck};

/// The daemon finds it out while it happens, names the process and one of its descriptors, and counts its sockets.
#[test]
fn a_process_that_leaves_sockets_in_close_wait_is_found() {
    const SOCKETS: usize = 5;
    let cgroup = Cgroup::new();
    let mut stuck = Stuck::new();
    let daemon = daemon(&stuck, &["--close-wait-after", "1s"]);
    cgroup.run(|| (0..SOCKETS).for_each(|_| stuck.in_close_wait(Family::V4)));
    let said = daemon.running.wait_for("leaves sockets in CLOSE-WAIT");
    assert!(said.contains(&format!("pid={} ", std::process::id())), "{said}");
    let (_, descriptor) = said.split_once("its descriptor ").expect("it names one");
    let fd: String = descriptor.chars().take_while(char::is_ascii_digit).collect();
    let target = fs::read_link(format!("/proc/self/fd/{fd}")).expect("it is open");
    assert!(target.to_string_lossy().starts_with("socket:["), "{target:?}");

    let deadline = Deadline::after(PATIENCE);
    let series = format!("tcp_close_service_sockets{{service=\"{}\",state=\"close_wait\"}} ", cgroup.name());
    loop {
        let exposition = get(daemon.address, "/metrics");
        let sockets = exposition.lines().find_map(|line| line.strip_prefix(&series));
        if sockets == Some(&SOCKETS.to_string()) {
            break;
        }
        assert!(deadline.left().is_some(), "{series}: {exposition}");
    }
    drop(stuck);
}
