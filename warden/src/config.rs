//! Settings of the daemon.

use foundation::config::{ConfigError, Problem};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddrV4},
    path::PathBuf,
    time::Duration,
};
use warden_client::shim::ID_RANGE;

/// The file as it is written. Two platforms on one host differ in every value under `network`, in `cgroup_parent`, `id_base` and
/// all folders.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Raw {
    /// Where clients connect.
    pub socket: PathBuf,
    /// The user who may connect besides root: the DEA's.
    #[serde(default)]
    pub socket_owner: u32,
    /// Containers, layers, templates and stacks; on a file system that can map ids (ext4, xfs, btrfs).
    pub state: PathBuf,
    /// Sockets of the shims; emptied by a reboot.
    pub run: PathBuf,
    /// The folder of `warden_shim`, `warden_keeper` and `warden_init`.
    pub programs: PathBuf,
    /// Root file systems by name; absent: `stacks` in the state folder.
    #[serde(default)]
    pub stacks: Option<PathBuf>,
    /// Further names of stacks.
    #[serde(default)]
    pub stack_aliases: BTreeMap<String, String>,
    /// Folders from which clients may name archives and mounts.
    #[serde(default)]
    pub sources: Vec<PathBuf>,
    /// The datagram socket of the log agent.
    pub log_socket: PathBuf,
    /// Name of the cgroup that holds all containers.
    #[serde(default = "default_cgroup_parent")]
    pub cgroup_parent: String,
    /// Mount cgroup2 with `favordynmods` where the kernel can (Linux 6.0), so that starting a process in a cgroup does not wait for
    /// a grace period. The whole host has it then, until its next boot; making and ending threads costs a little more.
    #[serde(default = "default_favor_cgroup_joins")]
    pub favor_cgroup_joins: bool,
    /// The first user id that belongs to containers; each has 65,536 of them.
    #[serde(default = "default_id_base")]
    pub id_base: u32,
    /// The most containers at a time, ended and resting ones included.
    #[serde(default = "default_most_containers")]
    pub most_containers: u32,
    /// What may be promised.
    pub capacity: Capacity,
    /// Addresses and rules.
    pub network: Network,
    /// What containers trust.
    #[serde(default)]
    pub trust: Trust,
    /// Bounds of layers.
    #[serde(default)]
    pub layers: Layers,
}

/// What may be promised to containers in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Capacity {
    /// Memory in MiB.
    pub memory_mb: u64,
    /// Disk in MiB.
    pub disk_mb: u64,
}

/// Addresses and rules.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// Name of the nftables table.
    #[serde(default = "default_table")]
    pub table: String,
    /// What the names of all links begin with; at most 9 characters.
    #[serde(default = "default_link_prefix")]
    pub link_prefix: String,
    /// The containers' addresses, `10.254.0.0/18`. The first address is the host's.
    #[serde(default = "default_subnet")]
    pub subnet: String,
    /// The address under which the outside reaches this host; absent: that of the default route.
    #[serde(default)]
    pub host_address: Option<Ipv4Addr>,
    /// The first port on the host for containers.
    #[serde(default = "default_first_port")]
    pub first_port: u16,
    /// The last one.
    #[serde(default = "default_last_port")]
    pub last_port: u16,
    /// Ports of the subnet's first address that may lead into containers (`service_ports` of their specs): first and last. The host's
    /// own services listen elsewhere.
    #[serde(default = "default_service_ports")]
    pub service_ports: (u16, u16),
    /// How long a freed address or port rests: twice the routers' prune threshold.
    #[serde(default = "default_quarantine")]
    pub quarantine_seconds: u64,
    /// Networks of routers on other hosts, `10.0.0.0/24`: from there, too, the containers' ports of this host are reached. Empty: from
    /// this host alone, so that nobody comes past the router.
    #[serde(default)]
    pub routers: Vec<String>,
    /// Resolvers of the containers; empty: the host's.
    #[serde(default)]
    pub resolvers: Vec<Ipv4Addr>,
    /// What containers reach at the subnet's first address: the router. Everything else on the host is closed to them.
    #[serde(default)]
    pub host_services: Vec<HostService>,
}

