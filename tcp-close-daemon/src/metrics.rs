//! What Prometheus sees. Nothing else names the prometheus crate.
//!
//! In: turns of the pipeline. Out: the text exposition. To add a metric, add it to `catalogue`, feed it from
//! [`Metrics::observe`] (what the core says) or [`Metrics::update`] (what the kernel side counts), and bring
//! docs/metrics.md up to date: `UPDATE_EXPECT=1 cargo test -p tcp-close-daemon --test metrics`.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use jiff::Timestamp;
use prometheus::{Encoder as _, TextEncoder};
use tcp_close_abi::{Counters, RecordKind};

use crate::{
    clock::Anchor,
    event::{Monotonic, TcpState},
    feed::Remembered,
    kernel,
    lifecycle::{
        self, Census, Corrections, Observation, Stats,
        observation::{Absorbed, Closed, Manner, MinisockEnded, Role, Story, Then, Transition, Witness},
    },
    metrics::{catalogue::Catalogue, ports::Routes, process::Process, series::AtHand, services::Services},
    owner::Homes,
    pipeline::{Losses, Turn},
    probe::{HookReport, ProgramStats},
};

mod ages;
mod catalogue;
mod census;
mod kernel_counts;
mod ports;
mod process;
mod series;
mod services;
mod top;

/// Services, and destinations, that have series of their own, unless somebody says otherwise.
pub const MOST_SERIES: usize = 50;

/// All metrics of the daemon.
pub struct Metrics {
    catalogue: Catalogue,
    at_hand: AtHand,
    counts: kernel_counts::KernelCounts,
    process: Process,
    services: Services,
    routes: Routes,
}

impl Metrics {
    /// Every metric, at zero wherever its labels are known beforehand.
    pub fn new(
        hooks: &[HookReport],
        reset_reasons: BTreeMap<u32, String>,
        tables: lifecycle::Limits,
        wait: lifecycle::Wait,
    ) -> Result<Self, prometheus::Error> {
        let catalogue = Catalogue::new(&reset_reasons)?;
        for report in hooks {
            let rung = report.rung.map_or("none", |rung| rung.name());
            catalogue.hook_info.with_label_values(&[report.hook.name(), rung, report.verdict.name()]).set(1);
        }
        catalogue.tracked_limit.with_label_values(&["sockets"]).set(as_gauge(tables.sockets as u64));
        catalogue.tracked_limit.with_label_values(&["minisocks"]).set(as_gauge(tables.minisocks as u64));
        catalogue.time_wait_nominal_seconds.set(wait.nominal.as_secs_f64());
        catalogue.time_wait_slack_seconds.set(wait.slack.as_secs_f64());
        let mut metrics = Self {
            process: Process::registered(&catalogue.registry)?,
            catalogue,
            at_hand: AtHand::new(),
            counts: kernel_counts::KernelCounts::new(reset_reasons),
            services: Services::new(Arc::new(Mutex::new(Homes::of_this_host())), MOST_SERIES),
            routes: Routes::new(MOST_SERIES),
        };
        metrics.census(&Census::default(), None);
        metrics.ports(&[]);
        Ok(metrics)
    }

    /// The same, with series of their own for no more than so many services, which these homes name, and so many
    /// destinations.
    #[must_use]
    pub fn with_top(self, homes: Arc<Mutex<Homes>>, most: usize) -> Self {
        Self { services: Services::new(homes, most), routes: Routes::new(most), ..self }
    }

    /// Takes in a turn of the pipeline.
    pub fn update(&mut self, turn: &Turn<'_>, anchor: &Anchor) {
        for observation in turn.observations {
            self.observe(observation);
        }
        self.count(turn.counters, anchor.monotonic());
        self.core(turn.stats(), turn.losses);
        raise(&self.catalogue.reconcile_total, turn.listings);
        if let Some(at) = turn.last_listing {
            self.catalogue.last_reconcile_timestamp_seconds.set(seconds_since_epoch(anchor.wall(at)));
        }
        if let Some(minisocks) = turn.difference {
            self.difference(minisocks);
        }
        if let Some(at) = turn.last_event {
            self.catalogue.last_event_timestamp_seconds.set(seconds_since_epoch(anchor.wall(at)));
        }
    }

    /// Takes in what is of the moment in which somebody looks: the kernel's limits, the programs' run times, and how many
    /// sockets are closing, which has to be of the same moment as their ages are: [`Self::census`].
    pub fn update_on_scrape(&mut self, turn: &Turn<'_>, limits: &kernel::limits::Limits) {
        for state in catalogue::SOCKET_STATES {
            let sockets = self.catalogue.sockets.with_label_values(&[state.label()]);
            sockets.set(as_gauge(turn.tracker.sockets_in(state) as u64));
        }
        self.limits(limits);
        self.process.look();
        self.programs(&turn.probe.program_stats());
    }

    /// Takes in what the kernel side counts, which is exact even when events are lost.
    pub fn count(&mut self, counters: &Counters, now: Monotonic) {
        self.counts.advance(&self.catalogue, counters, now);
    }

