//! What to do about what is seen on a host: nothing that is general, only what its own figures call for.
//!
//! In: the kernel's limits and settings, and how far they are used. Out: sentences.

use std::net::IpAddr;

use crate::{event::TcpState, kernel::limits::Limits, ports::Pressure};

/// What is seen on a host. What could not be seen is `None`, or not there.
#[derive(Clone, Debug, Default)]
pub struct Sight {
    /// Limits and how far they are used.
    pub limits: Limits,
    /// Routes by the use of their ports.
    pub pressures: Vec<Pressure>,
    /// Sockets in CLOSE-WAIT.
    pub close_wait: u64,
    /// `tcp_fin_timeout`, in seconds.
    pub fin_timeout: Option<u64>,
    /// `tcp_tw_reuse`.
    pub tw_reuse: Option<u64>,
    /// `tcp_timestamps` is 0.
    pub without_timestamps: bool,
}

/// How much of a limit may be used before somebody should know.
const MUCH: f64 = 0.8;

/// The default of `tcp_fin_timeout`.
const FIN_TIMEOUT: u64 = 60;

/// What to do about it, the most urgent first.
pub fn advice(sight: &Sight) -> Vec<String> {
    let mut advice = Vec::new();
    let Limits { time_wait, time_wait_now, refused, orphans, orphans_now } = sight.limits;
    if let Some((used, most)) = much(time_wait_now, time_wait) {
        advice.push(format!(
            "{used} minisocks of at most {most}: past that, a close is refused its TIME-WAIT. Raise \
             net.ipv4.tcp_max_tw_buckets; each takes about 250 bytes."
        ));
    } else if let Some(refused) = refused.filter(|&refused| refused > 0) {
        advice.push(format!(
            "{refused} TIME-WAITs were refused since this network namespace began: net.ipv4.tcp_max_tw_buckets was \
             reached. `tcp-close list --by owner` tells who closes so many connections."
        ));
    }
    if let Some((used, most)) = much(orphans_now, orphans) {
        advice.push(format!(
            "{used} orphans of at most {most}: past that, they are reset. `tcp-close list 'state fin-wait-1 or state \
             last-ack' --sort age` shows whose peers do not answer."
        ));
    }
    advice.extend(
        sight.pressures.iter().filter(|pressure| is_short(pressure)).map(|pressure| ports(pressure, sight)),
    );
    if sight.close_wait > 0 {
        advice.push(format!(
            "{} in CLOSE-WAIT: the peer has closed, the process here has not, and no setting ends that. \
             `tcp-close list --state close-wait --sort age` shows whose they are.",
            sockets(sight.close_wait)
        ));
    }
    if let Some(seconds) = sight.fin_timeout.filter(|&seconds| seconds != FIN_TIMEOUT) {
        advice.push(format!(
            "net.ipv4.tcp_fin_timeout is {seconds}: if that was to change TIME-WAIT, it does not; it is about FIN-WAIT-2."
        ));
    }
    advice
}

/// What is used of a limit, where that is much.
fn much(used: Option<u64>, most: Option<u64>) -> Option<(u64, u64)> {
    let (used, most) = used.zip(most)?;
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let is_much = used as f64 >= most as f64 * MUCH;
    is_much.then_some((used, most))
}

fn is_short(pressure: &Pressure) -> bool {
    f64::from(pressure.available) <= f64::from(pressure.range) * (1.0 - MUCH)
}

/// What would make more ports available on a route.
fn ports(pressure: &Pressure, sight: &Sight) -> String {
    let Pressure { netns_name, source, destination, used, available, range, states, .. } = pressure;
    let time_wait = states.get(&TcpState::TimeWait).copied().unwrap_or_default();
    let is_local = |address: IpAddr| address.is_loopback();
    let could_reuse = match sight.tw_reuse {
        Some(0) => true,
        Some(2) => !(is_local(*source) || is_local(destination.addr)),
        _ => false,
    };
    let way = if time_wait * 2 < *used {
        "keep fewer connections open, or connect from more addresses"
    } else if sight.without_timestamps {
        "net.ipv4.tcp_timestamps is 0, so no TIME-WAIT can be reused; keep connections open, or connect from more addresses"
    } else if could_reuse {
        "keep connections open; net.ipv4.tcp_tw_reuse=1 lets connect() take those in TIME-WAIT"
    } else {
        "keep connections open, or connect from more addresses"
    };
    let to = std::net::SocketAddr::from(*destination);
    format!(
        "{used} of {range} ephemeral ports are used from {source} to {to} in {netns_name}, {time_wait} of them in TIME-WAIT, \
         and {available} are available: {way}."
    )
}

fn sockets(count: u64) -> String {
    if count == 1 { "1 socket is".to_owned() } else { format!("{count} sockets are") }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn route(used: u32, time_wait: u32) -> Pressure {
        Pressure {
            netns: 1,
            netns_name: "host".to_owned(),
            source: "192.0.2.1".parse().expect("an address"),
            destination: "198.51.100.2:443".parse::<std::net::SocketAddr>().expect("an address").into(),
            used,
            states: BTreeMap::from([(TcpState::TimeWait, time_wait)]),
            reusable: 0,
            available: 1000 - used,
            range: 1000,
            connects_per_second: None,
            releases_per_second: None,
            exhaustion_seconds: None,
        }
    }

    #[track_caller]
    fn says(sight: &Sight, parts: &[&str]) {
        let advice = advice(sight);
        assert_eq!(advice.len(), parts.len(), "{advice:#?}");
        for (sentence, part) in advice.iter().zip(parts) {
            assert!(sentence.contains(part) && sentence.ends_with('.'), "{sentence}");
        }
    }

    #[test]
    fn a_host_where_nothing_is_wrong_gets_no_advice() {
        let limits = Limits {
            time_wait: Some(1000),
            time_wait_now: Some(799),
            refused: Some(0),
            orphans: Some(1000),
            orphans_now: Some(1),
        };
        let sight =
            Sight { limits, pressures: vec![route(799, 700)], fin_timeout: Some(60), ..Sight::default() };
        says(&sight, &[]);
        says(&Sight::default(), &[]);
    }

    #[test]
    fn limits_that_are_nearly_reached_are_told() {
        let limits = Limits {
            time_wait: Some(1000),
            time_wait_now: Some(800),
            refused: Some(5),
            orphans: Some(10),
            orphans_now: Some(8),
        };
        let sight = Sight { limits, close_wait: 1, fin_timeout: Some(15), ..Sight::default() };
        says(
            &sight,
            &[
                "800 minisocks of at most 1000",
                "8 orphans of at most 10",
                "1 socket is in CLOSE-WAIT",
                "it does not; it is about FIN-WAIT-2",
            ],
        );
        let refused = Limits { time_wait_now: Some(1), orphans_now: None, ..limits };
        says(&Sight { limits: refused, ..Sight::default() }, &["5 TIME-WAITs were refused"]);
    }

    #[test]
    fn ports_that_run_out_call_for_what_would_help() {
        let sight = |used, time_wait, tw_reuse, without_timestamps| Sight {
            pressures: vec![route(used, time_wait)],
            tw_reuse: Some(tw_reuse),
            without_timestamps,
            ..Sight::default()
        };
        says(&sight(900, 800, 2, false), &["tcp_tw_reuse=1 lets connect() take"]);
        says(&sight(900, 800, 1, false), &["keep connections open, or connect from more addresses"]);
        says(&sight(900, 800, 2, true), &["tcp_timestamps is 0"]);
        says(&sight(900, 100, 2, false), &["keep fewer connections open"]);
    }
}
