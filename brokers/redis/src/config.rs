//! Settings: raw form (the file) and checked form.

use crate::plans::{LEAST_MEMORY_MB, Plans};
use broker_sdk::{RawSettings, Settings};
use engines::User;
use foundation::config::{ConfigError, Problem, TlsSection};
use serde::{Deserialize, Serialize};
use std::{
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

/// The file, as written.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Raw {
    /// Where the platform reaches the broker, as whom it comes, and the broker's folder.
    pub server: RawSettings,
    /// Where applications reach the servers; never loopback, except in tests.
    pub address: Ipv4Addr,
    /// Ports of the servers: first and last.
    pub ports: (u16, u16),
    /// Memory for the data of all instances together.
    pub memory_mb: u32,
    /// Largest backup.
    #[serde(default = "default_backup_mb")]
    pub backup_mb: u32,
    /// The server's program.
    #[serde(default = "default_program")]
    pub program: PathBuf,
    /// The program that checks a snapshot.
    #[serde(default = "default_check")]
    pub check: PathBuf,
    /// Whom the servers run as where the broker is root, as in tests; absent: the broker's own user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_as: Option<u32>,
    /// The plans' limits.
    #[serde(default)]
    pub plans: Plans,
    /// What the servers show, and the authority that applications check it with.
    pub tls: TlsSection,
}

fn default_backup_mb() -> u32 {
    4_096
}
fn default_program() -> PathBuf {
    "/usr/bin/redis-server".into()
}
fn default_check() -> PathBuf {
    "/usr/bin/redis-check-rdb".into()
}

/// Settings that work.
#[derive(Clone, Debug)]
pub struct Config {
    /// The part of the SDK.
    pub server: Settings,
    /// The file's values, checked.
    pub raw: Raw,
    /// Whom the servers run as.
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
        if raw.ports.0 < 1_024 || raw.ports.0 > raw.ports.1 {
            wrong("ports", format!("{:?} is not a range from low to high above 1023", raw.ports));
        }
        for (key, limits) in [("plans.cache", raw.plans.cache), ("plans.persistent", raw.plans.persistent)] {
            let order = LEAST_MEMORY_MB <= limits.memory_mb && limits.memory_mb <= limits.most_memory_mb;
            if !order || limits.most_memory_mb > raw.memory_mb {
                wrong(
                    key,
                    format!("memory must be {LEAST_MEMORY_MB} <= memory_mb <= most_memory_mb <= {} (memory_mb)", raw.memory_mb),
                );
            }
            if limits.connections == 0 {
                wrong(key, "connections must not be 0".into());
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
        raw.ports = (3_000, 2_000);
        raw.plans.cache.memory_mb = 1;
        let told = Config::check(raw).unwrap_err().to_string();
        assert!(told.contains("ports") && told.contains("plans.cache"), "{told}");
    }
}
