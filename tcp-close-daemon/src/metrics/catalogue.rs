//! Every metric with its name, help and labels, and every series that can be known beforehand at zero.

use std::collections::BTreeMap;

use prometheus::{
    CounterVec, Gauge, GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGaugeVec, Opts,
    Registry, core::Collector,
};
use tcp_close_abi::RecordKind;

use super::{ages::Ages, kind_label, top::OTHER};
use crate::{
    event::TcpState,
    lifecycle::observation::{EndCause, Manner, Role, Verdict, Witness},
};

/// State changes the kernel makes; any other gets its series when it is first seen.
const TRANSITIONS: &[(TcpState, TcpState)] = &[
    (TcpState::Close, TcpState::SynSent),
    (TcpState::Close, TcpState::Listen),
    (TcpState::Listen, TcpState::SynRecv),
    (TcpState::Listen, TcpState::Close),
    (TcpState::SynSent, TcpState::Established),
    (TcpState::SynSent, TcpState::SynRecv),
    (TcpState::SynSent, TcpState::Close),
    (TcpState::SynRecv, TcpState::Established),
    (TcpState::SynRecv, TcpState::FinWait1),
    (TcpState::SynRecv, TcpState::CloseWait),
    (TcpState::SynRecv, TcpState::Close),
    (TcpState::Established, TcpState::FinWait1),
    (TcpState::Established, TcpState::CloseWait),
    (TcpState::Established, TcpState::Close),
    (TcpState::FinWait1, TcpState::FinWait2),
    (TcpState::FinWait1, TcpState::Closing),
    (TcpState::FinWait1, TcpState::Close),
    (TcpState::FinWait2, TcpState::Close),
    (TcpState::Closing, TcpState::Close),
    (TcpState::CloseWait, TcpState::LastAck),
    (TcpState::CloseWait, TcpState::Close),
    (TcpState::LastAck, TcpState::Close),
];

/// States that a socket can be closed in after it was shut down.
const ORPHANED: &[TcpState] = &[TcpState::FinWait1, TcpState::FinWait2, TcpState::LastAck, TcpState::Closing];

/// States in which a FIN waits for its acknowledgement.
const FIN_UNACKNOWLEDGED: &[TcpState] = &[TcpState::FinWait1, TcpState::Closing, TcpState::LastAck];

/// States of full sockets alone, which state changes tell of. FIN-WAIT-2 and TIME-WAIT live in minisocks, which may
/// change from one to the other without a trace.
pub(super) const SOCKET_STATES: [TcpState; 4] =
    [TcpState::FinWait1, TcpState::Closing, TcpState::CloseWait, TcpState::LastAck];

/// States in which a socket may be stuck.
pub(super) const OLDEST_STATES: [TcpState; 4] =
    [TcpState::FinWait1, TcpState::FinWait2, TcpState::CloseWait, TcpState::LastAck];

/// States that sockets are counted in by whose they are.
pub(super) const SERVICE_STATES: [TcpState; 6] = TcpState::CLOSING;

/// States in which sockets may gather: a peer, or a process, does not finish its close.
const AGE_STATES: &[TcpState] = &[TcpState::CloseWait, TcpState::FinWait2, TcpState::LastAck];

/// States whose time is measured.
const MEASURED_STATES: &[TcpState] = &[
    TcpState::FinWait1,
    TcpState::FinWait2,
    TcpState::Closing,
    TcpState::TimeWait,
    TcpState::CloseWait,
    TcpState::LastAck,
];

/// From a loopback's microseconds to a retransmission schedule's minutes, in seconds.
const DWELL_BUCKETS: &[f64] = &[
    1e-5, 1e-4, 1e-3, 5e-3, 0.01, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 15.0, 30.0, 60.0, 62.0, 66.0,
    120.0, 240.0, 600.0, 3600.0,
];

/// Dense where the nominal wait ends and the timer wheel adds its slack, in seconds.
const TIME_WAIT_BUCKETS: &[f64] = &[
    0.001, 0.01, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 45.0, 59.0, 59.9, 60.0, 60.5, 61.0, 61.5, 62.0,
    62.5, 63.0, 64.0, 65.0, 66.0, 90.0, 120.0, 240.0,
];

macro_rules! catalogue {
    ($($field:ident: $type:ty = $make:expr;)*) => {
        /// The metrics, and the registry they are in. A field is a metric's name without `tcp_close_`.
        pub(super) struct Catalogue {
            pub(super) registry: Registry,
            $(pub(super) $field: $type,)*
        }

        impl Catalogue {
            fn registered() -> Result<Self, prometheus::Error> {
                let registry = Registry::new();
                $(let $field = register(&registry, $make(stringify!($field))?)?;)*
                Ok(Self { registry, $($field,)* })
            }
        }
    };
}

