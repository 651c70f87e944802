//! A histogram of what is now, where the library's own are of all that has ever been.
//!
//! `OpenMetrics` calls it a `GaugeHistogram`. The text format has no such type; that of a histogram is what carries
//! buckets there, and what Prometheus' own Python client makes of it
//! (<https://github.com/prometheus/client_python/blob/v0.21.0/prometheus_client/exposition.py>).

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use prometheus::{
    Opts,
    core::{Collector, Desc, Describer as _},
    proto::{Bucket, Histogram, LabelPair, Metric, MetricFamily, MetricType},
};

use crate::{
    event::TcpState,
    lifecycle::census::{AGE_EDGES, InState},
};

/// Ages of the sockets in some states.
#[derive(Clone)]
pub(super) struct Ages {
    desc: Desc,
    states: &'static [TcpState],
    now: Arc<Mutex<BTreeMap<TcpState, InState>>>,
}

impl Ages {
    pub(super) fn new(options: &Opts, states: &'static [TcpState]) -> Result<Self, prometheus::Error> {
        let mut desc = options.describe()?;
        desc.variable_labels = vec!["state".to_owned()];
        Ok(Self { desc, states, now: Arc::default() })
    }

    /// Replaces what was known of a state; with `None`, nothing is exported of it. Other states are none of its own.
    pub(super) fn set(&self, state: TcpState, in_state: Option<InState>) {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        match in_state.filter(|_| self.states.contains(&state)) {
            Some(in_state) => drop(now.insert(state, in_state)),
            None => drop(now.remove(&state)),
        }
    }
}

impl Collector for Ages {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.desc]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let now = self.now.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut family = MetricFamily::default();
        family.set_name(self.desc.fq_name.clone());
        family.set_help(self.desc.help.clone());
        family.set_field_type(MetricType::HISTOGRAM);
        family.set_metric(now.iter().map(|(&state, in_state)| series(state, in_state)).collect());
        vec![family]
    }
}

fn series(state: TcpState, in_state: &InState) -> Metric {
    let mut label = LabelPair::default();
    label.set_name("state".to_owned());
    label.set_value(state.label().to_owned());
    let mut below = 0;
    let buckets = AGE_EDGES.iter().zip(&in_state.ages).map(|(edge, count)| {
        below += count;
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(edge.as_secs_f64());
        bucket.set_cumulative_count(below);
        bucket
    });
    let mut histogram = Histogram::default();
    histogram.set_bucket(buckets.collect());
    histogram.set_sample_count(in_state.ages.iter().sum());
    histogram.set_sample_sum(in_state.ages_sum.as_secs_f64());
    let mut metric = Metric::from_label(vec![label]);
    metric.set_histogram(histogram);
    metric
}
