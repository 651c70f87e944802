//! Whose closes, and whose sockets: the metrics with a `service`.

use std::{
    collections::HashMap,
    num::NonZeroUsize,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use lru::LruCache;

use super::{
    Metrics, as_gauge,
    catalogue::{Catalogue, SERVICE_STATES},
    raise,
    top::{OTHER, Top},
};
use crate::{
    clock,
    event::{Monotonic, TcpState},
    lifecycle::{
        Census, OwnerKey,
        observation::{Closed, Role},
    },
    owner::Homes,
};

/// How often it is asked who matters most.
const RENEWAL: Duration = Duration::from_secs(60);

/// Room for the names of owners; those that close nothing for longest make room.
const NAMES: NonZeroUsize = NonZeroUsize::new(4096).expect("not zero");

/// Whoever nobody knows.
const UNKNOWN: &str = "unknown";

/// The label of a process that is known by its name alone, which it may choose: it does not pass for one of our own words,
/// and an empty label would be none.
fn process(name: &str) -> Arc<str> {
    match name {
        "" => UNKNOWN.into(),
        OTHER | UNKNOWN => format!("{name} (process)").into(),
        name => name.into(),
    }
}

/// The metrics with a service.
pub(super) struct Services {
    homes: Arc<Mutex<Homes>>,
    /// Names of owners, of those whose home is known or that have none.
    names: LruCache<OwnerKey, Arc<str>>,
    top: Top,
    renewed: Monotonic,
}

impl Services {
    pub(super) fn new(homes: Arc<Mutex<Homes>>, limit: usize) -> Self {
        Self { homes, names: LruCache::new(NAMES), top: Top::new(limit), renewed: Monotonic::default() }
    }

    /// A name for whoever has a socket: its container or unit, else its process.
    fn name(&mut self, owner: &OwnerKey) -> Arc<str> {
        if let Some(name) = self.names.get(owner) {
            return Arc::clone(name);
        }
        let home = owner.cgroup.and_then(|cgroup| {
            self.homes.lock().unwrap_or_else(PoisonError::into_inner).get(cgroup, clock::monotonic_now)
        });
        let name: Arc<str> = match (home.as_ref().and_then(|home| home.service()), owner.comm) {
            (Some(name), _) => name.into(),
            (None, Some(comm)) => process(&comm.to_string()),
            (None, None) => UNKNOWN.into(),
        };
        // One that is not found may be found later: nobody looks at once for each.
        if home.is_some() || owner.cgroup.is_none() {
            self.names.put(*owner, Arc::clone(&name));
        }
        name
    }

    /// A connection closed.
    pub(super) fn closed(&mut self, catalogue: &Catalogue, closed: &Closed) {
        let name = self.name(&closed.story.owner());
        let service: &str = if self.top.weigh(&name, 1.0) { &name } else { OTHER };
        catalogue
            .service_endpoints_closed_total
            .with_label_values(&[service, closed.story.role.label()])
            .inc();
    }

    /// These are the sockets there are.
    fn sockets(&mut self, catalogue: &Catalogue, census: &Census) {
        let mut by_service: HashMap<String, [u64; SERVICE_STATES.len()]> =
            self.top.members().chain([OTHER]).map(|member| (member.to_owned(), Default::default())).collect();
        for (owner, states) in &census.by_owner {
            let name = owner.map_or_else(|| OTHER.into(), |owner| self.name(&owner));
            let of_states =
                SERVICE_STATES.map(|state| states.get(state as usize).copied().unwrap_or_default());
            #[expect(clippy::cast_precision_loss, reason = "far below 2^52 sockets")]
            let weight = of_states.iter().sum::<u64>() as f64;
            let service: &str = if self.top.weigh(&name, weight) { &name } else { OTHER };
            for (sum, count) in by_service.entry(service.to_owned()).or_default().iter_mut().zip(of_states) {
                *sum += count;
            }
        }
        for (service, counts) in by_service {
            for (state, count) in SERVICE_STATES.into_iter().zip(counts) {
                let labels = [service.as_str(), state.label()];
                if census.knows_substates || !matches!(state, TcpState::FinWait2 | TcpState::TimeWait) {
                    catalogue.service_sockets.with_label_values(&labels).set(as_gauge(count));
                } else {
                    // An error says that it was not there.
                    drop(catalogue.service_sockets.remove_label_values(&labels));
                }
            }
        }
    }

    /// Some lose their series to others, now and then.
    pub(super) fn renew(&mut self, catalogue: &Catalogue, now: Monotonic) {
        if now.since(self.renewed) >= RENEWAL {
            self.renewed = now;
            for name in self.top.renew() {
                for role in Role::ALL {
                    let labels = [name.as_str(), role.label()];
                    drop(catalogue.service_endpoints_closed_total.remove_label_values(&labels));
                }
                for state in SERVICE_STATES {
                    drop(catalogue.service_sockets.remove_label_values(&[&name, state.label()]));
                }
            }
        }
        for metric in ["service_endpoints_closed_total", "service_sockets"] {
            raise(&catalogue.series_dropped_total.with_label_values(&[metric]), self.top.dropped());
        }
    }
}

impl Metrics {
    /// Takes in whose the sockets are that close now.
    pub(super) fn services(&mut self, census: &Census) {
        self.services.renew(&self.catalogue, census.at);
        self.services.sockets(&self.catalogue, census);
    }
}
