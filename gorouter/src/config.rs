//! Settings of the router.

use crate::{
    front::{FrontSettings, head::HeadLimits},
    proxy::{Rules, backend::BackendSettings, headers::ForwardedProto, route_service},
    table::Limits,
};
use foundation::config::{BusSection, ConfigError, Problem};
use serde::{Deserialize, Serialize};
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

/// The most that a head may be allowed: what the engine's parser takes.
const MOST_HEAD_BYTES: usize = 1_048_000;
/// The most header lines: what the engine's parser takes.
const MOST_HEAD_LINES: usize = 250;
/// What lies in quarantine at the registrars' side before an address is used again.
const QUARANTINE_S: u64 = 240;
/// Names under the system domain that only the platform's own parts may register.
const RESERVED: [&str; 10] =
    ["api", "uaa", "login", "log-cache", "log-stream", "doppler", "console", "ssh", "credhub", "loggregator"];

/// The file as written.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Raw {
    /// Number of this router, as log lines carry it (`RTR/0`).
    #[serde(default)]
    pub index: u32,
    /// Where HTTP is served.
    #[serde(default)]
    pub http_listen: Option<SocketAddr>,
    /// Where HTTPS is served.
    #[serde(default)]
    pub https_listen: Option<SocketAddr>,
    /// Where `/health`, `/varz` and `/routes` are served; a loopback address.
    pub status_listen: SocketAddr,
    /// Certificates for HTTPS; the first one is shown to clients that name no known host.
    #[serde(default)]
    pub certificates: Vec<CertificatePair>,
    /// The bus.
    pub bus: BusSection,
    /// Socket of the log agent.
    pub agent_socket: PathBuf,
    /// Folder for the snapshot of the table.
    pub state: PathBuf,
    /// `api.`, `uaa.` and others under it can only be registered by the platform's own parts.
    pub system_domain: String,
    /// Authority that signed the certificates of endpoints with `tls_port`; without it such endpoints are refused.
    #[serde(default)]
    pub backend_ca: Option<PathBuf>,
    /// Worker threads; 0: one for each core.
    #[serde(default)]
    pub threads: usize,
    /// Cookies of apps that make their sessions sticky.
    #[serde(default = "session_cookies")]
    pub session_cookies: Vec<String>,
    /// `trust` (a client's own value stays), `sanitize` or `https`.
    #[serde(default = "trust")]
    pub forwarded_proto: String,
    /// Services between routes and apps.
    #[serde(default)]
    pub route_services: RawRouteServices,
    /// Bounds.
    #[serde(default)]
    pub limits: RawLimits,
    /// Times.
    #[serde(default)]
    pub timing: RawTiming,
}

/// A certificate chain and its key, PEM.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificatePair {
    /// The chain.
    pub certificate: PathBuf,
    /// The key.
    pub key: PathBuf,
}

/// The part `[route_services]`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawRouteServices {
    /// An authority that is trusted beside those of the system.
    pub ca: Option<PathBuf>,
    /// True: services may be at addresses of this host and of its links, which is refused otherwise.
    pub allow_local: bool,
}

/// The part `[limits]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawLimits {
    /// Request line and headers.
    pub header_bytes: usize,
    /// Header lines.
    pub header_lines: usize,
    /// Connections of clients.
    pub connections: usize,
    /// Open requests of one endpoint; 0: no limit.
    pub requests_per_endpoint: usize,
    /// Idle connections to endpoints, for each worker.
    pub idle_backend_connections: usize,
    /// Attempts for one request.
    pub attempts: usize,
    /// Routes.
    pub routes: usize,
    /// Endpoints of one route.
    pub endpoints_per_route: usize,
}

impl Default for RawLimits {
    fn default() -> Self {
        Self {
            header_bytes: 256 << 10,
            header_lines: 200,
            connections: 20_000,
            requests_per_endpoint: 500,
            idle_backend_connections: 512,
            attempts: 3,
            routes: 500_000,
            endpoints_per_route: 2_000,
        }
    }
}

/// The part `[timing]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawTiming {
    /// When a silent registration is dropped.
    pub stale_s: u64,
    /// How often that is looked for.
    pub prune_interval_s: u64,
    /// How often registrars should repeat themselves.
    pub register_interval_s: u32,
    /// How long a route without endpoints answers 503 before it is 404.
    pub empty_route_s: u64,
    /// Connecting to an endpoint.
    pub connect_timeout_s: u64,
    /// The longest silence of an endpoint that owes an answer.
    pub endpoint_timeout_s: u64,
    /// How long idle connections to endpoints are kept.
    pub backend_idle_s: u64,
    /// From the first byte of a request's head to its last.
    pub header_timeout_s: u64,
    /// Between two requests of a client.
    pub client_idle_s: u64,
    /// The longest silence of a client that owes a part of a body or does not take its answer.
    pub body_timeout_s: u64,
    /// How long requests may go on after the router was told to stop.
    pub drain_s: u64,
    /// How often the snapshot is written.
    pub snapshot_s: u64,
    /// The longest that a router without a snapshot waits for the first registrations.
    pub start_wait_ms: u64,
}

