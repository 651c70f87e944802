//! Interfaces of the calling thread's namespace: brought up, and given addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, bail};
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteMetric, RouteProtocol, RouteScope,
    RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;

use crate::address::{PREFIX_V4, PREFIX_V6};
use crate::clock::{Deadline, PATIENCE};
use crate::netlink;

/// Brings an interface up and gives back its index.
pub(crate) fn bring_up(name: &str, mtu: Option<u32>) -> anyhow::Result<u32> {
    let index = index_of(name)?;
    let mut link = LinkMessage::default();
    link.header.index = index;
    link.header.flags = LinkFlags::Up;
    link.header.change_mask = LinkFlags::Up;
    link.attributes.extend(mtu.map(LinkAttribute::Mtu));
    netlink::order(NETLINK_ROUTE, 0, RouteNetlinkMessage::SetLink(link))
        .with_context(|| format!("bring {name} up"))?;
    Ok(index)
}

/// Has every segment of a connection to 127.0.0.1 acknowledged at once (`RTAX_QUICKACK`), a FIN too, whose acknowledgement is
/// delayed otherwise (`tcp_fin`).
pub(crate) fn acknowledge_at_once() -> anyhow::Result<()> {
    let loopback = RouteAddress::Inet(Ipv4Addr::LOCALHOST);
    let mut route = RouteMessage::default();
    route.header = RouteHeader {
        address_family: AddressFamily::Inet,
        destination_prefix_length: 32,
        table: libc::RT_TABLE_LOCAL,
        protocol: RouteProtocol::Kernel,
        scope: RouteScope::Host,
        kind: RouteType::Local,
        ..RouteHeader::default()
    };
    route.attributes = vec![
        RouteAttribute::Destination(loopback.clone()),
        RouteAttribute::PrefSource(loopback),
        RouteAttribute::Oif(index_of("lo")?),
        RouteAttribute::Metrics(vec![RouteMetric::QuickAck(1)]),
    ];
    netlink::order(NETLINK_ROUTE, NLM_F_CREATE | NLM_F_REPLACE, RouteNetlinkMessage::NewRoute(route))
        .context("change the route to 127.0.0.1")
}

fn index_of(name: &str) -> anyhow::Result<u32> {
    let socket = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM, None)
        .context("open a socket")?;
    rustix::net::netdevice::name_to_index(&socket, name).with_context(|| format!("find the interface {name}"))
}

/// Gives an interface that is up two addresses of the lab, and waits until they may be used.
pub(crate) fn assign(index: u32, v4: Ipv4Addr, v6: Ipv6Addr) -> anyhow::Result<()> {
    assign_one(index, AddressFamily::Inet, IpAddr::V4(v4), PREFIX_V4)?;
    assign_one(index, AddressFamily::Inet6, IpAddr::V6(v6), PREFIX_V6)?;
    wait_until_own(v6)
}

fn assign_one(index: u32, family: AddressFamily, address: IpAddr, prefix: u8) -> anyhow::Result<()> {
    let mut message = AddressMessage::default();
    message.header.family = family;
    message.header.prefix_len = prefix;
    message.header.index = index;
    message.attributes = vec![
        AddressAttribute::Local(address),
        AddressAttribute::Address(address),
        // Without it an IPv6 address may not be used until the search for a duplicate is over.
        AddressAttribute::Flags(AddressFlags::Nodad | AddressFlags::Permanent),
    ];
    netlink::order(NETLINK_ROUTE, NLM_F_CREATE | NLM_F_EXCL, RouteNetlinkMessage::NewAddress(message))
        .with_context(|| format!("give interface {index} the address {address}/{prefix}"))
}

/// Waits until the kernel takes packets to its new IPv6 address for its own.
///
/// Even without a search for duplicates the local route is made later, by a kernel thread
/// (`addrconf_dad_work`).
fn wait_until_own(address: Ipv6Addr) -> anyhow::Result<()> {
    let deadline = Deadline::after(PATIENCE);
    while deadline.left().is_some() {
        let mut question = RouteMessage::default();
        question.header.address_family = AddressFamily::Inet6;
        question.header.destination_prefix_length = 128;
        question.attributes = vec![RouteAttribute::Destination(RouteAddress::Inet6(address))];
        let answer = netlink::ask(NETLINK_ROUTE, RouteNetlinkMessage::GetRoute(question))
            .with_context(|| format!("ask for the route to {address}"))?;
        if let Some(RouteNetlinkMessage::NewRoute(route)) = answer
            && route.header.kind == RouteType::Local
        {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(1));
    }
    bail!("the kernel has no local route to {address} after {PATIENCE:?}")
}