/// One service of the host that containers may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostService {
    /// Its TCP port, as containers see it.
    pub port: u16,
    /// Where it really listens.
    pub target: SocketAddrV4,
}

/// Certificate authorities that containers trust.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trust {
    /// PEM bundle; absent file: the stack's own.
    #[serde(default = "default_bundle")]
    pub bundle: PathBuf,
    /// Further PEM files: the platform's own authority.
    #[serde(default)]
    pub extra: Vec<PathBuf>,
}

impl Default for Trust {
    fn default() -> Self {
        Self { bundle: default_bundle(), extra: vec![] }
    }
}

/// Bounds of one layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Layers {
    /// Unpacked size in MiB.
    pub most_mb: u64,
    /// Files and folders.
    pub most_entries: u64,
}

impl Default for Layers {
    fn default() -> Self {
        Self { most_mb: 8192, most_entries: 1_000_000 }
    }
}

fn default_cgroup_parent() -> String {
    "cupola".into()
}
fn default_favor_cgroup_joins() -> bool {
    true
}
fn default_id_base() -> u32 {
    100 << 16
}
fn default_most_containers() -> u32 {
    4000
}
fn default_table() -> String {
    "cupola".into()
}
fn default_link_prefix() -> String {
    "cup-".into()
}
fn default_subnet() -> String {
    "10.254.0.0/18".into()
}
fn default_first_port() -> u16 {
    61_001
}
fn default_last_port() -> u16 {
    65_000
}
fn default_service_ports() -> (u16, u16) {
    (8_000, 8_999)
}
fn default_quarantine() -> u64 {
    240
}
fn default_bundle() -> PathBuf {
    "/etc/ssl/certs/ca-certificates.crt".into()
}

/// The containers' addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subnet {
    /// Its lowest address.
    pub network: Ipv4Addr,
    /// Bits of the prefix.
    pub prefix: u8,
}

impl Subnet {
    fn parse(text: &str) -> Option<Self> {
        let (network, prefix) = text.split_once('/')?;
        let subnet = Self { network: network.parse().ok()?, prefix: prefix.parse().ok()? };
        let aligned = (8..=30).contains(&subnet.prefix) && subnet.network.to_bits() & (subnet.size() - 1) == 0;
        aligned.then_some(subnet)
    }
    fn size(self) -> u32 {
        1 << (32 - u32::from(self.prefix))
    }
    /// True for its own addresses.
    pub fn contains(self, address: Ipv4Addr) -> bool {
        address.to_bits() & !(self.size() - 1) == self.network.to_bits()
    }
    /// The host's address in it: the containers' gateway, and where services listen that containers may be allowed to reach.
    pub fn gateway(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.network.to_bits() + 1)
    }
    /// The address of a container's slot.
    pub fn address(self, slot: u32) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.network.to_bits() + 2 + slot)
    }
    /// How many containers have an address.
    pub fn slots(self) -> u32 {
        self.size() - 3 // network, gateway, broadcast
    }
}

