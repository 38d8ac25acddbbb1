//! Settings: the raw form of the file, and the checked form.

use broker_sdk::{RawSettings, Settings};
use engines::settings::{EngineSection, EngineSettings, Limits, PlanSection, WorkloadsSection, check_plans};
use foundation::config::{ConfigError, Problem};
use serde::{Deserialize, Serialize};
use std::{path::PathBuf, time::Duration};

/// The settings file.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Raw {
    /// The broker's HTTP side, and its folder.
    pub server: RawSettings,
    /// The shared server that it keeps.
    pub engine: EngineSection,
    /// Databases that are made before somebody asks for them, so that nobody waits; only where that is slow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spare: Option<usize>,
    /// What is offered on the shared server.
    #[serde(default = "default_plans")]
    pub plans: Vec<PlanSection>,
    /// The platform that runs servers of an instance's own; absent: there is no such plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workloads: Option<WorkloadsSection>,
    /// The plan with a server of an instance's own.
    #[serde(default)]
    pub dedicated: DedicatedSection,
}

fn default_plans() -> Vec<PlanSection> {
    vec![PlanSection { name: "shared".into(), id: None, description: None, size_mb: 1024, connections: 20, free: true }]
}

/// The part `[dedicated]`: the plan with a server of an instance's own.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct DedicatedSection {
    /// The plan's name.
    pub name: String,
    /// Globally unique; absent: made from the names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Memory of a server whose user does not choose.
    pub memory_mb: u32,
    /// The most that a user may choose.
    pub most_memory_mb: u32,
    /// Size of the volume, if the user does not choose.
    pub disk_mb: u32,
    /// The most that a user may choose.
    pub most_disk_mb: u32,
    /// Whether it costs nothing.
    pub free: bool,
    /// Seconds after which a server that does not start is given up.
    pub give_up_s: u64,
}

impl Default for DedicatedSection {
    fn default() -> Self {
        Self {
            name: "dedicated".into(),
            id: None,
            memory_mb: 512,
            most_memory_mb: 4_096,
            disk_mb: 1_024,
            most_disk_mb: 20_480,
            free: true,
            give_up_s: 300,
        }
    }
}

/// The least memory of a server.
pub(crate) const LEAST_MEMORY_MB: u32 = 256;
/// The least size of a volume.
pub(crate) const LEAST_DISK_MB: u32 = 512;

/// The checked plan with a server of an instance's own.
#[derive(Clone, Debug)]
pub struct OwnServers {
    pub(crate) workloads: WorkloadsSection,
    pub(crate) plan: String,
    pub(crate) id: String,
    pub(crate) memory_mb: u32,
    pub(crate) most_memory_mb: u32,
    pub(crate) disk_mb: u32,
    pub(crate) most_disk_mb: u32,
    pub(crate) free: bool,
    pub(crate) give_up: Duration,
}

/// Longest path of a folder that may hold a Unix socket.
const LONGEST_PATH: usize = 70;

/// Settings that work.
#[derive(Clone, Debug)]
pub struct Config {
    pub(crate) server: Settings,
    pub(crate) state: PathBuf,
    pub(crate) engine: EngineSettings,
    pub(crate) spare: usize,
    pub(crate) plans: Vec<Limits>,
    pub(crate) own: Option<OwnServers>,
}

impl Config {
    /// Checks the raw form for the broker of `service`, which keeps `usual_spare` databases ready, if it keeps any.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] with everything that cannot work.
    pub fn check(service: &str, usual_spare: Option<usize>, raw: Raw) -> Result<Self, ConfigError> {
        let mut problems = vec![];
        let state = raw.server.state.clone();
        let server = match Settings::check(raw.server) {
            Ok(server) => Some(server),
            Err(ConfigError::Invalid(more)) => {
                problems.extend(more);
                None
            }
            Err(other) => return Err(other),
        };
        if state.is_relative() || state.as_os_str().len() > LONGEST_PATH {
            let why = format!("{} is not an absolute path of at most {LONGEST_PATH} bytes", state.display());
            problems.push(Problem { key: "server.state", why });
        }
        let most_spare = if usual_spare.is_some() { 100 } else { 0 };
        let spare = raw.spare.or(usual_spare).unwrap_or_default();
        if spare > most_spare {
            problems.push(Problem { key: "spare", why: format!("{spare} is more than {most_spare}") });
        }
        let engine = raw.engine.check(&mut problems);
        let plans = check_plans(service, raw.plans, engine.max_connections, &mut problems);
        let own = raw.workloads.map(|workloads| check_own(service, workloads, raw.dedicated, &plans, &mut problems));
        match server {
            Some(server) if problems.is_empty() => Ok(Self { server, state, engine, spare, plans, own }),
            _ => Err(ConfigError::Invalid(problems)),
        }
    }
}

fn check_own(
    service: &str,
    workloads: WorkloadsSection,
    raw: DedicatedSection,
    plans: &[Limits],
    problems: &mut Vec<Problem>,
) -> OwnServers {
    workloads.check(problems);
    let mut wrong = |key, why: String| problems.push(Problem { key, why });
    if raw.name.is_empty() || !raw.name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-') {
        wrong("dedicated.name", format!("`{}` is not a name of small letters, digits and hyphens", raw.name));
    }
    let id = raw.id.unwrap_or_else(|| format!("cupola-{service}-{}", raw.name));
    if plans.iter().any(|plan| plan.plan == raw.name || plan.id == id) {
        wrong("dedicated.name", format!("`{}` is a plan of the shared server too", raw.name));
    }
    for (key, usual, most, least) in [
        ("dedicated.memory_mb", raw.memory_mb, raw.most_memory_mb, LEAST_MEMORY_MB),
        ("dedicated.disk_mb", raw.disk_mb, raw.most_disk_mb, LEAST_DISK_MB),
    ] {
        if usual < least || usual > most || most > 1 << 24 {
            wrong(key, format!("{usual} is not between {least} and the most, {most}, or that is more than {}", 1 << 24));
        }
    }
    if !(10..=3_600).contains(&raw.give_up_s) {
        wrong("dedicated.give_up_s", format!("{} is not between 10 and 3600", raw.give_up_s));
    }
    OwnServers {
        workloads,
        plan: raw.name,
        id,
        memory_mb: raw.memory_mb,
        most_memory_mb: raw.most_memory_mb,
        disk_mb: raw.disk_mb,
        most_disk_mb: raw.most_disk_mb,
        free: raw.free,
        give_up: Duration::from_secs(raw.give_up_s),
    }
}
