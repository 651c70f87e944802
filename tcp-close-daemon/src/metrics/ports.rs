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
        let figures = together(pressures);
        let mut weights: Vec<(&str, f64)> =
            figures.iter().map(|(key, (_, figures))| (key.as_str(), f64::from(figures.used))).collect();
        weights.sort_by(|a, b| b.1.total_cmp(&a.1));
        for lost in self.top.rank(&weights) {
            if let Some(route) = self.members.remove(&lost) {
                remove(catalogue, &route);
            }
        }
        // Whoever uses none any more has all of them.
        for route in self.members.values() {
            let range = route.range;
            set(
                catalogue,
                route,
                &Figures { available: range, exhaustion: Some(f64::INFINITY), ..Figures::default() },
            );
        }
        let mut other = [0_u64; 2];
        for (key, (route, figures)) in figures {
            if self.top.has(&key) {
                set(catalogue, &route, &figures);
                self.members.insert(key, route);
            } else {
                other[0] += u64::from(figures.used);
                other[1] += u64::from(figures.reusable);
            }
        }
        catalogue.ports_used.with_label_values(&[OTHER; 3]).set(as_gauge(other[0]));
        catalogue.ports_reusable.with_label_values(&[OTHER; 3]).set(as_gauge(other[1]));
        for metric in ["ports_used", "ports_reusable", "ports_available", "ports_exhaustion_seconds"] {
            raise(&catalogue.series_dropped_total.with_label_values(&[metric]), self.top.dropped());
        }
    }
}

/// What is exported of a route.
#[derive(Clone, Copy, Default)]
struct Figures {
    used: u32,
    reusable: u32,
    available: u32,
    /// In seconds; infinite if it does not come, `None` if nobody has looked twice.
    exhaustion: Option<f64>,
}

/// The routes by their keys. Those of namespaces that people call by one name are told as one, which is as near to its end
/// as the nearest of them.
fn together(pressures: &[Pressure]) -> HashMap<String, (Route, Figures)> {
    let mut together: HashMap<String, (Route, Figures)> = HashMap::new();
    for pressure in pressures {
        let route = Route::of(pressure);
        let exhaustion = pressure.exhaustion_seconds;
        let figures = Figures {
            used: pressure.used,
            reusable: pressure.reusable,
            available: pressure.available,
            exhaustion: exhaustion.or(pressure.connects_per_second.map(|_looked_twice| f64::INFINITY)),
        };
        together
            .entry(route.key())
            .and_modify(|(_, all)| {
                all.used += figures.used;
                all.reusable += figures.reusable;
                all.available = all.available.min(figures.available);
                all.exhaustion = all.exhaustion.into_iter().chain(figures.exhaustion).reduce(f64::min);
            })
            .or_insert((route, figures));
    }
    together
}

fn set(catalogue: &Catalogue, route: &Route, figures: &Figures) {
    let labels = route.labels();
    catalogue.ports_used.with_label_values(&labels).set(figures.used.into());
    catalogue.ports_reusable.with_label_values(&labels).set(figures.reusable.into());
    catalogue.ports_available.with_label_values(&labels).set(figures.available.into());
    match figures.exhaustion {
        Some(seconds) => catalogue.ports_exhaustion_seconds.with_label_values(&labels).set(seconds),
        // An error says that it was not there.
        None => drop(catalogue.ports_exhaustion_seconds.remove_label_values(&labels)),
    }
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
