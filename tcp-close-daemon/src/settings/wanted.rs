//! Which connections are wanted, by all that was typed of them.

use std::net::{IpAddr, SocketAddr};

use crate::{
    cli::FilterArgs,
    event::{AddressFamily, TcpState},
    filter::{self, Comparison, Expression, FilterError, Host, HostNames, NameOf, Predicate, Side},
};

/// All that was said of which connections are wanted, in one expression.
pub(super) fn filter(
    args: FilterArgs,
    netns: &[u32],
    states: Vec<TcpState>,
) -> Result<Expression, FilterError> {
    let family = match (args.ipv4, args.ipv6) {
        (true, _) => Some(AddressFamily::V4),
        (_, true) => Some(AddressFamily::V6),
        _ => None,
    };
    let port = |side| move |port| Predicate::Port(side, Comparison::Equal, port);
    let name = |of| move |name| Predicate::Name(of, name);
    let typed = [
        Expression::one_of(netns.iter().copied().map(Predicate::Netns)),
        Expression::one_of(states.into_iter().map(Predicate::State)),
        Expression::one_of(family.map(Predicate::Family)),
        Expression::one_of(args.localport.into_iter().map(port(Side::Local))),
        Expression::one_of(args.remoteport.into_iter().map(port(Side::Remote))),
        Expression::one_of(args.pid.into_iter().map(|pid| Predicate::Pid(Comparison::Equal, pid))),
        Expression::one_of(args.comm.into_iter().map(name(NameOf::Comm))),
        Expression::one_of(args.unit.into_iter().map(name(NameOf::Unit))),
        Expression::one_of(args.container.into_iter().map(name(NameOf::Container))),
        Expression::one_of(args.role.into_iter().map(Predicate::Role)),
        Expression::one_of(args.cause.into_iter().map(Predicate::Cause)),
        filter::parse(&args.filter.join(" "), &HostNames)?,
    ];
    Ok(typed.into_iter().fold(Expression::default(), Expression::and))
}

/// Which connection is meant: a cookie, one or two addresses, or a filter.
pub(super) fn connection(typed: &[String]) -> Result<Expression, FilterError> {
    let typed = typed.join(" ");
    let words: Vec<&str> = typed.split_whitespace().collect();
    let host = |side, (ip, port): (IpAddr, Option<u16>)| {
        Expression::Is(Predicate::Host(side, Host { network: Some(ip.to_canonical().into()), port }))
    };
    let between = |local, remote| host(Side::Local, local).and(host(Side::Remote, remote));
    let address = |word: &&str| {
        let with_port = word.parse().map(|address: SocketAddr| (address.ip(), Some(address.port())));
        with_port.or_else(|_no_port| word.parse().map(|ip: IpAddr| (ip, None))).ok()
    };
    if let [word] = *words
        && let Some(cookie) = filter::cookie(word)
    {
        return Ok(Expression::Is(Predicate::Cookie(cookie)));
    }
    let addresses: Vec<_> = words.iter().filter_map(address).collect();
    match *addresses.as_slice() {
        [one] if words.len() == 1 => {
            Ok(Expression::Any(vec![host(Side::Local, one), host(Side::Remote, one)]))
        }
        // Either may be ours.
        [one, other] if words.len() == 2 => {
            Ok(Expression::Any(vec![between(one, other), between(other, one)]))
        }
        _ => filter::parse(&typed, &HostNames),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_named_by_its_cookie_its_addresses_or_what_is_so_of_it() {
        let meant = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
            connection(&words).expect("a connection").to_string()
        };
        assert_eq!(meant(&["sk:2b"]), "cookie = sk:2b");
        assert_eq!(meant(&["192.0.2.1:443"]), "src 192.0.2.1/32:443 or dst 192.0.2.1/32:443");
        assert_eq!(meant(&["2001:db8::1"]), "src [2001:db8::1]/128:* or dst [2001:db8::1]/128:*");
        assert_eq!(
            meant(&["192.0.2.1:443", "[2001:db8::1]:80"]),
            "src 192.0.2.1/32:443 and dst [2001:db8::1]/128:80 or \
             src [2001:db8::1]/128:80 and dst 192.0.2.1/32:443"
        );
        assert_eq!(meant(&["43"]), "cookie = sk:2b");
        assert_eq!(meant(&["[::ffff:192.0.2.1]:443"]), meant(&["192.0.2.1:443"]));
        assert_eq!(meant(&["192.0.2.1:443 192.0.2.2:80"]), meant(&["192.0.2.1:443", "192.0.2.2:80"]));
        assert_eq!(meant(&["owner", "=", "curl"]), "owner = \"curl\"");
        assert_eq!(meant(&[]), "");
    }
}
