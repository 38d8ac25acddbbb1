//! The settings of a node: what an operator may choose. Everything else follows from them.

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use std::{
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

/// Where the state of a node lies unless told otherwise.
pub(crate) const DEFAULT_STATE: &str = "/var/lib/cupola";
/// Where its sockets lie unless told otherwise.
pub(crate) const DEFAULT_RUN: &str = "/run/cupola";

/// `<state>/cupola.toml`, written at the first boot with the values in force.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Settings {
    /// Sockets and pid files.
    pub(crate) run_dir: PathBuf,
    /// `api.`, `uaa.`, `login.`, ... live under it.
    pub(crate) system_domain: String,
    /// Apps' routes live under it.
    pub(crate) apps_domain: String,
    /// The router's address.
    pub(crate) listen: Ipv4Addr,
    /// The router's HTTP port.
    pub(crate) http_port: u16,
    /// The router's HTTPS port.
    pub(crate) https_port: u16,
    /// The first of 32 loopback ports for the parts' own listeners.
    pub(crate) port_base: u16,
    /// The network of the containers, at least a /18 for real use.
    pub(crate) subnet: String,
    /// Host ports that lead to containers: first and last.
    pub(crate) host_ports: (u16, u16),
    /// Name of the nftables table.
    pub(crate) nft_table: String,
    /// What the names of the containers' links on the host begin with; at most 9 characters.
    pub(crate) link_prefix: String,
    /// Name of the cgroup under which all containers lie.
    pub(crate) cgroup_parent: String,
    /// First of the user ids that containers are mapped to.
    pub(crate) container_uid_base: u32,
    /// First of 32 user ids that the parts run as.
    pub(crate) service_uid_base: u32,
    /// Memory that apps may be promised; absent: four fifths of the machine's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) memory_mb: Option<u32>,
    /// Disk that apps may be promised; absent: four fifths of what is free at each start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) disk_mb: Option<u32>,
    /// `postgres://...` for the cloud controller's database; absent: SQLite.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) database_url: Option<String>,
    /// `postgres://...` for UAA's database; absent: SQLite.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) uaa_database_url: Option<String>,
    /// Root file systems: `<stacks_dir>/<name>/rootfs`; absent: `<state>/stacks`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) stacks_dir: Option<PathBuf>,
    /// Environment of every staging (registries, proxies), `KEY = "value"`.
    pub(crate) staging_environment: std::collections::BTreeMap<String, String>,
    /// Where service brokers may be although it is on this machine or in the containers' network: `127.0.0.1:8091`, `10.1.0.0/16`.
    pub(crate) brokers_allowed: Vec<String>,
    /// A PEM file of authorities that brokers' certificates may be of, besides those that the system knows; every user may read it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) brokers_ca: Option<PathBuf>,
    /// `host:port` of brokers whose certificate nobody looks at.
    pub(crate) brokers_skip_tls_verify: Vec<String>,
    /// How long a broker may work on something, unless its plan says less; absent: a week.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) brokers_max_polling_minutes: Option<u32>,
    /// How long an address or host port rests before it is given out again.
    pub(crate) quarantine_s: u32,
    /// The platform's own services.
    pub(crate) services: Services,
}

/// `[services]`: databases and queues that the platform offers itself. Their servers listen on the first address of the
/// containers' network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Services {
    /// Offer PostgreSQL; absent: if it is installed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) postgres: Option<bool>,
    /// Offer MySQL (MariaDB); absent: if it is installed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) mysql: Option<bool>,
    /// Offer Redis; absent: if it is installed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) redis: Option<bool>,
    /// Offer RabbitMQ; absent: if it is installed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rabbitmq: Option<bool>,
    /// Port of PostgreSQL.
    pub(crate) postgres_port: u16,
    /// Port of MariaDB.
    pub(crate) mysql_port: u16,
    /// Ports of Redis servers, one each: first and last.
    pub(crate) redis_ports: (u16, u16),
    /// Port of RabbitMQ.
    pub(crate) rabbitmq_port: u16,
    /// Ports of servers in containers, one each: first and last.
    pub(crate) dedicated_ports: (u16, u16),
}

impl Default for Services {
    fn default() -> Self {
        Self {
            postgres: None,
            mysql: None,
            redis: None,
            rabbitmq: None,
            postgres_port: 5_432,
            mysql_port: 3_306,
            redis_ports: (7_000, 7_999),
            rabbitmq_port: 5_671,
            dedicated_ports: (8_000, 8_999),
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            run_dir: DEFAULT_RUN.into(),
            system_domain: "cf.localhost".into(),
            apps_domain: "app.localhost".into(),
            listen: Ipv4Addr::LOCALHOST,
            http_port: 80,
            https_port: 443,
            port_base: 9_000,
            subnet: "10.254.0.0/18".into(),
            host_ports: (61_000, 64_999),
            nft_table: "cupola".into(),
            link_prefix: "cup".into(),
            cgroup_parent: "cupola".into(),
            container_uid_base: 1_000_000_000,
            service_uid_base: 900_000,
            memory_mb: None,
            disk_mb: None,
            database_url: None,
            uaa_database_url: None,
            stacks_dir: None,
            staging_environment: Default::default(),
            brokers_allowed: vec![],
            brokers_ca: None,
            brokers_skip_tls_verify: vec![],
            brokers_max_polling_minutes: None,
            quarantine_s: 240,
            services: Services::default(),
        }
    }
}

