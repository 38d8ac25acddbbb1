//! The configuration file of each part: typed, written anew at every boot from settings and secrets.

use crate::{
    brokers, capacity,
    files::{self, Owner},
    node::Node,
    settings::Port,
};
use anyhow::Context;
use foundation::{
    Secret,
    config::{BusSection, TlsSection},
};
use serde::Serialize;
use std::net::{Ipv4Addr, SocketAddr};

/// Writes the configuration of every part, each readable by that part alone.
pub(crate) fn write(node: &Node) -> anyhow::Result<()> {
    write_one(node, "uaa", &uaa(node)?)?;
    write_one(node, "cloud_controller", &cloud_controller(node)?)?;
    write_one(node, "dea", &dea(node)?)?;
    write_one(node, "health_manager", &health_manager(node)?)?;
    write_one(node, "warden", &warden(node)?)?;
    write_one(node, "gorouter", &gorouter(node)?)?;
    write_one(node, "loggregator_agent", &loggregator_agent(node)?)?;
    write_one(node, "log_cache", &log_cache(node)?)?;
    brokers::write(node, |part, config| write_one(node, part, &config))
}

fn write_one<T: Serialize>(node: &Node, part: &str, config: &T) -> anyhow::Result<()> {
    let text = toml::to_string(config).with_context(|| format!("the configuration of {part} cannot be written down"))?;
    let text = format!("# Made at every boot from cupola.toml; changes here are lost.\n{text}");
    files::write(&node.config_of(part), text.as_bytes(), Owner::service(node.uid(part), 0o400))
}

fn listen(node: &Node, port: Port) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, node.settings.port(port)).into()
}

fn bus(node: &Node, part: &str) -> anyhow::Result<BusSection> {
    Ok(BusSection { url: node.bus_url(), user: part.to_owned(), password: node.secrets.bus_password(part)?.clone(), ca: None })
}

fn tls(node: &Node, part: &str, hosts: &[&str]) -> anyhow::Result<TlsSection> {
    let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
    let pair = node.authority.pair(part, &hosts, node.uid(part))?;
    Ok(TlsSection { ca: node.authority.certificate(), certificate: pair.certificate, key: pair.key })
}

fn strings(list: &[&str]) -> Vec<String> {
    list.iter().map(|text| (*text).to_owned()).collect()
}

fn uaa(node: &Node) -> anyhow::Result<::uaa::config::Raw> {
    use ::uaa::config::{AdminSection, ClientSection, Raw};
    let client = |id: &str, authorities: &[&str]| {
        anyhow::Ok(ClientSection {
            id: id.to_owned(),
            secret: node.secrets.get(&format!("client-{id}"))?.clone(),
            grants: strings(&["client_credentials"]),
            scopes: vec![],
            authorities: strings(authorities),
            redirect_uris: vec![],
            access_validity_s: None,
            refresh_validity_s: None,
        })
    };
    Ok(Raw {
        state_dir: node.state_of("uaa"),
        database_url: node.settings.uaa_database_url.as_deref().map(Secret::new),
        listen: listen(node, Port::Uaa),
        advertise: None,
        issuer: node.url("uaa"),
        login_url: Some(node.url("login")),
        system_domain: node.settings.system_domain.clone(),
        keys_dir: None,
        active_key: None,
        password_min_length: 8,
        access_validity_s: 600,
        refresh_validity_s: 2_592_000,
        bus: Some(bus(node, "uaa")?),
        admin: AdminSection { name: "admin".to_owned(), password: node.secrets.get("admin")?.clone() },
        lockout: Default::default(),
        clients: vec![
            client("cloud_controller", &["scim.read", "scim.write", "scim.userids", "uaa.resource", "clients.admin"])?,
            client(
                "admin",
                &["clients.read", "clients.write", "clients.secret", "uaa.admin", "scim.read", "scim.write", "password.write"],
            )?,
        ],
    })
}

