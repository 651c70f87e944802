//! Which ephemeral ports are taken, towards whom, and when there will be none left.
//!
//! What runs out is not ports but socket pairs: a port may be used again towards another destination. So they are counted
//! for each route, a source address and a destination with its port.
//!
//! In: the kernel's table of a moment, and the one before. Out: a [`Pressure`] for each route. It reads no clock and
//! no file; `looks` does, which decides when to look.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{
    event::{Address, Monotonic, TcpState},
    kernel::port_settings::{PortSettings, Reuse},
    snapshot::{PortTable, Row},
};

/// TIME-WAIT by the kernel's source (`TCP_TIMEWAIT_LEN`).
const TIME_WAIT: Duration = Duration::from_secs(60);

/// Two tables that are closer than this tell no rate.
const SHORTEST: Duration = Duration::from_millis(100);

/// What a connection needs a port for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Route {
    netns: u32,
    source: IpAddr,
    destination: SocketAddr,
}

/// The ports that were taken at a moment.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    namespaces: HashMap<u32, Namespace>,
    routes: HashMap<Route, Vec<Taken>>,
}

/// What all routes of a namespace have in common.
#[derive(Clone, Debug)]
struct Namespace {
    name: String,
    at: Monotonic,
    /// Ports that the kernel gives: those of its range that are neither reserved nor listened at.
    range: u32,
}

/// A port that is taken on a route.
#[derive(Clone, Copy, Debug)]
struct Taken {
    port: u16,
    /// Which tells one life of the socket pair from the next.
    cookie: u64,
    state: TcpState,
    hold: Hold,
}

/// How the kernel treats a port that is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hold {
    /// It stays taken until its socket is gone.
    Lasting,
    /// It will be given again before that, but not yet.
    Passing,
    /// It would be given again now.
    Reusable,
}

impl Sample {
    /// What these tables say.
    pub fn of(tables: &[PortTable]) -> Self {
        let mut sample = Self::default();
        for table in tables {
            let PortTable { netns, name, at, settings, rows } = table;
            let is_listener = |row: &&Row| row.state == TcpState::Listen;
            let listened: HashSet<u16> =
                rows.iter().filter(is_listener).map(|row| row.pair.local.port()).collect();
            // A port that somebody was bound to is given to nobody else, and what was accepted there has it.
            let gives = |port: u16| settings.gives(port) && !listened.contains(&port);
            let range = settings.range.clone().filter(|&port| gives(port)).count();
            sample.namespaces.insert(
                *netns,
                Namespace { name: name.clone(), at: *at, range: u32::try_from(range).unwrap_or(u32::MAX) },
            );
            for row in rows.iter().filter(|row| row.state != TcpState::Listen && gives(row.pair.local.port()))
            {
                let route =
                    Route { netns: *netns, source: row.pair.local.ip(), destination: row.pair.remote };
                sample.routes.entry(route).or_default().push(Taken {
                    port: row.pair.local.port(),
                    cookie: row.id.socket,
                    state: row.state,
                    hold: hold(row, settings),
                });
            }
        }
        sample
    }
}

/// Whether and when the kernel would give the port of this socket again (`tcp_twsk_unique`). One in FIN-WAIT-2 is left
/// alone, and so is one without timestamps, which its own connection may have been even where they are on.
fn hold(row: &Row, settings: &PortSettings) -> Hold {
    let allowed = match settings.reuse {
        Reuse::Never => false,
        Reuse::Always => true,
        Reuse::Loopback => row.pair.local.ip().is_loopback() || row.pair.remote.ip().is_loopback(),
    };
    let left =
        row.timer.filter(|_| row.is_minisock() && row.state == TcpState::TimeWait).map(|timer| timer.left);
    match left {
        Some(left) if allowed && settings.timestamps => {
            let age = TIME_WAIT.saturating_sub(left);
            if age >= settings.reuse_delay { Hold::Reusable } else { Hold::Passing }
        }
        _ => Hold::Lasting,
    }
}

