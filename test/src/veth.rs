//! Two namespaces joined by a pair of virtual Ethernet devices, for who wants a real device and no wire of the lab's.

use std::os::fd::AsRawFd as _;

use anyhow::Context as _;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkInfo, LinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;

use crate::address::{CLIENT_V4, CLIENT_V6, SERVER_V4, SERVER_V6};
use crate::breakage::OrGiveUp as _;
use crate::interface;
use crate::netlink;
use crate::netns::Netns;

/// What the device is called at both ends; one pair per namespace is enough.
const NAME: &str = "lab1";

/// Joins two namespaces; the one gets the lab's addresses of the client, the other those of the server.
///
/// The devices go away with the first of the two.
#[track_caller]
pub fn join(client: &Netns, server: &Netns) {
    let other_end = server.handle().as_raw_fd();
    // The descriptor is open for as long as this waits for the job.
    client.run(move || make(other_end)).or_give_up();
    // There is no carrier, and so no address of IPv6, before both are up.
    let ends = [(client, CLIENT_V4, CLIENT_V6), (server, SERVER_V4, SERVER_V6)];
    let indexes = ends.map(|(end, ..)| end.run(|| interface::bring_up(NAME, None)).or_give_up());
    for ((end, v4, v6), index) in ends.into_iter().zip(indexes) {
        end.run(move || interface::assign(index, v4, v6)).or_give_up();
    }
}

/// Makes the pair, one end here and one in the namespace of this descriptor.
fn make(other_end: i32) -> anyhow::Result<()> {
    let name = || LinkAttribute::IfName(NAME.to_owned());
    let mut peer = LinkMessage::default();
    peer.attributes = vec![name(), LinkAttribute::NetNsFd(other_end)];
    let mut link = LinkMessage::default();
    link.attributes = vec![
        name(),
        LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
        ]),
    ];
    netlink::order(NETLINK_ROUTE, NLM_F_CREATE | NLM_F_EXCL, RouteNetlinkMessage::NewLink(link))
        .context("make a pair of virtual Ethernet devices (is the module veth loaded?)")
}
