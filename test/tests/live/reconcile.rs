//! The daemon and what it has not seen: sockets older than itself, and events that were lost.

use rustix::process::{Signal, kill_process};
use tcp_close_test::{
    address::Family,
    oracle::{self, NotDestroyed},
};

use crate::{
    census::{agrees_with_the_kernel, daemon},
    stuck::Stuck,
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
    let (_running, address) = daemon(&stuck, &[]);
    let exposition = agrees_with_the_kernel(&stuck, address);
    assert_eq!(corrections(&exposition, "added"), 21, "{exposition}");
    stuck.flip();
    agrees_with_the_kernel(&stuck, address);
    let sockets = stuck.let_go();
    let exposition = agrees_with_the_kernel(&stuck, address);
    assert!(sockets > 0 && corrections(&exposition, "removed") == 0, "{exposition}");
    assert_eq!(corrections(&exposition, "changed"), 0, "{exposition}");
}

/// With a ring of one page, and nobody who reads it, nearly every event is lost: of sockets that begin to close, and of
/// those that end. The kernel's table puts both right.
#[test]
fn what_was_lost_is_put_right() {
    let mut stuck = Stuck::new();
    let (running, address) = daemon(&stuck, &["--ring-bytes", "4096"]);
    agrees_with_the_kernel(&stuck, address);
    let pause = |signal| kill_process(running.pid(), signal).expect("it runs");

    pause(Signal::STOP);
    stuck.in_every_state();
    pause(Signal::CONT);
    let exposition = agrees_with_the_kernel(&stuck, address);
    assert!(corrections(&exposition, "added") > 0, "{exposition}");

    for _ in 0..40 {
        stuck.in_close_wait(Family::V4);
    }
    agrees_with_the_kernel(&stuck, address);
    pause(Signal::STOP);
    let full_sockets = |socket: &oracle::Socket| socket.timer != oracle::Timer::TimeWait;
    assert_eq!(oracle::destroy(&stuck.netns, full_sockets), Ok::<(), NotDestroyed>(()));
    pause(Signal::CONT);
    let exposition = agrees_with_the_kernel(&stuck, address);
    assert!(corrections(&exposition, "removed") > 0, "{exposition}");
}