/// How far the ports of a route are used up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pressure {
    /// Inode number of the network namespace.
    pub netns: u32,
    /// What people call it.
    pub netns_name: String,
    /// The source address.
    pub source: IpAddr,
    /// The destination.
    pub destination: Address,
    /// Ports that are taken.
    pub used: u32,
    /// The same by the state of who has them.
    pub states: BTreeMap<TcpState, u32>,
    /// Those that the kernel would give again, though a TIME-WAIT has them.
    pub reusable: u32,
    /// Those that the next connection may have, the reusable ones among them.
    pub available: u32,
    /// All that the kernel has to give.
    pub range: u32,
    /// Ports that were taken in a second, lately; `None` after the first look.
    pub connects_per_second: Option<f64>,
    /// Ports that were given back in a second, lately.
    pub releases_per_second: Option<f64>,
    /// Seconds until none is available, if it goes on like this; `None` if that does not come.
    pub exhaustion_seconds: Option<f64>,
}

/// Every route on which ports are taken, those with the most first, and how it has changed since the look before.
pub fn pressures(before: Option<&Sample>, now: &Sample) -> Vec<Pressure> {
    let mut pressures: Vec<Pressure> = now
        .routes
        .iter()
        .filter_map(|(route, taken)| {
            let namespace = now.namespaces.get(&route.netns)?;
            let since = before.and_then(|before| {
                let elapsed = namespace.at.since(before.namespaces.get(&route.netns)?.at);
                let taken = before.routes.get(route).map(Vec::as_slice).unwrap_or_default();
                (elapsed >= SHORTEST).then_some((elapsed, taken))
            });
            Some(pressure(route, namespace, taken, since))
        })
        .collect();
    let place =
        |pressure: &Pressure| (pressure.netns, pressure.source, SocketAddr::from(pressure.destination));
    pressures.sort_by(|a, b| b.used.cmp(&a.used).then_with(|| place(a).cmp(&place(b))));
    pressures
}

fn pressure(
    route: &Route,
    namespace: &Namespace,
    taken: &[Taken],
    since: Option<(Duration, &[Taken])>,
) -> Pressure {
    let mut states = BTreeMap::new();
    for taken in taken {
        *states.entry(taken.state).or_default() += 1;
    }
    let used = count(taken.len());
    let reusable = count(taken.iter().filter(|taken| taken.hold == Hold::Reusable).count());
    let available = namespace.range.saturating_sub(used - reusable);
    let change = since.map(|(elapsed, before)| Change::of(before, taken, elapsed));
    Pressure {
        netns: route.netns,
        netns_name: namespace.name.clone(),
        source: route.source,
        destination: route.destination.into(),
        used,
        states,
        reusable,
        available,
        range: namespace.range,
        connects_per_second: change.as_ref().map(|change| change.connects),
        releases_per_second: change.as_ref().map(|change| change.releases),
        exhaustion_seconds: if available == 0 {
            Some(0.0)
        } else {
            change.and_then(|change| change.growth).map(|growth| f64::from(available) / growth)
        },
    }
}

/// What has changed on a route, each in a second.
#[derive(Debug)]
struct Change {
    connects: f64,
    releases: f64,
    /// By how much the ports that stay taken become more, if they do so for certain.
    growth: Option<f64>,
}

impl Change {
    fn of(before: &[Taken], now: &[Taken], elapsed: Duration) -> Self {
        let key = |taken: &Taken| (taken.port, taken.cookie);
        let [known, there] = [before, now].map(|taken| taken.iter().map(key).collect::<HashSet<_>>());
        let come = now.iter().filter(|taken| !known.contains(&key(taken)));
        let gone = before.iter().filter(|taken| !there.contains(&key(taken)));
        let lasting = |taken: &[Taken]| taken.iter().filter(|taken| taken.hold == Hold::Lasting).count();
        let is_lasting = |taken: &&Taken| taken.hold == Hold::Lasting;
        let turnover = come.clone().filter(is_lasting).count() + gone.clone().filter(is_lasting).count();
        let growth = f64::from(count(lasting(now))) - f64::from(count(lasting(before)));
        // Connections that come and go by chance come in numbers that differ by the root of how many there are; three
        // times that is no chance.
        let certain = growth > 3.0 * f64::from(count(turnover)).sqrt();
        let each_second = |many: f64| many / elapsed.as_secs_f64();
        Self {
            connects: each_second(f64::from(count(come.count()))),
            releases: each_second(f64::from(count(gone.count()))),
            growth: certain.then(|| each_second(growth)),
        }
    }
}

fn count(many: usize) -> u32 {
    u32::try_from(many).unwrap_or(u32::MAX)
}

mod looks;

pub use looks::{Connects, Ports, Report};

#[cfg(test)]
mod tests;