impl Default for RawTiming {
    fn default() -> Self {
        Self {
            stale_s: 120,
            prune_interval_s: 30,
            register_interval_s: 20,
            empty_route_s: 30,
            connect_timeout_s: 5,
            endpoint_timeout_s: 900,
            backend_idle_s: 90,
            header_timeout_s: 15,
            client_idle_s: 900,
            body_timeout_s: 60,
            drain_s: 5,
            snapshot_s: 5,
            start_wait_ms: 3_000,
        }
    }
}

fn session_cookies() -> Vec<String> {
    vec!["JSESSIONID".to_owned()]
}

fn trust() -> String {
    "trust".to_owned()
}

/// Settings that work.
#[derive(Clone)]
pub struct Config {
    pub(crate) http_listen: Option<SocketAddr>,
    pub(crate) https_listen: Option<SocketAddr>,
    pub(crate) status_listen: SocketAddr,
    pub(crate) certificates: Vec<(PathBuf, PathBuf)>,
    pub(crate) bus: bus::Settings,
    pub(crate) agent_socket: PathBuf,
    pub(crate) state: PathBuf,
    /// Whole host names.
    pub(crate) reserved: Vec<String>,
    pub(crate) threads: usize,
    pub(crate) rules: Rules,
    pub(crate) route_services: route_service::Settings,
    pub(crate) table: Limits,
    pub(crate) backend: BackendSettings,
    pub(crate) front: FrontSettings,
    pub(crate) prune_interval: Duration,
    pub(crate) register_interval_s: u32,
    pub(crate) drain: Duration,
    pub(crate) snapshot: Duration,
    /// The oldest snapshot that is believed.
    pub(crate) snapshot_age: Duration,
    pub(crate) start_wait: Duration,
}

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// [`ConfigError`], with every problem at once.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::check(foundation::config::load(path)?)
    }

    /// Checks the raw form.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`], with every problem at once.
    pub fn check(raw: Raw) -> Result<Self, ConfigError> {
        let problems = problems(&raw);
        if !problems.is_empty() {
            return Err(ConfigError::Invalid(problems));
        }
        let (limits, timing) = (&raw.limits, &raw.timing);
        let seconds = Duration::from_secs;
        let system_domain = raw.system_domain.to_ascii_lowercase();
        let stale = seconds(timing.stale_s);
        Ok(Self {
            http_listen: raw.http_listen,
            https_listen: raw.https_listen,
            status_listen: raw.status_listen,
            certificates: raw.certificates.into_iter().map(|pair| (pair.certificate, pair.key)).collect(),
            bus: bus::Settings {
                url: raw.bus.url,
                user: raw.bus.user,
                password: raw.bus.password.expose().to_owned(),
                ca: raw.bus.ca,
            },
            agent_socket: raw.agent_socket,
            state: raw.state,
            reserved: RESERVED.iter().map(|name| format!("{name}.{system_domain}")).collect(),
            threads: match raw.threads {
                0 => std::thread::available_parallelism().map_or(1, usize::from),
                threads => threads,
            },
            rules: Rules {
                max_attempts: limits.attempts,
                max_open: limits.requests_per_endpoint,
                aside_for: stale / 4,
                session_cookies: raw.session_cookies,
                forwarded_proto: parse_forwarded_proto(&raw.forwarded_proto).unwrap_or_default(),
            },
            route_services: route_service::Settings { ca: raw.route_services.ca, allow_local: raw.route_services.allow_local },
            table: Limits {
                routes: limits.routes,
                endpoints: limits.endpoints_per_route,
                stale,
                empty: seconds(timing.empty_route_s),
            },
            backend: BackendSettings {
                router_index: raw.index.to_string(),
                connect_timeout: seconds(timing.connect_timeout_s),
                endpoint_timeout: seconds(timing.endpoint_timeout_s),
                idle_timeout: seconds(timing.backend_idle_s),
                verifies: raw.backend_ca.is_some(),
            },
            front: FrontSettings {
                limits: HeadLimits { bytes: limits.header_bytes, lines: limits.header_lines },
                head_timeout: seconds(timing.header_timeout_s),
                idle_timeout: seconds(timing.client_idle_s),
                body_timeout: seconds(timing.body_timeout_s),
                max_connections: limits.connections,
                max_attempts: limits.attempts,
                backend_ca: raw.backend_ca.map(|path| path.to_string_lossy().into_owned()),
                idle_backends: limits.idle_backend_connections,
            },
            prune_interval: seconds(timing.prune_interval_s),
            register_interval_s: timing.register_interval_s,
            drain: seconds(timing.drain_s),
            snapshot: seconds(timing.snapshot_s),
            // Whatever comes from a snapshot lives for one more threshold: together shorter than the quarantine.
            snapshot_age: seconds(QUARANTINE_S.saturating_sub(timing.stale_s)),
            start_wait: Duration::from_millis(timing.start_wait_ms),
        })
    }
}