impl Settings {
    /// Reads the settings of the node at `state`; `None` before its first boot.
    pub(crate) fn read(state: &Path) -> anyhow::Result<Option<Self>> {
        let path = file(state);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e).with_context(|| format!("cannot read {}", path.display())),
        };
        let settings: Self = toml::from_str(&text).with_context(|| format!("{} is not valid", path.display()))?;
        settings.check()?;
        Ok(Some(settings))
    }

    /// Keeps the settings of the node at `state`.
    pub(crate) fn write(&self, state: &Path) -> anyhow::Result<()> {
        self.check()?;
        let text = format!("# The settings of this node. After a change: cupola down, cupola up.\n{}", toml::to_string(self)?);
        crate::files::write(&file(state), text.as_bytes(), crate::files::Owner::root(0o600))
    }

    /// A port of one of the parts.
    pub(crate) fn port(&self, port: Port) -> u16 {
        self.port_base + port as u16
    }

    fn check(&self) -> anyhow::Result<()> {
        for (key, domain) in [("system_domain", &self.system_domain), ("apps_domain", &self.apps_domain)] {
            let valid = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
            if domain.is_empty() || !domain.contains('.') || !domain.chars().all(valid) {
                bail!("{key}: `{domain}` is not a domain in lower case with at least one dot");
            }
        }
        if self.system_domain == self.apps_domain {
            bail!("system_domain and apps_domain are both `{}`; apps could take the platform's own names", self.apps_domain);
        }
        if self.port_base < 1_024 || self.port_base > 65_000 {
            bail!("port_base: {} is not between 1024 and 65000", self.port_base);
        }
        if self.http_port == self.https_port {
            bail!("http_port and https_port are both {}", self.http_port);
        }
        if !is_network(&self.subnet) {
            bail!("subnet: `{}` is not a network like 10.254.0.0/18, of 8 to 30 bits", self.subnet);
        }
        if self.host_ports.0 >= self.host_ports.1 {
            bail!("host_ports: {:?} is not a range from low to high", self.host_ports);
        }
        let dedicated = self.services.dedicated_ports;
        if dedicated.0 == 0 || dedicated.0 > dedicated.1 {
            bail!("services.dedicated_ports: {dedicated:?} is not a range from low to high");
        }
        let one = |port: u16| (port, port);
        for (key, other) in [
            ("host_ports", self.host_ports),
            ("services.redis_ports", self.services.redis_ports),
            ("services.postgres_port", one(self.services.postgres_port)),
            ("services.mysql_port", one(self.services.mysql_port)),
            ("services.rabbitmq_port", one(self.services.rabbitmq_port)),
        ] {
            if dedicated.0 <= other.1 && other.0 <= dedicated.1 {
                bail!("services.dedicated_ports: {dedicated:?} overlaps with {key}");
            }
        }
        Ok(())
    }
}

fn file(state: &Path) -> PathBuf {
    state.join("cupola.toml")
}

/// An IPv4 network without bits of a host, as large as Warden takes it.
fn is_network(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else { return false };
    let (Ok(address), Ok(bits)) = (address.parse::<Ipv4Addr>(), bits.parse::<u32>()) else { return false };
    (8..=30).contains(&bits) && address.to_bits().trailing_zeros() >= 32 - bits
}

/// The loopback ports of the parts, as offsets from `port_base`.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Port {
    Bus = 0,
    Uaa = 1,
    CloudController = 2,
    CloudControllerInternal = 3,
    LogCache = 4,
    RouterStatus = 5,
    PostgresBroker = 10,
    MysqlBroker = 11,
    RedisBroker = 12,
    RabbitmqBroker = 13,
    RabbitmqAmqp = 14,
    RabbitmqManagement = 15,
    RabbitmqDistribution = 16,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_read_back_as_written() {
        let state = tempfile::tempdir().unwrap();
        assert_eq!(Settings::read(state.path()).unwrap(), None);
        let settings = Settings { http_port: 8080, ..Default::default() };
        settings.write(state.path()).unwrap();
        assert_eq!(Settings::read(state.path()).unwrap(), Some(settings));
    }

    #[test]
    fn servers_in_containers_have_ports_of_their_own() {
        let with =
            |dedicated_ports| Settings { services: Services { dedicated_ports, ..Default::default() }, ..Default::default() };
        assert!(with((8_000, 8_999)).check().is_ok());
        for (range, word) in [((7_999, 8_999), "redis_ports"), ((8_999, 8_000), "low to high"), ((64_000, 65_000), "host_ports")]
        {
            let told = with(range).check().unwrap_err().to_string();
            assert!(told.contains("dedicated_ports") && told.contains(word), "{told}");
        }
    }

    #[test]
    fn apps_may_not_share_the_domain_of_the_platform() {
        let settings = Settings { apps_domain: "cf.localhost".into(), ..Default::default() };
        assert!(settings.check().unwrap_err().to_string().contains("both `cf.localhost`"));
    }
}
