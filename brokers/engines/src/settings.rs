//! Settings that brokers of shared servers have in common.

use crate::User;
use foundation::config::{Problem, TlsSection};
use serde::{Deserialize, Serialize};
use std::{net::IpAddr, path::PathBuf, time::Duration};

/// The part `[engine]`: the server that a broker keeps.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct EngineSection {
    /// The address that containers reach and the server listens on; never loopback on a real platform.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
    /// What credentials call it, if not the address; the certificate must be good for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// What the server shows to its clients, and the authority that clients shall trust.
    pub tls: TlsSection,
    /// Where its programs are, if not where Debian puts them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub programs: Option<PathBuf>,
    /// Number of the user that the server runs as; only for a broker that is root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<u32>,
    /// Connections of all clients together.
    #[serde(default = "default_max_connections")]
    pub max_connections: u32,
    /// Memory for the server's own cache of pages.
    #[serde(default = "default_cache_mb")]
    pub cache_mb: u32,
    /// Seconds without any instance after which it is stopped.
    #[serde(default = "default_idle_stop_s")]
    pub idle_stop_s: u64,
    /// Seconds between two looks at the size of every instance.
    #[serde(default = "default_check_interval_s")]
    pub check_interval_s: u64,
    /// Largest backup.
    #[serde(default = "default_largest_backup_mb")]
    pub largest_backup_mb: u64,
}

/// One of `[[plans]]`: how much an instance on the shared server may have.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PlanSection {
    /// `shared`.
    pub name: String,
    /// Globally unique; absent: made from the names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// For users; absent: says the limits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Size beyond which writing is not allowed any more.
    pub size_mb: u64,
    /// Connections of one binding.
    pub connections: u32,
    /// Whether it costs nothing.
    #[serde(default = "default_free")]
    pub free: bool,
}

/// The part `[workloads]`: the platform that runs servers of an instance's own for a broker.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct WorkloadsSection {
    /// The cloud controller's internal API: `https://127.0.0.1:9023`.
    pub controller: String,
    /// The broker's own certificate for it; its common name is the broker's part name.
    pub tls: TlsSection,
    /// The stack with the servers' programs.
    pub stack: String,
    /// Ports of the services address for this broker alone: first and last.
    pub ports: (u16, u16),
}

impl WorkloadsSection {
    /// Checks it; adds what cannot work to `problems`.
    pub fn check(&self, problems: &mut Vec<Problem>) {
        let mut wrong = |key, why: String| problems.push(Problem { key, why });
        if !self.controller.starts_with("https://") {
            wrong("workloads.controller", format!("`{}` is not an https address", self.controller));
        }
        if self.stack.is_empty() {
            wrong("workloads.stack", "there is none".into());
        }
        if self.ports.0 < 1_024 || self.ports.0 > self.ports.1 {
            wrong("workloads.ports", format!("{:?} is not a range from low to high above 1023", self.ports));
        }
        for (key, path) in [
            ("workloads.tls.ca", &self.tls.ca),
            ("workloads.tls.certificate", &self.tls.certificate),
            ("workloads.tls.key", &self.tls.key),
        ] {
            if !path.is_file() {
                wrong(key, format!("there is no file {}", path.display()));
            }
        }
    }
}

/// Checked settings of a server.
#[derive(Clone, Debug)]
pub struct EngineSettings {
    /// Where it listens.
    pub address: IpAddr,
    /// Where it listens.
    pub port: u16,
    /// What credentials call it.
    pub host: String,
    /// Its certificate, and its clients' authority.
    pub tls: TlsSection,
    /// Where its programs are, if not where Debian puts them.
    pub programs: Option<PathBuf>,
    /// Whom it runs as.
    pub user: User,
    /// Connections of all clients together.
    pub max_connections: u32,
    /// Memory for its cache.
    pub cache_mb: u32,
    /// How long it may be of no use.
    pub idle_stop: Duration,
    /// Between two looks at sizes.
    pub check_interval: Duration,
    /// Largest backup.
    pub largest_backup_bytes: u64,
}

/// Checked limits of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The plan's name.
    pub plan: String,
    /// The plan's id.
    pub id: String,
    /// For users.
    pub description: String,
    /// Size beyond which writing is not allowed.
    pub size_bytes: u64,
    /// Connections of one binding.
    pub connections: u32,
    /// Whether it costs nothing.
    pub free: bool,
}

fn default_max_connections() -> u32 {
    200
}
fn default_cache_mb() -> u32 {
    64
}
fn default_idle_stop_s() -> u64 {
    300
}
fn default_check_interval_s() -> u64 {
    30
}
fn default_largest_backup_mb() -> u64 {
    10_240
}
fn default_free() -> bool {
    true
}

