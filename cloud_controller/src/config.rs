//! Settings: the TOML file and its checked form.

use foundation::{
    Secret,
    config::{BusSection, ConfigError, Problem, TlsSection},
};
use osb::client::{PlatformDomain, Policy};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::PathBuf,
    time::Duration,
};

/// The file as written.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Raw {
    /// The folder of this service: SQLite file and blobs.
    pub state: PathBuf,
    /// `postgres://user:password@host/database`; absent: SQLite in `state`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<Secret>,
    /// Where the public API listens (plain HTTP, behind the router).
    pub listen: String,
    /// Where the internal API listens (mutual TLS).
    pub internal_listen: String,
    /// The domain of the platform's own hosts (`cf.localhost`).
    pub system_domain: String,
    /// The shared domain that is made at the first boot (`app.localhost`).
    pub apps_domain: String,
    /// 64 hexadecimal digits: the key of what is encrypted in the database.
    pub encryption_key: PathBuf,
    /// The socket of the log agent, for log lines about apps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_socket: Option<PathBuf>,
    /// The folder of packages, droplets and buildpacks; absent: `blobs` in `state`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blobs: Option<PathBuf>,
    /// How users reach the platform.
    pub urls: Urls,
    /// How this service reaches UAA.
    pub uaa: Uaa,
    /// The bus.
    pub bus: BusSection,
    /// Certificate of the internal listener, and who may call it.
    pub tls: TlsSection,
    /// Defaults and bounds of apps and stagings.
    #[serde(default)]
    pub limits: Limits,
    /// A folder of `<name>.zip`: the system buildpacks, taken over at boot whenever their content changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub buildpacks: Option<PathBuf>,
    /// The stacks that are made at the first boot; the first is the default.
    #[serde(default = "default_stacks")]
    pub stacks: Vec<Stack>,
    /// The platform's own service brokers: registered at boot, with plans that everybody sees.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub brokers: Vec<OwnBroker>,
    /// Where brokers may be.
    #[serde(default)]
    pub broker_policy: BrokerPolicy,
    /// How brokers are asked.
    #[serde(default)]
    pub broker_client: BrokerClient,
    /// Variables that every staging gets, unless its app or the staging group says otherwise (proxies, registries).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub staging_environment: BTreeMap<String, String>,
}

/// Public addresses, without a slash at the end.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Urls {
    /// `https://api.cf.localhost`
    pub api: String,
    /// `https://uaa.cf.localhost`
    pub uaa: String,
    /// `https://login.cf.localhost`
    pub login: String,
    /// `https://log-cache.cf.localhost`
    pub log_cache: String,
}

/// How this service reaches UAA.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Uaa {
    /// `http://127.0.0.1:9021`
    pub base: String,
    /// The issuer in tokens; absent: `/oauth/token` of the public UAA.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// The client that looks up users (`scim.read`).
    pub client_id: String,
    /// Its secret.
    pub client_secret: Secret,
}

/// One of the platform's own brokers.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OwnBroker {
    /// `postgres`
    pub name: String,
    /// `http://127.0.0.1:9041`; it is allowed whatever the policy says.
    pub url: String,
    /// Basic authentication.
    pub username: String,
    /// Basic authentication.
    pub password: Secret,
}

/// Where brokers may be: not on this machine, nor where this platform itself is, unless it is allowed here.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BrokerPolicy {
    /// `host:port`, or ranges of addresses: `10.0.0.0/8`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed: Vec<String>,
    /// Ranges of addresses that are refused besides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<String>,
    /// Where the router takes `http` requests to the platform's own domains (`127.0.0.1:80`); absent: brokers there need `https`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub router_http: Option<String>,
    /// The same for `https`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub router_https: Option<String>,
}

/// How brokers are asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BrokerClient {
    /// A PEM file of authorities that brokers' certificates may be of, besides those that the system knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// `host:port` of brokers whose certificate nobody looks at.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub skip_tls_verify: Vec<String>,
    /// How long a broker may work on something, unless its plan says less.
    pub max_polling_minutes: u32,
}

impl Default for BrokerClient {
    /// Source: cloud_controller_ng, `broker_client_max_async_poll_duration_minutes` (one week).
    fn default() -> Self {
        Self { ca: None, skip_tls_verify: vec![], max_polling_minutes: 7 * 24 * 60 }
    }
}

/// A stack that is made at the first boot.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stack {
    /// `debian12`
    pub name: String,
    /// A line for people.
    pub description: String,
    /// Why apps may not use it; absent: they may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled: Option<String>,
}