    /// Takes in how the core is doing.
    pub fn core(&mut self, stats: Stats, losses: Losses) {
        self.catalogue.tracked.with_label_values(&["sockets"]).set(as_gauge(stats.sockets as u64));
        self.catalogue.tracked.with_label_values(&["minisocks"]).set(as_gauge(stats.minisocks as u64));
        let evicted = &self.catalogue.tracked_evicted_total;
        raise(&evicted.with_label_values(&["sockets"]), stats.sockets_evicted);
        raise(&evicted.with_label_values(&["minisocks"]), stats.minisocks_evicted);
        let lost = &self.catalogue.events_lost_total;
        raise(&lost.with_label_values(&["undecodable"]), losses.undecodable);
        raise(&lost.with_label_values(&["recursion"]), losses.missed);
        raise(&self.catalogue.events_unmatched_total, stats.unmatched);
        let Corrections { added, removed, changed } = stats.corrections;
        for (correction, count) in [("added", added), ("removed", removed), ("changed", changed)] {
            raise(&self.catalogue.reconcile_corrections_total.with_label_values(&[correction]), count);
        }
        raise(&self.catalogue.events_late_total, losses.late);
    }

    /// Takes in how much is remembered of what has ended.
    pub fn remembered(&mut self, ended: Remembered) {
        let Remembered { entries, limit, forgotten } = ended;
        self.catalogue.tracked.with_label_values(&["ended"]).set(as_gauge(entries as u64));
        self.catalogue.tracked_limit.with_label_values(&["ended"]).set(as_gauge(limit as u64));
        raise(&self.catalogue.tracked_evicted_total.with_label_values(&["ended"]), forgotten);
    }

    /// Takes in by how many minisocks we differ from the kernel's own count.
    pub fn difference(&mut self, minisocks: i64) {
        self.catalogue.kernel_difference.with_label_values(&["sockstat_tw"]).set(minisocks);
    }

    /// Takes in the kernel's limits. One that cannot be read is not exported: 0 would be a limit.
    pub fn limits(&mut self, limits: &kernel::limits::Limits) {
        let gauges = [
            (&self.catalogue.time_wait_used, limits.time_wait_now),
            (&self.catalogue.time_wait_limit, limits.time_wait),
            (&self.catalogue.orphans, limits.orphans_now),
            (&self.catalogue.orphans_limit, limits.orphans),
        ];
        for (gauge, value) in gauges {
            if let Some(value) = value {
                gauge.with_label_values::<&str>(&[]).set(as_gauge(value));
            }
        }
    }

    /// Takes in how many connections the kernel counts.
    pub fn opens(&mut self, opens: u64) {
        raise(&self.catalogue.kernel_opens_total.with_label_values::<&str>(&[]), opens);
    }

    /// Takes in the run times of the kernel side's programs.
    pub fn programs(&mut self, programs: &[ProgramStats]) {
        for stats in programs {
            let runs = self.catalogue.program_runs_total.with_label_values(&[&stats.program]);
            raise(&runs, stats.runs);
            let seconds = self.catalogue.program_seconds_total.with_label_values(&[&stats.program]);
            seconds.inc_by((stats.run_time.as_secs_f64() - seconds.get()).max(0.0));
        }
    }