catalogue! {
    transitions_total: IntCounterVec = counters("State changes of full sockets, counted in the kernel: a full ring loses none of them.", &["from", "to"]);
    orphaned_total: IntCounterVec = counters("Sockets closed by their process after they were shut down, by state.", &["state"]);
    endpoints_closed_total: IntCounterVec = counters("Ends of connections that closed; a connection within this host has two.", &["role", "manner"]);
    attempts_failed_total: IntCounterVec = counters("Connection attempts that ended without a connection, by the state they were in; these are not closes. The kernel's AttemptFails leaves out those that their own process gave up.", &["state"]);
    close_segments_total: IntCounterVec = counters("Orderly closes by their segments: 3 where a FIN carried the acknowledgement of the other, 4 where not.", &["segments"]);
    half_close_bytes_total: IntCounterVec = counters("Payload bytes in half-closed connections: received after our FIN, or sent after the peer's.", &["direction"]);
    state_seconds: HistogramVec = histograms("Time spent in a closing state, FIN-WAIT-2 over full socket and minisock.", &["state"], DWELL_BUCKETS);
    sockets: IntGaugeVec = gauges("Sockets in this state now; fin_wait2 and time_wait count minisocks too, and are left out where nobody tells one from the other.", &["state"]);
    oldest_seconds: GaugeVec = gauges_f64("Age of the oldest socket that is in this state now, of those seen to enter it; 0 with none.", &["state"]);
    age_seconds: Ages = ages("Ages of the sockets that are in this state now, of those seen to enter it. A gauge in the form of a histogram: every scrape replaces the last, so it goes up and down; use it without rate().", AGE_STATES);
    minisocks_created_total: IntCounterVec = counters("Minisocks made, by the substate they began in.", &["substate"]);
    minisocks_ended_total: IntCounterVec = counters("Minisocks ended, by the substate they ended in and the cause; those that began before tcp-close did are among them.", &["substate", "cause"]);
    time_wait_started_total: IntCounter = counter("TIME-WAITs that began; one that began unseen inside a minisock is counted when that ends.");
    time_wait_ended_total: IntCounterVec = counters("TIME-WAITs that ended.", &["cause"]);
    time_wait_restarts_total: IntCounterVec = counters("Restarts of TIME-WAIT that were seen; with witness inferred a minimum, since most leave no trace.", &["witness"]);
    time_wait_final_acks_lost_total: IntCounterVec = counters("FINs of the peer that came again in TIME-WAIT: the final acknowledgement was lost.", &["witness"]);
    time_wait_strays_total: IntCounterVec = counters("Other segments that came in TIME-WAIT.", &["witness"]);
    time_wait_refused_total: IntCounter = counter("TIME-WAITs the kernel refused to make: tcp_max_tw_buckets reached, or no memory.");
    time_wait_seconds: HistogramVec = histograms("Time from the entry into TIME-WAIT to its end.", &["cause"], TIME_WAIT_BUCKETS);
    time_wait_verdicts_total: IntCounterVec = counters("TIME-WAITs that ended, their wait since the last restart judged against the nominal one.", &["verdict"]);
    time_wait_nominal_seconds: Gauge = gauge_f64("TIME-WAIT as the kernel last set it.");
    time_wait_slack_seconds: Gauge = gauge_f64("How long past its nominal end the timer wheel may keep a TIME-WAIT.");
    time_wait_used: IntGaugeVec = gauges("Minisocks of this network namespace, as the kernel counts them (/proc/net/sockstat): what it holds against the limit.", &[]);
    time_wait_limit: IntGaugeVec = gauges("Minisocks this network namespace may hold (net.ipv4.tcp_max_tw_buckets).", &[]);
    fin_retransmits_total: IntCounterVec = counters("Segments with FIN sent again, by the socket's state.", &["state"]);
    resets_total: IntCounterVec = counters("Resets, with the kernel's reason for those sent.", &["direction", "reason"]);
    orphans: IntGaugeVec = gauges("Sockets of this host that no process holds any more.", &[]);
    orphans_limit: IntGaugeVec = gauges("Orphans this host may hold (net.ipv4.tcp_max_orphans).", &[]);
    service_endpoints_closed_total: IntCounterVec = counters("Ends of connections that closed, by whose they were: a container, a systemd unit, or where neither is known the process that closed or opened it. Only those that matter most have series of their own; other counts the rest.", &["service", "role"]);
    service_sockets: IntGaugeVec = gauges("Sockets in this state now, by whose they are.", &["service", "state"]);
    ports_used: IntGaugeVec = gauges("Ephemeral ports that are used from this address towards this destination, whatever the state of who has them. Only those routes that use most have series of their own.", &["netns", "source", "destination"]);
    ports_reusable: IntGaugeVec = gauges("Those among them that a TIME-WAIT has and that the kernel would give to a new connection, by tcp_tw_reuse and its delay.", &["netns", "source", "destination"]);
    ports_available: IntGaugeVec = gauges("Ephemeral ports that the next connection on this route may have, the reusable ones among them.", &["netns", "source", "destination"]);
    ports_exhaustion_seconds: GaugeVec = gauges_f64("Time until none is available on this route, if it goes on as at present; +Inf if that does not come.", &["netns", "source", "destination"]);
    series_dropped_total: IntCounterVec = counters("How often a name got no series of its own in this metric, or lost them to another that mattered more.", &["metric"]);
    events_total: IntCounterVec = counters("Records the kernel side put into the ring.", &["kind"]);
    events_lost_total: IntCounterVec = counters("Events lost: the ring was full, a kernel field unreadable, a program skipped because it, or another kprobe, ran on that CPU, a record undecodable.", &["cause"]);
    events_unmatched_total: IntCounter = counter("Events of a connection that is not followed: it began to close before tcp-close looked, was evicted, or the event that belongs to it was lost.");
    events_late_total: IntCounter = counter("Events that came too late to be put into order, and were used all the same.");
    last_event_timestamp_seconds: Gauge = gauge_f64("Time of the last event, in seconds since the epoch; 0 before the first.");
    reconcile_total: IntCounter = counter("How often what is followed was held against the kernel's own table: as the daemon begins, after events were lost, and when the kernel counts other minisocks than are followed.");
    reconcile_corrections_total: IntCounterVec = counters("Sockets that the kernel's table put right: added because nobody had seen them close, removed because their end was lost, changed because they were in another state.", &["correction"]);
    last_reconcile_timestamp_seconds: Gauge = gauge_f64("Time when the kernel's table was last taken in, in seconds since the epoch; 0 before the first.");
    kernel_difference: IntGaugeVec = gauges("Ours minus the kernel's, where the two differed in every one of several looks to the same side and by more than their number changed meanwhile: sockstat_tw, the minisocks that are followed and those that /proc/net/sockstat counts. Not there before the first look.", &["counter"]);
    kernel_opens_total: IntCounterVec = counters("Connections that this network namespace began to open, or accepted, by the kernel's own count (ActiveOpens and PassiveOpens). Each is a state change, so what hears of none while this grows is deaf. Not there where this namespace is not watched.", &[]);
    tracked: IntGaugeVec = gauges("Entries in a table of what is followed, or has ended and is remembered.", &["table"]);
    tracked_limit: IntGaugeVec = gauges("Entries that a table may have.", &["table"]);
    tracked_evicted_total: IntCounterVec = counters("Entries that had to make room in a table.", &["table"]);
    hook_info: IntGaugeVec = gauges("1 for each hook, with the rung it hangs on and what became of it.", &["hook", "rung", "verdict"]);
    program_seconds_total: CounterVec = counters_f64("Time a program of the kernel side ran, while kernel.bpf_stats_enabled is on.", &["program"]);
    program_runs_total: IntCounterVec = counters("Runs of a program of the kernel side, while kernel.bpf_stats_enabled is on.", &["program"]);
    build_info: IntGaugeVec = gauges("1, with the version of this program.", &["version"]);
}

