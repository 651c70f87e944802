//! Reads what options take, and says what they take to whoever typed something else.

use std::{net::SocketAddr, str::FromStr};

use jiff::SignedDuration;

use crate::{
    event::TcpState,
    filter,
    lifecycle::observation::{EndCause, Role},
};

/// How often `-v` is given, as its variable has it.
pub(super) fn verbosity(text: &str) -> Result<u8, String> {
    text.parse().map_err(|_error| "TCP_CLOSE_VERBOSE takes a number, such as 1 or 2".to_owned())
}

pub(super) fn port(text: &str) -> Result<u16, String> {
    let port = text.parse().ok().filter(|&port| port > 0);
    port.ok_or_else(|| "it takes the number of a port, 1 to 65535".to_owned())
}

pub(super) fn destination(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_error| {
        "it takes an address and a port, such as 192.0.2.1:443 or [2001:db8::1]:443".to_owned()
    })
}

/// `:10060` means every address, as `node_exporter` has it.
pub(super) fn listen_address(text: &str) -> Result<SocketAddr, String> {
    let full = if text.starts_with(':') { format!("[::]{text}") } else { text.to_owned() };
    full.parse().map_err(|_error| {
        "it takes an address and a port, such as 127.0.0.1:10060, [::1]:10060, or :10060 for every address"
            .to_owned()
    })
}

/// A path below which nothing else is served.
pub(super) fn telemetry_path(text: &str) -> Result<String, String> {
    // Whatever else may stand in a path is told apart from how it is asked for.
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte);
    if !text.starts_with('/') || !text.bytes().all(is_plain) {
        return Err("a path begins with / and has only letters, digits, and -._~ between its /".to_owned());
    }
    if ["/", "/healthz", "/readyz"].contains(&text) {
        return Err("something else is served there".to_owned());
    }
    Ok(text.to_owned())
}

pub(super) fn at_least_one<T: FromStr + Default + PartialOrd>(text: &str) -> Result<T, String> {
    let number = text.parse().ok().filter(|number| *number > T::default());
    number.ok_or_else(|| "it takes a whole number of at least 1".to_owned())
}

pub(super) fn role(text: &str) -> Result<Role, String> {
    filter::role(text).ok_or_else(|| format!("it takes one of {}", Role::ALL.map(Role::label).join(", ")))
}

pub(super) fn cause(text: &str) -> Result<EndCause, String> {
    let causes = || EndCause::OF_TIME_WAIT.map(EndCause::label).join(", ");
    filter::cause(text).ok_or_else(|| format!("it takes one of {}, or of a FIN-WAIT-2", causes()))
}

pub(super) fn closing_state(text: &str) -> Result<TcpState, String> {
    let state: TcpState = text.parse().map_err(|unknown: crate::event::UnknownState| unknown.to_string())?;
    if state.is_closing() {
        return Ok(state);
    }
    Err("it is no closing state; those are fin-wait-1, fin-wait-2, time-wait, close-wait, last-ack, closing"
        .to_owned())
}

pub(super) fn duration(text: &str) -> Result<std::time::Duration, String> {
    let parsed: SignedDuration = text
        .parse()
        .map_err(|_error| "it takes a number with a unit, such as 10s, 5m or 1h30m".to_owned())?;
    std::time::Duration::try_from(parsed)
        .ok()
        .filter(|duration| !duration.is_zero())
        .ok_or_else(|| "it must be longer than nothing".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        assert_eq!(duration("10s"), Ok(std::time::Duration::from_secs(10)));
        assert_eq!(duration("1m30s"), Ok(std::time::Duration::from_secs(90)));
        assert!(duration("10").is_err() && duration("-1s").is_err() && duration("0s").is_err());
    }
}
