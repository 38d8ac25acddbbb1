//! The platform's own service brokers: which of them run, and their configuration.
//!
//! Each is a part of its own, with its own user id, because its engine runs as the same user: what breaks out of one engine
//! reads nothing of another. Engines listen on the services' address, the first of the containers' network.

use crate::{
    capacity,
    node::Node,
    settings::{Port, Services, Settings},
};
use anyhow::Context;
use broker_sdk::{RawCredential, RawSettings};
use engines::settings::{EngineSection, PlanSection, WorkloadsSection};
use foundation::config::TlsSection;
use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
};

/// As whom the platform comes to its brokers.
const USER: &str = "cupola";

/// One of the platform's own brokers.
pub(crate) struct OwnBroker {
    /// The part's name.
    pub(crate) part: &'static str,
    /// What users know it by.
    pub(crate) name: &'static str,
    port: Port,
    chosen: fn(&Services) -> Option<bool>,
    installed: fn() -> bool,
}

/// All of them.
pub(crate) const OWN: &[OwnBroker] = &[
    OwnBroker {
        part: "postgres_broker",
        name: "postgres",
        port: Port::PostgresBroker,
        chosen: |services| services.postgres,
        installed: || has_version_with("/usr/lib/postgresql", "bin/postgres"),
    },
    OwnBroker {
        part: "mysql_broker",
        name: "mysql",
        port: Port::MysqlBroker,
        chosen: |services| services.mysql,
        installed: || Path::new("/usr/sbin/mariadbd").exists(),
    },
    OwnBroker {
        part: "redis_broker",
        name: "redis",
        port: Port::RedisBroker,
        chosen: |services| services.redis,
        installed: || Path::new("/usr/bin/redis-server").exists(),
    },
    OwnBroker {
        part: "rabbitmq_broker",
        name: "rabbitmq",
        port: Port::RabbitmqBroker,
        chosen: |services| services.rabbitmq,
        installed: || Path::new("/usr/lib/rabbitmq/bin/rabbitmq-server").exists(),
    },
];

fn has_version_with(folder: &str, program: &str) -> bool {
    std::fs::read_dir(folder).is_ok_and(|entries| entries.flatten().any(|entry| entry.path().join(program).exists()))
}

impl OwnBroker {
    /// The broker that this part is.
    pub(crate) fn of(part: &str) -> Option<&'static Self> {
        OWN.iter().find(|broker| broker.part == part)
    }
    /// Whether it runs: as the operator says, or if its engine is installed.
    pub(crate) fn is_on(&self, settings: &Settings) -> bool {
        (self.chosen)(&settings.services).unwrap_or_else(self.installed)
    }
    /// The name of its password among the secrets.
    pub(crate) fn secret(&self) -> String {
        format!("broker-{}", self.name)
    }
    fn listen(&self, settings: &Settings) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, settings.port(self.port)).into()
    }
}

/// What the cloud controller knows of them.
pub(crate) fn registered(node: &Node) -> anyhow::Result<Vec<cloud_controller::config::OwnBroker>> {
    let of = |broker: &OwnBroker| {
        Ok(cloud_controller::config::OwnBroker {
            name: broker.name.to_owned(),
            url: format!("http://{}", broker.listen(&node.settings)),
            username: USER.to_owned(),
            password: node.secrets.get(&broker.secret())?.clone(),
        })
    };
    OWN.iter().filter(|broker| broker.is_on(&node.settings)).map(of).collect()
}

/// Writes the configuration of those that run.
pub(crate) fn write(node: &Node, write: impl Fn(&str, toml::Table) -> anyhow::Result<()>) -> anyhow::Result<()> {
    for broker in OWN.iter().filter(|broker| broker.is_on(&node.settings)) {
        let table = match broker.part {
            "postgres_broker" => toml::Table::try_from(postgres(node, broker)?),
            "mysql_broker" => toml::Table::try_from(mysql(node, broker)?),
            "redis_broker" => toml::Table::try_from(redis(node, broker)?),
            _ => toml::Table::try_from(rabbitmq(node, broker)?),
        };
        write(broker.part, table.with_context(|| format!("the configuration of {} cannot be written down", broker.part))?)?;
    }
    Ok(())
}

