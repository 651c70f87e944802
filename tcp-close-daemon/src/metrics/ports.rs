//! How far ephemeral ports are used up: the metrics with a `destination`.

use std::{collections::HashMap, net::SocketAddr};

use super::{
    Metrics, as_gauge,
    catalogue::Catalogue,
    raise,
    top::{OTHER, Top},
};
use crate::ports::Pressure;

/// The routes that have series of their own.
pub(super) struct Routes {
    top: Top,
    /// What is known of those, by what [`Top`] knows them by.
    members: HashMap<String, Route>,
}

/// A route, as the metrics show it.
struct Route {
    netns: String,
    source: String,
    destination: String,
    /// Ports there are.
    range: u32,
}

impl Route {
    fn of(pressure: &Pressure) -> Self {
        Self {
            netns: pressure.netns_name.clone(),
            source: pressure.source.to_string(),
            destination: SocketAddr::from(pressure.destination).to_string(),
            range: pressure.range,
        }
    }

    /// No part of it has a space.
    fn key(&self) -> String {
        format!("{} {} {}", self.netns, self.source, self.destination)
    }

    fn labels(&self) -> [&str; 3] {
        [&self.netns, &self.source, &self.destination]
    }
}

impl Routes {
    pub(super) fn new(limit: usize) -> Self {
        Self { top: Top::new(limit), members: HashMap::new() }
    }

    fn update(&mut self, catalogue: &Catalogue, pressures: &[Pressure]) {
        let routes: Vec<(String, Route, &Pressure)> = pressures
            .iter()
            .map(|pressure| {
                let route = Route::of(pressure);
                (route.key(), route, pressure)
            })
            .collect();
        let weights: Vec<(&str, f64)> =
            routes.iter().map(|(key, _, pressure)| (key.as_str(), f64::from(pressure.used))).collect();
        for lost in self.top.rank(&weights) {
            if let Some(route) = self.members.remove(&lost) {
                remove(catalogue, &route);
            }
        }
        // Whoever uses none any more has all of them.
        for route in self.members.values() {
            set(catalogue, route, [0, 0, route.range], f64::INFINITY);
        }
        let mut other = [0_u64; 2];
        for (key, route, pressure) in routes {
            if self.top.has(&key) {
                let counts = [pressure.used, pressure.reusable, pressure.available];
                set(catalogue, &route, counts, pressure.exhaustion_seconds.unwrap_or(f64::INFINITY));
                self.members.insert(key, route);
            } else {
                other[0] += u64::from(pressure.used);
                other[1] += u64::from(pressure.reusable);
            }
        }
        catalogue.ports_used.with_label_values(&[OTHER; 3]).set(as_gauge(other[0]));
        catalogue.ports_reusable.with_label_values(&[OTHER; 3]).set(as_gauge(other[1]));
        for metric in ["ports_used", "ports_reusable", "ports_available", "ports_exhaustion_seconds"] {
            raise(&catalogue.series_dropped_total.with_label_values(&[metric]), self.top.dropped());
        }
    }
}

fn set(catalogue: &Catalogue, route: &Route, [used, reusable, available]: [u32; 3], exhaustion: f64) {
    let labels = route.labels();
    catalogue.ports_used.with_label_values(&labels).set(used.into());
    catalogue.ports_reusable.with_label_values(&labels).set(reusable.into());
    catalogue.ports_available.with_label_values(&labels).set(available.into());
    catalogue.ports_exhaustion_seconds.with_label_values(&labels).set(exhaustion);
}

fn remove(catalogue: &Catalogue, route: &Route) {
    let labels = route.labels();
    // An error says that it was not there.
    for gauge in [&catalogue.ports_used, &catalogue.ports_reusable, &catalogue.ports_available] {
        drop(gauge.remove_label_values(&labels));
    }
    drop(catalogue.ports_exhaustion_seconds.remove_label_values(&labels));
}

impl Metrics {
    /// Takes in how far ports are used up.
    pub fn ports(&mut self, pressures: &[Pressure]) {
        self.routes.update(&self.catalogue, pressures);
    }
}
