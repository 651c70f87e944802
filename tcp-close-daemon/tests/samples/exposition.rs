//! The text exposition, taken apart as far as a test needs.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tcp_close::{
    event::{Address, Monotonic},
    kernel::limits,
    lifecycle::{Census, Limits, Sees, Tracker, Wait},
    metrics::Metrics,
    ports::Pressure,
    probe::{Hook, HookReport, ProgramStats, Rung, Verdict},
};

use crate::observations::{NOMINAL, SLACK};

/// The metrics of a kernel that has everything, before anything happened.
pub(crate) fn fresh() -> Metrics {
    let hooks = Hook::ALL.map(|hook| HookReport {
        hook,
        rung: Some(Rung::TpBtf),
        verdict: Verdict::Ok,
        detail: None,
        lost: None,
    });
    let reasons = [(0, "not_specified"), (1, "no_socket"), (2, "tcp_abort_on_close")];
    let mut metrics = Metrics::new(
        &hooks,
        reasons.map(|(number, name)| (number, name.to_owned())).into(),
        Limits { sockets: 65_536, minisocks: 262_144 },
        Wait { nominal: NOMINAL, slack: SLACK },
    )
    .expect("the catalogue is sound");
    metrics.census(&nothing_closes(), None);
    metrics.limits(&limits::Limits {
        time_wait_now: Some(0),
        time_wait: Some(262_144),
        orphans: Some(262_144),
        orphans_now: Some(0),
        ..limits::Limits::default()
    });
    metrics.difference(0);
    metrics.opens(0);
    metrics.ports(&[unused_route()]);
    metrics.programs(&[ProgramStats {
        program: "inet_sock_set_state".to_owned(),
        run_time: Duration::ZERO,
        runs: 0,
        recursion_misses: 0,
    }]);
    metrics
}

/// A route that nobody takes any more.
fn unused_route() -> Pressure {
    Pressure {
        netns: 4_026_531_840,
        netns_name: "host".to_owned(),
        source: "192.0.2.1".parse().expect("an address"),
        destination: Address { addr: "192.0.2.2".parse().expect("an address"), port: 443 },
        used: 0,
        states: BTreeMap::new(),
        reusable: 0,
        available: 28_232,
        range: 28_232,
        connects_per_second: Some(0.0),
        releases_per_second: Some(0.0),
        exhaustion_seconds: None,
    }
}

/// What is closing when nothing is, as a kernel tells it that shows everything.
fn nothing_closes() -> Census {
    let sees = Sees { minisocks: true, starts: false, segments: true };
    let limits = Limits { sockets: 1, minisocks: 1 };
    Tracker::new(limits, Wait { nominal: NOMINAL, slack: SLACK }, sees).census(Monotonic::default())
}

pub(crate) fn text(metrics: &Metrics) -> String {
    String::from_utf8(metrics.exposition().expect("it can be rendered")).expect("it is text")
}

/// Every series with its value.
pub(crate) fn series(metrics: &Metrics) -> BTreeMap<String, f64> {
    let text = text(metrics);
    let samples = text.lines().filter(|line| !line.starts_with('#') && !line.starts_with("process_"));
    samples
        .map(|line| {
            let (series, value) = line.rsplit_once(' ').expect("a sample has a value");
            (series.to_owned(), value.parse().expect("a value is a number"))
        })
        .collect()
}

/// A metric with all its series.
#[derive(Debug, Default)]
pub(crate) struct Family {
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) help: String,
    /// Each label with its values; without that of a histogram's buckets.
    pub(crate) labels: Vec<(String, BTreeSet<String>)>,
    /// How many lines it takes.
    pub(crate) series: usize,
}

/// Every metric, in the order of the exposition.
pub(crate) fn families(metrics: &Metrics) -> Vec<Family> {
    let mut families: Vec<Family> = Vec::new();
    for line in text(metrics).lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, help) = help.split_once(' ').unwrap_or((help, ""));
            families.push(Family { name: name.to_owned(), help: help.to_owned(), ..Family::default() });
            continue;
        }
        let family = families.last_mut().expect("a metric begins with its help");
        if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (_, kind) = kind.rsplit_once(' ').expect("a name and a type");
            kind.clone_into(&mut family.kind);
            continue;
        }
        family.series += 1;
        let labels =
            line.split_once('{').and_then(|(_, rest)| rest.rsplit_once('}')).map_or("", |both| both.0);
        // No value of ours has a comma or a quote in it.
        for (name, value) in labels.split(',').filter_map(|label| label.split_once('=')) {
            if name == "le" && family.kind == "histogram" {
                continue;
            }
            if !family.labels.iter().any(|(label, _)| label == name) {
                family.labels.push((name.to_owned(), BTreeSet::new()));
            }
            let known = family.labels.iter_mut().find(|(label, _)| label == name);
            known.expect("it was added").1.insert(value.trim_matches('"').to_owned());
        }
    }
    families
}