/// The services' address: the first of the containers' network.
fn address(settings: &Settings) -> anyhow::Result<Ipv4Addr> {
    let network = settings.subnet.split('/').next().unwrap_or_default();
    let network: Ipv4Addr = network.parse().with_context(|| format!("subnet: {} is not a network", settings.subnet))?;
    Ok(Ipv4Addr::from_bits(network.to_bits() + 1))
}

fn server(node: &Node, broker: &OwnBroker) -> anyhow::Result<RawSettings> {
    Ok(RawSettings {
        listen: broker.listen(&node.settings).to_string(),
        credentials: vec![RawCredential { user: USER.to_owned(), password: node.secrets.get(&broker.secret())?.clone() }],
        state: node.state_of(broker.part),
        request_timeout_s: 50,
        operation_timeout_s: 3_600,
        poll_interval_s: 2,
    })
}

/// A certificate for the services' address; another one if the operator moves the network.
fn tls(node: &Node, broker: &OwnBroker) -> anyhow::Result<TlsSection> {
    let address = address(&node.settings)?.to_string();
    let pair = node.authority.pair(&format!("{}-{address}", broker.part), &[address], node.uid(broker.part))?;
    Ok(TlsSection { ca: node.authority.certificate(), certificate: pair.certificate, key: pair.key })
}

fn postgres(node: &Node, broker: &OwnBroker) -> anyhow::Result<postgres_broker::Raw> {
    let port = node.settings.services.postgres_port;
    Ok(postgres_broker::Raw { spare: Some(4), ..sql(node, broker, port, Half::First)? })
}

fn mysql(node: &Node, broker: &OwnBroker) -> anyhow::Result<mysql_broker::Raw> {
    sql(node, broker, node.settings.services.mysql_port, Half::Second)
}

/// What the brokers of SQL databases have in common; each has one half of the ports for servers in containers.
fn sql(node: &Node, broker: &OwnBroker, port: u16, half: Half) -> anyhow::Result<sql_broker::Raw> {
    let mut dedicated = sql_broker::config::DedicatedSection::default();
    // One server may have a quarter of the machine
    dedicated.most_memory_mb = u32::try_from(capacity::machine_mb()? / 4)?.clamp(dedicated.memory_mb, dedicated.most_memory_mb);
    Ok(sql_broker::Raw {
        server: server(node, broker)?,
        engine: database(node, broker, port)?,
        spare: None,
        plans: database_plans(),
        workloads: workloads(node, broker, half)?,
        dedicated,
    })
}

#[derive(Clone, Copy)]
enum Half {
    First,
    Second,
}

impl Half {
    fn of(self, (first, last): (u16, u16)) -> (u16, u16) {
        let middle = first + (last - first) / 2;
        match self {
            Self::First => (first, middle),
            Self::Second => (middle.saturating_add(1).min(last), last),
        }
    }
}

/// The stack with the programs of servers in containers.
pub(crate) const ENGINES_STACK: &str = "engines";

/// Whether this node has the stack for servers in containers.
pub(crate) fn has_engines(node: &Node) -> bool {
    node.stacks().join(ENGINES_STACK).join("rootfs").is_dir()
}

/// Who runs servers of an instance's own; nobody where the stack for them was not prepared.
fn workloads(node: &Node, broker: &OwnBroker, half: Half) -> anyhow::Result<Option<WorkloadsSection>> {
    if !has_engines(node) {
        return Ok(None);
    }
    let pair = node.authority.pair(broker.part, &[broker.part.to_owned()], node.uid(broker.part))?;
    let controller = SocketAddr::from((Ipv4Addr::LOCALHOST, node.settings.port(Port::CloudControllerInternal)));
    Ok(Some(WorkloadsSection {
        controller: format!("https://{controller}"),
        tls: TlsSection { ca: node.authority.certificate(), certificate: pair.certificate, key: pair.key },
        stack: ENGINES_STACK.to_owned(),
        ports: half.of(node.settings.services.dedicated_ports),
    }))
}