fn cloud_controller(node: &Node) -> anyhow::Result<::cloud_controller::config::Raw> {
    use ::cloud_controller::config::{BrokerClient, BrokerPolicy, Raw, Stack, Uaa, Urls};
    let encryption_key = node.state_of("cloud_controller").join("encryption.key");
    let key = node.secrets.get("encryption-key")?.expose();
    files::write(&encryption_key, key.as_bytes(), Owner::service(node.uid("cloud_controller"), 0o400))?;
    let settings = &node.settings;
    let router = if settings.listen.is_unspecified() { Ipv4Addr::LOCALHOST } else { settings.listen };
    let broker_policy = BrokerPolicy {
        allowed: settings.brokers_allowed.clone(),
        refused: vec![settings.subnet.clone()],
        router_http: Some(SocketAddr::from((router, settings.http_port)).to_string()),
        router_https: Some(SocketAddr::from((router, settings.https_port)).to_string()),
    };
    let unless_said = BrokerClient::default();
    let broker_client = BrokerClient {
        ca: settings.brokers_ca.clone(),
        skip_tls_verify: settings.brokers_skip_tls_verify.clone(),
        max_polling_minutes: settings.brokers_max_polling_minutes.unwrap_or(unless_said.max_polling_minutes),
    };
    let stack =
        |name: &str, description: &str| Stack { name: name.to_owned(), description: description.to_owned(), disabled: None };
    let mut stacks = vec![stack("debian12", "Debian 12 (bookworm)"), stack("cflinuxfs4", "Another name of debian12")];
    if brokers::has_engines(node) {
        let disabled = Some("It is for the platform's own brokers.".to_owned());
        stacks.push(Stack { disabled, ..stack(brokers::ENGINES_STACK, "Servers of the platform's own brokers") });
    }
    Ok(Raw {
        state: node.state_of("cloud_controller"),
        database: node.settings.database_url.as_deref().map(Secret::new),
        listen: listen(node, Port::CloudController).to_string(),
        internal_listen: listen(node, Port::CloudControllerInternal).to_string(),
        system_domain: node.settings.system_domain.clone(),
        apps_domain: node.settings.apps_domain.clone(),
        encryption_key,
        agent_socket: Some(node.agent_socket()),
        blobs: None,
        urls: Urls { api: node.url("api"), uaa: node.url("uaa"), login: node.url("login"), log_cache: node.url("log-cache") },
        uaa: Uaa {
            base: format!("http://{}", listen(node, Port::Uaa)),
            issuer: Some(format!("{}/oauth/token", node.url("uaa"))),
            client_id: "cloud_controller".to_owned(),
            client_secret: node.secrets.get("client-cloud_controller")?.clone(),
        },
        bus: bus(node, "cloud_controller")?,
        tls: tls(node, "cloud_controller", &["127.0.0.1", "localhost"])?,
        limits: Default::default(),
        buildpacks: Some(node.beside("buildpacks")),
        stacks,
        staging_environment: node.settings.staging_environment.clone(),
        brokers: brokers::registered(node)?,
        broker_policy,
        broker_client,
    })
}

fn dea(node: &Node) -> anyhow::Result<::dea::config::Raw> {
    use ::dea::config::Raw;
    Ok(Raw {
        state: node.state_of("dea"),
        warden_socket: node.warden_socket(),
        agent_socket: node.agent_socket(),
        lifecycle: node.beside("lifecycle"),
        cloud_controller: format!("https://{}", listen(node, Port::CloudControllerInternal)),
        bus: bus(node, "dea")?,
        tls: tls(node, "dea", &["dea"])?,
        route_to: Default::default(),
        zone: "z1".to_owned(),
        memory_mb: node.settings.memory_mb,
        disk_mb: node.settings.disk_mb,
        memory_overcommit: 1.0,
        disk_overcommit: 1.0,
        max_instances: 250,
        pids: 1_024,
        droplet_cache_mb: 8_192,
        buildpack_cache_mb: 8_192,
        evacuation_timeout_s: 0,
        drain_ms: 300,
        grace_s: 10,
    })
}

fn health_manager(node: &Node) -> anyhow::Result<::health_manager::config::Raw> {
    Ok(::health_manager::config::Raw {
        name: "health_manager".to_owned(),
        cloud_controller: format!("https://{}", listen(node, Port::CloudControllerInternal)),
        dea_silent_after_s: 30,
        build_patience_s: 60,
        lease_s: 15,
        bus: bus(node, "health_manager")?,
        tls: tls(node, "health_manager", &["health_manager"])?,
    })
}

