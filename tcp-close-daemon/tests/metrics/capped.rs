//! Labels that an outsider could fill take only so many values.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use tcp_close::{
    event::{Address, Process, TcpState},
    lifecycle::{
        Observation,
        observation::{Closed, Role, Story, Then},
    },
    metrics::Metrics,
    owner::Homes,
    ports::Pressure,
};

use crate::{
    exposition::{fresh, series},
    observations::unknown_story,
};

fn capped(most: usize) -> Metrics {
    fresh().with_top(Arc::new(Mutex::new(Homes::of_this_host())), most)
}

fn value(metrics: &Metrics, name: &str) -> Option<f64> {
    series(metrics).get(&format!("tcp_close_{name}")).copied()
}

fn closed_by(comm: &str) -> Observation {
    let closer = Process { pid: 1, comm: comm.parse().expect("a name") };
    let story = Story { role: Role::Active, closer: Some(closer), ..unknown_story() };
    let at = tcp_close::event::Monotonic::default();
    Observation::Closed(Closed { at, story, then: Some(Then::Closed) })
}

#[test]
fn services_beyond_the_limit_are_counted_together() {
    let mut metrics = capped(2);
    for comm in ["curl", "nginx", "redis", "redis", "sshd", "curl"] {
        metrics.observe(&closed_by(comm));
    }
    let closes = |service: &str| {
        value(&metrics, &format!("service_endpoints_closed_total{{role=\"active\",service=\"{service}\"}}"))
    };
    assert_eq!(closes("curl"), Some(2.0));
    assert_eq!(closes("nginx"), Some(1.0));
    assert_eq!(closes("redis"), None);
    assert_eq!(closes("other"), Some(3.0));
}

/// A process chooses its name.
#[test]
fn no_process_passes_for_a_word_of_ours() {
    let mut metrics = capped(9);
    for comm in ["other", "unknown", "unknown"] {
        metrics.observe(&closed_by(comm));
    }
    let closes = |service: &str| {
        value(&metrics, &format!("service_endpoints_closed_total{{role=\"active\",service=\"{service}\"}}"))
    };
    assert_eq!(closes("other"), Some(0.0));
    assert_eq!(closes("other (process)"), Some(1.0));
    assert_eq!(closes("unknown (process)"), Some(2.0));
}

fn route(port: u16, used: u32, exhaustion_seconds: Option<f64>) -> Pressure {
    Pressure {
        netns: 1,
        netns_name: "blue".to_owned(),
        source: "192.0.2.1".parse().expect("an address"),
        destination: Address { addr: "2001:db8::1".parse().expect("an address"), port },
        used,
        states: BTreeMap::from([(TcpState::TimeWait, used)]),
        reusable: used / 2,
        available: 1000 - used / 2,
        range: 1000,
        connects_per_second: None,
        releases_per_second: None,
        exhaustion_seconds,
    }
}

fn ports(metrics: &Metrics, name: &str, port: u16) -> Option<f64> {
    let destination = format!("destination=\"[2001:db8::1]:{port}\"");
    value(metrics, &format!("ports_{name}{{{destination},netns=\"blue\",source=\"192.0.2.1\"}}"))
}

#[test]
fn routes_beyond_the_limit_are_counted_together() {
    let mut metrics = capped(1);
    metrics.ports(&[route(443, 100, Some(7.5)), route(444, 40, None), route(445, 20, None)]);
    let names = ["used", "reusable", "available", "exhaustion_seconds"];
    assert_eq!(names.map(|name| ports(&metrics, name, 443)), [100.0, 50.0, 950.0, 7.5].map(Some));
    assert_eq!(names.map(|name| ports(&metrics, name, 444)), [None; 4]);
    let other = "{destination=\"other\",netns=\"other\",source=\"other\"}";
    assert_eq!(value(&metrics, &format!("ports_used{other}")), Some(60.0));
    assert_eq!(value(&metrics, &format!("ports_reusable{other}")), Some(30.0));
    assert_eq!(value(&metrics, &format!("ports_available{other}")), None);
}

#[test]
fn a_route_that_is_not_used_any_more_keeps_its_series_until_another_needs_them() {
    let mut metrics = capped(1);
    metrics.ports(&[route(443, 100, Some(7.5))]);
    metrics.ports(&[]);
    let names = ["used", "reusable", "available", "exhaustion_seconds"];
    assert_eq!(names.map(|name| ports(&metrics, name, 443)), [0.0, 0.0, 1000.0, f64::INFINITY].map(Some));
    metrics.ports(&[route(444, 10, None)]);
    assert_eq!(names.map(|name| ports(&metrics, name, 443)), [None; 4]);
    assert_eq!(ports(&metrics, "used", 444), Some(10.0));
    assert_eq!(value(&metrics, "series_dropped_total{metric=\"ports_used\"}"), Some(2.0));
}
