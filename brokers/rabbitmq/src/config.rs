//! Settings: raw form (the file) and checked form.

use crate::plans::Plans;
use broker_sdk::{RawSettings, Settings};
use engines::User;
use foundation::config::{ConfigError, Problem, TlsSection};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeSet,
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

/// The file, as written.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Raw {
    /// Where the platform reaches the broker, as whom it comes, and the broker's folder.
    pub server: RawSettings,
    /// Where applications reach the node; never loopback, except in tests.
    pub address: Ipv4Addr,
    /// The node's port for applications.
    pub port: u16,
    /// The node's own ports on loopback: AMQP for the broker, management, Erlang's distribution.
    pub loopback_ports: [u16; 3],
    /// Beyond this much memory publishers wait.
    pub memory_mb: u32,
    /// With less free disk than this publishers wait.
    #[serde(default = "default_disk_reserve_mb")]
    pub disk_reserve_mb: u32,
    /// Largest backup.
    #[serde(default = "default_backup_mb")]
    pub backup_mb: u32,
    /// Seconds without any instance after which the node is stopped.
    #[serde(default = "default_idle_stop_s")]
    pub idle_stop_s: u64,
    /// Folder of the installed server.
    #[serde(default = "default_installation")]
    pub installation: PathBuf,
    /// Whom the node runs as where the broker is root, as in tests; absent: the broker's own user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_as: Option<u32>,
    /// The plans' limits.
    #[serde(default)]
    pub plans: Plans,
    /// What the node shows, and the authority that applications check it with.
    pub tls: TlsSection,
}

fn default_disk_reserve_mb() -> u32 {
    1_024
}
fn default_backup_mb() -> u32 {
    4_096
}
fn default_idle_stop_s() -> u64 {
    300
}
fn default_installation() -> PathBuf {
    "/usr/lib/rabbitmq".into()
}

/// Settings that work.
#[derive(Clone, Debug)]
pub struct Config {
    /// The part of the SDK.
    pub server: Settings,
    /// The file's values, checked.
    pub raw: Raw,
    /// Whom the node runs as.
    pub server_user: User,
}

impl Config {
    /// Reads and checks the file.
    ///
    /// # Errors
    /// All problems at once.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::check(foundation::config::load(path)?)
    }

    /// Checks.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] with all problems.
    pub fn check(raw: Raw) -> Result<Self, ConfigError> {
        let server = Settings::check(raw.server.clone());
        let mut problems = vec![];
        let mut wrong = |key, why: String| problems.push(Problem { key, why });
        let ports: BTreeSet<u16> = raw.loopback_ports.into_iter().chain([raw.port]).collect();
        if ports.len() < 4 || ports.first().is_some_and(|port| *port < 1_024) {
            wrong("loopback_ports", "the four ports must differ and be above 1023".into());
        }
        if raw.memory_mb < 128 {
            wrong("memory_mb", format!("{} is under 128, which the empty node takes", raw.memory_mb));
        }
        for (key, limits) in [("plans.shared", raw.plans.shared), ("plans.large", raw.plans.large)] {
            if limits.connections == 0 || limits.queues == 0 || limits.queue_mb == 0 {
                wrong(key, "no limit may be 0".into());
            }
        }
        if raw.backup_mb == 0 {
            wrong("backup_mb", "must not be 0".into());
        }
        match server {
            Ok(server) if problems.is_empty() => Ok(Self { server, server_user: User(raw.run_as), raw }),
            Err(ConfigError::Invalid(others)) => Err(ConfigError::Invalid(others.into_iter().chain(problems).collect())),
            Err(e) => Err(e),
            Ok(_) => Err(ConfigError::Invalid(problems)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_works() {
        Config::load(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/example.toml"))).unwrap();
    }

    #[test]
    fn all_problems_are_told_at_once() {
        let mut raw: Raw = foundation::config::load(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/example.toml"))).unwrap();
        raw.loopback_ports = [5_671, 5_672, 5_673];
        raw.plans.shared.queues = 0;
        let told = Config::check(raw).unwrap_err().to_string();
        assert!(told.contains("loopback_ports") && told.contains("plans.shared"), "{told}");
    }
}