/// Settings in which every value works.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file's values.
    pub raw: Raw,
    /// Where stacks lie.
    pub stacks: PathBuf,
    /// The containers' addresses.
    pub subnet: Subnet,
    /// How many containers fit into addresses, ids and the asked number.
    pub slots: u32,
    /// How long addresses and ports rest.
    pub quarantine: Duration,
}

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// Where it cannot be read, or its values cannot work.
    pub fn load(path: &std::path::Path) -> Result<Self, ConfigError> {
        Self::check(foundation::config::load(path)?)
    }

    /// Checks all values.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] with everything that is wrong.
    pub fn check(raw: Raw) -> Result<Self, ConfigError> {
        let mut problems = vec![];
        let mut wrong = |key: &'static str, bad: bool, why: &str| {
            if bad {
                problems.push(Problem { key, why: why.to_owned() });
            }
        };
        for (key, path) in [("socket", &raw.socket), ("state", &raw.state), ("run", &raw.run), ("programs", &raw.programs)] {
            wrong(key, !path.is_absolute(), "the path is not absolute");
        }
        wrong("run", raw.run.as_os_str().len() > 80, "the path is too long for sockets below it");
        wrong("sources", raw.sources.iter().any(|path| !path.is_absolute()), "a path is not absolute");
        wrong("cgroup_parent", !is_word(&raw.cgroup_parent, 64), "it is not a word of letters, digits, `-` and `_`");
        wrong("capacity.memory_mb", raw.capacity.memory_mb == 0, "nothing could ever be promised");
        wrong("capacity.disk_mb", raw.capacity.disk_mb == 0, "nothing could ever be promised");
        wrong("id_base", raw.id_base < ID_RANGE, "it overlaps with the host's own ids");
        wrong("network.table", !is_word(&raw.network.table, 32), "it is not a word of letters, digits, `-` and `_`");
        wrong(
            "network.link_prefix",
            !is_word(&raw.network.link_prefix, 9),
            "it is not a word of at most 9 letters, digits, `-` and `_`",
        );
        wrong(
            "network.first_port",
            raw.network.first_port == 0 || raw.network.first_port > raw.network.last_port,
            "the range of ports is empty",
        );
        let (first, last) = raw.network.service_ports;
        wrong("network.service_ports", first == 0 || first > last, "the range of ports is empty");
        wrong(
            "network.service_ports",
            first <= raw.network.last_port && raw.network.first_port <= last,
            "it overlaps with the containers' ports of the host",
        );
        let unknown = |network: &String| Subnet::parse(network).is_none();
        wrong("network.routers", raw.network.routers.iter().any(unknown), "one is not a network like `10.0.0.0/24`");
        let subnet = Subnet::parse(&raw.network.subnet);
        wrong("network.subnet", subnet.is_none(), "it is not a network like `10.254.0.0/18`, of 8 to 30 bits");
        // Linux 6.1 mounts no devpts for a group id of 2^31 or more.
        wrong("id_base", raw.id_base >= 1 << 31, "it is not below 2147483648");
        // The first range of ids unpacks layers.
        let ids = (1_u32 << 31).saturating_sub(raw.id_base) / ID_RANGE;
        let slots = subnet.map_or(0, Subnet::slots).min(raw.most_containers).min(ids.saturating_sub(2)).min(100_000);
        wrong("most_containers", slots == 0, "no container fits into addresses and ids");
        match subnet {
            Some(subnet) if problems.is_empty() => Ok(Self {
                stacks: raw.stacks.clone().unwrap_or_else(|| raw.state.join("stacks")),
                subnet,
                slots,
                quarantine: Duration::from_secs(raw.network.quarantine_seconds),
                raw,
            }),
            _ => Err(ConfigError::Invalid(problems)),
        }
    }

    /// The first id of a container's range.
    pub fn id_base(&self, slot: u32) -> u32 {
        self.raw.id_base + (slot + 1) * ID_RANGE
    }

    /// The id that unpacks layers; nothing else has it.
    pub fn unpack_id(&self) -> u32 {
        self.raw.id_base + 2000
    }

    /// The name of a container's link at the host's end.
    pub fn link(&self, slot: u32) -> String {
        format!("{}{slot}", self.raw.network.link_prefix)
    }

    /// The name of the link that only holds the gateway's address.
    pub fn gateway_link(&self) -> String {
        format!("{}gw", self.raw.network.link_prefix)
    }
}

/// True for letters, digits, `-` and `_`, 1 to `most` of them.
pub(crate) fn is_word(text: &str, most: usize) -> bool {
    (1..=most).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Raw {
        toml::from_str(include_str!("../example.toml")).unwrap()
    }

    #[test]
    fn the_example_works() {
        let config = Config::check(example()).unwrap();
        assert_eq!(config.subnet.gateway(), Ipv4Addr::new(10, 254, 0, 1));
        assert_eq!(config.subnet.address(0), Ipv4Addr::new(10, 254, 0, 2));
        assert_eq!(config.link(7), "cup-7");
        assert_eq!(config.id_base(0) - config.unpack_id(), ID_RANGE - 2000);
    }

    #[test]
    fn all_problems_are_told_at_once() {
        let mut raw = example();
        raw.network.subnet = "10.254.0.1/18".into();
        raw.network.link_prefix = "much-too-long".into();
        raw.state = "state".into();
        let text = Config::check(raw).unwrap_err().to_string();
        for key in ["network.subnet", "network.link_prefix", "state"] {
            assert!(text.contains(key), "{text}");
        }
    }
}
