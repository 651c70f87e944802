//! Whether the daemon's gauges are what the kernel counts.

use std::time::Duration;

use tcp_close_test::{netns::Netns, oracle};

use crate::{
    daemon::{Daemon, exported},
    eventually,
    stuck::{CLOSING, count},
};

/// A reconcile waits a second for losses to come to an end, and then reads the kernel's table twice. What is more is for
/// machines that have much else to do.
pub(crate) const ONE_RECONCILE: Duration = Duration::from_secs(10);

/// Asks until every gauge is what the kernel has in that state, and the minisocks are those that it counts. It counts
/// when it was not the table that changed meanwhile.
#[track_caller]
pub(crate) fn agrees(netns: &Netns, daemon: &Daemon) -> String {
    eventually(ONE_RECONCILE, || {
        let before = oracle::sockstat(netns)["tw"];
        let exposition = daemon.metrics();
        let table = oracle::sockets(netns);
        let of = |state: &str| exported(&exposition, &format!("tcp_close_sockets{{state=\"{state}\"}}"));
        let mut differing: Vec<String> = CLOSING
            .into_iter()
            .map(|(kernels, ours)| (ours.label(), of(ours.label()), count(&table, kernels)))
            .filter(|&(_, ours, kernel)| ours != Some(kernel as f64))
            .map(|(state, ours, kernel)| format!("{state}: {ours:?}, the kernel has {kernel}"))
            .collect();
        let ours = exported(&exposition, "tcp_close_tracked{table=\"minisocks\"}");
        let after = oracle::sockstat(netns)["tw"];
        if before != after || ours != Some(after as f64) {
            differing.push(format!("minisocks: {ours:?} are followed, the kernel counts {before}, {after}"));
        }
        if differing.is_empty() { Ok(exposition) } else { Err(differing.join("; ")) }
    })
}
