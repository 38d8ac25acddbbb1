//! The host's side of the containers' network: one nftables table, one link that holds the gateway's address.
//!
//! No rule names a container: links are known by their prefix, addresses by the route that the kernel has for them. Only two maps and
//! a set change with containers: the host ports, the service ports, and what a container may reach on the host besides what all may.

use crate::{
    config::Config,
    error::{Error, Result},
    flows,
    nft::{self, Element, Verb},
};
use futures::TryStreamExt;
use rtnetlink::{
    Handle, LinkBridge, RouteMessageBuilder,
    packet_route::route::{RouteMessage, RouteProtocol, RouteType},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs, io,
    net::{IpAddr, Ipv4Addr, UdpSocket},
    path::Path,
    process::Stdio,
};
use tokio::{io::AsyncWriteExt, process::Command};
use warden_client::{Endpoint, Protocol};

/// Where host ports or service ports lead.
pub(crate) type Ports = BTreeMap<u16, (Ipv4Addr, u16)>;
/// What containers may reach on this host besides what all may, with the container's address first.
pub(crate) type Ways = BTreeSet<(Ipv4Addr, Endpoint)>;

/// The map of host ports.
const HOST_PORTS: &str = "host_ports";
/// The map of service ports.
const SERVICE_PORTS: &str = "service_ports";
/// The set of ways.
const EGRESS: &str = "egress";

fn opened(ports: &Ports, ways: &Ways) -> Vec<Element> {
    let leads = ports.iter().map(|(port, target)| Element::lead(HOST_PORTS, *port, *target));
    let ways = ways.iter().map(|(from, to)| Element::way(EGRESS, *from, to));
    leads.chain(ways).collect()
}

/// The daemon's hold on the host's network.
pub(crate) struct Network {
    table: String,
    links: Handle,
}

impl Network {
    /// Sets everything up, or takes over what is there; `ports`, `services` and `ways` are those of the containers that live.
    pub(crate) async fn start(
        config: &Config,
        resolvers: &[Ipv4Addr],
        ports: &Ports,
        services: &Ports,
        ways: &Ways,
    ) -> Result<Self> {
        let (connection, links, _) = rtnetlink::new_connection().map_err(Error::at("opening netlink"))?;
        tokio::spawn(connection); // ends with the last handle
        let network = Self { table: config.raw.network.table.clone(), links };
        fs::write("/proc/sys/net/ipv4/ip_forward", "1").map_err(Error::at("turning forwarding on"))?;
        network.hold_gateway(config).await.map_err(Error::at("setting the gateway's address"))?;
        let closed = network.links.route().add(nowhere(config)).replace().execute().await;
        closed.map_err(Error::at("closing the subnet"))?;
        load(&ruleset(config, resolvers, ports, services, ways)).await.map_err(Error::at("loading the rules"))?;
        Ok(network)
    }