impl Catalogue {
    /// Every metric registered, and every series at zero whose labels are a closed set.
    pub(super) fn new(reset_reasons: &BTreeMap<u32, String>) -> Result<Self, prometheus::Error> {
        let catalogue = Self::registered()?;
        catalogue.build_info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        catalogue.closes_at_zero();
        catalogue.minisocks_at_zero();
        for reason in reset_reasons.values() {
            catalogue.resets_total.with_label_values(&["sent", reason]);
        }
        for direction in ["sent", "received"] {
            catalogue.resets_total.with_label_values(&[direction, "unknown"]);
        }
        for kind in RecordKind::ALL {
            catalogue.events_total.with_label_values(&[kind_label(kind)]);
        }
        for cause in ["ring_full", "unreadable", "recursion", "undecodable"] {
            catalogue.events_lost_total.with_label_values(&[cause]);
        }
        for correction in ["added", "removed", "changed"] {
            catalogue.reconcile_corrections_total.with_label_values(&[correction]);
        }
        for role in Role::ALL {
            catalogue.service_endpoints_closed_total.with_label_values(&[OTHER, role.label()]);
        }
        for metric in ["service_endpoints_closed_total", "service_sockets"] {
            catalogue.series_dropped_total.with_label_values(&[metric]);
        }
        for table in ["sockets", "minisocks", "ended"] {
            catalogue.tracked.with_label_values(&[table]);
            catalogue.tracked_limit.with_label_values(&[table]);
            catalogue.tracked_evicted_total.with_label_values(&[table]);
        }
        catalogue.tracked_evicted_total.with_label_values(&["openers"]);
        Ok(catalogue)
    }