    /// The text exposition, version 0.0.4.
    pub fn exposition(&self) -> Result<Vec<u8>, prometheus::Error> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.catalogue.registry.gather(), &mut text)?;
        Ok(text)
    }

    /// The media type of [`Self::exposition`].
    pub const MEDIA_TYPE: &str = prometheus::TEXT_FORMAT;

    /// Takes in something that happened.
    pub fn observe(&mut self, observation: &Observation) {
        match observation {
            Observation::Transition(transition) => {
                // FIN-WAIT-2 may go on in a minisock: it is told once it is over.
                let Transition { from, dwell, .. } = *transition;
                if let Some(dwell) = dwell.filter(|_| from.is_closing() && from != TcpState::FinWait2) {
                    self.state_seconds(from, dwell);
                }
            }
            // Counted by the kernel side, exactly.
            Observation::FinRetransmitted(_) => {}
            Observation::ResetNotReceived => self.counts.reset_not_received(),
            Observation::Closed(closed) => self.closed(closed),
            Observation::MinisockBegan(began) => {
                let created = &self.catalogue.minisocks_created_total;
                let substate = began.substate;
                let series = &mut self.at_hand.minisocks_created;
                series.of(substate as usize, || created.with_label_values(&[substate.label()])).inc();
                if began.substate == TcpState::TimeWait {
                    self.catalogue.time_wait_started_total.inc();
                    self.catalogue.time_wait_nominal_seconds.set(began.nominal.as_secs_f64());
                }
            }
            Observation::Restarted(restarted) => {
                if restarted.flipped {
                    self.catalogue.time_wait_started_total.inc();
                } else {
                    let restarts = &self.catalogue.time_wait_restarts_total;
                    restarts.with_label_values(&[restarted.witness.label()]).inc();
                }
            }
            Observation::Absorbed(absorbed) => {
                let counter = match absorbed {
                    Absorbed::FinAgain => &self.catalogue.time_wait_final_acks_lost_total,
                    Absorbed::Stray => &self.catalogue.time_wait_strays_total,
                };
                counter.with_label_values(&[Witness::Exact.label()]).inc();
            }
            Observation::MinisockEnded(ended) => self.minisock_ended(ended),
        }
    }

    fn closed(&mut self, closed: &Closed) {
        self.services.closed(&self.catalogue, closed);
        let story = &closed.story;
        let which = story.manner.map_or(Manner::ALL.len(), |manner| manner as usize);
        let ends = self.at_hand.endpoints_closed.of(which * Role::ALL.len() + story.role as usize, || {
            let manner = story.manner.map_or("unknown", Manner::label);
            self.catalogue.endpoints_closed_total.with_label_values(&[story.role.label(), manner])
        });
        ends.inc();
        // A close that goes on in a minisock may never see its last two segments.
        if closed.then != Some(Then::FinWait2) {
            self.close_segments(story);
        }
        let half_closes = [("received", story.bytes.after_our_fin), ("sent", story.bytes.after_peer_fin)];
        for (number, (direction, bytes)) in half_closes.into_iter().enumerate() {
            let look_up = || self.catalogue.half_close_bytes_total.with_label_values(&[direction]);
            self.at_hand.half_close_bytes.of(number, look_up).inc_by(bytes.unwrap_or(0));
        }
        if let Some(dwell) = story.states.dwell(TcpState::FinWait2) {
            self.state_seconds(TcpState::FinWait2, dwell);
        }
        if closed.then == Some(Then::Refused) {
            self.catalogue.time_wait_refused_total.inc();
        }
    }

    fn minisock_ended(&mut self, ended: &MinisockEnded) {
        let cause = ended.cause;
        let substate = if ended.time_wait.is_some() { TcpState::TimeWait } else { TcpState::FinWait2 };
        let number = cause as usize * 2 + usize::from(substate == TcpState::TimeWait);
        let look_up =
            || self.catalogue.minisocks_ended_total.with_label_values(&[substate.label(), cause.label()]);
        self.at_hand.minisocks_ended.of(number, look_up).inc();
        if ended.began_in == Some(TcpState::FinWait2)
            && let Some(dwell) = ended.fin_wait2
        {
            self.state_seconds(TcpState::FinWait2, dwell);
        }
        if let Some(time_wait) = ended.time_wait {
            if ended.began_in == Some(TcpState::FinWait2) {
                if !ended.flip_is_told {
                    self.catalogue.time_wait_started_total.inc();
                }
                if let Some(story) = &ended.story {
                    self.close_segments(story);
                }
            }
            let (catalogue, at_hand) = (&self.catalogue, &mut self.at_hand);
            let ends = || catalogue.time_wait_ended_total.with_label_values(&[cause.label()]);
            at_hand.time_wait_ended.of(cause as usize, ends).inc();
            let seconds = || catalogue.time_wait_seconds.with_label_values(&[cause.label()]);
            at_hand.time_wait_seconds.of(cause as usize, seconds).observe(time_wait.dwell.as_secs_f64());
            let verdict = time_wait.verdict;
            let verdicts = || catalogue.time_wait_verdicts_total.with_label_values(&[verdict.label()]);
            at_hand.time_wait_verdicts.of(verdict as usize, verdicts).inc();
            self.state_seconds(TcpState::TimeWait, time_wait.dwell);
        }
    }

    fn close_segments(&mut self, story: &Story) {
        if let Some(segments) = story.segments {
            let (number, label) = if segments == 3 { (0, "3") } else { (1, "4") };
            let look_up = || self.catalogue.close_segments_total.with_label_values(&[label]);
            self.at_hand.close_segments.of(number, look_up).inc();
        }
    }

    fn state_seconds(&mut self, state: TcpState, dwell: Duration) {
        let look_up = || self.catalogue.state_seconds.with_label_values(&[state.label()]);
        self.at_hand.state_seconds.of(state as usize, look_up).observe(dwell.as_secs_f64());
    }
}

/// Brings a counter up to a total that is counted elsewhere.
fn raise(counter: &prometheus::IntCounter, total: u64) {
    counter.inc_by(total.saturating_sub(counter.get()));
}

fn as_gauge(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn seconds_since_epoch(time: Timestamp) -> f64 {
    time.as_duration().as_secs_f64()
}

/// A record kind's name in labels, after the kernel's event.
const fn kind_label(kind: RecordKind) -> &'static str {
    match kind {
        RecordKind::StateChange => "state_change",
        RecordKind::FinRetransmit => "fin_retransmit",
        RecordKind::ResetSent => "reset_sent",
        RecordKind::ResetReceived => "reset_received",
        RecordKind::TimerStart => "timer_start",
        RecordKind::TimerCancel => "timer_cancel",
        RecordKind::TimerExpire => "timer_expire",
        RecordKind::Segment => "segment",
        RecordKind::MinisockBegin => "minisock_begin",
        RecordKind::MinisockRestart => "minisock_restart",
        RecordKind::MinisockEnd => "minisock_end",
        RecordKind::MinisockMissed => "minisock_missed",
    }
}
