//! IPv4 mapped into IPv6 is one connection with two faces.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use tcp_close_test::{address::Family, segment::Direction, stream};

use crate::{Lab, orderly::by_role, read_to_fin};

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