    async fn hold_gateway(&self, config: &Config) -> std::result::Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let name = config.gateway_link();
        let index = match self.index(&name).await? {
            Some(index) => index,
            None => {
                // A bridge without ports, because every kernel has bridges and some have no dummy links.
                self.links.link().add(LinkBridge::new(&name).up().build()).execute().await?;
                self.index(&name).await?.ok_or("the link vanished")?
            }
        };
        let added = self.links.address().add(index, IpAddr::V4(config.subnet.gateway()), 32).execute().await;
        match added {
            Err(rtnetlink::Error::NetlinkError(e)) if e.to_io().kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => Ok(other?),
        }
    }

    async fn index(&self, name: &str) -> std::result::Result<Option<u32>, rtnetlink::Error> {
        match self.links.link().get().match_name(name.to_owned()).execute().try_next().await {
            Ok(found) => Ok(found.map(|link| link.header.index)),
            Err(rtnetlink::Error::NetlinkError(e))
                if e.to_io().raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error()) =>
            {
                Ok(None)
            }
            Err(e) => Err(e),
        }
    }

    /// Lets host ports lead to a container, and the container reach what it may.
    pub(crate) async fn open(&self, ports: &Ports, ways: &Ways) -> Result<()> {
        let changes = opened(ports, ways).into_iter().map(|element| (Verb::Add, element)).collect();
        nft::change(&self.table, changes).await.map_err(Error::at("opening ports"))
    }

    /// Ends that, also for connections that are open.
    pub(crate) async fn close(&self, ports: &Ports, ways: &Ways) -> Result<()> {
        // One at a time: one that is not there must not keep the others.
        for element in opened(ports, ways) {
            match nft::change(&self.table, vec![(Verb::Delete, element)]).await {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(Error::at("closing ports")(e)),
                _ => {}
            }
        }
        Ok(())
    }

    /// Replaces ways by others, without a moment in which one that stays is closed.
    pub(crate) async fn replace(&self, old: &Ways, new: &Ways) -> Result<()> {
        let delete = old.difference(new).map(|(from, to)| (Verb::Delete, Element::way(EGRESS, *from, to)));
        let add = new.difference(old).map(|(from, to)| (Verb::Add, Element::way(EGRESS, *from, to)));
        nft::change(&self.table, delete.chain(add).collect()).await.map_err(Error::at("changing what a container may reach"))
    }

    /// Lets service ports lead to a container, `taken` of them away from another, without a moment in between.
    pub(crate) async fn publish(&self, taken: &BTreeSet<u16>, leads: &Ports) -> Result<()> {
        let nowhere = (Ipv4Addr::UNSPECIFIED, 0); // what is deleted is found by its key
        let delete = taken.iter().map(|port| (Verb::Delete, Element::lead(SERVICE_PORTS, *port, nowhere)));
        let add = leads.iter().map(|(port, target)| (Verb::Add, Element::lead(SERVICE_PORTS, *port, *target)));
        nft::change(&self.table, delete.chain(add).collect()).await.map_err(Error::at("publishing service ports"))
    }

    /// Ends that; connections that are open go on until [`Network::forget`].
    pub(crate) async fn unpublish(&self, leads: &Ports) -> Result<()> {
        for (port, target) in leads {
            match nft::change(&self.table, vec![(Verb::Delete, Element::lead(SERVICE_PORTS, *port, *target))]).await {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(Error::at("closing service ports")(e)),
                _ => {}
            }
        }
        Ok(())
    }

    /// Has the kernel forget the connections that lead into a container.
    pub(crate) async fn forget(&self, address: Ipv4Addr) -> Result<()> {
        flows::forget(address).await.map_err(Error::at("ending connections"))
    }

    /// Removes a link if it is there.
    pub(crate) async fn remove_link(&self, name: &str) -> Result<()> {
        let Some(index) = self.index(name).await.map_err(Error::at("finding a link"))? else { return Ok(()) };
        match self.links.link().del(index).execute().await {
            // Gone by itself meanwhile, with its other end.
            Err(rtnetlink::Error::NetlinkError(e))
                if e.to_io().raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error()) =>
            {
                Ok(())
            }
            other => other.map_err(Error::at("removing a link")),
        }
    }

    /// Names of all links with a prefix.
    pub(crate) async fn links_named(&self, prefix: &str) -> Result<Vec<String>> {
        let mut found = vec![];
        let mut all = self.links.link().get().execute();
        while let Some(link) = all.try_next().await.map_err(Error::at("listing links"))? {
            for attribute in link.attributes {
                if let rtnetlink::packet_route::link::LinkAttribute::IfName(name) = attribute
                    && name.starts_with(prefix)
                {
                    found.push(name);
                }
            }
        }
        Ok(found)
    }

    /// Takes rules and gateway away; only when no container is left.
    pub(crate) async fn end(&self, config: &Config) -> Result<()> {
        self.remove_link(&config.gateway_link()).await?;
        // Gone already where an earlier end was cut short.
        let _ = self.links.route().del(nowhere(config)).execute().await;
        let table = &self.table;
        load(&format!("add table inet {table}\ndelete table inet {table}\n")).await.map_err(Error::at("removing the rules"))
    }
}

