//! Settings: raw form -> checked form.

use foundation::config::{BusSection, ConfigError, Problem, TlsSection};
use serde::{Deserialize, Serialize};
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

/// The settings as they stand in the file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Raw {
    /// This DEA's own folder: id, caches, work under way. Warden must be allowed to show it in containers, and every folder
    /// above it needs the execute bit for others.
    pub state: PathBuf,
    /// Warden's socket.
    pub warden_socket: PathBuf,
    /// The log agent's datagram socket.
    pub agent_socket: PathBuf,
    /// The folder with the static programs `builder` and `launcher`; Warden must be allowed to show it.
    pub lifecycle: PathBuf,
    /// The cloud controller's internal API: `https://127.0.0.1:9023`.
    pub cloud_controller: String,
    /// What routers are told: `container` (its own address and port: routers on this host) or `host` (the host's).
    #[serde(default)]
    pub route_to: RouteTo,
    /// Zone, for placement.
    #[serde(default = "default_zone")]
    pub zone: String,
    /// Memory to promise; absent: what Warden says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_mb: Option<u32>,
    /// Disk to promise; absent: what Warden says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_mb: Option<u32>,
    /// Memory promised is this times the memory there is.
    #[serde(default = "one")]
    pub memory_overcommit: f64,
    /// Disk promised is this times the disk there is.
    #[serde(default = "one")]
    pub disk_overcommit: f64,
    /// The most instances and stagings at once.
    #[serde(default = "default_instances")]
    pub max_instances: u32,
    /// Processes and threads of an instance.
    #[serde(default = "default_pids")]
    pub pids: u64,
    /// Disk for droplets kept for the next start.
    #[serde(default = "default_cache")]
    pub droplet_cache_mb: u32,
    /// Disk for unpacked buildpacks.
    #[serde(default = "default_cache")]
    pub buildpack_cache_mb: u32,
    /// Time that evacuating instances get for their replacement to run elsewhere before they are stopped anyway.
    #[serde(default)]
    pub evacuation_timeout_s: u32,
    /// Time between taking an instance's routes away and TERM.
    #[serde(default = "default_drain")]
    pub drain_ms: u32,
    /// Time between TERM and KILL.
    #[serde(default = "default_grace")]
    pub grace_s: u32,
    /// The bus.
    pub bus: BusSection,
    /// What this DEA shows to the cloud controller.
    pub tls: TlsSection,
}

/// Which address routers are told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RouteTo {
    /// The container's own address and port.
    #[default]
    Container,
    /// The host's address and the port there that leads to the container.
    Host,
}

fn default_zone() -> String {
    "z1".into()
}
fn one() -> f64 {
    1.0
}
fn default_instances() -> u32 {
    250
}
fn default_pids() -> u64 {
    1024
}
fn default_cache() -> u32 {
    8192
}
fn default_drain() -> u32 {
    300
}
fn default_grace() -> u32 {
    10
}

/// Settings that work.
#[derive(Clone, Debug)]
pub struct Config {
    /// The checked values.
    pub raw: Raw,
    /// The periods of the repeated work.
    pub periods: Periods,
}

/// How often things are done. Not settable in the file: peers count on them. Tests set them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Periods {
    /// Advertisements.
    pub advertise: Duration,
    /// Heartbeats.
    pub heartbeat: Duration,
    /// Usage samples.
    pub sample: Duration,
    /// Container metrics to the log agent.
    pub gauges: Duration,
    /// Asking for all routes.
    pub routes: Duration,
    /// Repeating what was unregistered.
    pub farewell: Duration,
    /// Comparing with what Warden holds; cleaning caches.
    pub sweep: Duration,
}

impl Default for Periods {
    fn default() -> Self {
        Self {
            advertise: Duration::from_secs(5),
            heartbeat: Duration::from_secs(10),
            sample: Duration::from_secs(5),
            gauges: Duration::from_secs(15),
            routes: Duration::from_secs(30),
            farewell: Duration::from_secs(2),
            sweep: Duration::from_secs(30),
        }
    }
}

impl Config {
    /// Reads and checks the file.
    ///
    /// # Errors
    /// All problems at once.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::check(foundation::config::load(path)?)
    }

    /// Checks the raw form.
    ///
    /// # Errors
    /// All problems at once.
    pub fn check(raw: Raw) -> Result<Self, ConfigError> {
        let mut problems = vec![];
        let mut wrong = |key, why: &str| problems.push(Problem { key, why: why.to_owned() });
        for (key, path) in [
            ("state", &raw.state),
            ("warden_socket", &raw.warden_socket),
            ("agent_socket", &raw.agent_socket),
            ("lifecycle", &raw.lifecycle),
        ] {
            if !path.is_absolute() {
                wrong(key, "must be an absolute path");
            }
        }
        if !raw.cloud_controller.starts_with("https://") && !raw.cloud_controller.starts_with("http://127.0.0.1") {
            wrong("cloud_controller", "must begin with https://");
        }
        for (key, factor) in [("memory_overcommit", raw.memory_overcommit), ("disk_overcommit", raw.disk_overcommit)] {
            if !(0.1..=100.0).contains(&factor) {
                wrong(key, "must lie between 0.1 and 100");
            }
        }
        for (key, number) in
            [("max_instances", u64::from(raw.max_instances)), ("pids", raw.pids), ("grace_s", raw.grace_s.into())]
        {
            if number == 0 {
                wrong(key, "must be above 0");
            }
        }
        if raw.droplet_cache_mb < 64 {
            wrong("droplet_cache_mb", "must be 64 at least");
        }
        if problems.is_empty() { Ok(Self { raw, periods: Periods::default() }) } else { Err(ConfigError::Invalid(problems)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Raw {
        toml::from_str(include_str!("../example.toml")).unwrap()
    }

    #[test]
    fn the_example_file_works() {
        Config::check(example()).unwrap();
    }

    #[test]
    fn all_problems_are_told_at_once() {
        let raw = Raw { state: "state".into(), memory_overcommit: 0.0, cloud_controller: "ftp://x".into(), ..example() };
        let text = Config::check(raw).unwrap_err().to_string();
        for key in ["state", "memory_overcommit", "cloud_controller"] {
            assert!(text.contains(key), "{text}");
        }
    }
}