    fn closes_at_zero(&self) {
        for (from, to) in TRANSITIONS {
            self.transitions_total.with_label_values(&[from.label(), to.label()]);
        }
        for state in ORPHANED {
            self.orphaned_total.with_label_values(&[state.label()]);
        }
        for role in Role::ALL {
            for manner in Manner::ALL.map(Manner::label).into_iter().chain(["unknown"]) {
                self.endpoints_closed_total.with_label_values(&[role.label(), manner]);
            }
        }
        for state in [TcpState::SynSent, TcpState::SynRecv] {
            self.attempts_failed_total.with_label_values(&[state.label()]);
        }
        for segments in ["3", "4"] {
            self.close_segments_total.with_label_values(&[segments]);
        }
        for direction in ["received", "sent"] {
            self.half_close_bytes_total.with_label_values(&[direction]);
        }
        for state in MEASURED_STATES {
            self.state_seconds.with_label_values(&[state.label()]);
        }
        for state in FIN_UNACKNOWLEDGED {
            self.fin_retransmits_total.with_label_values(&[state.label()]);
        }
        for state in SOCKET_STATES {
            self.sockets.with_label_values(&[state.label()]);
        }
    }

    fn minisocks_at_zero(&self) {
        for substate in [TcpState::FinWait2, TcpState::TimeWait] {
            self.minisocks_created_total.with_label_values(&[substate.label()]);
        }
        for cause in EndCause::OF_TIME_WAIT {
            self.minisocks_ended_total.with_label_values(&[TcpState::TimeWait.label(), cause.label()]);
            self.time_wait_ended_total.with_label_values(&[cause.label()]);
            self.time_wait_seconds.with_label_values(&[cause.label()]);
        }
        for cause in EndCause::OF_FIN_WAIT2 {
            self.minisocks_ended_total.with_label_values(&[TcpState::FinWait2.label(), cause.label()]);
        }
        for verdict in Verdict::ALL {
            self.time_wait_verdicts_total.with_label_values(&[verdict.label()]);
        }
        for witness in [Witness::Exact, Witness::Inferred] {
            self.time_wait_restarts_total.with_label_values(&[witness.label()]);
        }
        // What is not seen is not counted at all.
        self.time_wait_final_acks_lost_total.with_label_values(&[Witness::Exact.label()]);
        self.time_wait_strays_total.with_label_values(&[Witness::Exact.label()]);
    }
}

pub(super) fn register<T: Collector + Clone + 'static>(
    registry: &Registry,
    metric: T,
) -> Result<T, prometheus::Error> {
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

fn options(name: &str, help: &str) -> Opts {
    Opts::new(name, help).namespace("tcp_close")
}

fn counter(help: &'static str) -> impl Fn(&str) -> Result<IntCounter, prometheus::Error> {
    move |name| IntCounter::with_opts(options(name, help))
}

fn counters(
    help: &'static str,
    labels: &'static [&'static str],
) -> impl Fn(&str) -> Result<IntCounterVec, prometheus::Error> {
    move |name| IntCounterVec::new(options(name, help), labels)
}

fn counters_f64(
    help: &'static str,
    labels: &'static [&'static str],
) -> impl Fn(&str) -> Result<CounterVec, prometheus::Error> {
    move |name| CounterVec::new(options(name, help), labels)
}

fn gauge_f64(help: &'static str) -> impl Fn(&str) -> Result<Gauge, prometheus::Error> {
    move |name| Gauge::with_opts(options(name, help))
}

fn gauges_f64(
    help: &'static str,
    labels: &'static [&'static str],
) -> impl Fn(&str) -> Result<GaugeVec, prometheus::Error> {
    move |name| GaugeVec::new(options(name, help), labels)
}

fn ages(help: &'static str, states: &'static [TcpState]) -> impl Fn(&str) -> Result<Ages, prometheus::Error> {
    move |name| Ages::new(&options(name, help), states)
}

fn gauges(
    help: &'static str,
    labels: &'static [&'static str],
) -> impl Fn(&str) -> Result<IntGaugeVec, prometheus::Error> {
    move |name| IntGaugeVec::new(options(name, help), labels)
}

fn histograms(
    help: &'static str,
    labels: &'static [&'static str],
    buckets: &'static [f64],
) -> impl Fn(&str) -> Result<HistogramVec, prometheus::Error> {
    move |name| {
        let options = HistogramOpts::new(name, help).namespace("tcp_close").buckets(buckets.to_vec());
        HistogramVec::new(options, labels)
    }
}