/// Defaults and bounds of apps and stagings.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Memory of a new process.
    pub default_memory_mb: u32,
    /// Disk of a new process.
    pub default_disk_mb: u32,
    /// The most disk that a process may ask for.
    pub max_disk_mb: u32,
    /// Open files of an instance.
    pub fds: u32,
    /// The longest start of an app.
    pub max_health_timeout_s: u32,
    /// Memory of a staging, at least.
    pub staging_memory_mb: u32,
    /// Disk of a staging, at least.
    pub staging_disk_mb: u32,
    /// Time for a staging.
    pub staging_timeout_s: u32,
    /// The largest package.
    pub max_package_bytes: u64,
    /// The largest buildpack.
    pub max_buildpack_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            default_memory_mb: 1024,
            default_disk_mb: 1024,
            max_disk_mb: 2048,
            fds: 16_384,
            max_health_timeout_s: 180,
            staging_memory_mb: 1024,
            staging_disk_mb: 4096,
            staging_timeout_s: 900,
            max_package_bytes: 1 << 30,
            max_buildpack_bytes: 2 << 30,
        }
    }
}

fn default_stacks() -> Vec<Stack> {
    vec![
        Stack { name: "debian12".into(), description: "Debian 12 (bookworm)".into(), disabled: None },
        Stack { name: "cflinuxfs4".into(), description: "Alias of debian12".into(), disabled: None },
    ]
}

/// Where the tables are.
#[derive(Clone, Debug)]
pub enum Database {
    /// One file, one process.
    Sqlite(PathBuf),
    /// `postgres://...`
    Postgres(Secret),
}

/// Settings that work.
#[derive(Clone, Debug)]
pub struct Config {
    /// The folder of this service.
    pub state: PathBuf,
    /// Where the tables are.
    pub database: Database,
    /// Where the public API listens.
    pub listen: SocketAddr,
    /// Where the internal API listens.
    pub internal_listen: SocketAddr,
    /// The domain of the platform's own hosts.
    pub system_domain: String,
    /// The shared domain for apps.
    pub apps_domain: String,
    /// The file of the encryption key.
    pub encryption_key: PathBuf,
    /// The socket of the log agent.
    pub agent_socket: Option<PathBuf>,
    /// The folder of blobs.
    pub blobs: PathBuf,
    /// How users reach the platform.
    pub urls: Urls,
    /// How this service reaches UAA.
    pub uaa: Uaa,
    /// The bus.
    pub bus: BusSection,
    /// TLS of the internal listener.
    pub tls: TlsSection,
    /// Defaults and bounds.
    pub limits: Limits,
    /// The stacks to make.
    pub stacks: Vec<Stack>,
    /// The folder of the system buildpacks.
    pub buildpacks: Option<PathBuf>,
    /// Variables that every staging gets.
    pub staging_environment: BTreeMap<String, String>,
    /// The platform's own brokers.
    pub brokers: Vec<OwnBroker>,
    /// Where brokers may be.
    pub broker_policy: Policy,
    /// Authorities of brokers besides those that the system knows.
    pub broker_ca: Option<PathBuf>,
    /// Host (lower case) and port of brokers whose certificate nobody looks at.
    pub broker_skip_tls_verify: BTreeSet<(String, u16)>,
    /// How long a broker may work on something, unless its plan says less.
    pub broker_max_polling: Duration,
}

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// As [`foundation::config::load`] and [`Config::check`].
    pub fn load(path: &std::path::Path) -> Result<Self, ConfigError> {
        Self::check(foundation::config::load(path)?)
    }

    /// Checks the values.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] with all problems at once.
    pub fn check(raw: Raw) -> Result<Self, ConfigError> {
        let mut problems = vec![];
        let mut problem = |key, why: String| problems.push(Problem { key, why });
        let listen = address(&raw.listen, "listen", &mut problem);
        let internal_listen = address(&raw.internal_listen, "internal_listen", &mut problem);
        for (key, name) in [("system_domain", &raw.system_domain), ("apps_domain", &raw.apps_domain)] {
            if !is_domain(name) {
                problem(key, format!("`{name}` is not a domain name in lower case"));
            }
        }
        let Urls { api, uaa, login, log_cache } = &raw.urls;
        let urls = [
            ("urls.api", api),
            ("urls.uaa", uaa),
            ("urls.login", login),
            ("urls.log_cache", log_cache),
            ("uaa.base", &raw.uaa.base),
        ];
        for (key, url) in urls {
            if url.ends_with('/')
                || !url::Url::parse(url).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
            {
                problem(key, format!("`{url}` is not an http or https URL without a slash at the end"));
            }
        }
        if raw.stacks.is_empty() {
            problem("stacks", "at least one is needed".into());
        }
        if raw.limits.default_disk_mb > raw.limits.max_disk_mb {
            problem("limits.default_disk_mb", format!("{} is over max_disk_mb", raw.limits.default_disk_mb));
        }
        let broker_policy = broker_policy(&raw, &mut problem);
        let mut broker_skip_tls_verify = BTreeSet::new();
        for text in &raw.broker_client.skip_tls_verify {
            match place(text) {
                Some(place) => drop(broker_skip_tls_verify.insert(place)),
                None => problem("broker_client.skip_tls_verify", format!("`{text}` is not host:port")),
            }
        }
        if raw.broker_client.max_polling_minutes == 0 {
            problem("broker_client.max_polling_minutes", "is not positive".into());
        }
        let database = match raw.database {
            None => Database::Sqlite(raw.state.join("cloud_controller.db")),
            Some(url) => {
                if !url.expose().starts_with("postgres://") && !url.expose().starts_with("postgresql://") {
                    problem("database", "is not a postgres:// URL".into());
                }
                Database::Postgres(url)
            }
        };
        let (Some(listen), Some(internal_listen), true) = (listen, internal_listen, problems.is_empty()) else {
            return Err(ConfigError::Invalid(problems));
        };
        Ok(Self {
            blobs: raw.blobs.unwrap_or_else(|| raw.state.join("blobs")),
            state: raw.state,
            database,
            listen,
            internal_listen,
            system_domain: raw.system_domain,
            apps_domain: raw.apps_domain,
            encryption_key: raw.encryption_key,
            agent_socket: raw.agent_socket,
            urls: raw.urls,
            uaa: raw.uaa,
            bus: raw.bus,
            tls: raw.tls,
            limits: raw.limits,
            stacks: raw.stacks,
            buildpacks: raw.buildpacks,
            staging_environment: raw.staging_environment,
            brokers: raw.brokers,
            broker_policy,
            broker_ca: raw.broker_client.ca,
            broker_skip_tls_verify,
            broker_max_polling: Duration::from_secs(60 * u64::from(raw.broker_client.max_polling_minutes)),
        })
    }

    /// The stack of apps that name none.
    pub fn default_stack(&self) -> &str {
        self.stacks.first().map_or("", |stack| &stack.name)
    }
}

