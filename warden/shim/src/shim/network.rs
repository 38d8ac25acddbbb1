//! The container's own address: a routed link without a bridge, so that every packet between neighbours crosses the host's rules.
//!
//! Both ends have known link addresses and permanent neighbour entries: nobody asks, so nobody can give a false answer.

use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::{AddressAttribute, AddressMessage, AddressScope},
    link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage},
    neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState},
    route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType},
};
use netlink_sys::{Socket, protocols::NETLINK_ROUTE};
use nix::{
    net::if_::if_nametoindex,
    sched::{CloneFlags, setns},
};
use std::{
    fs::{self, File},
    io,
    net::{IpAddr, Ipv4Addr},
    os::fd::AsRawFd,
};
use warden_client::shim::Launch;

/// The name of the link inside.
const INSIDE: &str = "eth0";
/// The link address at every host end: locally administered, and the same for all, because no two share a link.
const HOST_END: [u8; 6] = [0x02, 0x63, 0x66, 0x00, 0x00, 0x01];

fn container_end(address: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = address.octets();
    [0x06, 0x63, a, b, c, d]
}

/// Links the container with the host.
pub(crate) fn connect(launch: &Launch, init: i32) -> io::Result<()> {
    let theirs = File::open(format!("/proc/{init}/ns/net"))?;
    let ours = File::open("/proc/self/ns/net")?;
    let host = socket()?;
    request(&host, vec![veth(launch, &theirs)])?;
    let index = if_nametoindex(launch.link.as_str())?;
    let setting =
        |family: &str, name: &str, value: &str| fs::write(format!("/proc/sys/net/{family}/conf/{}/{name}", launch.link), value);
    // So that the host reaches its containers under 127.0.0.1 too; the rules drop what containers send to 127.0.0.0/8.
    setting("ipv4", "route_localnet", "1")?;
    if let Err(e) = setting("ipv6", "disable_ipv6", "1")
        && e.kind() != io::ErrorKind::NotFound
    {
        return Err(e);
    }
    let there = container_end(launch.address);
    request(
        &host,
        vec![neighbour(index, launch.address, there), route(index, Some(launch.address), None, Some(launch.gateway))],
    )?;
    setns(&theirs, CloneFlags::CLONE_NEWNET)?;
    let inside = configure_inside(launch);
    setns(&ours, CloneFlags::CLONE_NEWNET)?;
    inside
}

fn configure_inside(launch: &Launch) -> io::Result<()> {
    let inside = socket()?;
    let (lo, eth) = (if_nametoindex("lo")?, if_nametoindex(INSIDE)?);
    let up = |index: u32| {
        let mut link = LinkMessage::default();
        link.header.index = index;
        link.header.flags = LinkFlags::Up;
        link.header.change_mask = LinkFlags::Up;
        RouteNetlinkMessage::SetLink(link)
    };
    let mut address = AddressMessage::default();
    address.header.family = AddressFamily::Inet;
    address.header.prefix_len = 32;
    address.header.scope = AddressScope::Universe;
    address.header.index = eth;
    let own = IpAddr::V4(launch.address);
    address.attributes = vec![AddressAttribute::Local(own), AddressAttribute::Address(own)];
    request(
        &inside,
        vec![
            up(lo),
            up(eth),
            RouteNetlinkMessage::NewAddress(address),
            neighbour(eth, launch.gateway, HOST_END),
            route(eth, Some(launch.gateway), None, None),
            route(eth, None, Some(launch.gateway), None),
        ],
    )
}

fn veth(launch: &Launch, theirs: &File) -> RouteNetlinkMessage {
    let named = |name: &str, address: [u8; 6]| {
        let mut link = LinkMessage::default();
        link.attributes = vec![LinkAttribute::IfName(name.to_owned()), LinkAttribute::Address(address.to_vec())];
        link
    };
    // Neither end can be up before the other exists: this one is brought up inside.
    let mut peer = named(INSIDE, container_end(launch.address));
    peer.attributes.push(LinkAttribute::NetNsFd(theirs.as_raw_fd()));
    let mut link = named(&launch.link, HOST_END);
    link.header.flags = LinkFlags::Up;
    link.header.change_mask = LinkFlags::Up;
    link.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::Veth),
        LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
    ]));
    RouteNetlinkMessage::NewLink(link)
}

fn neighbour(index: u32, address: Ipv4Addr, link_address: [u8; 6]) -> RouteNetlinkMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.ifindex = index;
    message.header.state = NeighbourState::Permanent;
    message.header.kind = RouteType::Unicast;
    message.attributes = vec![
        NeighbourAttribute::Destination(NeighbourAddress::Inet(address)),
        NeighbourAttribute::LinkLayerAddress(link_address.to_vec()),
    ];
    RouteNetlinkMessage::NewNeighbour(message)
}

/// A route over a link to one address, or to all through a gateway.
fn route(index: u32, to: Option<Ipv4Addr>, gateway: Option<Ipv4Addr>, from: Option<Ipv4Addr>) -> RouteNetlinkMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = AddressFamily::Inet;
    message.header.destination_prefix_length = if to.is_some() { 32 } else { 0 };
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Static;
    message.header.scope = if gateway.is_some() { RouteScope::Universe } else { RouteScope::Link };
    message.header.kind = RouteType::Unicast;
    message.attributes = vec![RouteAttribute::Oif(index)];
    let attributes = [
        to.map(|to| RouteAttribute::Destination(RouteAddress::Inet(to))),
        gateway.map(|gateway| RouteAttribute::Gateway(RouteAddress::Inet(gateway))),
        from.map(|from| RouteAttribute::PrefSource(RouteAddress::Inet(from))),
    ];
    message.attributes.extend(attributes.into_iter().flatten());
    RouteNetlinkMessage::NewRoute(message)
}

fn socket() -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    Ok(socket)
}

/// Sends all messages at once and waits for as many acknowledgements.
fn request(socket: &Socket, messages: Vec<RouteNetlinkMessage>) -> io::Result<()> {
    let mut bytes = vec![];
    let mut expected = 0;
    for message in messages {
        let new = !matches!(message, RouteNetlinkMessage::SetLink(_));
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | NLM_F_ACK | if new { NLM_F_CREATE | NLM_F_EXCL } else { 0 };
        let mut packet = NetlinkMessage::new(header, NetlinkPayload::from(message));
        packet.finalize();
        let start = bytes.len();
        bytes.resize((start + packet.buffer_len()).next_multiple_of(4), 0);
        packet.serialize(&mut bytes[start..start + packet.buffer_len()]);
        expected += 1;
    }
    socket.send(&bytes, 0)?;
    while expected > 0 {
        let (answer, _) = socket.recv_from_full()?;
        let mut at = 0;
        while at < answer.len() {
            let packet =
                NetlinkMessage::<RouteNetlinkMessage>::deserialize(&answer[at..]).map_err(|e| io::Error::other(e.to_string()))?;
            if let NetlinkPayload::Error(error) = &packet.payload {
                if error.code.is_some() {
                    return Err(error.to_io());
                }
                expected -= 1;
            }
            at += (packet.header.length as usize).max(16).next_multiple_of(4);
        }
    }
    Ok(())
}