/// Takes rules and gateway away without a daemon.
pub(crate) fn clean(config: &Config) -> io::Result<()> {
    let run = |program: &str, arguments: &[&str]| std::process::Command::new(program).args(arguments).output();
    let (table, link) = (&config.raw.network.table, config.gateway_link());
    if run("nft", &["list", "table", "inet", table])?.status.success() {
        run("nft", &["delete", "table", "inet", table])?;
    }
    if Path::new("/sys/class/net").join(&link).exists() {
        run("ip", &["link", "delete", &link])?;
    }
    run("ip", &["route", "delete", "unreachable", &config.raw.network.subnet])?;
    Ok(())
}

/// The route of addresses that no container has: without it, what is sent to a container that just ended would leave the
/// host by the default route, and whoever answers there would be taken for the app.
fn nowhere(config: &Config) -> RouteMessage {
    let builder = RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(config.subnet.network, config.subnet.prefix);
    builder.kind(RouteType::Unreachable).protocol(RouteProtocol::Static).build()
}

fn elements(ports: &Ports) -> String {
    let pairs: Vec<String> = ports.iter().map(|(port, (address, inside))| format!("{port} : {address} . {inside}")).collect();
    pairs.join(", ")
}

fn way_elements(ways: &Ways) -> String {
    let texts = ways.iter().map(|(from, to)| {
        let protocol = match to.protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        };
        format!("{from} . {} . {protocol} . {}-{}", to.address, to.ports.first, to.ports.last)
    });
    texts.collect::<Vec<_>>().join(", ")
}

fn ruleset(config: &Config, resolvers: &[Ipv4Addr], ports: &Ports, published: &Ports, ways: &Ways) -> String {
    let settings = &config.raw.network;
    let (table, links, subnet) = (&settings.table, format!("\"{}*\"", settings.link_prefix), &settings.subnet);
    let gateway = config.subnet.gateway();
    let services: Ports = settings.host_services.iter().map(|s| (s.port, (*s.target.ip(), s.target.port()))).collect();
    let map = |name: &str, ports: &Ports| {
        let filled = if ports.is_empty() { String::new() } else { format!("elements = {{ {} }}", elements(ports)) };
        format!("map {name} {{ type inet_service : ipv4_addr . inet_service; {filled} }}")
    };
    let egress_elements = if ways.is_empty() { String::new() } else { format!("elements = {{ {} }}", way_elements(ways)) };
    let mut text = format!("add table inet {table}\ndelete table inet {table}\n");
    let resolver_list: Vec<String> = resolvers.iter().map(ToString::to_string).collect();
    let resolve = if resolver_list.is_empty() {
        String::new()
    } else {
        format!("ip daddr {{ {} }} meta l4proto {{ tcp, udp }} th dport 53 accept", resolver_list.join(", "))
    };
    let from_routers = match settings.routers.as_slice() {
        [] => String::new(),
        routers => format!(
            "iifname != {links} ip saddr {{ {} }} fib daddr type local dnat ip to tcp dport map @host_ports",
            routers.join(", ")
        ),
    };
    let _ = write!(
        text,
        "table inet {table} {{
  {host_ports}
  {host_services}
  {service_ports}
  set {EGRESS} {{ type ipv4_addr . ipv4_addr . inet_proto . inet_service; flags interval; {egress_elements} }}
  chain from_containers {{ type filter hook prerouting priority raw; policy accept;
    iifname {links} meta nfproto ipv6 drop
    iifname {links} fib saddr . iif oif missing drop comment \"a false sender\"
    iifname {links} ip daddr 127.0.0.0/8 drop
  }}
  chain to_ports {{ type nat hook prerouting priority dstnat; policy accept;
    iifname {links} ip daddr {gateway} dnat ip to tcp dport map @host_services
    iifname {links} meta l4proto tcp ip daddr {gateway} ip saddr . ip daddr . meta l4proto . th dport @{EGRESS} dnat ip to tcp dport map @{SERVICE_PORTS}
    {from_routers}
  }}
  chain to_ports_from_host {{ type nat hook output priority -100; policy accept;
    ip daddr {gateway} dnat ip to tcp dport map @{SERVICE_PORTS}
    fib daddr type local dnat ip to tcp dport map @host_ports
  }}
  chain source_address {{ type nat hook postrouting priority srcnat; policy accept;
    oifname {links} ip saddr 127.0.0.0/8 snat ip to {gateway}
    ip saddr {subnet} oifname != {links} masquerade
  }}
  chain forwarded {{ type filter hook forward priority filter; policy accept;
    iifname != {links} oifname != {links} accept
    ct state invalid drop
    iifname {links} oifname {links} goto between_containers
    ct state established,related accept
    oifname {links} iifname != {links} ct status dnat accept
    oifname {links} drop comment \"neighbours\"
    ip daddr 169.254.0.0/16 drop comment \"metadata services\"
    ip daddr {subnet} drop
    iifname {links} ip protocol {{ tcp, udp, icmp }} accept
    drop
  }}
  chain between_containers {{
    ct state related accept
    meta l4proto tcp ct status dnat ct direction original fib daddr . iif oif exists reject with tcp reset comment \"itself: it would hear its own address\"
    meta l4proto tcp ct status dnat ct original ip saddr . ct original ip daddr . meta l4proto . ct original proto-dst @{EGRESS} accept comment \"service ports, each packet\"
    drop comment \"neighbours\"
  }}
  chain to_host {{ type filter hook input priority filter; policy accept;
    iifname != {links} iifname != \"lo\" ip daddr {gateway} drop comment \"services are for containers of this host\"
    iifname != {links} accept
    ct direction reply ct state established accept
    ct state related accept
    ct status dnat accept comment \"host services\"
    meta l4proto {{ tcp, udp }} ip saddr . ip daddr . meta l4proto . th dport @{EGRESS} accept comment \"each packet, so that closing ends what is open\"
    {resolve}
    drop
  }}
}}
",
        host_ports = map(HOST_PORTS, ports),
        host_services = map("host_services", &services),
        service_ports = map(SERVICE_PORTS, published),
    );
    text
}

