//! IPv4, IPv6, and IPv4 mapped into IPv6: one connection with two faces.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use tcp_close::{
    event::{AddressFamily, Pair},
    filter::Pairs,
    probe::ProbeSettings,
};
use tcp_close_test::{address::Family, netns::Netns, segment::Direction, stream};

use crate::{
    Lab,
    observer::{Observer, preflight},
    orderly::by_role,
    read_to_fin,
};

#[test]
fn a_mapped_address_is_shown_as_ipv4() {
    let lab = Lab::new();
    let listener = stream::listener(&lab.server, IpAddr::V6(Ipv6Addr::UNSPECIFIED));
    let port = listener.local_addr().expect("an address").port();
    let client = stream::connect(&lab.client, SocketAddr::new(Family::V4.server(), port));
    let (server, from) = listener.accept().expect("accept");
    assert!(from.is_ipv6(), "the process sees a mapped address: {from}");
    drop(client);
    assert_eq!(read_to_fin(&server), b"");
    drop(server);
    lab.wait_for(|entry| entry.segment.is_fin() && entry.segment.direction == Direction::ServerToClient);

    let (active, passive) = by_role(&lab.observer.closed(2));
    assert!(passive.story.pair.local.is_ipv4(), "{:?}", passive.story.pair);
    assert_eq!(active.story.pair.local, passive.story.pair.remote);
    assert_ne!(active.story.id, passive.story.id);
    lab.observer.agrees_with_the_kernel(&[&lab.client, &lab.server]);
}

/// The client's pairs of three connections within one namespace, closed one after the other, while those are watched that
/// `pairs` of the three listeners' ports picks; and the pairs of what was watched: so many closes and TIME-WAITs, no more.
#[track_caller]
fn watched(
    [closes, time_waits]: [usize; 2],
    pairs: impl FnOnce([u16; 3]) -> Pairs,
) -> ([Pair; 3], Vec<Pair>) {
    let netns = Netns::new();
    let [v4, v6] = Family::BOTH.map(Family::loopback);
    let listeners =
        [v4, v6, IpAddr::V6(Ipv6Addr::UNSPECIFIED)].map(|address| stream::listener(&netns, address));
    let ports = listeners.each_ref().map(|listener| listener.local_addr().expect("an address").port());
    let settings = ProbeSettings { pairs: pairs(ports), ring_bytes: 1 << 20, ..ProbeSettings::default() };
    let observer = Observer::attach_with(&[&netns], preflight(), &settings);
    // To the last of them, which listens at IPv6, as IPv4; before that one, IPv6; what is watched last is told last.
    let made = [(1, v6), (2, v4), (0, v4)].map(|(place, address)| {
        let client = stream::connect(&netns, SocketAddr::new(address, ports[place]));
        let (server, _from) = listeners[place].accept().expect("accept");
        let pair = Pair {
            local: client.local_addr().expect("an address"),
            remote: client.peer_addr().expect("an address"),
        };
        drop(client);
        assert_eq!(read_to_fin(&server), b"");
        pair
    });
    let told = observer.wait_until("TIME-WAITs began", |told| told.minisocks_began() >= time_waits);
    assert_eq!(told.minisocks_began(), time_waits);
    (made, observer.closed(closes).iter().map(|closed| closed.story.pair).collect())
}

const fn reversed(pair: Pair) -> Pair {
    Pair { local: pair.remote, remote: pair.local }
}

#[test]
fn of_one_family_what_is_mapped_is_ipv4() {
    let ([ipv6, mapped, ipv4], seen) =
        watched([4, 2], |_ports| Pairs { family: Some(AddressFamily::V4), ..Pairs::ALL });
    for pair in [mapped, reversed(mapped), ipv4, reversed(ipv4)] {
        assert!(seen.contains(&pair), "{pair:?}: {seen:?}");
    }
    assert!(!seen.contains(&ipv6), "{seen:?}");
    let ([ipv6, ..], seen) =
        watched([2, 1], |_ports| Pairs { family: Some(AddressFamily::V6), ..Pairs::ALL });
    assert!(seen.contains(&ipv6) && seen.contains(&reversed(ipv6)), "{seen:?}");
}

#[test]
fn of_some_ports_nothing_else_is_watched() {
    let ([.., ipv4], seen) = watched([1, 1], |[port, ..]| Pairs { remote_ports: port..=port, ..Pairs::ALL });
    assert_eq!(seen, [ipv4], "the client's end");
    let ([.., ipv4], seen) = watched([1, 0], |[port, ..]| Pairs { local_ports: port..=port, ..Pairs::ALL });
    assert_eq!(seen, [reversed(ipv4)], "the server's end");
}
