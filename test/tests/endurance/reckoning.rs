//! What the daemon has counted, held against what the kernel has, over all namespaces that it watches.

use std::time::Duration;

use tcp_close_test::{
    netns::Netns,
    oracle::{self, Netstat},
};

use crate::daemon::{Daemon, Exposition};

/// How long it may take until all has been told: while minisocks end by the thousand, a scrape and a look at the kernel's
/// counts are never of the same moment, and they go on for a minute.
const PATIENCE: Duration = Duration::from_secs(100);

/// Namespaces, and what the kernel had counted in each when it began.
pub(crate) struct Reckoning<'a> {
    namespaces: Vec<&'a Netns>,
    before: Vec<Netstat>,
}

impl<'a> Reckoning<'a> {
    pub(crate) fn of(namespaces: Vec<&'a Netns>) -> Self {
        let before = namespaces.iter().map(|netns| Netstat::of(netns)).collect();
        Self { namespaces, before }
    }

    /// Every count that the kernel keeps too must be the kernel's, and this many ends of connections be told: to be asked
    /// when nothing but minisocks is left. Gives back what is exported, and the kernel's counts.
    #[track_caller]
    pub(crate) fn agrees(&self, daemon: &Daemon, ends: u64) -> (Exposition, Kernel) {
        let exposition =
            daemon.scrape_until(PATIENCE, |exposition| self.differs(exposition, &self.kernel(), ends));
        nothing_is_lost(&exposition);
        (exposition, self.kernel())
    }

    /// What the kernel has counted so far.
    pub(crate) fn kernel(&self) -> Kernel {
        let since = self.namespaces.iter().zip(&self.before);
        Kernel(since.map(|(netns, before)| Netstat::of(netns).since(before)).collect())
    }

    /// What differs, if anything does.
    fn differs(&self, exposition: &Exposition, kernel: &Kernel, ends: u64) -> Option<String> {
        let ours =
            |from, to| exposition.get(&format!("tcp_close_transitions_total{{from=\"{from}\",to=\"{to}\"}}"));
        let ended_by =
            |cause: &str| exposition.sum_of("tcp_close_minisocks_ended_total", &format!("cause=\"{cause}\""));
        let alive = exposition.sum("tcp_close_minisocks_created_total")
            - exposition.sum("tcp_close_minisocks_ended_total");
        let in_minisocks: i64 = self.namespaces.iter().map(|netns| oracle::sockstat(netns)["tw"]).sum();
        let passive_opens = kernel.get("Tcp", "PassiveOpens");
        let all = [
            ("ends of connections", exposition.sum("tcp_close_endpoints_closed_total"), ends as f64),
            ("active opens", ours("close", "syn_sent"), kernel.get("Tcp", "ActiveOpens")),
            (
                "passive opens",
                ours("listen", "syn_recv"),
                if sees_clones(exposition) { passive_opens } else { 0.0 },
            ),
            ("accepted", ours("syn_recv", "established"), passive_opens),
            (
                "resets of established connections",
                ours("established", "close") + ours("close_wait", "close"),
                kernel.get("Tcp", "EstabResets"),
            ),
            (
                "resets sent",
                exposition.sum_of("tcp_close_resets_total", "direction=\"sent\""),
                kernel.get("Tcp", "OutRsts"),
            ),
            (
                "TIME-WAITs refused",
                exposition.sum("tcp_close_time_wait_refused_total"),
                kernel.get("TcpExt", "TCPTimeWaitOverflow"),
            ),
            (
                "minisocks made",
                exposition.sum("tcp_close_minisocks_created_total"),
                kernel.get("TcpExt", "TW") + kernel.get("TcpExt", "TWKilled"),
            ),
            ("minisocks taken by connect", ended_by("reused"), kernel.get("TcpExt", "TWRecycled")),
            ("ends without a cause", ended_by("unknown"), 0.0),
            ("minisocks alive", alive, in_minisocks as f64),
            ("minisocks followed", exposition.get("tcp_close_tracked{table=\"minisocks\"}"), alive),
            (
                "minisocks shown",
                exposition.sockets("fin_wait2") + exposition.sockets("time_wait"),
                in_minisocks as f64,
            ),
            ("sockets followed", exposition.get("tcp_close_tracked{table=\"sockets\"}"), 0.0),
        ];
        let differing: Vec<String> = all
            .iter()
            .filter(|(_, ours, kernels)| ours != kernels)
            .map(|(what, ours, kernels)| format!("{what}: {ours}, the kernel has {kernels}"))
            .collect();
        (!differing.is_empty()).then(|| differing.join("; "))
    }
}

/// What the kernel has counted, by namespace.
pub(crate) struct Kernel(Vec<Netstat>);

impl Kernel {
    /// A counter, over all namespaces.
    #[track_caller]
    pub(crate) fn get(&self, group: &str, name: &str) -> f64 {
        self.0.iter().map(|counters| counters.get(group, name)).sum::<i64>() as f64
    }
}

/// Nothing is lost, without a counterpart, or put right afterwards.
#[track_caller]
pub(crate) fn nothing_is_lost(exposition: &Exposition) {
    for metric in [
        "tcp_close_events_lost_total",
        "tcp_close_events_unmatched_total",
        "tcp_close_reconcile_corrections_total",
    ] {
        assert_eq!(exposition.sum(metric), 0.0, "{metric}; {exposition}");
    }
    // What has ended is remembered for a while only, and makes room all the time.
    for table in ["sockets", "minisocks"] {
        let evicted = exposition.get(&format!("tcp_close_tracked_evicted_total{{table=\"{table}\"}}"));
        assert_eq!(evicted, 0.0, "{table}; {exposition}");
    }
}

/// Once the namespaces are gone, no socket of theirs is followed or shown, and every minisock has come to an end, or that
/// was lost and counted.
#[track_caller]
pub(crate) fn nothing_is_left(daemon: &Daemon) -> Exposition {
    let exposition = daemon.scrape_until(PATIENCE, |exposition| {
        let all = [
            ("shown", exposition.sum("tcp_close_sockets")),
            ("followed as sockets", exposition.get("tcp_close_tracked{table=\"sockets\"}")),
            ("followed as minisocks", exposition.get("tcp_close_tracked{table=\"minisocks\"}")),
        ];
        let left = all.iter().find(|(_, ours)| *ours > 0.0);
        left.map(|(what, ours)| format!("{ours} are {what}"))
    });
    let made = exposition.sum("tcp_close_minisocks_created_total");
    let ended = exposition.sum("tcp_close_minisocks_ended_total");
    let lost = exposition.sum("tcp_close_events_lost_total");
    assert!((ended..=ended + lost).contains(&made), "{ended} of {made} have ended; {exposition}");
    exposition
}

/// Whether changes of state are seen that do not pass through `tcp_set_state`.
fn sees_clones(exposition: &Exposition) -> bool {
    let hook = "tcp_close_hook_info{hook=\"state_change\",rung=\"tp_btf\"";
    exposition.series().iter().any(|series| series.starts_with(hook))
}