async fn load(script: &str) -> io::Result<()> {
    let mut child = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(script.as_bytes()).await?;
    }
    let done = child.wait_with_output().await?;
    if done.status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!("nft: {}", String::from_utf8_lossy(&done.stderr).trim())))
}

/// The address under which the outside reaches this host: that of the default route, or the gateway's.
pub(crate) fn host_address(config: &Config) -> Ipv4Addr {
    let by_route = || -> io::Result<IpAddr> {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.connect("198.51.100.1:9")?; // nothing is sent
        Ok(socket.local_addr()?.ip())
    };
    match (config.raw.network.host_address, by_route()) {
        (Some(set), _) => set,
        (None, Ok(IpAddr::V4(found))) if !found.is_unspecified() => found,
        (None, _) => config.subnet.gateway(),
    }
}

/// The resolvers that containers use: those set, or the host's as far as containers can reach them.
pub(crate) fn resolvers(config: &Config) -> Vec<Ipv4Addr> {
    if !config.raw.network.resolvers.is_empty() {
        return config.raw.network.resolvers.clone();
    }
    // A stub on loopback knows the real ones; systemd-resolved writes them here.
    let files = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];
    let found = files.iter().map(|file| parse_resolvers(&fs::read_to_string(file).unwrap_or_default()));
    found.into_iter().find(|list| !list.is_empty()).unwrap_or_default()
}

fn parse_resolvers(text: &str) -> Vec<Ipv4Addr> {
    let words = text.lines().filter_map(|line| line.trim().strip_prefix("nameserver")).map(str::trim);
    words.filter_map(|word| word.parse().ok()).filter(|address: &Ipv4Addr| !address.is_loopback()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resolver_on_loopback_is_no_use_inside() {
        let text = "# made by x\nnameserver 127.0.0.53\nnameserver ::1\n nameserver 192.0.2.53\noptions edns0\n";
        assert_eq!(parse_resolvers(text), [Ipv4Addr::new(192, 0, 2, 53)]);
    }
}
