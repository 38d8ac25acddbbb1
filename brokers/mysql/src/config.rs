//! Settings: the raw form of the file, and the checked form.

use broker_sdk::{RawSettings, Settings};
use engines::settings::{EngineSection, EngineSettings, Limits, PlanSection, check_plans};
use foundation::config::{ConfigError, Problem};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The settings file.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Raw {
    /// The broker's HTTP side, and its folder.
    pub server: RawSettings,
    /// The database server that it keeps.
    pub engine: EngineSection,
    /// What is offered.
    #[serde(default = "default_plans")]
    pub plans: Vec<PlanSection>,
}

fn default_plans() -> Vec<PlanSection> {
    vec![PlanSection { name: "shared".into(), id: None, description: None, size_mb: 1024, connections: 20, free: true }]
}

/// Longest path of a folder that may hold a Unix socket.
const LONGEST_PATH: usize = 70;

/// Settings that work.
#[derive(Clone, Debug)]
pub struct Config {
    pub(crate) server: Settings,
    pub(crate) state: PathBuf,
    pub(crate) engine: EngineSettings,
    pub(crate) plans: Vec<Limits>,
}

impl Config {
    /// Checks the raw form.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] with everything that cannot work.
    pub fn check(raw: Raw) -> Result<Self, ConfigError> {
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
        let engine = raw.engine.check(&mut problems);
        let plans = check_plans("mysql", raw.plans, engine.max_connections, &mut problems);
        match server {
            Some(server) if problems.is_empty() => Ok(Self { server, state, engine, plans }),
            _ => Err(ConfigError::Invalid(problems)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Raw {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mysql.toml");
        std::fs::write(&path, include_str!("../example.toml")).unwrap();
        foundation::config::load(&path).unwrap()
    }

    #[test]
    fn the_example_is_missing_nothing_but_its_certificates() {
        let raw = example();
        assert!(!format!("{raw:?}").contains("change-me"));
        let said = Config::check(raw).unwrap_err().to_string();
        assert_eq!(said.matches("there is no file").count(), 3, "{said}");
        assert_eq!(said.matches(';').count(), 2, "{said}");
    }

    #[test]
    fn all_problems_are_told_at_once() {
        let mut raw = example();
        raw.server.listen = "nowhere".into();
        raw.server.state = "relative".into();
        raw.engine.port = 0;
        raw.plans.clear();
        let said = Config::check(raw).unwrap_err().to_string();
        for key in ["listen", "server.state", "engine.port", "plans: there is none"] {
            assert!(said.contains(key), "{key} in {said}");
        }
    }
}