impl EngineSection {
    /// Checks it; adds what cannot work to `problems`.
    pub fn check(self, problems: &mut Vec<Problem>) -> EngineSettings {
        let mut wrong = |key, why: String| problems.push(Problem { key, why });
        if self.address.is_unspecified() || self.address.is_multicast() {
            wrong("engine.address", format!("{} is not an address that clients can be told", self.address));
        }
        if self.port == 0 {
            wrong("engine.port", "0 is not a port that clients can be told".into());
        }
        for (key, path) in [
            ("engine.tls.ca", &self.tls.ca),
            ("engine.tls.certificate", &self.tls.certificate),
            ("engine.tls.key", &self.tls.key),
        ] {
            if !path.is_file() {
                wrong(key, format!("there is no file {}", path.display()));
            }
        }
        if let Some(programs) = self.programs.as_ref().filter(|programs| !programs.is_dir()) {
            wrong("engine.programs", format!("there is no folder {}", programs.display()));
        }
        for (key, value, least, most) in [
            ("engine.max_connections", u64::from(self.max_connections), 50, 5_000),
            ("engine.cache_mb", u64::from(self.cache_mb), 16, 1 << 20),
            ("engine.idle_stop_s", self.idle_stop_s, 1, 1 << 30),
            ("engine.check_interval_s", self.check_interval_s, 1, 86_400),
            ("engine.largest_backup_mb", self.largest_backup_mb, 1, 1 << 30),
        ] {
            if !(least..=most).contains(&value) {
                wrong(key, format!("{value} is not between {least} and {most}"));
            }
        }
        EngineSettings {
            address: self.address,
            port: self.port,
            host: self.host.unwrap_or_else(|| self.address.to_string()),
            tls: self.tls,
            programs: self.programs,
            user: User(self.user),
            max_connections: self.max_connections,
            cache_mb: self.cache_mb,
            idle_stop: Duration::from_secs(self.idle_stop_s),
            check_interval: Duration::from_secs(self.check_interval_s),
            largest_backup_bytes: self.largest_backup_mb << 20,
        }
    }
}

/// Checks the plans of `service`; adds what cannot work to `problems`.
pub fn check_plans(service: &str, plans: Vec<PlanSection>, max_connections: u32, problems: &mut Vec<Problem>) -> Vec<Limits> {
    let mut wrong = |why: String| problems.push(Problem { key: "plans", why });
    if plans.is_empty() {
        wrong("there is none".into());
    }
    let mut checked: Vec<Limits> = vec![];
    for plan in plans {
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if plan.name.is_empty() || !plan.name.chars().all(fits) {
            wrong(format!("`{}` is not a name of small letters, digits and hyphens", plan.name));
        }
        let id = plan.id.unwrap_or_else(|| format!("cupola-{service}-{}", plan.name));
        if checked.iter().any(|other| other.plan == plan.name || other.id == id) {
            wrong(format!("`{}` is there twice", plan.name));
        }
        if !(16..=1 << 24).contains(&plan.size_mb) {
            wrong(format!("`{}`: size_mb {} is not between 16 and {}", plan.name, plan.size_mb, 1 << 24));
        }
        if plan.connections == 0 || plan.connections >= max_connections {
            wrong(format!("`{}`: connections {} is not between 1 and engine.max_connections", plan.name, plan.connections));
        }
        let size = if plan.size_mb >= 1024 { format!("{} GB", plan.size_mb / 1024) } else { format!("{} MB", plan.size_mb) };
        let usual = format!("A database of its own on a shared server: {size}, {} connections a binding", plan.connections);
        checked.push(Limits {
            plan: plan.name,
            id,
            description: plan.description.unwrap_or(usual),
            size_bytes: plan.size_mb << 20,
            connections: plan.connections,
            free: plan.free,
        });
    }
    checked
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(name: &str, size_mb: u64) -> PlanSection {
        PlanSection { name: name.into(), id: None, description: None, size_mb, connections: 20, free: true }
    }

    #[test]
    fn plans_are_checked_one_by_one_and_together() {
        let mut problems = vec![];
        let good = check_plans("postgres", vec![plan("shared", 1024)], 200, &mut problems);
        assert!(problems.is_empty(), "{problems:?}");
        assert_eq!(good[0].id, "cupola-postgres-shared");
        assert_eq!(good[0].description, "A database of its own on a shared server: 1 GB, 20 connections a binding");
        check_plans("postgres", vec![plan("Shared", 1024), plan("a", 1), plan("a", 20)], 20, &mut problems);
        let said = format!("{problems:?}");
        for word in ["`Shared` is not a name", "size_mb 1 ", "`a` is there twice", "connections 20"] {
            assert!(said.contains(word), "{word} in {said}");
        }
    }
}