fn address(text: &str, key: &'static str, problem: &mut impl FnMut(&'static str, String)) -> Option<SocketAddr> {
    let parsed = text.parse().ok();
    if parsed.is_none() {
        problem(key, format!("`{text}` is not an address and port"));
    }
    parsed
}

/// What the settings say about brokers, our own brokers allowed from the start.
fn broker_policy(raw: &Raw, problem: &mut impl FnMut(&'static str, String)) -> Policy {
    let mut policy = Policy::default();
    for (number, own) in raw.brokers.iter().enumerate() {
        let url = url::Url::parse(&own.url).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        match url.as_ref().and_then(|url| Some((url.host_str()?.to_ascii_lowercase(), url.port_or_known_default()?))) {
            Some(place) => drop(policy.allowed.insert(place)),
            None => problem("brokers.url", format!("`{}` is not an http or https URL", own.url)),
        }
        if own.name.is_empty() || raw.brokers.iter().take(number).any(|other| other.name == own.name) {
            problem("brokers.name", format!("`{}` is empty, or twice there", own.name));
        }
    }
    for text in &raw.broker_policy.allowed {
        match (text.parse(), place(text)) {
            (Ok(range), _) => policy.allowed_ranges.push(range),
            (Err(_), Some(place)) => drop(policy.allowed.insert(place)),
            (Err(_), None) => problem("broker_policy.allowed", format!("`{text}` is neither host:port nor a range of addresses")),
        }
    }
    for text in &raw.broker_policy.refused {
        match text.parse() {
            Ok(range) => policy.refused.push(range),
            Err(_) => problem("broker_policy.refused", format!("`{text}` is not a range of addresses")),
        }
    }
    let mut router = |text: &Option<String>, key| text.as_ref().and_then(|text| address(text, key, problem));
    let http = router(&raw.broker_policy.router_http, "broker_policy.router_http");
    let https = router(&raw.broker_policy.router_https, "broker_policy.router_https");
    for suffix in [&raw.system_domain, &raw.apps_domain] {
        policy.platform.push(PlatformDomain { suffix: suffix.clone(), http, https });
    }
    policy
}

/// `host:port`
fn place(text: &str) -> Option<(String, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    Some((host.trim_matches(['[', ']']).to_ascii_lowercase(), port.parse().ok()?)).filter(|(host, _)| !host.is_empty())
}

fn is_domain(name: &str) -> bool {
    let label =
        |l: &str| !l.is_empty() && l.len() <= 63 && l.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    name.len() <= 253 && name.contains('.') && name.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Raw {
        toml::from_str(include_str!("../example.toml")).unwrap()
    }

    #[test]
    fn the_example_file_works() {
        let config = Config::check(example()).unwrap();
        assert_eq!(config.default_stack(), "debian12");
        assert!(matches!(config.database, Database::Sqlite(_)));
    }

    #[test]
    fn all_wrong_settings_are_told_at_once() {
        let broker_client = BrokerClient { skip_tls_verify: vec!["example.com".into()], max_polling_minutes: 0, ca: None };
        let raw = Raw { listen: "nowhere".into(), system_domain: "LOCAL".into(), stacks: vec![], broker_client, ..example() };
        let Err(ConfigError::Invalid(problems)) = Config::check(raw) else { panic!("must be refused") };
        let keys: Vec<&str> = problems.iter().map(|problem| problem.key).collect();
        let of_brokers = ["broker_client.skip_tls_verify", "broker_client.max_polling_minutes"];
        assert_eq!(keys, [&["listen", "system_domain", "stacks"][..], &of_brokers].concat());
    }
}