fn parse_forwarded_proto(name: &str) -> Option<ForwardedProto> {
    match name {
        "trust" => Some(ForwardedProto::Trust),
        "sanitize" => Some(ForwardedProto::Sanitize),
        "https" => Some(ForwardedProto::Https),
        _ => None,
    }
}

fn problems(raw: &Raw) -> Vec<Problem> {
    let mut problems = vec![];
    let mut check = |good: bool, key: &'static str, why: String| {
        if !good {
            problems.push(Problem { key, why });
        }
    };
    let (limits, timing) = (&raw.limits, &raw.timing);
    check(raw.http_listen.is_some() || raw.https_listen.is_some(), "http_listen", "neither HTTP nor HTTPS is served".into());
    let certified = raw.https_listen.is_none() || !raw.certificates.is_empty();
    check(certified, "certificates", "HTTPS needs at least one".into());
    check(raw.status_listen.ip().is_loopback(), "status_listen", format!("{} is not a loopback address", raw.status_listen));
    check(!raw.system_domain.is_empty(), "system_domain", "is empty".into());
    check(
        parse_forwarded_proto(&raw.forwarded_proto).is_some(),
        "forwarded_proto",
        format!("`{}` is none of trust, sanitize, https", raw.forwarded_proto),
    );
    for (key, value, most) in [
        ("limits.header_bytes", limits.header_bytes, MOST_HEAD_BYTES),
        ("limits.header_lines", limits.header_lines, MOST_HEAD_LINES),
        ("limits.connections", limits.connections, 1_000_000),
        ("limits.attempts", limits.attempts, 16),
        ("limits.routes", limits.routes, 10_000_000),
        ("limits.endpoints_per_route", limits.endpoints_per_route, 100_000),
    ] {
        check((1..=most).contains(&value), key, format!("{value} is not between 1 and {most}"));
    }
    for (key, value) in [
        ("timing.prune_interval_s", timing.prune_interval_s),
        ("timing.register_interval_s", timing.register_interval_s.into()),
        ("timing.connect_timeout_s", timing.connect_timeout_s),
        ("timing.endpoint_timeout_s", timing.endpoint_timeout_s),
        ("timing.header_timeout_s", timing.header_timeout_s),
        ("timing.client_idle_s", timing.client_idle_s),
        ("timing.body_timeout_s", timing.body_timeout_s),
        ("timing.snapshot_s", timing.snapshot_s),
    ] {
        check(value > 0, key, "is zero".into());
    }
    let three = u64::from(timing.register_interval_s) * 3;
    check(timing.stale_s >= three, "timing.stale_s", format!("{} is under three register intervals", timing.stale_s));
    check(
        timing.stale_s < QUARANTINE_S,
        "timing.stale_s",
        format!("{} reaches the quarantine of addresses ({QUARANTINE_S})", timing.stale_s),
    );
    problems
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
        assert_eq!(config.reserved[0], "api.cf.localhost");
        assert!(config.snapshot_age + config.table.stale <= Duration::from_secs(QUARANTINE_S));
    }

    #[test]
    fn all_problems_are_told_at_once() {
        let raw = Raw {
            http_listen: None,
            https_listen: None,
            status_listen: "0.0.0.0:1".parse().unwrap(),
            forwarded_proto: "maybe".into(),
            limits: RawLimits { header_bytes: 2 << 20, attempts: 0, ..RawLimits::default() },
            timing: RawTiming { stale_s: 30, ..RawTiming::default() },
            ..example()
        };
        let Err(ConfigError::Invalid(problems)) = Config::check(raw) else { panic!("taken") };
        let keys: Vec<_> = problems.iter().map(|problem| problem.key).collect();
        let expected =
            ["http_listen", "status_listen", "forwarded_proto", "limits.header_bytes", "limits.attempts", "timing.stale_s"];
        assert_eq!(keys, expected);
    }
}