fn database(node: &Node, broker: &OwnBroker, port: u16) -> anyhow::Result<EngineSection> {
    Ok(EngineSection {
        address: address(&node.settings)?.into(),
        port,
        host: None,
        tls: tls(node, broker)?,
        programs: None,
        user: None,
        max_connections: 200,
        cache_mb: 64,
        idle_stop_s: 300,
        check_interval_s: 30,
        largest_backup_mb: 10_240,
    })
}

fn database_plans() -> Vec<PlanSection> {
    let plan = |name: &str, size_mb: u64, connections: u32| PlanSection {
        name: name.to_owned(),
        id: None,
        description: None,
        size_mb,
        connections,
        free: true,
    };
    vec![plan("shared", 1_024, 20), plan("shared-large", 10_240, 50)]
}

fn redis(node: &Node, broker: &OwnBroker) -> anyhow::Result<redis_broker::config::Raw> {
    use redis_broker::{config::Raw, plans::Plans};
    let memory_mb = u32::try_from(capacity::machine_mb()? / 8)?.max(64);
    let mut plans = Plans::default();
    for limits in [&mut plans.cache, &mut plans.persistent] {
        limits.most_memory_mb = limits.most_memory_mb.min(memory_mb);
        limits.memory_mb = limits.memory_mb.min(limits.most_memory_mb);
    }
    Ok(Raw {
        server: server(node, broker)?,
        address: address(&node.settings)?,
        ports: node.settings.services.redis_ports,
        memory_mb,
        backup_mb: 10_240,
        program: "/usr/bin/redis-server".into(),
        check: "/usr/bin/redis-check-rdb".into(),
        run_as: None,
        plans,
        tls: tls(node, broker)?,
    })
}

fn rabbitmq(node: &Node, broker: &OwnBroker) -> anyhow::Result<rabbitmq_broker::config::Raw> {
    let port = |port: Port| node.settings.port(port);
    Ok(rabbitmq_broker::config::Raw {
        server: server(node, broker)?,
        address: address(&node.settings)?,
        port: node.settings.services.rabbitmq_port,
        loopback_ports: [port(Port::RabbitmqAmqp), port(Port::RabbitmqManagement), port(Port::RabbitmqDistribution)],
        memory_mb: u32::try_from(capacity::machine_mb()? / 16)?.clamp(256, 2_048),
        disk_reserve_mb: 1_024,
        backup_mb: 10_240,
        idle_stop_s: 300,
        installation: "/usr/lib/rabbitmq".into(),
        run_as: None,
        plans: Default::default(),
        tls: tls(node, broker)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_broker_has_ports_of_its_own_for_servers_in_containers() {
        assert_eq!((Half::First.of((8_000, 8_999)), Half::Second.of((8_000, 8_999))), ((8_000, 8_499), (8_500, 8_999)));
        assert_eq!((Half::First.of((8_000, 8_001)), Half::Second.of((8_000, 8_001))), ((8_000, 8_000), (8_001, 8_001)));
    }

    #[test]
    fn the_operator_s_word_comes_before_what_is_installed() {
        let off = Services { postgres: Some(false), redis: Some(true), ..Default::default() };
        let settings = Settings { services: off, ..Default::default() };
        let on = |part: &str| OwnBroker::of(part).unwrap().is_on(&settings);
        assert!(!on("postgres_broker") && on("redis_broker"));
        assert_eq!(address(&settings).unwrap(), Ipv4Addr::new(10, 254, 0, 1));
    }

    #[test]
    fn every_broker_is_a_part() {
        for broker in OWN {
            assert!(crate::node::PARTS.iter().any(|part| part.name == broker.part), "{}", broker.part);
        }
    }
}