fn warden(node: &Node) -> anyhow::Result<::warden::config::Raw> {
    use ::warden::config::{Capacity, HostService, Network, Raw, Trust};
    let settings = &node.settings;
    let router = |port: u16| HostService { port, target: std::net::SocketAddrV4::new(settings.listen, port) };
    Ok(Raw {
        socket: node.warden_socket(),
        socket_owner: node.uid("dea"),
        state: node.state_of("warden"),
        run: settings.run_dir.join("warden"),
        programs: node.beside(""),
        stacks: Some(node.stacks()),
        stack_aliases: [("cflinuxfs4".to_owned(), "debian12".to_owned())].into(),
        sources: vec![node.state_of("dea"), node.beside("lifecycle")],
        log_socket: node.agent_socket(),
        cgroup_parent: settings.cgroup_parent.clone(),
        favor_cgroup_joins: true,
        id_base: settings.container_uid_base,
        most_containers: 1_000,
        capacity: Capacity { memory_mb: capacity::memory_mb(settings)?, disk_mb: capacity::disk_mb(settings, &node.state)? },
        network: Network {
            table: settings.nft_table.clone(),
            link_prefix: settings.link_prefix.clone(),
            subnet: settings.subnet.clone(),
            host_address: None,
            first_port: settings.host_ports.0,
            last_port: settings.host_ports.1,
            service_ports: settings.services.dedicated_ports,
            quarantine_seconds: settings.quarantine_s.into(),
            routers: vec![],
            resolvers: vec![],
            host_services: vec![router(settings.http_port), router(settings.https_port)],
        },
        trust: Trust { extra: vec![node.authority.certificate()], ..Default::default() },
        layers: Default::default(),
    })
}

fn gorouter(node: &Node) -> anyhow::Result<::gorouter::config::Raw> {
    use ::gorouter::config::{CertificatePair, Raw, RawRouteServices};
    let settings = &node.settings;
    let pair = |name: &str, domain: &str| {
        let pair = node.authority.pair(name, &[domain.to_owned(), format!("*.{domain}")], node.uid("gorouter"))?;
        anyhow::Ok(CertificatePair { certificate: pair.certificate, key: pair.key })
    };
    Ok(Raw {
        index: 0,
        http_listen: Some((settings.listen, settings.http_port).into()),
        https_listen: Some((settings.listen, settings.https_port).into()),
        status_listen: listen(node, Port::RouterStatus),
        certificates: vec![pair("system-domain", &settings.system_domain)?, pair("apps-domain", &settings.apps_domain)?],
        bus: bus(node, "gorouter")?,
        agent_socket: node.agent_socket(),
        state: node.state_of("gorouter"),
        system_domain: settings.system_domain.clone(),
        backend_ca: None,
        threads: 0,
        session_cookies: strings(&["JSESSIONID"]),
        forwarded_proto: "trust".to_owned(),
        route_services: RawRouteServices { ca: Some(node.authority.certificate()), allow_local: false },
        limits: Default::default(),
        timing: Default::default(),
    })
}

fn loggregator_agent(node: &Node) -> anyhow::Result<::loggregator::config::AgentRaw> {
    Ok(::loggregator::config::AgentRaw {
        socket: node.agent_socket(),
        flush_ms: 20,
        queue_envelopes: 100_000,
        queue_bytes: 32 << 20,
        tags: Default::default(),
        bus: bus(node, "loggregator_agent")?,
    })
}

fn log_cache(node: &Node) -> anyhow::Result<::loggregator::config::LogCacheRaw> {
    Ok(::loggregator::config::LogCacheRaw {
        listen: listen(node, Port::LogCache),
        advertise: None,
        system_domain: node.settings.system_domain.clone(),
        uaa: format!("http://{}", listen(node, Port::Uaa)),
        issuer: Some(format!("{}/oauth/token", node.url("uaa"))),
        cloud_controller: format!("https://{}", listen(node, Port::CloudControllerInternal)),
        keep: Default::default(),
        bus: bus(node, "log_cache")?,
        tls: tls(node, "log_cache", &["log_cache"])?,
    })
}
